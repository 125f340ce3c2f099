/** Number of bits that are set (Anderson, Bit Twiddling Hacks). */
export function countBits(mask: number): number {
  let bits = mask - ((mask >>> 1) & 0x55555555);
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333);
  return Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** Place of the lowest bit of a mask that has one. */
export function lowestBit(mask: number): number {
  return 31 - Math.clz32(mask & -mask);
}

/** How many bits from `from` upwards are set without a gap, at most `limit`. */
export function leadingRun(mask: number, from: number, limit: number): number {
  const gaps = ~(mask >>> from);
  return Math.min(gaps === 0 ? 32 : lowestBit(gaps), limit);
}

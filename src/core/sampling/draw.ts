/** Finaliser of MurmurHash3 (Austin Appleby, public domain): every input bit changes every output bit. */
function mix32(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/**
 * A uniform number in [0, 1) with 53 random bits that depends on (seed, index) alone.
 *
 * There is no generator to carry along: whichever worker draws output token `index` draws the same number.
 */
export function uniformAt(seed: number, index: number): number {
  const key = mix32(seed ^ 0x9e3779b9);
  const high = mix32(key + Math.imul(index, 0x9e3779b1)) >>> 5;
  const low = mix32((key ^ 0x7f4a7c15) + Math.imul(index, 0x85ebca77)) >>> 6;
  return (high * 0x4000000 + low) / 0x20000000000000;
}

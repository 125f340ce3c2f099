/** Share of shapes or rows that fits never see. */
const HELD_OUT_TENTHS = 3;

/** FNV-1a over UTF-16 units with a final mix (MurmurHash3's), 32 bits. */
function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** Whether a kernel shape is one of the 30 % that are left out of every fit: decided by a hash of the shape alone. */
export function isHeldOutShape(shape: string): boolean {
  return hashText(shape) % 10 < HELD_OUT_TENTHS;
}

/** Which half of an end-to-end data set a group of rows belongs to: 0 is fitted on, 1 is reported. */
export function halfOf(group: string): 0 | 1 {
  return (hashText(group) & 1) as 0 | 1;
}

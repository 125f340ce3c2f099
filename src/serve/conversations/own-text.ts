const BEYOND_LATIN_1 = /[^\0-\xff]/;

/** A copy of a slice of a text, which would otherwise keep the whole text alive. */
export function ownText(slice: string): { text: string; bytes: number } {
  // V8 stores text of Latin-1 in one byte per character, and compares strings of one kind fastest.
  const isLatin1 = !BEYOND_LATIN_1.test(slice);
  const encoding = isLatin1 ? "latin1" : "utf16le";
  return {
    text: Buffer.from(slice, encoding).toString(encoding),
    bytes: slice.length * (isLatin1 ? 1 : 2),
  };
}

const BEYOND_LATIN_1 = /[^\0-\xff]/;

/** A part of a text as a string of its own: a plain slice would keep the whole text alive. */
export function ownText(text: string, start: number, end: number): { text: string; bytes: number } {
  const slice = text.slice(start, end);
  // V8 stores text of Latin-1 in one byte per character, and compares strings of one kind fastest.
  const isLatin1 = !BEYOND_LATIN_1.test(slice);
  const encoding = isLatin1 ? "latin1" : "utf16le";
  return {
    text: Buffer.from(slice, encoding).toString(encoding),
    bytes: slice.length * (isLatin1 ? 1 : 2),
  };
}

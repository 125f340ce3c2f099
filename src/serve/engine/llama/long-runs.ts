const UNICODE_SPACE = /[\s\u0085\u200b]/;
/** Longest text of a control token, such as `<|reserved_special_token_123|>`. */
const MAX_CONTROL_CHARS = 64;

/**
 * Cuts a text inside runs without white space, or of nothing but white space, that are longer than `maxRunChars`.
 *
 * For many models llama.cpp splits text with `std::regex`, which recurses once per character of a match: 32,000 letters in a row
 * overflow a native stack of 8 MiB, and that is the end of the process. Ordinary text has no such runs and stays in one piece. A
 * cut never separates a surrogate pair or a control token.
 */
export function splitLongRuns(text: string, maxRunChars: number): string[] {
  const pieces: string[] = [];
  let start = 0;
  let lastAsciiSpace = -1;
  let lastNonSpace = -1;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    // What counts as white space beyond ASCII depends on the expression, so it ends neither kind of run.
    if (isAsciiSpace(code)) lastAsciiSpace = at;
    else if (code < 0x80 || !UNICODE_SPACE.test(text[at]!)) lastNonSpace = at;
    const runStart = Math.max(start, Math.min(lastAsciiSpace, lastNonSpace) + 1);
    if (at - runStart + 1 <= maxRunChars) continue;
    const cut = cutBefore(text, at, start);
    pieces.push(text.slice(start, cut));
    start = cut;
  }
  pieces.push(text.slice(start));
  return pieces;
}

/** The last place up to `at` that is neither inside a surrogate pair nor inside what may be a control token. */
function cutBefore(text: string, at: number, start: number): number {
  const angle = text.lastIndexOf("<", at - 1);
  if (angle > start && at - angle < MAX_CONTROL_CHARS) return angle;
  const isLowSurrogate = (text.charCodeAt(at) & 0xfc00) === 0xdc00;
  return isLowSurrogate && at - 1 > start ? at - 1 : at;
}

function isAsciiSpace(code: number): boolean {
  return code === 0x20 || (code >= 0x09 && code <= 0x0d);
}

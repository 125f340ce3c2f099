import { ServingError } from "../../protocol/errors.ts";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/** Bytes of a string that are looked at one by one: a call for the next quote costs as much. */
const SHORT_STRING = 32;

/** Whether arrays and objects nest deeper than `maxDepth`. Looks at raw bytes, so it costs nothing to be attacked with. */
export function nestsDeeperThan(bytes: Buffer, maxDepth: number): boolean {
  let depth = 0;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i]!;
    if (byte === QUOTE) i = endOfString(bytes, i + 1);
    else if (byte === OPEN_BRACKET || byte === OPEN_BRACE) {
      if (++depth > maxDepth) return true;
    } else if (byte === CLOSE_BRACKET || byte === CLOSE_BRACE) depth--;
  }
  return false;
}

/** Where the quote is that ends a string, or the end of all bytes. */
function endOfString(bytes: Buffer, start: number): number {
  let at = start;
  for (;;) {
    for (const stop = at + SHORT_STRING; at < stop && at < bytes.length; at++) {
      if (bytes[at] === QUOTE) return at;
      if (bytes[at] === BACKSLASH) at++;
    }
    const quote = bytes.indexOf(QUOTE, at);
    if (quote < 0) return bytes.length;
    let firstBackslash = quote;
    while (firstBackslash > at && bytes[firstBackslash - 1] === BACKSLASH) firstBackslash--;
    // An odd number of them escapes the quote.
    if ((quote - firstBackslash) % 2 === 0) return quote;
    at = quote + 1;
  }
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true });

/**
 * Parses a request body.
 *
 * @throws ServingError `invalid_json` or `nesting_too_deep`
 */
export function parseJsonBody(bytes: Buffer, maxDepth: number): unknown {
  if (bytes.length === 0)
    throw new ServingError("invalid_json", "The request body is empty; send a JSON object.");
  if (nestsDeeperThan(bytes, maxDepth))
    throw new ServingError("nesting_too_deep", `The request body nests deeper than ${maxDepth} levels.`);
  let text: string;
  try {
    text = strictUtf8.decode(bytes);
  } catch (cause) {
    throw new ServingError("invalid_json", "The request body is not valid UTF-8.", { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    // The parser's own message quotes the body, which may hold a prompt; only the place is passed on.
    const position = cause instanceof Error ? /at position (\d+)/.exec(cause.message)?.[1] : undefined;
    const where = position === undefined ? "" : ` (near character ${position})`;
    throw new ServingError("invalid_json", `The request body is not valid JSON${where}.`, { cause });
  }
}

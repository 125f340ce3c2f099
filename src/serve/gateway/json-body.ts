import { ServingError } from "../../protocol/errors.ts";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/** Whether arrays and objects nest deeper than `maxDepth`. Looks at raw bytes, so it costs nothing to be attacked with. */
export function nestsDeeperThan(bytes: Uint8Array, maxDepth: number): boolean {
  let depth = 0;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i]!;
    if (byte === QUOTE) {
      for (i++; i < bytes.length && bytes[i] !== QUOTE; i++) if (bytes[i] === BACKSLASH) i++;
    } else if (byte === OPEN_BRACKET || byte === OPEN_BRACE) {
      if (++depth > maxDepth) return true;
    } else if (byte === CLOSE_BRACKET || byte === CLOSE_BRACE) depth--;
  }
  return false;
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

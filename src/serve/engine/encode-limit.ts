import { EngineError } from "./engine.ts";

/** Longest text that a tokenizer encodes, in UTF-16 units. */
const MAX_ENCODE_CHARS = 4 << 20;

/** Throws `EngineError` `bad_argument` for what is no text or too long. */
export function checkEncodable(text: unknown): void {
  if (typeof text !== "string") throw new EngineError("bad_argument", "the text to encode is not a string");
  if (text.length > MAX_ENCODE_CHARS) {
    throw new EngineError(
      "bad_argument",
      `a text of ${text.length} characters; the limit is ${MAX_ENCODE_CHARS}`,
    );
  }
}

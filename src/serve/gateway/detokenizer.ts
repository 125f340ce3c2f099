import type { Tokenizer } from "../engine/tokenizer.ts";

/**
 * How many bytes at the end are the beginning of a UTF-8 character that later bytes can still complete: 0 to 3.
 * Well-formed sequences are those of table 3-7 of the Unicode standard.
 */
export function incompleteSuffixLength(bytes: Uint8Array): number {
  const end = bytes.length;
  for (let length = 1; length <= 3 && length <= end; length++) {
    const lead = bytes[end - length]!;
    if ((lead & 0xc0) === 0x80) continue;
    const needed =
      lead >= 0xc2 && lead <= 0xdf
        ? 2
        : lead >= 0xe0 && lead <= 0xef
          ? 3
          : lead >= 0xf0 && lead <= 0xf4
            ? 4
            : 0;
    if (length >= needed) return 0;
    return length === 1 || mayFollow(lead, bytes[end - length + 1]!) ? length : 0;
  }
  return 0;
}

/** Whether a continuation byte may come second after this lead byte: rules out overlong forms, surrogates and beyond U+10FFFF. */
function mayFollow(lead: number, second: number): boolean {
  if (lead === 0xe0) return second >= 0xa0;
  if (lead === 0xed) return second <= 0x9f;
  if (lead === 0xf0) return second >= 0x90;
  if (lead === 0xf4) return second <= 0x8f;
  return true;
}

function decode(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
}

/** The text of each token of a vocabulary, decoded once and kept: at most one string per token. */
export class TokenTexts {
  readonly vocabSize: number;
  readonly #tokenizer: Tokenizer;
  readonly #texts: Array<string | null | undefined>;

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
    this.vocabSize = tokenizer.vocabSize;
    this.#texts = new Array(tokenizer.vocabSize);
  }

  /** The token's text, or null when it ends inside a character. */
  whole(token: number): string | null {
    const known = this.#texts[token];
    if (known !== undefined) return known;
    const bytes = this.#tokenizer.tokenBytes(token);
    const text = incompleteSuffixLength(bytes) === 0 ? decode(bytes) : null;
    this.#texts[token] = text;
    return text;
  }

  bytes(token: number): Uint8Array {
    return this.#tokenizer.tokenBytes(token);
  }
}

/**
 * Turns one sequence's tokens into text, piece by piece, without ever splitting a character. The pieces together equal what
 * decoding all bytes at once gives, U+FFFD for what is no UTF-8 included.
 */
export class Detokenizer {
  readonly #texts: TokenTexts;
  #pending: Uint8Array = EMPTY;

  constructor(texts: TokenTexts) {
    this.#texts = texts;
  }

  /** Whether the last token ended inside a character. */
  get isPending(): boolean {
    return this.#pending.length > 0;
  }

  /** The text that the token completes; often its own, sometimes empty. */
  push(token: number): string {
    if (this.#pending.length === 0) {
      const text = this.#texts.whole(token);
      if (text !== null) return text;
    }
    const joined = Buffer.concat([this.#pending, this.#texts.bytes(token)]);
    const split = joined.length - incompleteSuffixLength(joined);
    this.#pending = joined.subarray(split);
    return decode(joined.subarray(0, split));
  }

  /** What is left at the end: U+FFFD for an unfinished character, or nothing. */
  flush(): string {
    const text = decode(this.#pending);
    this.#pending = EMPTY;
    return text;
  }
}

const EMPTY = new Uint8Array(0);

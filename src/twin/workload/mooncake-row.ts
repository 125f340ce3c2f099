import { MAX_BLOCK_IDS } from "./fields.ts";
import type { LineReader } from "./line-reader.ts";

const SPACE = 32;
const QUOTE = 34;
const COMMA = 44;
const ZERO = 48;
const COLON = 58;
const OPEN_LIST = 91;
const CLOSE_LIST = 93;
const OPEN_OBJECT = 123;
const CLOSE_OBJECT = 125;

/** Most digits of a number that is read here: fewer than a safe integer may have. */
const MAX_DIGITS = 15;

/**
 * Reads lines of a Mooncake trace as they are usually written: flat objects of whole numbers and one list of them. Three times as
 * fast as JSON.parse; what it does not understand is left to that, so that it never has to say what is wrong.
 */
export class MooncakeRow {
  timestamp = 0;
  inputTokens = 0;
  outputTokens = 0;
  hashIds: readonly number[] = [];
  #bytes: Buffer = Buffer.alloc(0);
  #at = 0;
  #to = 0;

  /** False when the line has to be read with care; the fields mean nothing then. */
  read(lines: LineReader): boolean {
    this.#bytes = lines.bytes;
    this.#at = lines.from;
    this.#to = lines.to;
    if (!this.#skip(OPEN_OBJECT)) return false;
    let seen = 0;
    do {
      const field = this.#field();
      if (field === 0 || (seen & field) !== 0) return false;
      seen |= field;
    } while (this.#skip(COMMA));
    return seen === 15 && this.#skip(CLOSE_OBJECT) && this.#isAtEnd();
  }

  /** Reads a key and its value; a bit for each key, 0 for anything unusual. */
  #field(): number {
    if (!this.#skip(QUOTE)) return 0;
    const from = this.#at;
    const end = this.#bytes.indexOf(QUOTE, from);
    if (end === -1 || end >= this.#to) return 0;
    this.#at = end + 1;
    if (!this.#skip(COLON)) return 0;
    const length = end - from;
    if (length === 9 && this.#is("timestamp", from)) {
      this.timestamp = this.#number();
      return this.timestamp < 0 ? 0 : 1;
    }
    if (length === 12 && this.#is("input_length", from)) {
      this.inputTokens = this.#number();
      return this.inputTokens <= 0 ? 0 : 2;
    }
    if (length === 13 && this.#is("output_length", from)) {
      this.outputTokens = this.#number();
      return this.outputTokens <= 0 ? 0 : 4;
    }
    return length === 8 && this.#is("hash_ids", from) && this.#list() ? 8 : 0;
  }

  #is(name: string, from: number): boolean {
    for (let index = 0; index < name.length; index++)
      if (this.#bytes[from + index] !== name.charCodeAt(index)) return false;
    return true;
  }

  #list(): boolean {
    if (!this.#skip(OPEN_LIST)) return false;
    const ids: number[] = [];
    for (;;) {
      const id = this.#number();
      if (id < 0 || ids.length === MAX_BLOCK_IDS) return false;
      ids.push(id);
      // A list is most of a line. Where the next number follows at once, there is nothing to skip.
      if (this.#bytes[this.#at] === COMMA && this.#at < this.#to) this.#at++;
      else if (!this.#skip(COMMA)) break;
    }
    this.hashIds = ids;
    return this.#skip(CLOSE_LIST);
  }

  /** A whole number, or -1. */
  #number(): number {
    const bytes = this.#bytes;
    let at = this.#at;
    while (bytes[at] === SPACE) at++;
    const from = at;
    let value = 0;
    for (; at < this.#to; at++) {
      const digit = bytes[at]! - ZERO;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
    }
    this.#at = at;
    const hasLeadingZero = at - from > 1 && bytes[from] === ZERO;
    return at === from || at - from > MAX_DIGITS || hasLeadingZero ? -1 : value;
  }

  #skip(byte: number): boolean {
    while (this.#at < this.#to && this.#bytes[this.#at] === SPACE) this.#at++;
    if (this.#at >= this.#to || this.#bytes[this.#at] !== byte) return false;
    this.#at++;
    return true;
  }

  #isAtEnd(): boolean {
    while (this.#at < this.#to && this.#bytes[this.#at] === SPACE) this.#at++;
    return this.#at === this.#to;
  }
}

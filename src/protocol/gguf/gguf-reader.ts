import { readSync } from "node:fs";
import { GgufError } from "./gguf-error.ts";

/** The header grows with the vocabulary: 262,144 tokens with merges take about 16 MB. */
const MAX_HEADER_BYTES = 256 << 20;
const READ_CHUNK_BYTES = 1 << 20;
const MAX_STRING_BYTES = 16 << 20;
const MAX_ARRAY_LENGTH = 16_000_000;

/** GGUF value types, from `gguf.h`. */
const BYTES_OF_SCALAR: Readonly<Record<number, number>> = {
  0: 1, // u8
  1: 1, // i8
  2: 2, // u16
  3: 2, // i16
  4: 4, // u32
  5: 4, // i32
  6: 4, // f32
  7: 1, // bool
  10: 8, // u64
  11: 8, // i64
  12: 8, // f64
};
const STRING_TYPE = 8;
const ARRAY_TYPE = 9;

/** A metadata value; of an array only the length, because arrays of a vocabulary's size are not needed here. */
export type GgufValue = string | number | boolean | { readonly arrayLength: number };

/**
 * Reads the header of a GGUF file front to back, in bounded memory, and reports where it ends early.
 *
 * The reader of `@huggingface/gguf` makes strings of every vocabulary entry, several times over for a header beyond
 * 2 MB, takes bytes past the end of a file for zeros, and does not keep the raw bytes that fingerprints need.
 */
export class GgufReader {
  readonly #file: number;
  readonly #path: string;
  readonly #sizeBytes: number;
  #buffer = Buffer.alloc(0);
  #offset = 0;

  constructor(file: number, path: string, sizeBytes: number) {
    this.#file = file;
    this.#path = path;
    this.#sizeBytes = sizeBytes;
  }

  get offset(): number {
    return this.#offset;
  }

  /** The header's bytes from one offset to another, as far as they have been read. */
  bytes(start: number, end: number): Uint8Array {
    this.#require(Math.max(0, end - this.#offset));
    return this.#buffer.subarray(start, end);
  }

  u32(): number {
    const at = this.#take(4);
    return this.#buffer.readUInt32LE(at);
  }

  u64(): number {
    const at = this.#take(8);
    const value = this.#buffer.readBigUInt64LE(at);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) this.fail(`${value} at byte ${at} is not a size`);
    return Number(value);
  }

  string(): string {
    const at = this.#takeString();
    return this.#buffer.toString("utf8", at, this.#offset);
  }

  value(): GgufValue {
    const type = this.u32();
    if (type === STRING_TYPE) return this.string();
    if (type === ARRAY_TYPE) return { arrayLength: this.#skipArray() };
    const bytes = BYTES_OF_SCALAR[type];
    if (bytes === undefined)
      return this.fail(`metadata value type ${type} at byte ${this.#offset} is unknown`);
    return this.#scalar(type, this.#take(bytes));
  }

  fail(what: string): never {
    throw new GgufError(`${this.#path}: ${what}`);
  }

  /** Says that the file ends before `needed` bytes, or before an unknown number when there is more to come. */
  failTruncated(needed: number, qualifier: "" | "at least " = ""): never {
    this.fail(
      `truncated: needs ${qualifier}${needed} bytes, has ${this.#sizeBytes}. Download the file again`,
    );
  }

  #scalar(type: number, at: number): number | boolean {
    const buffer = this.#buffer;
    switch (type) {
      case 0:
        return buffer.readUInt8(at);
      case 1:
        return buffer.readInt8(at);
      case 2:
        return buffer.readUInt16LE(at);
      case 3:
        return buffer.readInt16LE(at);
      case 4:
        return buffer.readUInt32LE(at);
      case 5:
        return buffer.readInt32LE(at);
      case 6:
        return buffer.readFloatLE(at);
      case 7:
        return buffer.readUInt8(at) !== 0;
      case 10:
        return Number(buffer.readBigUInt64LE(at));
      case 11:
        return Number(buffer.readBigInt64LE(at));
      default:
        return buffer.readDoubleLE(at);
    }
  }

  #skipArray(): number {
    const type = this.u32();
    const length = this.u64();
    if (length > MAX_ARRAY_LENGTH) this.fail(`a metadata array of ${length} entries`);
    if (type === STRING_TYPE) {
      for (let i = 0; i < length; i++) this.#takeString();
      return length;
    }
    const bytes = BYTES_OF_SCALAR[type];
    if (bytes === undefined) return this.fail(`metadata arrays of type ${type} are not supported`);
    this.#take(length * bytes);
    return length;
  }

  #takeString(): number {
    const length = this.u64();
    if (length > MAX_STRING_BYTES) this.fail(`a metadata string of ${length} bytes`);
    return this.#take(length);
  }

  /** Steps over `length` bytes and returns where they start in the buffer, which begins at the start of the file. */
  #take(length: number): number {
    this.#require(length);
    const at = this.#offset;
    this.#offset += length;
    return at;
  }

  #require(length: number): void {
    const end = this.#offset + length;
    if (end <= this.#buffer.length) return;
    if (end > this.#sizeBytes) this.failTruncated(end, "at least ");
    if (end > MAX_HEADER_BYTES) this.fail(`a header beyond ${MAX_HEADER_BYTES} bytes`);
    const wanted = Math.min(this.#sizeBytes, Math.max(end, 2 * this.#buffer.length, READ_CHUNK_BYTES));
    const grown = Buffer.alloc(wanted);
    this.#buffer.copy(grown);
    let filled = this.#buffer.length;
    while (filled < wanted) {
      const count = readSync(this.#file, grown, filled, wanted - filled, filled);
      if (count === 0) this.failTruncated(wanted, "at least ");
      filled += count;
    }
    this.#buffer = grown;
  }
}

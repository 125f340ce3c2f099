import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from "node:fs";
import { basename } from "node:path";
import { tensorBytes } from "./ggml-types.ts";
import { GgufError } from "./gguf-error.ts";
import { GgufReader, type GgufValue } from "./gguf-reader.ts";

const MAGIC = "GGUF";
const DEFAULT_ALIGNMENT_BYTES = 32;
const MAX_ALIGNMENT_BYTES = 1 << 16;
const MAX_METADATA_ENTRIES = 100_000;
const MAX_TENSORS = 1_000_000;
const MAX_TENSOR_DIMS = 4;
/** How much of the weights goes into the fingerprint: enough to tell models apart, little enough to read at every start. */
const NUM_SAMPLES = 64;
const SAMPLE_BYTES = 64 << 10;
const FINGERPRINT_HEX_DIGITS = 32;

/** What is known of a GGUF file before its weights are loaded. */
export interface GgufFile {
  readonly path: string;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** Shapes of the weights by name, fastest dimension first. */
  readonly tensors: ReadonlyMap<string, readonly number[]>;
  readonly architecture: string;
  /** `general.name`, or the file's name. */
  readonly modelName: string;
  /** SHA-256 (128 bits of it) over size, header and evenly spaced samples of the weights. */
  readonly modelId: string;
  /** SHA-256 (128 bits of it) over the `tokenizer.ggml.*` metadata. */
  readonly tokenizerId: string;
}

/**
 * Reads the header and checks that the file is whole, so that a bad file is a {@link GgufError} that says what is wrong, and never
 * reaches native code.
 */
export function readGgufFile(path: string): GgufFile {
  const file = openFile(path);
  try {
    const stats = fstatSync(file);
    checkKind(path, stats, file);
    return parse(file, path, stats.size);
  } finally {
    closeSync(file);
  }
}

function openFile(path: string): number {
  try {
    // Without blocking, or else the open of a named pipe would wait for a writer.
    return openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    const what = code === "ENOENT" ? "missing: there is no such file" : `cannot be read (${code})`;
    throw new GgufError(`${path}: ${what}`, { cause });
  }
}

function checkKind(path: string, stats: Stats, file: number): void {
  const fail = (what: string) => {
    throw new GgufError(`${path}: not a GGUF file: ${what}`);
  };
  if (!stats.isFile()) fail("it is not a regular file");
  if (stats.size === 0) fail("it is empty");
  const magic = Buffer.alloc(MAGIC.length);
  const count = readSync(file, magic, 0, magic.length, 0);
  if (magic.toString("latin1", 0, count) !== MAGIC) fail(`it does not start with "${MAGIC}"`);
}

function parse(file: number, path: string, sizeBytes: number): GgufFile {
  const reader = new GgufReader(file, path, sizeBytes);
  reader.u32();
  const version = reader.u32();
  if ((version & 0xffff) === 0) reader.fail("a big-endian GGUF file, which this machine cannot use");
  if (version !== 2 && version !== 3) reader.fail(`GGUF version ${version}; versions 2 and 3 are supported`);
  const numTensors = reader.u64();
  const numEntries = reader.u64();
  if (numTensors > MAX_TENSORS) reader.fail(`${numTensors} tensors`);
  if (numEntries > MAX_METADATA_ENTRIES) reader.fail(`${numEntries} metadata entries`);
  const { metadata, tokenizerId } = readMetadata(reader, numEntries);
  const { dataStart, tensors } = readTensors(reader, numTensors, metadata, sizeBytes);
  const architecture = metadata.get("general.architecture");
  if (typeof architecture !== "string") reader.fail("general.architecture is missing");
  if (Number(metadata.get("split.count") ?? 1) > 1) {
    reader.fail("a model split into several files: merge them with llama-gguf-split --merge");
  }
  const name = metadata.get("general.name");
  return {
    path,
    metadata,
    tensors,
    architecture: architecture as string,
    modelName: typeof name === "string" && name !== "" ? name : basename(path, ".gguf"),
    modelId: fingerprint(file, reader.bytes(0, dataStart), sizeBytes),
    tokenizerId,
  };
}

function readMetadata(
  reader: GgufReader,
  numEntries: number,
): { metadata: Map<string, GgufValue>; tokenizerId: string } {
  const metadata = new Map<string, GgufValue>();
  const hash = createHash("sha256");
  for (let i = 0; i < numEntries; i++) {
    const start = reader.offset;
    const key = reader.string();
    metadata.set(key, reader.value());
    if (key.startsWith("tokenizer.ggml.")) hash.update(reader.bytes(start, reader.offset));
  }
  return { metadata, tokenizerId: hash.digest("hex").slice(0, FINGERPRINT_HEX_DIGITS) };
}

/** Reads the table of tensors and where their data starts, and checks that the file holds all of it. */
function readTensors(
  reader: GgufReader,
  numTensors: number,
  metadata: ReadonlyMap<string, GgufValue>,
  sizeBytes: number,
): { dataStart: number; tensors: Map<string, readonly number[]> } {
  const tensors = new Map<string, readonly number[]>();
  let dataBytes = 0;
  for (let i = 0; i < numTensors; i++) {
    const name = reader.string();
    const numDims = reader.u32();
    if (numDims > MAX_TENSOR_DIMS) reader.fail(`tensor ${name} has ${numDims} dimensions`);
    const dims = Array.from({ length: numDims }, () => reader.u64());
    const type = reader.u32();
    const offset = reader.u64();
    const bytes = tensorBytes(type, dims);
    if (bytes === null || !Number.isSafeInteger(offset + bytes)) {
      reader.fail(`tensor ${name} (type ${type}, shape ${dims.join(" x ")}) is not of a supported kind`);
    }
    dataBytes = Math.max(dataBytes, offset + (bytes as number));
    tensors.set(name, dims);
  }
  const alignment = metadata.get("general.alignment") ?? DEFAULT_ALIGNMENT_BYTES;
  if (typeof alignment !== "number" || alignment < 1 || alignment > MAX_ALIGNMENT_BYTES) {
    return reader.fail(`general.alignment is ${JSON.stringify(alignment)}`);
  }
  const dataStart = Math.ceil(reader.offset / alignment) * alignment;
  if (dataStart + dataBytes > sizeBytes) reader.failTruncated(dataStart + dataBytes);
  return { dataStart, tensors };
}

function fingerprint(file: number, header: Uint8Array, sizeBytes: number): string {
  const hash = createHash("sha256").update(`${sizeBytes}\n`).update(header);
  const sample = Buffer.alloc(SAMPLE_BYTES);
  const span = sizeBytes - header.length - SAMPLE_BYTES;
  // Samples that would overlap lie side by side instead and cover everything.
  const stride = Math.max(SAMPLE_BYTES, span / (NUM_SAMPLES - 1));
  for (let i = 0; i < NUM_SAMPLES; i++) {
    const count = readSync(file, sample, 0, SAMPLE_BYTES, header.length + Math.floor(stride * i));
    if (count === 0) break;
    hash.update(sample.subarray(0, count));
  }
  return hash.digest("hex").slice(0, FINGERPRINT_HEX_DIGITS);
}

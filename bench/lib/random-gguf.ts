import { closeSync, openSync, writeSync } from "node:fs";

/** Shape of a model in the Llama architecture. */
export interface ModelShape {
  readonly name: string;
  readonly numLayers: number;
  readonly embeddingSize: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly feedForwardSize: number;
  readonly vocabSize: number;
  readonly contextTokens: number;
  /** Weights are a function of the seed and the shape. */
  readonly seed: number;
  /** Name of the pre-tokenizer, as in `tokenizer.ggml.pre`; "gpt-2" by default. */
  readonly preTokenizer?: string;
}

/** SmolLM2-135M (Allal et al. 2025), from its published configuration: 144 MB in Q8_0. */
export const SMOLLM2_135M_SHAPE: ModelShape = {
  name: "random-135m",
  numLayers: 30,
  embeddingSize: 576,
  numHeads: 9,
  numKvHeads: 3,
  feedForwardSize: 1536,
  vocabSize: 49_152,
  contextTokens: 8192,
  seed: 1,
};

/** GGUF version 3: value types, tensor types and sizes from `gguf.h` and `ggml.h`. */
const GGUF_VERSION = 3;
const ALIGNMENT_BYTES = 32;
const U32 = 4;
const I32 = 5;
const F32 = 6;
const BOOL = 7;
const STRING = 8;
const ARRAY = 9;
const TENSOR_F32 = 0;
const TENSOR_Q8_0 = 8;
const BLOCK_ELEMENTS = 32;
const BLOCK_BYTES = 34;
/** `LLAMA_FTYPE_MOSTLY_Q8_0`. */
const FILE_TYPE_Q8_0 = 7;
const NORMAL_TOKEN = 1;
const CONTROL_TOKEN = 3;

const CONTROL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const BOS_TOKEN = 0;
const EOS_TOKEN = 2;
const CHAT_TEMPLATE =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/**
 * Spread of the weights. A tied embedding of 1 would make logits of 24 and a chaotic net that repeats itself; smaller projections
 * back into the residual stream keep 30 layers from drowning it.
 */
const EMBEDDING_SIGMA = 0.3;
const INPUT_GAIN = 1;
const OUTPUT_GAIN = 0.4;
/** Standard deviation of a uniform 8-bit integer, by which blocks are scaled. */
const UNIFORM_INT8_SIGMA = 256 / Math.sqrt(12);
/** A multiple of the bytes of a block and of a random word. */
const WRITE_CHUNK_BYTES = BLOCK_BYTES * 65_536;

interface Tensor {
  readonly name: string;
  /** Contiguous dimension first. */
  readonly dims: readonly number[];
  /** Null for a norm: F32, all ones. */
  readonly sigma: number | null;
}

/**
 * Writes a model with random Q8_0 weights and a working byte-level BPE vocabulary, streaming: for measuring shapes whose weights are
 * not at hand. Dimensions must be multiples of 32.
 */
export function writeRandomGguf(path: string, shape: ModelShape): void {
  const tensors = tensorsOf(shape);
  const file = openSync(path, "w");
  try {
    const random = new RandomBytes(shape.seed);
    let written = writeSync(file, header(shape, tensors));
    for (const tensor of tensors) {
      written += tensor.sigma === null ? writeOnes(file, tensor) : writeRandom(file, tensor, random);
      const padding = padded(written) - written;
      if (padding > 0) written += writeSync(file, Buffer.alloc(padding));
    }
  } finally {
    closeSync(file);
  }
}

function tensorsOf(shape: ModelShape): Tensor[] {
  const { embeddingSize: d, feedForwardSize: f, vocabSize } = shape;
  const kv = (d / shape.numHeads) * shape.numKvHeads;
  const matrix = (name: string, from: number, to: number, gain: number): Tensor => ({
    name: `${name}.weight`,
    dims: [from, to],
    sigma: gain / Math.sqrt(from),
  });
  const norm = (name: string): Tensor => ({ name: `${name}.weight`, dims: [d], sigma: null });
  const layers = Array.from({ length: shape.numLayers }, (_, i) => [
    norm(`blk.${i}.attn_norm`),
    matrix(`blk.${i}.attn_q`, d, d, INPUT_GAIN),
    matrix(`blk.${i}.attn_k`, d, kv, INPUT_GAIN),
    matrix(`blk.${i}.attn_v`, d, kv, INPUT_GAIN),
    matrix(`blk.${i}.attn_output`, d, d, OUTPUT_GAIN),
    norm(`blk.${i}.ffn_norm`),
    matrix(`blk.${i}.ffn_gate`, d, f, INPUT_GAIN),
    matrix(`blk.${i}.ffn_up`, d, f, INPUT_GAIN),
    matrix(`blk.${i}.ffn_down`, f, d, OUTPUT_GAIN),
  ]).flat();
  const embedding = { name: "token_embd.weight", dims: [d, vocabSize], sigma: EMBEDDING_SIGMA };
  return [embedding, ...layers, norm("output_norm")];
}

function tensorBytes(tensor: Tensor): number {
  const elements = tensor.dims.reduce((product, dim) => product * dim, 1);
  return tensor.sigma === null ? 4 * elements : (elements / BLOCK_ELEMENTS) * BLOCK_BYTES;
}

function header(shape: ModelShape, tensors: readonly Tensor[]): Buffer {
  const { tokens, types, merges } = vocabulary(shape.vocabSize);
  const entries: Buffer[] = [
    entry("general.architecture", STRING, string("llama")),
    entry("general.name", STRING, string(shape.name)),
    entry("general.file_type", U32, u32(FILE_TYPE_Q8_0)),
    entry("llama.block_count", U32, u32(shape.numLayers)),
    entry("llama.context_length", U32, u32(shape.contextTokens)),
    entry("llama.embedding_length", U32, u32(shape.embeddingSize)),
    entry("llama.feed_forward_length", U32, u32(shape.feedForwardSize)),
    entry("llama.attention.head_count", U32, u32(shape.numHeads)),
    entry("llama.attention.head_count_kv", U32, u32(shape.numKvHeads)),
    entry("llama.attention.layer_norm_rms_epsilon", F32, f32(1e-5)),
    entry("llama.rope.dimension_count", U32, u32(shape.embeddingSize / shape.numHeads)),
    entry("llama.rope.freq_base", F32, f32(100_000)),
    entry("llama.vocab_size", U32, u32(shape.vocabSize)),
    entry("tokenizer.ggml.model", STRING, string("gpt2")),
    entry("tokenizer.ggml.pre", STRING, string(shape.preTokenizer ?? "gpt-2")),
    entry("tokenizer.ggml.tokens", ARRAY, array(STRING, tokens.map(string))),
    entry("tokenizer.ggml.token_type", ARRAY, array(I32, types.map(u32))),
    entry("tokenizer.ggml.merges", ARRAY, array(STRING, merges.map(string))),
    entry("tokenizer.ggml.bos_token_id", U32, u32(BOS_TOKEN)),
    entry("tokenizer.ggml.eos_token_id", U32, u32(EOS_TOKEN)),
    entry("tokenizer.ggml.add_bos_token", BOOL, Buffer.of(0)),
    entry("tokenizer.chat_template", STRING, string(CHAT_TEMPLATE)),
  ];
  let offset = 0;
  const infos = tensors.map((tensor) => {
    const type = tensor.sigma === null ? TENSOR_F32 : TENSOR_Q8_0;
    const info = [
      string(tensor.name),
      u32(tensor.dims.length),
      ...tensor.dims.map(u64),
      u32(type),
      u64(offset),
    ];
    offset = padded(offset + tensorBytes(tensor));
    return Buffer.concat(info);
  });
  const counts = [Buffer.from("GGUF"), u32(GGUF_VERSION), u64(tensors.length), u64(entries.length)];
  const bytes = Buffer.concat([...counts, ...entries, ...infos]);
  return Buffer.concat([bytes, Buffer.alloc(padded(bytes.length) - bytes.length)]);
}

/**
 * Control tokens, the 256 byte symbols of GPT-2, then every string of two, three, … letters in order until the vocabulary is full. Each
 * string is a merge of the string without its last letter and that letter, so that text becomes tokens of several letters.
 */
function vocabulary(size: number): { tokens: string[]; types: number[]; merges: string[] } {
  const tokens = [...CONTROL_TOKENS, ...byteSymbols()];
  const types = tokens.map((_, i) => (i < CONTROL_TOKENS.length ? CONTROL_TOKEN : NORMAL_TOKEN));
  const merges: string[] = [];
  const letters = ["\u0120", ..."etaoinshrdlcumwfgypbvkjxqz"];
  let shorter = letters;
  while (tokens.length < size) {
    const longer: string[] = [];
    for (const start of shorter) {
      for (const letter of letters.slice(1)) {
        if (tokens.length >= size) break;
        tokens.push(start + letter);
        types.push(NORMAL_TOKEN);
        merges.push(`${start} ${letter}`);
        longer.push(start + letter);
      }
    }
    shorter = longer;
  }
  return { tokens, types, merges };
}

/** GPT-2's printable stand-ins for the 256 bytes (Radford et al. 2019, `bytes_to_unicode`). */
function byteSymbols(): string[] {
  const isPrintable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let numStandIns = 0;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCodePoint(isPrintable(byte) ? byte : 256 + numStandIns++),
  );
}

function writeOnes(file: number, tensor: Tensor): number {
  const ones = new Float32Array(tensorBytes(tensor) / 4).fill(1);
  return writeSync(file, new Uint8Array(ones.buffer));
}

function writeRandom(file: number, tensor: Tensor, random: RandomBytes): number {
  const scale = halfFloat((tensor.sigma ?? 0) / UNIFORM_INT8_SIGMA);
  const total = tensorBytes(tensor);
  for (let written = 0; written < total; ) {
    const chunk = random.next(Math.min(WRITE_CHUNK_BYTES, total - written));
    for (let at = 0; at < chunk.length; at += BLOCK_BYTES) {
      chunk[at] = scale & 0xff;
      chunk[at + 1] = scale >> 8;
    }
    written += writeSync(file, chunk);
  }
  return total;
}

/** A stream of pseudo-random bytes (xorshift32, Marsaglia 2003). */
class RandomBytes {
  readonly #words = new Int32Array(WRITE_CHUNK_BYTES / 4);
  #state: number;

  constructor(seed: number) {
    this.#state = Math.imul(seed + 1, 0x9e3779b1) | 1;
  }

  /** Valid until the next call. */
  next(length: number): Uint8Array {
    let state = this.#state;
    const numWords = Math.ceil(length / 4);
    for (let i = 0; i < numWords; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      this.#words[i] = state;
    }
    this.#state = state;
    return new Uint8Array(this.#words.buffer, 0, length);
  }
}

/** Bits of a small positive number as IEEE 754 binary16, rounded down. */
function halfFloat(value: number): number {
  const exponent = Math.max(-14, Math.floor(Math.log2(value)));
  const fraction = value / 2 ** exponent;
  if (fraction < 1) return Math.floor(fraction * 1024);
  return ((exponent + 15) << 10) | Math.floor((fraction - 1) * 1024);
}

function entry(key: string, type: number, value: Buffer): Buffer {
  return Buffer.concat([string(key), u32(type), value]);
}

function array(type: number, values: readonly Buffer[]): Buffer {
  return Buffer.concat([u32(type), u64(values.length), ...values]);
}

function string(text: string): Buffer {
  const bytes = Buffer.from(text, "utf8");
  return Buffer.concat([u64(bytes.length), bytes]);
}

function u32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value);
  return buffer;
}

function u64(value: number): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64LE(BigInt(value));
  return buffer;
}

function f32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeFloatLE(value);
  return buffer;
}

function padded(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
}

import { type Engine, EngineError, type EngineInfo } from "../engine.ts";
import { type ContextPointer, callAsync, type ModelPointer, type VocabPointer } from "./bindings.ts";
import { type GgufFile, readGgufFile } from "./gguf-file.ts";
import { type LlamaLibrary, loadLibrary } from "./library.ts";
import { LlamaEngine } from "./llama-engine.ts";
import { NativeContext } from "./native-context.ts";

/** Sequence ids of one context (`LLAMA_MAX_SEQ`), of which one is kept for transfers and one for dead cells. */
const MAX_SEQUENCE_IDS = 256;
const NUM_OWN_IDS = 2;
const MAX_LLAMA_SLOTS = MAX_SEQUENCE_IDS - NUM_OWN_IDS;
/**
 * Cells per token of capacity. The surplus holds dead cells, so that even a full cache is compacted only once per so many
 * tokens: with a quarter on top, four cells are copied per token computed at the very most.
 */
const CELLS_PER_CAPACITY = 1.25;

const DEFAULT_UBATCH_TOKENS = 512;
const MAX_THREADS = 256;
const MAX_STEP_TOKENS = 1 << 16;
/** Positions are 32-bit; beyond this no machine has the memory anyway. */
const MAX_KV_CAPACITY_TOKENS = 1 << 24;

/** ggml element types of the KV cache, and how many elements a row must be a multiple of. */
const KV_TYPES = { f16: { ggmlType: 1, block: 1 }, q8_0: { ggmlType: 8, block: 32 } } as const;
const FLASH_ATTENTION_ENABLED = 1;
/** A quantised KV cache is stored rotated when the head size is a multiple of this (`llama-kv-cache.cpp`). */
const ROTATION_HEAD_SIZE = 64;

export interface LlamaEngineOptions {
  readonly modelPath: string;
  /** Tokens whose KV fits, over all slots. The library is given a quarter more cells (see `CellMap`). */
  readonly kvCapacityTokens: number;
  readonly maxStepTokens: number;
  /** Up to {@link MAX_LLAMA_SLOTS}, the default. Every slot reserves one row of logits. */
  readonly numSlots?: number;
  /** Threads per step, 1 by default: more than there are idle cores is slower by orders of magnitude. */
  readonly threads?: number;
  /** Element type of the KV cache. With `q8_0` (default) results do not depend on the batch; `f16` is for other head sizes. */
  readonly kvType?: keyof typeof KV_TYPES;
  /** Tokens that are computed as one graph; a step may be several. By default a whole step, at most 512. */
  readonly ubatchTokens?: number;
  /** Steps that are expected to take longer leave the event loop's thread; for measurements. */
  readonly maxBlockingStepMs?: number;
}

/** Loads a model. Rejects with an {@link EngineError} that says what to do; nothing stays allocated then. */
export async function openLlamaEngine(options: LlamaEngineOptions): Promise<Engine> {
  checkOptions(options);
  const file = readGgufFile(options.modelPath);
  checkHeads(file);
  checkHeadSize(file, options);
  const library = await loadLibrary();
  const { api } = library;
  const model = await loadModel(library, file, { vocabOnly: false });
  let context: ContextPointer | null = null;
  let native: NativeContext | null = null;
  try {
    checkKind(library, model, file);
    context = await createContext(library, model, options);
    if (context === null) {
      throw new EngineError("native_failure", `${file.path}: no context; set TWOFOLD_LLAMA_LOG=1 to see why`);
    }
    const vocab = api.llama_model_get_vocab(model);
    const vocabSize = api.llama_vocab_n_tokens(vocab);
    const numSlots = options.numSlots ?? MAX_LLAMA_SLOTS;
    native = new NativeContext(library, model, context, {
      maxStepTokens: options.maxStepTokens,
      numSlots,
      vocabSize,
      ...(options.maxBlockingStepMs === undefined ? {} : { maxBlockingStepMs: options.maxBlockingStepMs }),
    });
    await native.probe(0);
    return new LlamaEngine(describe(library, file, model, native, options), native);
  } catch (error) {
    if (native !== null) native.free();
    else {
      if (context !== null) api.llama_free(context);
      api.llama_model_free(model);
    }
    throw error;
  }
}

/** Loads the weights, or only the vocabulary, of a file that has been checked. */
export async function loadModel(
  library: LlamaLibrary,
  file: GgufFile,
  options: { readonly vocabOnly: boolean },
): Promise<ModelPointer> {
  const params = library.api.llama_model_default_params();
  params.vocab_only = options.vocabOnly;
  const model = await callAsync(library.api.llama_model_load_from_file, file.path, params);
  if (model !== null) return model;
  throw new EngineError(
    "bad_model",
    `${file.path}: llama.cpp ${library.version} cannot load this model (architecture "${file.architecture}"); set TWOFOLD_LLAMA_LOG=1 to see why`,
  );
}

/** Tokens after which a sequence is complete, by the model's own account. */
export function endOfGenerationTokens(library: LlamaLibrary, vocab: VocabPointer): number[] {
  const tokens: number[] = [];
  const vocabSize = library.api.llama_vocab_n_tokens(vocab);
  for (let token = 0; token < vocabSize; token++) {
    if (library.api.llama_vocab_is_eog(vocab, token)) tokens.push(token);
  }
  return tokens;
}

function createContext(
  library: LlamaLibrary,
  model: ModelPointer,
  options: LlamaEngineOptions,
): Promise<ContextPointer | null> {
  const { api } = library;
  const numSequenceIds = (options.numSlots ?? MAX_LLAMA_SLOTS) + NUM_OWN_IDS;
  const threads = options.threads ?? 1;
  const { ggmlType } = KV_TYPES[options.kvType ?? "q8_0"];
  const params = Object.assign(api.llama_context_default_params(), {
    n_ctx: Math.ceil((options.kvCapacityTokens * CELLS_PER_CAPACITY) / 256) * 256,
    n_batch: options.maxStepTokens,
    n_ubatch: options.ubatchTokens ?? Math.min(options.maxStepTokens, DEFAULT_UBATCH_TOKENS),
    n_seq_max: numSequenceIds,
    // A step samples at most once per slot. The default is one row of logits per token of a step, which is too much memory
    // for long steps, and an abort() of the process for steps with fewer tokens than there are sequence ids.
    n_outputs_max: numSequenceIds,
    n_threads: threads,
    n_threads_batch: threads,
    flash_attn_type: FLASH_ATTENTION_ENABLED,
    type_k: ggmlType,
    type_v: ggmlType,
    kv_unified: true,
  });
  return callAsync(api.llama_init_from_model, model, params);
}

function describe(
  library: LlamaLibrary,
  file: GgufFile,
  model: ModelPointer,
  native: NativeContext,
  options: LlamaEngineOptions,
): EngineInfo {
  const { api } = library;
  const vocab = api.llama_model_get_vocab(model);
  return {
    engine: "llama",
    modelName: file.modelName,
    modelId: file.modelId,
    tokenizerId: file.tokenizerId,
    kvType: describeKv(library, file, options),
    vocabSize: api.llama_vocab_n_tokens(vocab),
    trainedContextTokens: api.llama_model_n_ctx_train(model),
    kvCapacityTokens: options.kvCapacityTokens,
    kvBytesPerToken: native.layout.bytesPerToken,
    numSlots: options.numSlots ?? MAX_LLAMA_SLOTS,
    maxStepTokens: options.maxStepTokens,
    endOfGenerationTokens: endOfGenerationTokens(library, vocab),
  };
}

/** Everything that makes exported bytes of one model incompatible, such as `q8_0+fa+rot+llama.cpp-0.5.0-dev`. */
function describeKv(library: LlamaLibrary, file: GgufFile, options: LlamaEngineOptions): string {
  const type = options.kvType ?? "q8_0";
  const headSize = headSizeOf(file);
  const isRotationOff = Number.parseInt(process.env.LLAMA_ATTN_ROT_DISABLE ?? "0", 10) > 0;
  const isRotated =
    type === "q8_0" && !isRotationOff && (headSize === null || headSize % ROTATION_HEAD_SIZE === 0);
  return [type, "fa", ...(isRotated ? ["rot"] : []), `llama.cpp-${library.version}`].join("+");
}

function checkOptions(options: LlamaEngineOptions): void {
  const bounds = [
    ["kvCapacityTokens", options.kvCapacityTokens, MAX_KV_CAPACITY_TOKENS],
    ["maxStepTokens", options.maxStepTokens, MAX_STEP_TOKENS],
    ["numSlots", options.numSlots ?? 1, MAX_LLAMA_SLOTS],
    ["threads", options.threads ?? 1, MAX_THREADS],
    ["ubatchTokens", options.ubatchTokens ?? 1, MAX_STEP_TOKENS],
  ] as const;
  for (const [name, value, max] of bounds) {
    if (!Number.isInteger(value) || value < 1 || value > max) {
      throw new EngineError("bad_argument", `${name} is ${value}: it must be an integer from 1 to ${max}`);
    }
  }
  if (options.maxStepTokens > options.kvCapacityTokens) {
    throw new EngineError(
      "bad_argument",
      `maxStepTokens is ${options.maxStepTokens}: it cannot exceed kvCapacityTokens, ${options.kvCapacityTokens}`,
    );
  }
}

/** A number of the architecture's metadata, or null when it is absent or differs between layers. */
function numberOf(file: GgufFile, key: string): number | null {
  const value = file.metadata.get(`${file.architecture}.${key}`);
  return typeof value === "number" ? value : null;
}

/** The size of an attention head as the metadata states it, or null when it differs between layers. */
function headSizeOf(file: GgufFile): number | null {
  const explicit = numberOf(file, "attention.key_length");
  if (explicit !== null) return explicit;
  const embedding = numberOf(file, "embedding_length");
  const heads = numberOf(file, "attention.head_count");
  return embedding === null || heads === null ? null : embedding / heads;
}

/** Numbers that do not go together would end in a native abort when the first graph is built. */
function checkHeads(file: GgufFile): void {
  const heads = numberOf(file, "attention.head_count");
  const kvHeads = numberOf(file, "attention.head_count_kv");
  const headSize = headSizeOf(file);
  const isWrong = (whole: number | null, part: number | null) =>
    whole !== null && part !== null && (part < 1 || whole % part !== 0);
  if (isWrong(heads, kvHeads) || isWrong(heads, 1) || isWrong(headSize, 1)) {
    throw new EngineError(
      "bad_model",
      `${file.path}: ${heads} attention heads of size ${headSize} and ${kvHeads} KV heads do not go together`,
    );
  }
}

function checkHeadSize(file: GgufFile, options: LlamaEngineOptions): void {
  const type = options.kvType ?? "q8_0";
  const headSize = headSizeOf(file);
  if (headSize !== null && headSize % KV_TYPES[type].block !== 0) {
    throw new EngineError(
      "bad_model",
      `${file.path}: its attention heads of ${headSize} values cannot be stored as ${type}; use an f16 KV cache`,
    );
  }
}

function checkKind(library: LlamaLibrary, model: ModelPointer, file: GgufFile): void {
  const { api } = library;
  const isPlainDecoder =
    api.llama_model_has_decoder(model) &&
    !api.llama_model_has_encoder(model) &&
    !api.llama_model_is_recurrent(model) &&
    !api.llama_model_is_hybrid(model) &&
    !api.llama_model_is_diffusion(model);
  if (isPlainDecoder) return;
  throw new EngineError(
    "bad_model",
    `${file.path}: architecture "${file.architecture}" is not a decoder with a plain KV cache, which a handoff needs`,
  );
}

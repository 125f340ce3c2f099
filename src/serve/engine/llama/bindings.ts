import type { LibraryHandle, TypeObject } from "koffi";

declare const pointee: unique symbol;

/** An address in native memory. The brand keeps a model from being passed where a context belongs. */
type Pointer<Name extends string> = bigint & { readonly [pointee]: Name };
export type ModelPointer = Pointer<"llama_model">;
export type ContextPointer = Pointer<"llama_context">;
export type MemoryPointer = Pointer<"llama_memory">;
export type VocabPointer = Pointer<"llama_vocab">;
export type BufferPointer = Pointer<"buffer">;

/** `llama_batch`: what one decode call computes. Only `numTokens` changes between calls; the arrays are reused. */
export interface NativeBatchStruct {
  n_tokens: number;
  readonly token: BufferPointer;
  readonly embd: null;
  readonly pos: BufferPointer;
  readonly n_seq_id: BufferPointer;
  readonly seq_id: BufferPointer;
  readonly logits: BufferPointer;
}

export type ModelParams = Record<string, unknown>;
export type ContextParams = Record<string, unknown>;

type NativeFunction<Args extends unknown[], Result> = {
  (...args: Args): Result;
  /** Runs on a thread of the pool; the last argument is called on the event loop. */
  async(...args: [...Args, (error: Error | null, result: Result) => void]): void;
};

/** The functions of libllama 0.5.0 that the engine uses, as `llama.h` declares them. */
export interface LlamaApi {
  llama_version: NativeFunction<[], string>;
  llama_log_set: NativeFunction<[callback: bigint, data: null], void>;
  llama_backend_init: NativeFunction<[], void>;
  llama_model_default_params: NativeFunction<[], ModelParams>;
  llama_context_default_params: NativeFunction<[], ContextParams>;
  llama_model_load_from_file: NativeFunction<[path: string, params: ModelParams], ModelPointer | null>;
  llama_model_free: NativeFunction<[ModelPointer], void>;
  llama_init_from_model: NativeFunction<[ModelPointer, ContextParams], ContextPointer | null>;
  llama_free: NativeFunction<[ContextPointer], void>;
  llama_n_ctx: NativeFunction<[ContextPointer], number>;
  llama_get_memory: NativeFunction<[ContextPointer], MemoryPointer>;
  llama_model_get_vocab: NativeFunction<[ModelPointer], VocabPointer>;
  llama_model_n_ctx_train: NativeFunction<[ModelPointer], number>;
  llama_model_has_decoder: NativeFunction<[ModelPointer], boolean>;
  llama_model_has_encoder: NativeFunction<[ModelPointer], boolean>;
  llama_model_is_recurrent: NativeFunction<[ModelPointer], boolean>;
  llama_model_is_hybrid: NativeFunction<[ModelPointer], boolean>;
  llama_model_is_diffusion: NativeFunction<[ModelPointer], boolean>;
  llama_set_abort_callback: NativeFunction<[ContextPointer, callback: bigint, data: BufferPointer], void>;
  llama_memory_seq_rm: NativeFunction<[MemoryPointer, seq: number, start: number, end: number], boolean>;
  llama_memory_seq_cp: NativeFunction<
    [MemoryPointer, from: number, to: number, start: number, end: number],
    void
  >;
  llama_memory_seq_pos_min: NativeFunction<[MemoryPointer, seq: number], number>;
  llama_memory_seq_pos_max: NativeFunction<[MemoryPointer, seq: number], number>;
  llama_memory_clear: NativeFunction<[MemoryPointer, data: boolean], void>;
  llama_state_get_size: NativeFunction<[ContextPointer], number>;
  llama_state_get_data: NativeFunction<[ContextPointer, Uint8Array, size: number], number>;
  llama_state_set_data: NativeFunction<[ContextPointer, Uint8Array, size: number], number>;
  llama_state_seq_get_size: NativeFunction<[ContextPointer, seq: number], number>;
  llama_state_seq_get_data: NativeFunction<[ContextPointer, Uint8Array, size: number, seq: number], number>;
  llama_state_seq_set_data: NativeFunction<[ContextPointer, Uint8Array, size: number, seq: number], number>;
  llama_decode: NativeFunction<[ContextPointer, NativeBatchStruct], number>;
  llama_get_logits: NativeFunction<[ContextPointer], BufferPointer | null>;
  llama_vocab_n_tokens: NativeFunction<[VocabPointer], number>;
  llama_vocab_is_eog: NativeFunction<[VocabPointer, token: number], boolean>;
  llama_vocab_bos: NativeFunction<[VocabPointer], number>;
  llama_vocab_eos: NativeFunction<[VocabPointer], number>;
  llama_vocab_get_add_bos: NativeFunction<[VocabPointer], boolean>;
  llama_vocab_get_add_eos: NativeFunction<[VocabPointer], boolean>;
  llama_vocab_get_attr: NativeFunction<[VocabPointer, token: number], number>;
  llama_vocab_get_text: NativeFunction<[VocabPointer, token: number], string | null>;
  llama_tokenize: NativeFunction<
    [
      VocabPointer,
      Uint8Array,
      length: number,
      Int32Array,
      max: number,
      addSpecial: boolean,
      parseSpecial: boolean,
    ],
    number
  >;
  llama_token_to_piece: NativeFunction<
    [VocabPointer, token: number, Uint8Array, length: number, lstrip: number, special: boolean],
    number
  >;
}

/** What the declarations need of koffi: types and the loaded libraries. */
export interface StructFactory {
  struct(definition: Record<string, string>): TypeObject;
}

export interface LlamaStructs {
  readonly modelParams: TypeObject;
  readonly contextParams: TypeObject;
  readonly batch: TypeObject;
}

/**
 * Structures of `llama.h` at llama.cpp v0.5.0, member by member. They move between releases, which is why the file name
 * of the library carries its version and {@link checkLibrary} compares sizes and default values before first use.
 */
export function declareStructs(koffi: StructFactory): LlamaStructs {
  const modelParams = koffi.struct({
    ...members("void *", "devices tensor_buft_overrides"),
    ...members("int32_t", "n_gpu_layers split_mode load_mode lazy_mode main_gpu"),
    ...members("void *", "tensor_split progress_callback progress_callback_user_data kv_overrides"),
    ...members("bool", "vocab_only check_tensors use_extra_bufts no_host no_alloc load_mtp"),
  });
  const contextParams = koffi.struct({
    ...members("uint32_t", "n_ctx n_batch n_ubatch n_seq_max n_rs_seq n_outputs_max n_outputs_max_per_seq"),
    ...members("int32_t", "n_threads n_threads_batch ctx_type rope_scaling_type pooling_type attention_type"),
    ...members("int32_t", "flash_attn_type"),
    ...members("float", "rope_freq_base rope_freq_scale yarn_ext_factor yarn_attn_factor"),
    ...members("float", "yarn_beta_fast yarn_beta_slow"),
    ...members("uint32_t", "yarn_orig_ctx"),
    ...members("float", "defrag_thold"),
    ...members("void *", "cb_eval cb_eval_user_data"),
    ...members("int32_t", "type_k type_v"),
    ...members("void *", "abort_callback abort_callback_data"),
    ...members("bool", "embeddings offload_kqv no_perf op_offload swa_full kv_unified"),
    ...members("void *", "samplers"),
    ...members("size_t", "n_samplers"),
    ...members("void *", "ctx_other"),
  });
  const batch = koffi.struct({
    ...members("int32_t", "n_tokens"),
    ...members("void *", "token embd pos n_seq_id seq_id logits"),
  });
  return { modelParams, contextParams, batch };
}

const TOKENIZE_ARGS = ["void *", "void *", "int32_t", "void *", "int32_t", "bool", "bool"];
const TOKEN_TO_PIECE_ARGS = ["void *", "int32_t", "void *", "int32_t", "int32_t", "bool"];

/** Binds every function of {@link LlamaApi}; throws when the library lacks one. */
export function bindFunctions(llama: LibraryHandle, structs: LlamaStructs): LlamaApi {
  const { modelParams, contextParams, batch } = structs;
  const bind = (name: string, result: string | TypeObject, ...args: Array<string | TypeObject>) =>
    llama.func(name, result, args) as unknown;
  const api: Record<keyof LlamaApi, unknown> = {
    llama_version: bind("llama_version", "str"),
    llama_log_set: bind("llama_log_set", "void", "void *", "void *"),
    llama_backend_init: bind("llama_backend_init", "void"),
    llama_model_default_params: bind("llama_model_default_params", modelParams),
    llama_context_default_params: bind("llama_context_default_params", contextParams),
    llama_model_load_from_file: bind("llama_model_load_from_file", "void *", "str", modelParams),
    llama_model_free: bind("llama_model_free", "void", "void *"),
    llama_init_from_model: bind("llama_init_from_model", "void *", "void *", contextParams),
    llama_free: bind("llama_free", "void", "void *"),
    llama_n_ctx: bind("llama_n_ctx", "uint32_t", "void *"),
    llama_get_memory: bind("llama_get_memory", "void *", "void *"),
    llama_model_get_vocab: bind("llama_model_get_vocab", "void *", "void *"),
    llama_model_n_ctx_train: bind("llama_model_n_ctx_train", "int32_t", "void *"),
    llama_model_has_decoder: bind("llama_model_has_decoder", "bool", "void *"),
    llama_model_has_encoder: bind("llama_model_has_encoder", "bool", "void *"),
    llama_model_is_recurrent: bind("llama_model_is_recurrent", "bool", "void *"),
    llama_model_is_hybrid: bind("llama_model_is_hybrid", "bool", "void *"),
    llama_model_is_diffusion: bind("llama_model_is_diffusion", "bool", "void *"),
    llama_set_abort_callback: bind("llama_set_abort_callback", "void", "void *", "void *", "void *"),
    llama_memory_seq_rm: bind("llama_memory_seq_rm", "bool", "void *", "int32_t", "int32_t", "int32_t"),
    llama_memory_seq_cp: bind(
      "llama_memory_seq_cp",
      "void",
      "void *",
      "int32_t",
      "int32_t",
      "int32_t",
      "int32_t",
    ),
    llama_memory_seq_pos_min: bind("llama_memory_seq_pos_min", "int32_t", "void *", "int32_t"),
    llama_memory_seq_pos_max: bind("llama_memory_seq_pos_max", "int32_t", "void *", "int32_t"),
    llama_memory_clear: bind("llama_memory_clear", "void", "void *", "bool"),
    llama_state_get_size: bind("llama_state_get_size", "size_t", "void *"),
    llama_state_get_data: bind("llama_state_get_data", "size_t", "void *", "void *", "size_t"),
    llama_state_set_data: bind("llama_state_set_data", "size_t", "void *", "void *", "size_t"),
    llama_state_seq_get_size: bind("llama_state_seq_get_size", "size_t", "void *", "int32_t"),
    llama_state_seq_get_data: bind(
      "llama_state_seq_get_data",
      "size_t",
      "void *",
      "void *",
      "size_t",
      "int32_t",
    ),
    llama_state_seq_set_data: bind(
      "llama_state_seq_set_data",
      "size_t",
      "void *",
      "void *",
      "size_t",
      "int32_t",
    ),
    llama_decode: bind("llama_decode", "int32_t", "void *", batch),
    llama_get_logits: bind("llama_get_logits", "void *", "void *"),
    llama_vocab_n_tokens: bind("llama_vocab_n_tokens", "int32_t", "void *"),
    llama_vocab_is_eog: bind("llama_vocab_is_eog", "bool", "void *", "int32_t"),
    llama_vocab_bos: bind("llama_vocab_bos", "int32_t", "void *"),
    llama_vocab_eos: bind("llama_vocab_eos", "int32_t", "void *"),
    llama_vocab_get_add_bos: bind("llama_vocab_get_add_bos", "bool", "void *"),
    llama_vocab_get_add_eos: bind("llama_vocab_get_add_eos", "bool", "void *"),
    llama_vocab_get_attr: bind("llama_vocab_get_attr", "int32_t", "void *", "int32_t"),
    llama_vocab_get_text: bind("llama_vocab_get_text", "str", "void *", "int32_t"),
    llama_tokenize: bind("llama_tokenize", "int32_t", ...TOKENIZE_ARGS),
    llama_token_to_piece: bind("llama_token_to_piece", "int32_t", ...TOKEN_TO_PIECE_ARGS),
  };
  return api as LlamaApi;
}

/** Runs a native function on a thread of the pool. The caller keeps its buffers alive until the promise settles. */
export function callAsync<Args extends unknown[], Result>(
  nativeFunction: NativeFunction<Args, Result>,
  ...args: Args
): Promise<Result> {
  return new Promise((resolve, reject) => {
    nativeFunction.async(...args, (error, result) => {
      if (error === null) resolve(result);
      else reject(error);
    });
  });
}

function members(type: string, names: string): Record<string, string> {
  return Object.fromEntries(names.split(" ").map((name) => [name, type]));
}

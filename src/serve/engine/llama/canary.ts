import { EngineError } from "../engine.ts";
import type { ContextParams, LlamaApi, ModelParams } from "./bindings.ts";

/** The llama.cpp release whose structures and functions `bindings.ts` declares. */
export const LLAMA_RELEASE = "v0.5.0";
/** What `llama_version()` of that release starts with. */
const EXPECTED_VERSION_PREFIX = "0.5.0";

/** Sizes in bytes of the structures that pass by value, as a C compiler lays them out with 64-bit pointers. */
const EXPECTED_SIZES = { modelParams: 80, contextParams: 160, batch: 56 } as const;

/** Defaults from `llama-context.cpp` and `llama-model.cpp`, chosen from both ends and the middle of the structures. */
const EXPECTED_CONTEXT_DEFAULTS: ContextParams = {
  n_ctx: 512,
  n_batch: 2048,
  n_ubatch: 512,
  n_seq_max: 1,
  n_outputs_max_per_seq: 1,
  n_threads: 4,
  n_threads_batch: 4,
  flash_attn_type: -1,
  yarn_ext_factor: -1,
  type_k: 1,
  type_v: 1,
  embeddings: false,
  offload_kqv: true,
  swa_full: true,
  kv_unified: false,
  ctx_other: null,
};
const EXPECTED_MODEL_DEFAULTS: ModelParams = {
  devices: null,
  main_gpu: 0,
  tensor_split: null,
  vocab_only: false,
  use_extra_bufts: true,
  no_alloc: false,
};

/** What {@link checkLibrary} looks at, so that a test can hand it a library that has drifted. */
export interface LibraryProbe {
  readonly api: Pick<
    LlamaApi,
    "llama_version" | "llama_context_default_params" | "llama_model_default_params"
  >;
  readonly structSizes: {
    readonly modelParams: number;
    readonly contextParams: number;
    readonly batch: number;
  };
}

/**
 * Compares version, structure sizes and default values with what the bindings were written for, before any call that a
 * mismatch would turn into memory corruption. Throws `EngineError` with code `incompatible_library`.
 */
export function checkLibrary(probe: LibraryProbe, packageHint: string): void {
  const version = probe.api.llama_version();
  if (!version.startsWith(EXPECTED_VERSION_PREFIX)) {
    fail(`llama_version() is "${version}", expected ${EXPECTED_VERSION_PREFIX}`, packageHint);
  }
  for (const name of ["modelParams", "contextParams", "batch"] as const) {
    if (probe.structSizes[name] !== EXPECTED_SIZES[name]) {
      fail(
        `structure ${name} has ${probe.structSizes[name]} bytes, expected ${EXPECTED_SIZES[name]}`,
        packageHint,
      );
    }
  }
  compare(probe.api.llama_context_default_params(), EXPECTED_CONTEXT_DEFAULTS, "context", packageHint);
  compare(probe.api.llama_model_default_params(), EXPECTED_MODEL_DEFAULTS, "model", packageHint);
}

function compare(actual: ContextParams, expected: ContextParams, what: string, packageHint: string): void {
  for (const [name, value] of Object.entries(expected)) {
    if (actual[name] !== value) {
      fail(
        `default ${what} parameter ${name} is ${String(actual[name])}, expected ${String(value)}`,
        packageHint,
      );
    }
  }
}

function fail(what: string, packageHint: string): never {
  throw new EngineError(
    "incompatible_library",
    `the native library is not llama.cpp ${LLAMA_RELEASE}: ${what}. Install the pinned version: npm install ${packageHint}`,
  );
}

import { describe, expect, it } from "vitest";
import { EngineError } from "../engine.ts";
import { checkLibrary, type LibraryProbe } from "./canary.ts";

const CONTEXT_DEFAULTS = {
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
const MODEL_DEFAULTS = {
  devices: null,
  main_gpu: 0,
  tensor_split: null,
  vocab_only: false,
  use_extra_bufts: true,
  no_alloc: false,
};
const SIZES = { modelParams: 80, contextParams: 160, batch: 56 };

function probe(changes: {
  version?: string;
  context?: Record<string, unknown>;
  model?: Record<string, unknown>;
  sizes?: Partial<typeof SIZES>;
}): LibraryProbe {
  const callable = <T>(value: T) => Object.assign(() => value, { async: () => {} });
  return {
    api: {
      llama_version: callable(changes.version ?? "0.5.0-dev"),
      llama_context_default_params: callable({ ...CONTEXT_DEFAULTS, ...changes.context }),
      llama_model_default_params: callable({ ...MODEL_DEFAULTS, ...changes.model }),
    },
    structSizes: { ...SIZES, ...changes.sizes },
  };
}

describe("library canary", () => {
  it("lets the library through that the bindings were written for", () => {
    expect(() => checkLibrary(probe({}), "pkg@1")).not.toThrow();
  });

  it.each([
    ["another version", { version: "0.6.0" }, "0.6.0"],
    ["a member that moved", { context: { kv_unified: true } }, "kv_unified"],
    ["a member that is gone", { context: { swa_full: undefined } }, "swa_full"],
    ["another default of the model", { model: { main_gpu: 7 } }, "main_gpu"],
    ["a structure that grew", { sizes: { contextParams: 168 } }, "168 bytes, expected 160"],
  ])("refuses %s and says which package to install", (_, changes, text) => {
    const check = () => checkLibrary(probe(changes), "@node-llama-cpp/linux-x64@3.22.1");
    expect(check).toThrow(EngineError);
    expect(check).toThrow(text);
    expect(check).toThrow("npm install @node-llama-cpp/linux-x64@3.22.1");
    expect(check).toThrow(expect.objectContaining({ code: "incompatible_library" }));
  });
});

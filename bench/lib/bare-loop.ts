import { argmax } from "../../src/core/sampling/logits.ts";
import { readGgufFile } from "../../src/serve/engine/llama/gguf-file.ts";
import { loadLibrary } from "../../src/serve/engine/llama/library.ts";
import { NativeBatch } from "../../src/serve/engine/llama/native-batch.ts";
import { loadModel } from "../../src/serve/engine/llama/open-llama-engine.ts";

/** One entry of a batch: `numTokens` tokens of sequence `slot` from position `start`. */
export interface BareChunk {
  readonly slot: number;
  readonly start: number;
  readonly tokens: readonly number[];
  readonly samples: boolean;
}

export interface BareContext {
  readonly vocabSize: number;
  /** `llama_decode`, and the greedy token of every chunk that samples: what any loop has to do at least. */
  decode(chunks: readonly BareChunk[]): number[];
  clear(): void;
  free(): void;
}

/**
 * `llama_decode` with nothing around it: no scheduler, no queue, no validation, no event loop. The same context parameters as
 * the engine's.
 */
export async function openBareContext(options: {
  modelPath: string;
  kvTokens: number;
  maxStepTokens: number;
  numSlots: number;
}): Promise<BareContext> {
  const library = await loadLibrary();
  const { api, koffi } = library;
  const model = await loadModel(library, readGgufFile(options.modelPath), { vocabOnly: false });
  const params = Object.assign(api.llama_context_default_params(), {
    n_ctx: options.kvTokens,
    n_batch: options.maxStepTokens,
    n_ubatch: Math.min(options.maxStepTokens, 512),
    n_seq_max: options.numSlots,
    n_outputs_max: options.numSlots,
    n_threads: 1,
    n_threads_batch: 1,
    flash_attn_type: 1,
    type_k: 8,
    type_v: 8,
    kv_unified: true,
  });
  const context = api.llama_init_from_model(model, params);
  if (context === null) throw new Error("no context");
  const memory = api.llama_get_memory(context);
  const vocabSize = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model));
  const batch = new NativeBatch(koffi, options.maxStepTokens);
  let pointer: unknown = null;
  let logits = new Float32Array(0);
  return {
    vocabSize,
    decode(chunks) {
      batch.clear();
      for (const { slot, start, tokens, samples } of chunks) {
        for (let i = 0; i < tokens.length; i++) {
          batch.addToken(tokens[i]!, start + i, slot, samples && i === tokens.length - 1);
        }
      }
      const code = api.llama_decode(context, batch.struct);
      if (code !== 0) throw new Error(`llama_decode returned ${code}`);
      const at = api.llama_get_logits(context);
      if (at !== pointer) {
        pointer = at;
        logits = new Float32Array(koffi.view(at!, 4 * vocabSize * options.numSlots));
      }
      const numSampling = chunks.filter((chunk) => chunk.samples).length;
      return Array.from({ length: numSampling }, (_, row) =>
        argmax(logits.subarray(row * vocabSize, (row + 1) * vocabSize)),
      );
    },
    clear() {
      for (let slot = 0; slot < options.numSlots; slot++) api.llama_memory_seq_rm(memory, slot, -1, -1);
    },
    free() {
      api.llama_free(context);
      api.llama_model_free(model);
      batch.free();
    },
  };
}

import type { Engine } from "./engine.ts";
import type { LlamaEngineOptions } from "./llama/open-llama-engine.ts";
import type { StubEngineOptions } from "./stub/stub-engine.ts";
import type { Tokenizer } from "./tokenizer.ts";

export type EngineOptions =
  | ({ readonly engine: "llama" } & LlamaEngineOptions)
  | ({ readonly engine: "stub" } & StubEngineOptions);

export type TokenizerOptions =
  | { readonly engine: "llama"; readonly modelPath: string }
  | { readonly engine: "stub"; readonly modelName?: string; readonly trainedContextTokens?: number };

const DEFAULT_STUB_CONTEXT_TOKENS = 32_768;

/**
 * Opens an engine. Only the chosen kind is imported, so that the stub works where no native library is installed.
 * Rejects with `EngineError`.
 */
export async function openEngine(options: EngineOptions): Promise<Engine> {
  if (options.engine === "stub") {
    const { StubEngine } = await import("./stub/stub-engine.ts");
    return new StubEngine(options);
  }
  const { openLlamaEngine } = await import("./llama/open-llama-engine.ts");
  return openLlamaEngine(options);
}

/** Opens the tokenizer that belongs to an engine of the same options. Rejects with `EngineError`. */
export async function openTokenizer(options: TokenizerOptions): Promise<Tokenizer> {
  if (options.engine === "stub") {
    const { StubTokenizer } = await import("./stub/stub-tokenizer.ts");
    const trainedContextTokens = options.trainedContextTokens ?? DEFAULT_STUB_CONTEXT_TOKENS;
    return new StubTokenizer({ ...options, trainedContextTokens });
  }
  const { openLlamaTokenizer } = await import("./llama/llama-tokenizer.ts");
  return openLlamaTokenizer(options);
}

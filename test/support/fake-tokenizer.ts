import type { Tokenizer } from "../../src/serve/engine/tokenizer.ts";

const BOS = 256;
const FAKE_EOS = 257;
const CONTROL_TOKENS = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"] as const;
const FIRST_EXTRA = 256 + CONTROL_TOKENS.length;

export interface FakeTokenizerOptions {
  readonly chatTemplate?: string | null;
  /** Texts or bytes of further tokens, numbered from {@link FakeTokenizer.firstExtra}. */
  readonly extraTokens?: ReadonlyArray<string | Uint8Array>;
  /** Called at the start of each `encode`, which waits for it: lets a test hold tokenising up. */
  readonly beforeEncode?: () => Promise<void>;
}

/** A byte-level vocabulary: token b is byte b, then four control tokens, then whatever a test adds. */
export class FakeTokenizer implements Tokenizer {
  readonly id = "fake-tokenizer";
  readonly modelName = "fake-model";
  readonly trainedContextTokens = 4096;
  readonly endOfGenerationTokens: ReadonlySet<number> = new Set([FAKE_EOS, 259]);
  readonly bosText = "<s>";
  readonly eosText = "</s>";
  readonly cutTokens: ReadonlyMap<string, number> = new Map([
    ["</s>", FAKE_EOS],
    ["<|im_end|>", 259],
  ]);
  readonly chatTemplate: string | null;
  readonly vocabSize: number;
  readonly firstExtra = FIRST_EXTRA;
  /** Options of every `encode` so far. */
  readonly encodeCalls: Array<{ text: string; parseSpecial: boolean; addSpecial: boolean }> = [];
  readonly #bytes: Uint8Array[];
  readonly #beforeEncode: (() => Promise<void>) | undefined;

  constructor(options: FakeTokenizerOptions = {}) {
    this.chatTemplate = options.chatTemplate ?? null;
    this.#beforeEncode = options.beforeEncode;
    this.#bytes = Array.from({ length: FIRST_EXTRA }, (_, token) =>
      token < 256 ? Uint8Array.of(token) : new Uint8Array(0),
    );
    for (const extra of options.extraTokens ?? [])
      this.#bytes.push(typeof extra === "string" ? Buffer.from(extra) : extra);
    this.vocabSize = this.#bytes.length;
  }

  async encode(text: string, options: { parseSpecial: boolean; addSpecial: boolean }): Promise<Int32Array> {
    this.encodeCalls.push({ text, ...options });
    await this.#beforeEncode?.();
    const tokens: number[] = options.addSpecial ? [BOS] : [];
    const pieces = options.parseSpecial ? text.split(/(<s>|<\/s>|<\|im_start\|>|<\|im_end\|>)/) : [text];
    for (const piece of pieces) {
      const control = CONTROL_TOKENS.indexOf(piece as (typeof CONTROL_TOKENS)[number]);
      if (options.parseSpecial && control >= 0) tokens.push(256 + control);
      else for (const byte of Buffer.from(piece)) tokens.push(byte);
    }
    return Int32Array.from(tokens);
  }

  tokenBytes(token: number): Uint8Array {
    const bytes = this.#bytes[token];
    if (bytes === undefined) throw new RangeError(`token ${token} is not in the vocabulary`);
    return bytes;
  }

  async close(): Promise<void> {}
}

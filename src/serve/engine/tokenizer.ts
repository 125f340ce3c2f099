/** Text to tokens and back, for one model. Used by the gateway; never blocks the event loop for long. */
export interface Tokenizer {
  /** The same fingerprint as the engine's `tokenizerId`. */
  readonly id: string;
  readonly modelName: string;
  readonly vocabSize: number;
  readonly trainedContextTokens: number;
  readonly endOfGenerationTokens: ReadonlySet<number>;
  /** Jinja chat template of the model, or null when it has none. */
  readonly chatTemplate: string | null;
  /** Text of the beginning- and end-of-sequence tokens, for templates; empty when the model has none. */
  readonly bosText: string;
  readonly eosText: string;
  /**
   * Texts and ids of end-of-generation tokens behind which a text can be cut: with `parseSpecial` and without `addSpecial`, the
   * tokens of a text are those of the part up to the end of such a token, then those of the rest. The id stands in the tokens exactly
   * as often as the text in the text. Empty when nothing of the kind is certain.
   */
  readonly cutTokens: ReadonlyMap<string, number>;
  /**
   * Tokens of a text, computed off the event loop.
   * `parseSpecial`: text such as `<|im_end|>` becomes the control token; on for rendered templates, off for user text.
   * `addSpecial`: adds what the model wants at the start of a prompt (a BOS token, for instance).
   */
  encode(text: string, options: { parseSpecial: boolean; addSpecial: boolean }): Promise<Int32Array>;
  /** UTF-8 bytes of one token; empty for control tokens. The array is shared: do not write to it. */
  tokenBytes(token: number): Uint8Array;
  close(): Promise<void>;
}

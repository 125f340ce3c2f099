import type { RandomStream } from "../core/util/rng.ts";

/** How the length of prompts relates to the tokens that the server counts. */
export interface PromptCalibration {
  /**
   * - `tokenize`: the server's `/tokenize` named words of one token each, and its usage confirmed the sum: lengths are exact
   * - `usage`: tokens per word were measured by the usage of two requests: lengths are approximate
   * - `assumed`: the server says neither; one token per word is assumed
   */
  readonly method: "tokenize" | "usage" | "assumed";
  /** Words that prompts are made of. */
  readonly words: readonly string[];
  readonly tokensPerWord: number;
  /** Tokens of a prompt beside its words: {@link FIRST_WORD}, a BOS token, the frame of a chat template. */
  readonly overheadTokens: number;
}

/**
 * Every prompt starts with this word. A word without a space before it may have another number of tokens than the same word with
 * one; this way the difference is a constant that calibration finds.
 */
export const FIRST_WORD = "the";

/** Makes prompts of random words, so that two prompts share no more of the prefix cache than they are told to. */
export class PromptMaker {
  readonly #calibration: PromptCalibration;
  readonly #sharedShare: number;
  readonly #words: RandomStream;
  readonly #sharedStream: RandomStream;
  readonly #sharedWords: string[] = [];

  /** `sharedShare` of every prompt, from its start, is the same text in all prompts. */
  constructor(
    calibration: PromptCalibration,
    sharedShare: number,
    words: RandomStream,
    sharedWords: RandomStream,
  ) {
    this.#calibration = calibration;
    this.#sharedShare = sharedShare;
    this.#words = words;
    this.#sharedStream = sharedWords;
  }

  /** A prompt of about (or exactly, see the calibration) this many tokens; at least the overhead. */
  make(inputTokens: number): string {
    const { words, tokensPerWord, overheadTokens } = this.#calibration;
    const numWords = Math.max(0, Math.round((inputTokens - overheadTokens) / tokensPerWord));
    const numShared = Math.floor(numWords * this.#sharedShare);
    while (this.#sharedWords.length < numShared) {
      this.#sharedWords.push(words[this.#sharedStream.nextBelow(words.length)]!);
    }
    const parts = [FIRST_WORD, ...this.#sharedWords.slice(0, numShared)];
    while (parts.length <= numWords) parts.push(words[this.#words.nextBelow(words.length)]!);
    return parts.join(" ");
  }
}

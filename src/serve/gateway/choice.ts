import type { FinishReason, TokenLogprobs } from "../../core/request.ts";
import type { SampledToken } from "../../core/scheduler/step-plan.ts";
import { ServingError } from "../../protocol/errors.ts";
import type { Completion, Placement, RequestListener } from "../fleet/fleet.ts";
import { Detokenizer, type TokenTexts } from "./detokenizer.ts";
import type { LogprobsWriter } from "./logprobs.ts";
import { StopMatcher, type StopPatterns } from "./stop-matcher.ts";

/** What a choice tells whoever waits for it. */
export interface ChoiceObserver {
  onPlaced(placement: Placement): void;
  /** Tokens arrived; `choice.pendingText` may have grown. `numTokens` counts those of this delivery. */
  onTokens(choice: Choice, numTokens: number): void;
  /** The choice has its finish reason. `isCut` when it was a stop string, so that its request still runs. */
  onEnd(choice: Choice, isCut: boolean): void;
  onError(error: ServingError): void;
}

export interface ChoiceOptions {
  /** Number of the choice in the answer. */
  readonly index: number;
  /** Which of the request's prompts it continues. */
  readonly promptIndex: number;
  readonly texts: TokenTexts;
  /** Null when the request has no stop strings. */
  readonly stop: StopPatterns | null;
  /** Text of the first tokens is not searched for stop strings. */
  readonly minTokens: number;
  /** Null when no log probabilities were asked for. */
  readonly logprobs: LogprobsWriter | null;
}

/** A token whose text has not been released completely, so its log probability waits with it. */
interface WaitingToken {
  readonly token: number;
  readonly logprobs: TokenLogprobs;
  /** Offsets of the token's text in the choice's text. */
  readonly start: number;
  readonly end: number;
  /** The token ends inside a character, which a later one completes. */
  readonly isPartial: boolean;
}

/**
 * One answer of a request while it grows: tokens go in, text that may be shown comes out.
 *
 * ```
 *   tokens → Detokenizer → StopMatcher → pendingText → (taken by the stream or the final answer)
 * ```
 */
export class Choice implements RequestListener {
  readonly index: number;
  readonly promptIndex: number;
  readonly logprobs: LogprobsWriter | null;
  /** Text that may be shown and was not taken yet. */
  pendingText = "";
  /** Output tokens so far, those up to a stop string included. */
  numTokens = 0;
  finishReason: FinishReason | null = null;
  /** Prompt tokens found in a cache; null until the fleet has said so. */
  numCachedTokens: number | null = null;
  /** When tokens last arrived, on the clock of `performance.now()`; 0 before the first. */
  lastTokensAtMs = 0;
  readonly #observer: ChoiceObserver;
  readonly #vocabSize: number;
  readonly #detokenizer: Detokenizer;
  readonly #matcher: StopMatcher | null;
  readonly #minTokens: number;
  readonly #waiting: WaitingToken[] = [];
  /** Characters decoded, and characters released, over the choice's life. */
  #decodedChars = 0;
  #releasedChars = 0;

  constructor(options: ChoiceOptions, observer: ChoiceObserver) {
    this.index = options.index;
    this.promptIndex = options.promptIndex;
    this.logprobs = options.logprobs;
    this.#observer = observer;
    this.#vocabSize = options.texts.vocabSize;
    this.#detokenizer = new Detokenizer(options.texts);
    this.#matcher = options.stop === null ? null : new StopMatcher(options.stop);
    this.#minTokens = options.minTokens;
  }

  /** Size of what waits to be taken, in UTF-16 code units. */
  get pendingChars(): number {
    return this.pendingText.length + (this.logprobs?.numChars ?? 0);
  }

  get hasPending(): boolean {
    return this.pendingText.length > 0 || (this.logprobs !== null && this.logprobs.numChars > 0);
  }

  takeText(): string {
    const text = this.pendingText;
    this.pendingText = "";
    return text;
  }

  onPlaced(placement: Placement): void {
    this.#observer.onPlaced(placement);
  }

  onTokens(tokens: readonly SampledToken[]): void {
    if (this.finishReason !== null) return;
    const before = this.numTokens;
    for (const sampled of tokens) {
      const fault = this.#faultOf(sampled);
      if (fault !== null) {
        this.#observer.onError(new ServingError("internal_error", fault));
        return;
      }
      this.numTokens++;
      this.#push(sampled);
      if (this.#matcher?.isMatched) {
        this.finishReason = "stop";
        break;
      }
    }
    this.#observer.onTokens(this, this.numTokens - before);
    if (this.finishReason !== null) this.#observer.onEnd(this, true);
  }

  onCached(numTokens: number): void {
    this.numCachedTokens = numTokens;
  }

  onFinish(completion: Completion): void {
    if (this.finishReason !== null) return;
    const text = this.#detokenizer.flush();
    this.#decodedChars += text.length;
    this.#release(text);
    if (this.#matcher !== null && !this.#matcher.isMatched) this.#show(this.#matcher.flush());
    this.#releaseLogprobs(!this.#matcher?.isMatched);
    this.finishReason = this.#matcher?.isMatched ? "stop" : completion.reason;
    this.numCachedTokens = completion.numCachedTokens;
    this.#observer.onEnd(this, false);
  }

  onError(error: ServingError): void {
    if (this.finishReason === null) this.#observer.onError(error);
  }

  /** Workers are separate programs: what they send is checked before it is used. */
  #faultOf(sampled: SampledToken): string | null {
    if (!(sampled.token >= 0 && sampled.token < this.#vocabSize))
      return "A worker sent a token that is not in the vocabulary.";
    if (this.logprobs !== null && sampled.logprobs === undefined)
      return "A worker sent a token without the log probabilities that were asked for.";
    return null;
  }

  #push(sampled: SampledToken): void {
    const text = this.#detokenizer.push(sampled.token);
    if (this.logprobs === null) {
      this.#release(text);
      return;
    }
    const start = this.#decodedChars;
    this.#decodedChars += text.length;
    if (sampled.logprobs !== undefined)
      this.#waiting.push({
        token: sampled.token,
        logprobs: sampled.logprobs,
        start,
        end: this.#decodedChars,
        isPartial: this.#detokenizer.isPending,
      });
    this.#release(text);
    this.#releaseLogprobs(false);
  }

  #release(text: string): void {
    const isSearched = this.#matcher !== null && !this.#matcher.isMatched && this.numTokens > this.#minTokens;
    this.#show(isSearched ? this.#matcher!.push(text) : text);
  }

  #show(text: string): void {
    this.pendingText += text;
    this.#releasedChars += text.length;
  }

  /** Passes on the log probabilities of tokens of which some text has been released, or whose empty text has nothing before it. */
  #releaseLogprobs(isEnd: boolean): void {
    if (this.logprobs === null) return;
    let count = 0;
    for (const { token, logprobs, start, end, isPartial } of this.#waiting) {
      const isComplete = end <= this.#releasedChars && !isPartial && !this.#matcher?.isMatched;
      if (!(isEnd || isComplete || start < this.#releasedChars)) break;
      this.logprobs.add(token, start, logprobs);
      count++;
    }
    this.#waiting.splice(0, count);
  }
}

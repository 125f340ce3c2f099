import { performance } from "node:perf_hooks";
import type { Request } from "../../core/request.ts";
import { ServingError } from "../../protocol/errors.ts";
import type { Fleet, Placement, RequestHandle } from "../fleet/fleet.ts";
import type { GatewayMetrics } from "../telemetry/metrics.ts";
import { Choice, type ChoiceObserver, type ChoiceOptions } from "./choice.ts";

/** Who takes a generation's output. `onDone` or `onFailed` comes once and last; after `cancel` comes nothing. */
export interface GenerationObserver {
  /** The first placement of any choice. */
  onPlaced(placement: Placement): void;
  /** A choice has new output or its finish reason. */
  onOutput(): void;
  onDone(): void;
  onFailed(error: ServingError): void;
}

/** Token counts of an answer, in OpenAI's sense. */
export interface Usage {
  /** Each prompt counted once, however many choices continue it. */
  readonly promptTokens: number;
  readonly completionTokens: number;
  /**
   * Prompt tokens whose KV came from a cache, the best choice of each prompt counted. Null when the fleet never said: every
   * choice of some prompt was cut at a stop string.
   */
  readonly cachedTokens: number | null;
}

export interface GenerationOptions {
  readonly fleet: Fleet;
  readonly metrics: GatewayMetrics;
  readonly promptTokens: readonly number[];
  /** One fleet request per choice, with how the choice treats its tokens. */
  readonly choices: ReadonlyArray<{ readonly request: Request; readonly options: ChoiceOptions }>;
  /** When the HTTP request arrived, on the clock of `performance.now()`. */
  readonly arrivedAtMs: number;
  readonly deadlineMs: number;
  readonly observer: GenerationObserver;
}

type State = "new" | "running" | "ended";

/** All choices of one HTTP request as one thing: they start together, and the first error or a cancel ends them all. */
export class Generation implements ChoiceObserver {
  readonly choices: readonly Choice[];
  /** Time from arrival to the first token, or null before it. */
  ttftMs: number | null = null;
  readonly #options: GenerationOptions;
  readonly #handles: Array<RequestHandle | undefined>;
  #state: State = "new";
  #isPlaced = false;
  #numOpen: number;
  #deadline: NodeJS.Timeout | undefined;

  constructor(options: GenerationOptions) {
    this.#options = options;
    this.choices = options.choices.map((choice) => new Choice(choice.options, this));
    this.#handles = new Array(this.choices.length);
    this.#numOpen = this.choices.length;
  }

  get isEnded(): boolean {
    return this.#state === "ended";
  }

  /**
   * Submits every choice. The fleet may call back before this returns.
   *
   * @throws ServingError when one cannot be queued; none runs then
   */
  start(): void {
    const { fleet, metrics, choices, promptTokens, deadlineMs } = this.#options;
    this.#state = "running";
    try {
      for (const [i, { request }] of choices.entries()) {
        const choice = this.choices[i]!;
        const handle = fleet.submit(request, choice);
        this.#handles[i] = handle;
        // A stop string or an error may have ended the choice while it was being submitted, before its handle was known.
        if (this.isEnded) this.#cancelAll();
        else if (choice.finishReason !== null) handle.cancel();
        if (this.isEnded) break;
      }
    } catch (error) {
      this.#end();
      throw error;
    }
    for (const count of promptTokens) metrics.totals.promptTokens += count;
    if (this.isEnded) return;
    this.#deadline = setTimeout(() => {
      this.fail(
        new ServingError("deadline_exceeded", `The request took longer than ${deadlineMs / 1000} s.`),
      );
    }, deadlineMs);
  }

  /** Stops everything; the observer hears nothing more. Idempotent. */
  cancel(): void {
    if (!this.isEnded) this.#end();
  }

  /** Stops everything and tells the observer why. No effect after the end. */
  fail(error: ServingError): void {
    if (this.isEnded) return;
    this.#end();
    this.#options.observer.onFailed(error);
  }

  usage(): Usage {
    const { promptTokens } = this.#options;
    const cached: Array<number | null> = promptTokens.map(() => null);
    let completionTokens = 0;
    for (const choice of this.choices) {
      completionTokens += choice.numTokens;
      if (choice.numCachedTokens !== null)
        cached[choice.promptIndex] = Math.max(cached[choice.promptIndex] ?? 0, choice.numCachedTokens);
    }
    const sum = (counts: readonly number[]) => counts.reduce((total, count) => total + count, 0);
    const known = cached.filter((count) => count !== null);
    return {
      promptTokens: sum(promptTokens),
      completionTokens,
      cachedTokens: known.length === cached.length ? sum(known) : null,
    };
  }

  onPlaced(placement: Placement): void {
    if (this.#isPlaced || this.isEnded) return;
    this.#isPlaced = true;
    this.#options.observer.onPlaced(placement);
  }

  onTokens(choice: Choice, numTokens: number): void {
    if (this.isEnded) return;
    const { metrics, arrivedAtMs, observer } = this.#options;
    const nowMs = performance.now();
    metrics.totals.generatedTokens += numTokens;
    if (choice.lastTokensAtMs !== 0) metrics.itlSeconds.observe((nowMs - choice.lastTokensAtMs) / 1000);
    choice.lastTokensAtMs = nowMs;
    if (this.ttftMs === null) {
      this.ttftMs = nowMs - arrivedAtMs;
      metrics.ttftSeconds.observe(this.ttftMs / 1000);
    }
    observer.onOutput();
  }

  onEnd(choice: Choice, isCut: boolean): void {
    if (this.isEnded) return;
    const i = this.choices.indexOf(choice);
    if (isCut) this.#handles[i]?.cancel();
    this.#handles[i] = undefined;
    this.#options.observer.onOutput();
    if (--this.#numOpen > 0) return;
    this.#end();
    this.#options.metrics.totals.cachedPromptTokens += this.usage().cachedTokens ?? 0;
    this.#options.observer.onDone();
  }

  onError(error: ServingError): void {
    this.fail(error);
  }

  #end(): void {
    this.#state = "ended";
    clearTimeout(this.#deadline);
    this.#cancelAll();
  }

  #cancelAll(): void {
    for (const handle of this.#handles) handle?.cancel();
  }
}

/** Time over which load is averaged; before the first request there was none. */
const WINDOW_MS = 30_000;
/** Length of an output before any was seen. */
const FIRST_OUTPUT_TOKENS = 256;
/** Weight of one output in the mean, once there are enough. */
const OUTPUT_WEIGHT = 0.02;
/** Load close to 1 has no meaning: queues would be endless. */
const MAX_LOAD = 0.95;

/** What requests are like lately: how many come, how much prefill they bring, how long their outputs are. */
export class Traffic {
  #arrivals = 0;
  #workMs = 0;
  #sinceMs = Number.NEGATIVE_INFINITY;
  #outputTokens = FIRST_OUTPUT_TOKENS;
  #numOutputs = 0;

  /** A request was placed that takes a worker `workMs` to prefill. */
  arrived(workMs: number, nowMs: number): void {
    this.#decay(nowMs);
    this.#arrivals++;
    this.#workMs += workMs;
  }

  #decay(nowMs: number): void {
    const share = Math.exp(-Math.max(0, nowMs - this.#sinceMs) / WINDOW_MS);
    this.#arrivals *= share;
    this.#workMs *= share;
    this.#sinceMs = Math.max(this.#sinceMs, nowMs);
  }

  /** Requests per millisecond. */
  arrivalsPerMs(nowMs: number): number {
    this.#decay(nowMs);
    return this.#arrivals / WINDOW_MS;
  }

  /** Share of their time that so many workers prefill, below 1. */
  load(numWorkers: number, nowMs: number): number {
    this.#decay(nowMs);
    return Math.min(MAX_LOAD, this.#workMs / WINDOW_MS / Math.max(1, numWorkers));
  }

  /** An output had about so many tokens. */
  ended(numTokens: number): void {
    if (!(numTokens >= 0) || numTokens === Number.POSITIVE_INFINITY) return;
    this.#numOutputs++;
    this.#outputTokens +=
      (numTokens - this.#outputTokens) * Math.max(OUTPUT_WEIGHT, 1 / (this.#numOutputs + 1));
  }

  /** Length to expect of an output that may have `maxTokens`. */
  outputTokens(maxTokens: number): number {
    return Math.max(1, Math.min(maxTokens, this.#outputTokens));
  }
}

/** How eagerly a crashed child is started again. */
export interface RestartLimits {
  /** Delay after the first crash; doubles with each further one inside the window. */
  readonly baseDelayMs: number;
  readonly maxDelayMs: number;
  /** Share of the delay that is drawn at random, in [0, 1], so that children that died together do not start together. */
  readonly jitter: number;
  /** This many crashes within the window, or in a row without ever having been ready, and there are no more restarts. */
  readonly maxCrashes: number;
  readonly crashWindowMs: number;
}

export const RESTART_LIMITS: RestartLimits = {
  baseDelayMs: 250,
  maxDelayMs: 10_000,
  jitter: 0.5,
  maxCrashes: 5,
  crashWindowMs: 60_000,
};

export type RestartDecision =
  | { readonly kind: "restart"; readonly delayMs: number; readonly reason: string }
  /** The child crashes in a loop; starting it again would only burn the machine. */
  | { readonly kind: "give-up"; readonly reason: string };

/**
 * Decides what to do about a crash: exponential back-off with jitter over the crashes of a sliding window, and a brake.
 * The second condition of the brake catches children that take longer than the window to fail at their start.
 */
export class RestartPolicy {
  readonly #limits: RestartLimits;
  /** Times of the crashes inside the window, oldest first; at most `maxCrashes`. */
  #crashesMs: number[] = [];
  #numFailedStarts = 0;

  constructor(limits: RestartLimits = RESTART_LIMITS) {
    this.#limits = limits;
  }

  /** The child has started and works. */
  onReady(): void {
    this.#numFailedStarts = 0;
  }

  /** The child ended without having been asked to. `random` is uniform in [0, 1). */
  onCrash(nowMs: number, random: number): RestartDecision {
    const { baseDelayMs, maxDelayMs, jitter, maxCrashes, crashWindowMs } = this.#limits;
    this.#crashesMs = this.#crashesMs.filter((crashMs) => crashMs > nowMs - crashWindowMs);
    this.#crashesMs.push(nowMs);
    this.#numFailedStarts++;
    const numCrashes = this.#crashesMs.length;
    if (numCrashes >= maxCrashes) {
      return { kind: "give-up", reason: `${numCrashes} crashes within ${crashWindowMs / 1000} s` };
    }
    if (this.#numFailedStarts >= maxCrashes) {
      return { kind: "give-up", reason: `${this.#numFailedStarts} starts in a row without becoming ready` };
    }
    const fullDelayMs = Math.min(maxDelayMs, baseDelayMs * 2 ** (numCrashes - 1));
    const delayMs = fullDelayMs * (1 - jitter * random);
    return {
      kind: "restart",
      delayMs,
      reason: `crash ${numCrashes} of ${maxCrashes} within ${crashWindowMs / 1000} s`,
    };
  }

  /** Forgets the past: somebody has asked for a new start. */
  reset(): void {
    this.#crashesMs = [];
    this.#numFailedStarts = 0;
  }
}

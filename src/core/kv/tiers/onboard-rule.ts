import type { LowerTier } from "./segment.ts";

/** What the earlier transfers of a tier count after each further one: about the last ten matter. */
const TRANSFER_DECAY = 0.9;
/** What the earlier steps count after each further one: about the last hundred matter. */
const STEP_DECAY = 0.99;
/** After a tier was found too slow its estimate shrinks by this, so that it is tried again some time. */
const RETRY_FACTOR = 0.98;

/**
 * What computing a prompt costs, learnt from the steps that ran: `ms = a × tokens + b × tokens × position`, the second part for
 * attention, which looks at all positions before. Least squares over the last steps.
 */
export class PrefillSpeed {
  /** Sums of squares and products of tokens (n), tokens × position (m) and time (t). */
  #nn = 0;
  #nm = 0;
  #mm = 0;
  #nt = 0;
  #mt = 0;

  /** A step computed positions of mean `position`, `numTokens` of them, in `ms`. */
  learn(numTokens: number, position: number, ms: number): void {
    const m = numTokens * position;
    this.#nn = STEP_DECAY * this.#nn + numTokens * numTokens;
    this.#nm = STEP_DECAY * this.#nm + numTokens * m;
    this.#mm = STEP_DECAY * this.#mm + m * m;
    this.#nt = STEP_DECAY * this.#nt + numTokens * ms;
    this.#mt = STEP_DECAY * this.#mt + m * ms;
  }

  /** Milliseconds to compute positions [start, end); null while nothing has been measured. */
  ms(start: number, end: number): number | null {
    if (this.#nn === 0) return null;
    const n = end - start;
    const m = (n * (start + end - 1)) / 2;
    const determinant = this.#nn * this.#mm - this.#nm * this.#nm;
    // With one length of context only, the two parts can't be told apart: all of it is put on the tokens.
    if (determinant > 1e-6 * this.#nn * this.#mm) {
      const a = (this.#nt * this.#mm - this.#mt * this.#nm) / determinant;
      const b = (this.#mt * this.#nn - this.#nt * this.#nm) / determinant;
      if (a >= 0 && b >= 0) return a * n + b * m;
    }
    return (this.#nt / this.#nn) * n;
  }
}

/** Where KV comes from that is not brought up: the worker computes it, or another one that has computed it sends it. */
export type Otherwise = "computed" | "sent";

/**
 * Whether bringing KV up from a tier is quicker than computing it, or than being sent it. All is learnt while the worker runs; before
 * anything has been measured, what is stored is used.
 */
export class OnboardRule {
  readonly prefill = new PrefillSpeed();
  /** Sums over the last transfers: the price of a token is their quotient, so that short pieces do not count as much as long ones. */
  readonly #transfers = new Map<LowerTier | "link", { tokens: number; ms: number }>();
  readonly #minTokens: number;

  /** Fewer than `minTokens` are always computed: each transfer has its fixed price. */
  constructor(minTokens: number) {
    this.#minTokens = minTokens;
  }

  /** Reading and importing `numTokens` from a tier, or receiving them, took `ms`, waits for steps and for other reads left out. */
  learn(tier: LowerTier | "link", numTokens: number, ms: number): void {
    const known = this.#transfers.get(tier) ?? { tokens: 0, ms: 0 };
    known.tokens = TRANSFER_DECAY * known.tokens + numTokens;
    known.ms = TRANSFER_DECAY * known.ms + ms;
    this.#transfers.set(tier, known);
  }

  /** Reading alone has been measured: counts only while nothing else has been. */
  learnRead(tier: LowerTier, numTokens: number, ms: number): void {
    if (!this.#transfers.has(tier)) this.learn(tier, numTokens, ms);
  }

  /** Importing what was received last took `ms`. */
  learnImport(ms: number): void {
    const known = this.#transfers.get("link");
    if (known !== undefined) known.ms += ms;
  }

  /** Milliseconds to come by positions [start, end) without a tier; null while nothing has been measured. */
  #otherwiseMs(otherwise: Otherwise, start: number, end: number): number | null {
    if (otherwise === "computed") return this.prefill.ms(start, end);
    return this.#transfers.has("link") ? (end - start) * this.msPerToken("link") : null;
  }

  /** Milliseconds to bring a token up from a tier, or to receive it; 0 while nothing has been measured. */
  msPerToken(tier: LowerTier | "link"): number {
    const known = this.#transfers.get(tier);
    return known === undefined ? 0 : known.ms / known.tokens;
  }

  /**
   * How many of the pieces, which follow each other from position `start`, to bring up: as many leading ones as save the most
   * time, 0 for none.
   */
  choose(
    start: number,
    pieces: ReadonlyArray<{ readonly tier: LowerTier; readonly numTokens: number }>,
    otherwise: Otherwise = "computed",
  ): number {
    let end = start;
    let transferMs = 0;
    let best = 0;
    let mostSavedMs = 0;
    pieces.forEach(({ tier, numTokens }, i) => {
      end += numTokens;
      transferMs += numTokens * this.msPerToken(tier);
      const savedMs = (this.#otherwiseMs(otherwise, start, end) ?? Number.POSITIVE_INFINITY) - transferMs;
      if (end - start < this.#minTokens || savedMs < mostSavedMs || savedMs <= 0) return;
      best = i + 1;
      mostSavedMs = savedMs;
    });
    const next = pieces[best];
    if (next !== undefined && end - start >= this.#minTokens) this.#relent(next.tier);
    return best;
  }

  #relent(tier: LowerTier): void {
    const known = this.#transfers.get(tier);
    if (known !== undefined) known.ms *= RETRY_FACTOR;
  }
}

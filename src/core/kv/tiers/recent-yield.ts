import { assert } from "../../util/assert.ts";

/** What the earlier turns count after each further one: about the last ten matter. */
const DECAY = 0.9;
/** Turns that tell nothing yet, when they are fewer. */
const MIN_SETTLED = 8;
/** Where less than this part of what came up was used, most of it does not come up any more. */
export const MIN_YIELD = 0.2;
/** Of looks at turns that would be left out so many have one that is not, to see whether things have changed. */
export const PROBE_EVERY = 8;

/** What part of the KV that was brought to one place ahead of turns has been used lately, and whether to bring more there. */
export class RecentYield {
  #used = 0;
  #total = 0;
  #numSettled = 0;
  #numLeftOut = 0;

  /** So many of so many blocks that were brought up for a turn were there when it came. */
  settled(numUsed: number, numBlocks: number): void {
    assert(numUsed >= 0 && numUsed <= numBlocks, "more was used than was brought up");
    if (numBlocks === 0) return;
    this.#used = DECAY * this.#used + numUsed;
    this.#total = DECAY * this.#total + numBlocks;
    this.#numSettled++;
  }

  /** Part of it that was used, in [0, 1]; 1 before enough is known. */
  get share(): number {
    return this.#numSettled < MIN_SETTLED ? 1 : this.#used / this.#total;
  }

  /** Whether KV should come up for one more turn. Not a pure question: each no counts. */
  isWorthIt(): boolean {
    if (this.share >= MIN_YIELD) return true;
    this.#numLeftOut = (this.#numLeftOut + 1) % PROBE_EVERY;
    return this.#numLeftOut === 0;
  }
}

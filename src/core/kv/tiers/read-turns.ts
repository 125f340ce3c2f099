import { assert } from "../../util/assert.ts";
import type { LowerTier } from "./segment.ts";

/** Reads ahead of turns that a tier's store has at a time: so many a read that somebody waits for finds before it at most. */
export const MAX_READS_BEFORE_DEMAND = 2;

/** For whom a tier is read: for somebody who waits for it, or for a turn that may come. */
export type ReadFor = "demand" | "ahead";

function noReads(): Record<LowerTier, Record<ReadFor, number>> {
  return { host: { demand: 0, ahead: 0 }, disk: { demand: 0, ahead: 0 } };
}

/**
 * Whose turn it is to read from each tier. A store gets its reads in order, and all that run share its bandwidth; so one ahead of a turn
 * begins only while nobody waits for a read of the same tier. Those that have begun end.
 */
export class ReadTurns {
  readonly #running = noReads();

  /** Whether a read ahead of a turn may begin. */
  mayReadAhead(tier: LowerTier): boolean {
    const { demand, ahead } = this.#running[tier];
    return demand === 0 && ahead < MAX_READS_BEFORE_DEMAND;
  }

  begin(tier: LowerTier, whom: ReadFor): void {
    assert(whom === "demand" || this.mayReadAhead(tier), "a read ahead of a turn is before its time");
    this.#running[tier][whom]++;
  }

  end(tier: LowerTier, whom: ReadFor): void {
    assert(this.#running[tier][whom] > 0, "more reads ended than began");
    this.#running[tier][whom]--;
  }

  /** Throws unless exactly the given reads run. */
  checkInvariants(reads: Iterable<readonly [LowerTier, ReadFor]>): void {
    const counted = noReads();
    for (const [tier, whom] of reads) counted[tier][whom]++;
    for (const tier of ["host", "disk"] as const) {
      for (const whom of ["demand", "ahead"] as const)
        assert(counted[tier][whom] === this.#running[tier][whom], `reads of ${tier} are miscounted`);
      assert(this.#running[tier].ahead <= MAX_READS_BEFORE_DEMAND, "too much is read ahead of turns");
    }
  }
}

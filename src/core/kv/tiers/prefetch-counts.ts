import { assert } from "../../util/assert.ts";
import { RecentYield } from "./recent-yield.ts";

/** Where a prefetch brings KV. */
export type PrefetchTarget = "host" | "device";

export const PREFETCH_TARGETS: readonly PrefetchTarget[] = ["host", "device"];

/** Bytes brought to one place ahead of a turn, since the worker started. What is neither used nor wasted waits for its turn. */
export interface PrefetchedBytes {
  readonly started: number;
  /** Still there when the turn came. */
  readonly used: number;
  /** The turn did not come in time, or they had gone before. */
  readonly wasted: number;
  /** Part of `wasted`: they had made way for others. */
  readonly gone: number;
}

export interface PrefetchStats {
  /** Turns that were expected, that came in time, and that are expected now. */
  readonly expected: number;
  readonly came: number;
  readonly pending: number;
  /** Looks at a turn at which something had to come up, and those of them that were broken off because somebody needed the room. */
  readonly begun: number;
  readonly stopped: number;
  readonly bytes: Readonly<Record<PrefetchTarget, PrefetchedBytes>>;
}

/** Blocks [from, to) of a chain that were brought somewhere. */
interface Moved {
  readonly target: PrefetchTarget;
  readonly from: number;
  to: number;
}

/** What was brought up for one turn. */
export class MovedBlocks {
  #moved: Moved[] = [];
  readonly #counts: PrefetchCounts;

  constructor(counts: PrefetchCounts) {
    this.#counts = counts;
  }

  get isEmpty(): boolean {
    return this.#moved.length === 0;
  }

  /** Blocks [from, to) of the turn's chain are there now. What was brought there before, from `from` on, had gone. */
  add(target: PrefetchTarget, from: number, to: number): void {
    for (const moved of this.#moved) {
      if (moved.target !== target || moved.to <= from) continue;
      const kept = Math.max(moved.from, from);
      const numGone = moved.to - kept;
      this.#counts.settled(target, { used: 0, wasted: numGone, gone: numGone });
      moved.to = kept;
    }
    this.#moved = this.#moved.filter((moved) => moved.to > moved.from);
    this.#moved.push({ target, from, to });
    this.#counts.started(target, to - from);
  }

  /** So many blocks of its chain are at each place when the turn comes, or is not waited for any more. */
  settle(numFound: Readonly<Record<PrefetchTarget, number>>, hasCome: boolean): void {
    for (const { target, from, to } of this.#moved) {
      const left = Math.min(Math.max(numFound[target] - from, 0), to - from);
      const gone = to - from - left;
      this.#counts.settled(target, {
        used: hasCome ? left : 0,
        wasted: hasCome ? gone : to - from,
        gone,
      });
    }
    this.#moved = [];
  }

  /** Blocks brought to a place that wait for the turn. */
  numOpen(target: PrefetchTarget): number {
    return this.#moved.reduce((sum, moved) => sum + (moved.target === target ? moved.to - moved.from : 0), 0);
  }
}

/** Bytes of a token need not be whole. */
function rounded({ started, used, wasted, gone }: PrefetchedBytes): PrefetchedBytes {
  return {
    started: Math.round(started),
    used: Math.round(used),
    wasted: Math.round(wasted),
    gone: Math.round(gone),
  };
}

type MutableBytes = { -readonly [key in keyof PrefetchedBytes]: number };

export class PrefetchCounts {
  readonly #blockBytes: number;
  readonly #bytes: Record<PrefetchTarget, MutableBytes> = {
    host: { started: 0, used: 0, wasted: 0, gone: 0 },
    device: { started: 0, used: 0, wasted: 0, gone: 0 },
  };
  /** What came of the last of them. */
  readonly recent: Readonly<Record<PrefetchTarget, RecentYield>> = {
    host: new RecentYield(),
    device: new RecentYield(),
  };
  expected = 0;
  came = 0;
  stopped = 0;
  #begun = 0;

  constructor(blockBytes: number) {
    this.#blockBytes = blockBytes;
  }

  /** Something has to come up at a look at a turn; counts once for each. */
  begun(look: { hasBegun: boolean }): void {
    if (!look.hasBegun) this.#begun++;
    look.hasBegun = true;
  }

  /** So many blocks have come to a place. */
  started(target: PrefetchTarget, numBlocks: number): void {
    this.#count(target, "started", numBlocks);
  }

  /** So many of them are used, or will not be any more. */
  settled(target: PrefetchTarget, numBlocks: Omit<PrefetchedBytes, "started">): void {
    const { used, wasted, gone } = numBlocks;
    this.#count(target, "used", used);
    this.#count(target, "wasted", wasted);
    this.#count(target, "gone", gone);
    this.recent[target].settled(used, used + wasted);
  }

  #count(target: PrefetchTarget, what: keyof PrefetchedBytes, numBlocks: number): void {
    assert(numBlocks >= 0, "fewer than no blocks were moved");
    this.#bytes[target][what] += numBlocks * this.#blockBytes;
  }

  /** Bytes at a place that wait for their turns. */
  open(target: PrefetchTarget): number {
    const { started, used, wasted } = this.#bytes[target];
    return started - used - wasted;
  }

  stats(pending: number): PrefetchStats {
    const { host, device } = this.#bytes;
    return {
      expected: this.expected,
      came: this.came,
      pending,
      begun: this.#begun,
      stopped: this.stopped,
      bytes: { host: rounded(host), device: rounded(device) },
    };
  }

  /** Throws unless what waits for turns is what these turns say. */
  checkInvariants(open: readonly MovedBlocks[]): void {
    for (const target of PREFETCH_TARGETS) {
      const numOpen = open.reduce((sum, moved) => sum + moved.numOpen(target), 0);
      const difference = Math.abs(this.open(target) - numOpen * this.#blockBytes);
      const { wasted, gone } = this.#bytes[target];
      assert(gone <= wasted, "more has gone than was wasted");
      assert(difference <= 1e-6 * this.#bytes[target].started, `prefetches to ${target} are miscounted`);
    }
  }
}

import { assert } from "../../util/assert.ts";
import type { KvRange } from "../kv-ops.ts";
import type { KvTiers } from "./kv-tiers.ts";
import type { PrefetchCounts } from "./prefetch-counts.ts";
import type { Job } from "./prefetch-turn.ts";
import type { ReadFor, ReadTurns } from "./read-turns.ts";
import { type LowerTier, numBlocksOf, type Segment, type TierPiece } from "./segment.ts";
import type { TierReport } from "./tier-effects.ts";

/** Segments of one turn that are on their way from disk to host memory: some 16 MiB. */
export const MAX_RAISING_SEGMENTS = 2;
/** Part of the host memory that may be filled for turns that have not come. */
export const MAX_RAISED_SHARE = 0.5;

/** What bringing KV up ahead of a turn wants done, beside what an `Onboarder` does. */
export type PrefetchEffect =
  | { readonly kind: "read-tier"; readonly read: number; readonly piece: TierPiece; readonly range: KvRange }
  /** Write what a read has yielded to host memory; report with `written`. */
  | {
      readonly kind: "write-tier";
      readonly tier: "host";
      readonly segment: Segment;
      readonly payload: unknown;
    };

interface HostRaiserOptions {
  readonly tiers: KvTiers;
  readonly counts: PrefetchCounts;
  readonly readTurns: ReadTurns;
  readonly blockSizeTokens: number;
}

/** Copies KV of turns that may come from disk to host memory, a few segments at a time, while nobody waits for the disk. */
export class HostRaiser {
  readonly #options: HostRaiserOptions;
  readonly #reads = new Map<number, { readonly job: Job; readonly piece: TierPiece }>();
  readonly #writes = new Map<number, Job>();
  #effects: PrefetchEffect[] = [];
  #numReads = 0;

  constructor(options: HostRaiserOptions) {
    this.#options = options;
  }

  /** What is to be done since the last call, in order. */
  takeEffects(): readonly PrefetchEffect[] {
    const effects = this.#effects;
    if (effects.length > 0) this.#effects = [];
    return effects;
  }

  /** Begins what may be read now of a job's pieces. Returns whether nothing of them is left to do. */
  advance(job: Job): boolean {
    const { tiers, readTurns } = this.#options;
    const { pieces } = job;
    while (pieces.length > 0 && job.numMoving < MAX_RAISING_SEGMENTS && readTurns.mayReadAhead("disk")) {
      const piece = pieces.shift()!;
      if (!tiers.holds(piece) || !this.#hasRoomFor(piece)) pieces.length = 0;
      else this.#read(job, piece);
    }
    return job.numMoving === 0 && pieces.length === 0;
  }

  /** Those whose turns are due as well have as good a reason to be there. */
  #hasRoomFor(piece: TierPiece): boolean {
    const { tiers, counts } = this.#options;
    if (!tiers.hasSpareRoomFor(piece)) return false;
    const bytes = piece.numBlocks * tiers.bytesPerBlock;
    return counts.open("host") + bytes <= MAX_RAISED_SHARE * tiers.maxBytes("host");
  }

  #read(job: Job, piece: TierPiece): void {
    const { tiers, counts, readTurns, blockSizeTokens } = this.#options;
    const start = (piece.segment.firstBlock + piece.skipBlocks) * blockSizeTokens;
    const range = { slot: -1, start, end: start + piece.numBlocks * blockSizeTokens };
    // An onboarder's reads have positive numbers.
    const read = -++this.#numReads;
    job.numMoving++;
    counts.begun(job);
    this.#reads.set(read, { job, piece });
    tiers.pin(piece);
    readTurns.begin(piece.tier, "ahead");
    this.#effects.push({ kind: "read-tier", read, piece, range });
  }

  /** Takes in what became of an effect. Returns whether it was a read of this class's; of `written` others want to know as well. */
  report(report: TierReport): boolean {
    if (report.kind === "written") this.#written(report.segment, report.bytes !== null);
    if (report.kind !== "read" || report.read > 0) return false;
    this.#readDone(report);
    return true;
  }

  #readDone({ read, payload, ms, wasBusy }: Extract<TierReport, { kind: "read" }>): void {
    const { tiers, readTurns, blockSizeTokens } = this.#options;
    const { job, piece } = this.#reads.get(read)!;
    this.#reads.delete(read);
    readTurns.end(piece.tier, "ahead");
    tiers.unpin(piece);
    if (payload !== null) tiers.rule.learnRead(piece.tier, piece.numBlocks * blockSizeTokens, ms);
    else if (wasBusy !== true) tiers.discard(piece);
    const segment = payload === null || job.isOver ? null : tiers.raise(piece);
    if (segment === null) {
      job.numMoving--;
      job.pieces.length = 0;
      return;
    }
    this.#writes.set(segment.id, job);
    this.#effects.push({ kind: "write-tier", tier: "host", segment, payload });
  }

  #written(segment: Segment, ok: boolean): void {
    const job = this.#writes.get(segment.id);
    if (job === undefined) return;
    this.#writes.delete(segment.id);
    job.numMoving--;
    if (!ok) job.pieces.length = 0;
    else if (!job.isOver)
      job.turn.moved.add("host", segment.firstBlock, segment.firstBlock + numBlocksOf(segment));
  }

  /** The reads that run. */
  get reads(): ReadonlyArray<readonly [LowerTier, ReadFor]> {
    return [...this.#reads.values()].map(({ piece }) => [piece.tier, "ahead"] as const);
  }

  /** Throws unless the transfers under way are those that the jobs say. */
  checkInvariants(jobs: ReadonlySet<Job>): void {
    for (const job of jobs) {
      const moving = [...this.#reads.values()].filter((read) => read.job === job).length;
      const writing = [...this.#writes.values()].filter((each) => each === job).length;
      assert(job.numMoving === moving + writing, "a prefetch's transfers are miscounted");
      assert(job.numMoving <= MAX_RAISING_SEGMENTS, "too much is brought up at a time");
    }
    for (const { job } of this.#reads.values()) assert(jobs.has(job), "something is read for nobody");
  }
}

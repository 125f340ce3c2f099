import { assert } from "../../util/assert.ts";
import { EvictionQueue } from "./eviction.ts";
import type { TierEntry } from "./segment-forest.ts";

/** Outlooks of one tier; a further one is not taken in. */
const MAX_OUTLOOKS = 65_536;
/** A segment of a conversation that is due counts so many times as one that may come later. */
const DUE_FACTOR = 2;
/** Part of the turns that come that come before they are late: see `estimateReturn`. */
const IN_TIME = 0.9;

/** When a conversation is likely to come back: times of the worker's clock. */
export interface ReturnOutlook {
  readonly earlyMs: number;
  readonly lateMs: number;
  /** Of coming back at all. */
  readonly probability: number;
}

/** What is known of the future of some segments that belong together: a chain, or a part of it. */
export interface Outlook {
  readonly owner: string;
  /** Until then they go after all others; 0: they do not. */
  readonly keptUntilMs: number;
  readonly comesBack: ReturnOutlook | null;
  readonly entries: Set<TierEntry>;
  /** Bytes of those that are kept. */
  keptBytes: number;
  /** When something about it changes. */
  rank: number;
  heapAt: number;
  readonly lastUse: number;
}

/**
 * How likely a conversation is to come back now, relative to one of which nothing is known: 1. Before it is due its probability p; twice
 * that while it is due; after that what is left of it, p × 0.1 / (1 - 0.9 p), for nine of ten that come do so in time.
 */
export function likelihoodAt(comesBack: ReturnOutlook | null, nowMs: number): number {
  if (comesBack === null) return 1;
  const { earlyMs, lateMs, probability } = comesBack;
  if (nowMs >= lateMs) return (probability * (1 - IN_TIME)) / (1 - IN_TIME * probability);
  return nowMs >= earlyMs ? DUE_FACTOR * probability : probability;
}

/** The outlooks of one tier's segments: which are kept, for whom, and which may come back. Each segment has one at most. */
export class Outlooks {
  readonly #byChange = new EvictionQueue<Outlook>();
  readonly #keptBy = new Map<string, number>();
  readonly #maxKeptBytes: number;
  #numOutlooks = 0;
  #nowMs = 0;

  /** @param maxKeptBytes of one owner at a time */
  constructor(maxKeptBytes: number) {
    this.#maxKeptBytes = maxKeptBytes;
  }

  keptBy(owner: string): number {
    return this.#keptBy.get(owner) ?? 0;
  }

  /**
   * The segments, the beginning of a chain first, are kept after others until a time, as far as their owner has room. Returns those
   * whose rank may have changed.
   */
  keep(entries: readonly TierEntry[], owner: string, untilMs: number): readonly TierEntry[] {
    const kept = entries.filter(({ outlook }) => (outlook?.keptUntilMs ?? 0) < untilMs);
    const fitting: TierEntry[] = [];
    let bytes = this.keptBy(owner);
    for (const entry of kept) {
      if (entry.outlook?.owner !== owner || !this.isKept(entry)) bytes += entry.bytes;
      if (bytes > this.#maxKeptBytes) break;
      fitting.push(entry);
    }
    if (fitting.length === 0) return fitting;
    const comesBack = fitting.at(-1)!.outlook?.comesBack ?? null;
    this.#give(fitting, { owner, keptUntilMs: untilMs, comesBack });
    return fitting;
  }

  /** The segments' conversation is likely to come back. */
  expect(entries: readonly TierEntry[], comesBack: ReturnOutlook): void {
    // Those that are kept stay so, for the same time; what else had the same outlook keeps that.
    for (const outlook of new Set(entries.map((entry) => entry.outlook))) {
      const part = entries.filter((entry) => entry.outlook === outlook);
      const { owner, keptUntilMs } = outlook ?? { owner: "", keptUntilMs: 0 };
      this.#give(part, { owner, keptUntilMs, comesBack });
    }
  }

  #give(entries: readonly TierEntry[], what: Pick<Outlook, "owner" | "keptUntilMs" | "comesBack">): void {
    if (this.#byChange.size >= MAX_OUTLOOKS) return;
    const lastUse = ++this.#numOutlooks;
    const outlook: Outlook = { ...what, entries: new Set(), keptBytes: 0, rank: 0, heapAt: -1, lastUse };
    for (const entry of entries) {
      this.drop(entry);
      entry.outlook = outlook;
      outlook.entries.add(entry);
      if (what.keptUntilMs > this.#nowMs) this.#count(outlook, entry.bytes);
    }
    this.#schedule(outlook);
  }

  isKept({ outlook }: TierEntry): boolean {
    return outlook !== null && outlook.keptUntilMs > this.#nowMs;
  }

  likelihood({ outlook }: TierEntry): number {
    return likelihoodAt(outlook?.comesBack ?? null, this.#nowMs);
  }

  /** Whether somebody is expected to come back for it about now. */
  isDue({ outlook }: TierEntry): boolean {
    const comesBack = outlook?.comesBack ?? null;
    return comesBack !== null && comesBack.earlyMs <= this.#nowMs && this.#nowMs < comesBack.lateMs;
  }

  /** A segment takes other bytes than it did. */
  resized(entry: TierEntry, bytes: number): void {
    if (this.isKept(entry)) this.#count(entry.outlook!, bytes - entry.bytes);
  }

  /** A segment is gone, or has another outlook. */
  drop(entry: TierEntry): void {
    const { outlook } = entry;
    if (outlook === null) return;
    if (outlook.keptBytes > 0) this.#count(outlook, -entry.bytes);
    entry.outlook = null;
    outlook.entries.delete(entry);
    if (outlook.entries.size === 0) this.#byChange.remove(outlook);
  }

  #count(outlook: Outlook, bytes: number): void {
    outlook.keptBytes += bytes;
    const kept = this.keptBy(outlook.owner) + bytes;
    if (kept === 0) this.#keptBy.delete(outlook.owner);
    else this.#keptBy.set(outlook.owner, kept);
  }

  #schedule(outlook: Outlook): void {
    const { keptUntilMs, comesBack } = outlook;
    const times = [keptUntilMs, comesBack?.earlyMs ?? 0, comesBack?.lateMs ?? 0];
    const next = Math.min(...times.filter((time) => time > this.#nowMs));
    this.#byChange.remove(outlook);
    // What nothing will change is found through its segments alone.
    this.#byChange.add(outlook, next);
  }

  /** It is so late. Returns the segments whose rank may have changed. */
  advance(nowMs: number): readonly TierEntry[] {
    // What is over stays over.
    this.#nowMs = Math.max(this.#nowMs, nowMs);
    const changed: TierEntry[] = [];
    for (
      let next = this.#byChange.first();
      next !== null && next.rank <= this.#nowMs;
      next = this.#byChange.first()
    ) {
      if (next.keptUntilMs <= this.#nowMs && next.keptBytes > 0) this.#count(next, -next.keptBytes);
      changed.push(...next.entries);
      this.#schedule(next);
    }
    return changed;
  }

  /** Throws unless sums agree with the given segments, all of the tier. */
  checkInvariants(entries: Iterable<TierEntry>): void {
    const kept = new Map<string, number>();
    let numWith = 0;
    const outlooks = new Set<Outlook>();
    for (const entry of entries) {
      if (entry.outlook === null) continue;
      numWith++;
      outlooks.add(entry.outlook);
      assert(entry.outlook.entries.has(entry), "an outlook does not know its segment");
      if (this.isKept(entry)) {
        const { owner } = entry.outlook;
        kept.set(owner, (kept.get(owner) ?? 0) + entry.bytes);
      }
    }
    let numListed = 0;
    for (const outlook of outlooks) numListed += outlook.entries.size;
    assert(numListed === numWith, "an outlook has a segment that is gone");
    assert(outlooks.size === this.#byChange.size, "an outlook without segments is left");
    assert(kept.size === this.#keptBy.size, "owners of kept segments are miscounted");
    for (const [owner, bytes] of kept)
      assert(Math.abs(bytes - this.keptBy(owner)) <= 1e-6 * bytes, "kept bytes are miscounted");
    this.#byChange.checkInvariants();
  }
}

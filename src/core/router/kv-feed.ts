import type { KvEventBatch } from "../kv/kv-events.ts";
import type { WorkerId } from "../request.ts";
import { assert } from "../util/assert.ts";

/** A snapshot that was asked for and has not come by then is asked for again. */
export const RESYNC_RETRY_MS = 5000;

/** What a feed has seen so far. */
export interface KvCounts {
  /** Batches that went on. */
  numBatches: number;
  /** Batches that did not: from workers that are not here, or while a snapshot is awaited. */
  numDropped: number;
  /** Times that a batch was missing. */
  numGaps: number;
  /** Snapshots asked for. */
  numResyncs: number;
}

interface Source {
  /** Number of the batch that comes next. */
  next: number;
  /** When to ask for a snapshot again; null while nothing is missing. */
  retryAtMs: number | null;
}

/**
 * Lets KV events of the workers through as long as none is missing. After a gap what follows would be applied to a state that is
 * not there, so it is dropped until a snapshot comes, which is asked for; what was known of the worker stays known meanwhile.
 */
export class KvFeed {
  readonly counts: KvCounts = { numBatches: 0, numDropped: 0, numGaps: 0, numResyncs: 0 };
  readonly #sources = new Map<WorkerId, Source>();

  /** A worker has become ready. Its first batch is number 1 or a snapshot. */
  add(id: WorkerId): void {
    this.#sources.set(id, { next: 1, retryAtMs: null });
  }

  remove(id: WorkerId): void {
    this.#sources.delete(id);
  }

  /** Says what to do with a batch: pass it on, drop it, or drop it and ask its worker for a snapshot. */
  receive(id: WorkerId, { sequence, isSnapshot }: KvEventBatch, nowMs: number): "pass" | "drop" | "resync" {
    const source = this.#sources.get(id);
    if (source === undefined) return this.#drop();
    if (isSnapshot) source.retryAtMs = null;
    else if (source.retryAtMs !== null)
      return nowMs < source.retryAtMs ? this.#drop() : this.#ask(source, nowMs);
    else if (sequence !== source.next) {
      this.counts.numGaps++;
      return this.#ask(source, nowMs);
    }
    source.next = sequence + 1;
    this.counts.numBatches++;
    return "pass";
  }

  #ask(source: Source, nowMs: number): "resync" {
    source.retryAtMs = nowMs + RESYNC_RETRY_MS;
    this.counts.numResyncs++;
    this.#drop();
    return "resync";
  }

  #drop(): "drop" {
    this.counts.numDropped++;
    return "drop";
  }

  /** Throws unless every worker of the feed is in the fleet. */
  checkInvariants(isMember: (id: WorkerId) => boolean): void {
    for (const id of this.#sources.keys()) assert(isMember(id), `the feed knows ${id}, the fleet does not`);
    assert(this.counts.numResyncs >= this.counts.numGaps, "a gap was not answered");
  }
}

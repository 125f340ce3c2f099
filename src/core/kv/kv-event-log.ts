import { HASH_WORDS } from "../tokens/block-hash.ts";
import { assert } from "../util/assert.ts";
import type { KvEvent, KvEventBatch, KvTier } from "./kv-events.ts";

/** The most block hashes in one batch, a clearance counted as one; what is more goes into the next batch. 16,384 take 256 KiB. */
export const MAX_BATCH_BLOCKS = 16_384;

const NO_BATCHES: readonly KvEventBatch[] = [];

/** An event under construction. `hashes` has room for more than it holds. */
interface OpenEvent {
  readonly kind: "stored" | "removed" | "cleared";
  readonly tier: KvTier;
  readonly parent: Int32Array | null;
  hashes: Int32Array;
  numBlocks: number;
}

/** Reports everything that a tier holds with `stored` and `storedBlock`, parents before their children. */
export type KvTierContents = () => void;

/**
 * Collects what changes in the tiers of one worker's KV, in order, until it is taken as numbered batches.
 *
 * Whoever keeps a tier calls `stored`, `removed` and `cleared` at the moment of the change, and says once with
 * {@link describeWith} how its whole contents can be told. Blocks that follow each other in a chain become one event, and so do
 * removals in a row. Not taken, it grows by `HASH_WORDS` words with every change.
 */
export class KvEventLog {
  readonly #contents: KvTierContents[] = [];
  #events: OpenEvent[] = [];
  #numBlocks = 0;
  #full: KvEventBatch[] = [];
  #sequence = 0;
  #isSnapshot = false;

  /** Number of the last batch that is complete; 0 before the first. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Names who tells the contents of a tier when a snapshot is asked for. Once per tier. */
  describeWith(contents: KvTierContents): void {
    this.#contents.push(contents);
  }

  /** The tier holds the given blocks, which follow each other; the first one's parent is `parent`, null for a prompt's beginning. */
  stored(tier: KvTier, parent: Int32Array | null, hashes: Int32Array): void {
    assert(hashes.length % HASH_WORDS === 0, "a block hash is cut off");
    for (let at = 0; at < hashes.length; at += HASH_WORDS) {
      if (at === 0) this.storedBlock(tier, parent, 0, hashes, 0);
      else this.storedBlock(tier, hashes, at - HASH_WORDS, hashes, at);
    }
  }

  /** The same for the one block at `hashes[at …)`, whose parent is the one at `parents[parentAt …)`. */
  storedBlock(
    tier: KvTier,
    parents: Int32Array | null,
    parentAt: number,
    hashes: Int32Array,
    at: number,
  ): void {
    let event = this.#last("stored", tier);
    if (event === null || parents === null || !endsWith(event, parents, parentAt)) {
      const parent = parents === null ? null : parents.slice(parentAt, parentAt + HASH_WORDS);
      event = this.#open("stored", tier, parent);
    }
    this.#append(event, hashes, at);
  }

  /** The tier does not hold the given blocks any more. */
  removed(tier: KvTier, hashes: Int32Array): void {
    for (let at = 0; at < hashes.length; at += HASH_WORDS) this.removedBlock(tier, hashes, at);
  }

  /** The same for the one block at `hashes[at …)`. */
  removedBlock(tier: KvTier, hashes: Int32Array, at: number): void {
    this.#append(this.#last("removed", tier) ?? this.#open("removed", tier, null), hashes, at);
  }

  /** The tier holds nothing any more. */
  cleared(tier: KvTier): void {
    this.#open("cleared", tier, null).numBlocks = 1;
    this.#count();
  }

  /** The next batches say everything that the tiers hold, whatever was said before, to all who listen. */
  snapshot(): void {
    // What has happened since the last batch is part of the contents.
    this.#events = [];
    this.#numBlocks = 0;
    this.#full = [];
    this.#isSnapshot = true;
    for (const describe of this.#contents) describe();
  }

  /** What has changed since the last call, at most {@link MAX_BATCH_BLOCKS} in each batch. */
  take(): readonly KvEventBatch[] {
    if (this.#events.length > 0 || this.#isSnapshot) this.#close();
    if (this.#full.length === 0) return NO_BATCHES;
    const batches = this.#full;
    this.#full = [];
    return batches;
  }

  /** The event under construction if it is of this kind. */
  #last(kind: OpenEvent["kind"], tier: KvTier): OpenEvent | null {
    const last = this.#events[this.#events.length - 1];
    return last?.kind === kind && last.tier === tier ? last : null;
  }

  #open(kind: OpenEvent["kind"], tier: KvTier, parent: Int32Array | null): OpenEvent {
    const event = { kind, tier, parent, hashes: new Int32Array(4 * HASH_WORDS), numBlocks: 0 };
    this.#events.push(event);
    return event;
  }

  #append(event: OpenEvent, hashes: Int32Array, at: number): void {
    const end = event.numBlocks * HASH_WORDS;
    if (end === event.hashes.length) {
      const larger = new Int32Array(2 * end);
      larger.set(event.hashes);
      event.hashes = larger;
    }
    for (let word = 0; word < HASH_WORDS; word++) event.hashes[end + word] = hashes[at + word]!;
    event.numBlocks++;
    this.#count();
  }

  #count(): void {
    if (++this.#numBlocks === MAX_BATCH_BLOCKS) this.#close();
  }

  #close(): void {
    const events = this.#events.map(finished);
    // A snapshot's first batch tells the listener to forget; those that complete it only add.
    this.#full.push({ sequence: ++this.#sequence, isSnapshot: this.#isSnapshot, events });
    this.#isSnapshot = false;
    this.#events = [];
    this.#numBlocks = 0;
  }

  /** Throws unless the counts agree with the events. */
  checkInvariants(): void {
    const numBlocks = this.#events.reduce((sum, event) => sum + event.numBlocks, 0);
    assert(numBlocks === this.#numBlocks, "the count of reported blocks is off");
    assert(numBlocks < MAX_BATCH_BLOCKS, "a full batch is still open");
    const first = this.#full[0];
    assert(
      first === undefined || first.sequence + this.#full.length === this.#sequence + 1,
      "a batch is missing",
    );
  }
}

function endsWith({ hashes, numBlocks }: OpenEvent, words: Int32Array, at: number): boolean {
  const last = (numBlocks - 1) * HASH_WORDS;
  for (let word = 0; word < HASH_WORDS; word++) {
    if (hashes[last + word] !== words[at + word]) return false;
  }
  return true;
}

function finished({ kind, tier, parent, hashes, numBlocks }: OpenEvent): KvEvent {
  if (kind === "cleared") return { kind, tier };
  const used = hashes.slice(0, numBlocks * HASH_WORDS);
  return kind === "stored" ? { kind, tier, parent, hashes: used } : { kind, tier, hashes: used };
}

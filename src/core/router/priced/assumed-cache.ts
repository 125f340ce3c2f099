import type { KvEvent } from "../../kv/kv-events.ts";
import { HASH_WORDS } from "../../tokens/block-hash.ts";
import { blockKeys } from "../policies/known-caches.ts";

/** Most blocks that are assumed of one worker, whatever its size. */
const MAX_BLOCKS = 65_536;

/**
 * What a worker that says nothing of its caches is assumed to have: what it was sent last, as much as fits it. It changes as a real
 * cache does, by the same events.
 */
export class AssumedCache {
  readonly #capacity: number;
  /** Places of the blocks by 53 bits of their hashes, the longest unused first. */
  readonly #places = new Map<number, number>();
  #hashes = new Int32Array(64 * HASH_WORDS);

  constructor(capacityBlocks: number) {
    this.#capacity = Math.max(1, Math.min(MAX_BLOCKS, Math.floor(capacityBlocks)));
  }

  get size(): number {
    return this.#places.size;
  }

  /** The worker has these blocks now, from the beginning of a prompt on. Returns what that changes. */
  store(hashes: Int32Array): KvEvent[] {
    const keys = blockKeys(hashes).subarray(0, this.#capacity);
    const removed: number[] = [];
    for (let block = 0; block < keys.length; block++) {
      const key = keys[block]!;
      let place = this.#places.get(key);
      if (place !== undefined) this.#places.delete(key);
      else if (this.#places.size < this.#capacity) place = this.#places.size;
      else place = this.#evict(removed);
      this.#places.set(key, place);
      this.#write(place, hashes, block);
    }
    const events: KvEvent[] = [];
    if (removed.length > 0)
      events.push({ kind: "removed", tier: "device", hashes: Int32Array.from(removed) });
    const stored = hashes.slice(0, keys.length * HASH_WORDS);
    if (keys.length > 0) events.push({ kind: "stored", tier: "device", parent: null, hashes: stored });
    return events;
  }

  #evict(removed: number[]): number {
    const [oldest] = this.#places;
    const [key, place] = oldest!;
    this.#places.delete(key);
    for (let word = 0; word < HASH_WORDS; word++) removed.push(this.#hashes[place * HASH_WORDS + word]!);
    return place;
  }

  #write(place: number, hashes: Int32Array, block: number): void {
    if ((place + 1) * HASH_WORDS > this.#hashes.length) {
      const longer = new Int32Array(this.#hashes.length * 2);
      longer.set(this.#hashes);
      this.#hashes = longer;
    }
    for (let word = 0; word < HASH_WORDS; word++)
      this.#hashes[place * HASH_WORDS + word] = hashes[block * HASH_WORDS + word]!;
  }
}

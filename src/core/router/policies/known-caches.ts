import type { KvEventBatch, KvTier } from "../../kv/kv-events.ts";
import type { WorkerId } from "../../request.ts";
import { HASH_WORDS } from "../../tokens/block-hash.ts";
import type { FleetEvent, PlacementQuery } from "../placement.ts";

/** Where the leading blocks of a prompt are on one worker, each counted where it is nearest. */
export interface CachedBlocks {
  device: number;
  host: number;
  disk: number;
}

const NOTHING: Readonly<CachedBlocks> = { device: 0, host: 0, disk: 0 };
const TIERS: readonly KvTier[] = ["device", "host", "disk"];

/** 53 bits of each block's hash: a mistaken block costs a little prefill, no more. Hashes are chained. */
export function blockKeys(hashes: Int32Array | null): Float64Array {
  const numBlocks = hashes === null ? 0 : hashes.length / HASH_WORDS;
  const keys = new Float64Array(numBlocks);
  for (let block = 0; block < numBlocks; block++) {
    const at = block * HASH_WORDS;
    keys[block] = (hashes![at]! >>> 0) * 0x20_0000 + (hashes![at + 1]! >>> 11);
  }
  return keys;
}

/** Tokens of a block: a power of two, as all block sizes are, that so many full blocks fit a prompt with. 0 without blocks. */
export function blockTokensOf({ numPromptTokens, promptBlockHashes }: PlacementQuery): number {
  const numBlocks = (promptBlockHashes?.length ?? 0) / HASH_WORDS;
  return numBlocks === 0 ? 0 : 2 ** Math.floor(Math.log2(numPromptTokens / numBlocks));
}

/** Blocks that a worker was sent, the latest last. Hashes are chained, so one block's key stands for all before it. */
export class RememberedBlocks {
  readonly #keys = new Set<number>();
  readonly #maxBlocks: number;

  constructor(maxBlocks: number) {
    this.#maxBlocks = maxBlocks;
  }

  get size(): number {
    return this.#keys.size;
  }

  /** How many leading blocks of a prompt are remembered. */
  numLeading(keys: Float64Array): number {
    let known = 0;
    while (known < keys.length && this.#keys.has(keys[known]!)) known++;
    return known;
  }

  add(keys: Float64Array): void {
    for (const key of keys) {
      this.#keys.delete(key);
      this.#keys.add(key);
    }
    for (const key of this.#keys) {
      if (this.#keys.size <= this.#maxBlocks) break;
      this.#keys.delete(key);
    }
  }
}

/** What one worker says that it has. As large as the worker's own caches. */
class ToldBlocks {
  readonly #tiers: Readonly<Record<KvTier, Set<number>>> = {
    device: new Set(),
    host: new Set(),
    disk: new Set(),
  };

  apply({ isSnapshot, events }: KvEventBatch): void {
    if (isSnapshot) for (const tier of TIERS) this.#tiers[tier].clear();
    for (const event of events) {
      const keys = this.#tiers[event.tier];
      if (event.kind === "cleared") keys.clear();
      else if (event.kind === "stored") for (const key of blockKeys(event.hashes)) keys.add(key);
      else for (const key of blockKeys(event.hashes)) keys.delete(key);
    }
  }

  leading(keys: Float64Array): CachedBlocks {
    const { device, host, disk } = this.#tiers;
    const found = { ...NOTHING };
    for (const key of keys) {
      if (device.has(key)) found.device++;
      else if (host.has(key)) found.host++;
      else if (disk.has(key)) found.disk++;
      else break;
    }
    return found;
  }
}

/**
 * What workers have cached, as well as a router can know it: what they say, and of workers that say nothing what was sent there
 * last (the approximate mode of Dynamo, llm-d and SGLang). One set per worker: simple, for comparison.
 */
export class KnownCaches {
  readonly #told = new Map<WorkerId, ToldBlocks>();
  readonly #sent = new Map<WorkerId, RememberedBlocks>();
  readonly #maxBlocksPerWorker: number;

  /** `maxBlocksPerWorker`: remembered of a worker that says nothing; the longest unused is forgotten first. */
  constructor(options: { maxBlocksPerWorker: number }) {
    this.#maxBlocksPerWorker = options.maxBlocksPerWorker;
  }

  leading(id: WorkerId, keys: Float64Array): Readonly<CachedBlocks> {
    const told = this.#told.get(id);
    if (told !== undefined) return told.leading(keys);
    const sent = this.#sent.get(id);
    return sent === undefined ? NOTHING : { ...NOTHING, device: sent.numLeading(keys) };
  }

  /** A prompt goes there. */
  sent(id: WorkerId, keys: Float64Array): void {
    if (keys.length === 0 || this.#told.has(id)) return;
    let sent = this.#sent.get(id);
    if (sent === undefined) {
      sent = new RememberedBlocks(this.#maxBlocksPerWorker);
      this.#sent.set(id, sent);
    }
    sent.add(keys);
  }

  observe(event: FleetEvent): void {
    if (event.kind === "gone") {
      this.#told.delete(event.worker);
      this.#sent.delete(event.worker);
    } else if (event.kind === "kv") {
      let told = this.#told.get(event.worker);
      if (told === undefined) {
        told = new ToldBlocks();
        this.#told.set(event.worker, told);
        this.#sent.delete(event.worker);
      }
      told.apply(event.batch);
    }
  }
}

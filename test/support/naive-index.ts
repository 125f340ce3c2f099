import type { KvEventBatch, KvTier } from "../../src/core/kv/kv-events.ts";
import { PREDICTION_TTL_MS } from "../../src/core/router/index/prefix-index.ts";
import { HASH_WORDS } from "../../src/core/tokens/block-hash.ts";

type Tiers = Record<KvTier, Set<string>>;

interface NaivePrediction {
  readonly worker: string;
  readonly tag: string;
  readonly kind: string;
  readonly atMs: number;
  readonly keys: readonly string[];
}

export interface NaiveOverlap {
  readonly device: number;
  readonly host: number;
  readonly disk: number;
  readonly confirmed: number;
}

const known = new WeakMap<Int32Array, readonly string[]>();

/** The hash of every block as text. */
export function keysOf(hashes: Int32Array): readonly string[] {
  let keys = known.get(hashes);
  if (keys === undefined) {
    keys = Array.from({ length: hashes.length / HASH_WORDS }, (_, i) =>
      hashes.subarray(i * HASH_WORDS, (i + 1) * HASH_WORDS).join(),
    );
    known.set(hashes, keys);
  }
  return keys;
}

/** What `PrefixIndex` says, by sets of text and without any limit. */
export class NaiveIndex {
  readonly #tiers = new Map<string, Tiers>();
  readonly #sequences = new Map<string, number>();
  predictions: NaivePrediction[] = [];

  get workers(): string[] {
    return [...this.#tiers.keys()];
  }

  addWorker(id: string): void {
    this.#tiers.set(id, { device: new Set(), host: new Set(), disk: new Set() });
    this.#sequences.set(id, 0);
  }

  removeWorker(id: string): void {
    this.#tiers.delete(id);
    this.predictions = this.predictions.filter(({ worker }) => worker !== id);
  }

  apply(id: string, batch: KvEventBatch): string {
    const tiers = this.#tiers.get(id);
    if (tiers === undefined) return "unknown-worker";
    const sequence = this.#sequences.get(id)!;
    if (!batch.isSnapshot) {
      if (batch.sequence <= sequence) return "ok";
      if (batch.sequence > sequence + 1) return "gap";
    } else for (const tier of Object.values(tiers)) tier.clear();
    this.#sequences.set(id, batch.sequence);
    for (const event of batch.events) {
      const tier = tiers[event.tier];
      if (event.kind === "cleared") tier.clear();
      else if (event.kind === "stored") for (const key of keysOf(event.hashes)) tier.add(key);
      else for (const key of keysOf(event.hashes)) tier.delete(key);
    }
    return "ok";
  }

  nextSequence(id: string): number {
    return this.#sequences.get(id)! + 1;
  }

  predict(worker: string, hashes: Int32Array, count: number, kind: string, tag: string, atMs: number): void {
    if (!this.#tiers.has(worker) || count === 0) return;
    this.predictions.push({ worker, tag, kind, atMs, keys: keysOf(hashes).slice(0, count) });
  }

  settle(tag: string): void {
    this.predictions = this.predictions.filter((prediction) => prediction.tag !== tag);
  }

  expire(nowMs: number): void {
    this.predictions = this.predictions.filter(({ atMs }) => nowMs - atMs < PREDICTION_TTL_MS);
  }

  overlap(id: string, keys: readonly string[]): NaiveOverlap {
    const { device, host, disk } = this.#tiers.get(id)!;
    const predicted = this.predictions.filter(({ worker }) => worker === id);
    const near = (key: string): boolean =>
      device.has(key) || predicted.some(({ keys }) => keys.includes(key));
    return {
      device: leading(keys, near),
      host: leading(keys, (key) => near(key) || host.has(key)),
      disk: leading(keys, (key) => near(key) || host.has(key) || disk.has(key)),
      confirmed: leading(keys, (key) => device.has(key) || host.has(key) || disk.has(key)),
    };
  }

  /** The blocks that a worker has or is expected to have. */
  held(id: string): Set<string> {
    const { device, host, disk } = this.#tiers.get(id)!;
    const predicted = this.predictions.filter(({ worker }) => worker === id).flatMap(({ keys }) => keys);
    return new Set([...device, ...host, ...disk, ...predicted]);
  }
}

function leading(keys: readonly string[], has: (key: string) => boolean): number {
  const gap = keys.findIndex((key) => !has(key));
  return gap === -1 ? keys.length : gap;
}

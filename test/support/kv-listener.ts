import type { KvEventBatch, KvTier } from "../../src/core/kv/kv-events.ts";
import { HASH_WORDS } from "../../src/core/tokens/block-hash.ts";

/** What a naive listener knows of a worker's tiers from its events: sets of hashes, as text. */
export class KvListener {
  readonly tiers: Record<KvTier, Set<string>> = { device: new Set(), host: new Set(), disk: new Set() };
  sequence = 0;

  apply(batch: KvEventBatch): void {
    if (batch.sequence !== this.sequence + 1)
      throw new Error(`batch ${batch.sequence} follows ${this.sequence}`);
    this.sequence = batch.sequence;
    if (batch.isSnapshot) for (const tier of Object.values(this.tiers)) tier.clear();
    for (const event of batch.events) {
      const tier = this.tiers[event.tier];
      if (event.kind === "cleared") tier.clear();
      else {
        const hashes = hashTexts(event.hashes);
        if (event.kind === "removed") for (const hash of hashes) tier.delete(hash);
        else {
          if (event.parent !== null && !tier.has(hashTexts(event.parent)[0]!))
            throw new Error("a block is stored below one that is not there");
          for (const hash of hashes) tier.add(hash);
        }
      }
    }
  }

  /** How many leading blocks of a chain the tier holds. */
  match(tier: KvTier, chain: readonly string[]): number {
    const missing = chain.findIndex((hash) => !this.tiers[tier].has(hash));
    return missing === -1 ? chain.length : missing;
  }
}

/** Each block hash as text. */
export function hashTexts(hashes: Int32Array): string[] {
  const texts: string[] = [];
  for (let at = 0; at < hashes.length; at += HASH_WORDS)
    texts.push(hashes.subarray(at, at + HASH_WORDS).join());
  return texts;
}

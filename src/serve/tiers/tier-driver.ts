import type { OffloadOp } from "../../core/kv/tiers/kv-tiers.ts";
import type { TierEffect, TierReport } from "../../core/kv/tiers/onboarder.ts";
import type { LowerTier } from "../../core/kv/tiers/segment.ts";
import { numBlocksOf } from "../../core/kv/tiers/segment.ts";
import { type Engine, EngineError } from "../engine/engine.ts";
import type { TierStore } from "./tier-store.ts";

export interface TierDriverOptions {
  readonly engine: Engine;
  readonly blockSizeTokens: number;
  readonly stores: readonly TierStore[];
  readonly nowMs: () => number;
}

/**
 * Moves KV between the engine and the stores of lower tiers. An export enters the engine's queue at once, in order with whatever
 * is done to the cells next; writing what it gives is nobody's wait.
 */
export class TierDriver {
  readonly #options: TierDriverOptions;
  readonly #stores: ReadonlyMap<LowerTier, TierStore>;
  /** Told of what has become of an effect. */
  onReport: (report: TierReport) => void = () => {};
  /** Told of an engine that has failed. */
  onFatal: (error: unknown) => void = () => {};

  constructor(options: TierDriverOptions) {
    this.#options = options;
    this.#stores = new Map(options.stores.map((store) => [store.tier, store]));
  }

  offload({ range, segment, tiers }: OffloadOp): void {
    const exported = this.#options.engine.exportKv(range);
    exported.catch((error: unknown) => this.onFatal(error));
    for (const tier of tiers) {
      exported
        .then((payload) => this.#storeOf(tier).write(segment, payload))
        .catch(() => null)
        .then((bytes) => this.onReport({ kind: "written", tier, segment, bytes }));
    }
  }

  read({ read, piece, range }: Extract<TierEffect, { kind: "read-tier" }>): void {
    const { engine, blockSizeTokens, nowMs } = this.#options;
    const startMs = nowMs();
    const { segment } = piece;
    const start = segment.firstBlock * blockSizeTokens;
    const whole = { start, end: start + numBlocksOf(segment) * blockSizeTokens };
    this.#storeOf(piece.tier)
      .read(segment)
      .then((bytes) => {
        if (bytes === null) return null;
        try {
          return engine.sliceKv(bytes, whole, range);
        } catch (error) {
          if (error instanceof EngineError) return null;
          throw error;
        }
      })
      .then((payload) => this.onReport({ kind: "read", read, payload, ms: nowMs() - startMs }))
      .catch((error: unknown) => this.onFatal(error));
  }

  delete({ tier, segment }: Extract<TierEffect, { kind: "delete-tier" }>): void {
    this.#storeOf(tier).delete(segment);
  }

  #storeOf(tier: LowerTier): TierStore {
    return this.#stores.get(tier)!;
  }

  /** Resolves when what was to be written has been. */
  async close(): Promise<void> {
    for (const store of this.#stores.values()) await store.close();
  }
}

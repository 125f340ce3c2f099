import type { PrefetchEffect } from "../../core/kv/tiers/host-raiser.ts";
import type { OffloadOp } from "../../core/kv/tiers/kv-tiers.ts";
import { type LowerTier, numBlocksOf, type Segment, type TierPiece } from "../../core/kv/tiers/segment.ts";
import type { TierEffect, TierReport } from "../../core/kv/tiers/tier-effects.ts";
import { type Engine, EngineError, type KvPositions } from "../engine/engine.ts";
import type { ReadOutcome, TierStore } from "./tier-store.ts";

type TierDriverEffect =
  | OffloadOp
  | Extract<TierEffect | PrefetchEffect, { kind: "read-tier" | "write-tier" | "delete-tier" }>;

export interface TierDriverOptions {
  readonly engine: Engine;
  readonly blockSizeTokens: number;
  readonly stores: readonly TierStore[];
  readonly nowMs: () => number;
}

/** Who is told what has become of effects. */
export interface TierListener {
  report(report: TierReport): void;
  /** The engine has done an export. */
  engineCalled(): void;
  /** The engine has failed. */
  fatal(error: unknown): void;
}

/**
 * Moves KV between the engine and the stores of lower tiers. An export enters the engine's queue at once, in order with whatever
 * is done to the cells next; writing what it gives is nobody's wait.
 */
export class TierDriver {
  readonly #options: TierDriverOptions;
  readonly #stores: ReadonlyMap<LowerTier, TierStore>;
  readonly #lastReadMs = new Map<LowerTier, number>();
  #listener: TierListener | null = null;

  constructor(options: TierDriverOptions) {
    this.#options = options;
    this.#stores = new Map(options.stores.map((store) => [store.tier, store]));
  }

  listen(listener: TierListener): void {
    this.#listener = listener;
  }

  /** Says that a store has failed for good. */
  turnOff(tier: LowerTier): void {
    this.#listener?.report({ kind: "off", tier });
  }

  carryOut(effect: TierDriverEffect): void {
    if (effect.kind === "offload") this.#offload(effect);
    else if (effect.kind === "read-tier") this.#read(effect);
    else if (effect.kind === "write-tier")
      this.#write(effect.tier, effect.segment, Promise.resolve(effect.payload as Uint8Array));
    else this.#storeOf(effect.tier).delete(effect.segment);
  }

  #offload({ range, segment, tiers }: OffloadOp): void {
    const exported = this.#options.engine.exportKv(range);
    exported.then(
      () => this.#listener?.engineCalled(),
      (error: unknown) => this.#listener?.fatal(error),
    );
    for (const tier of tiers) this.#write(tier, segment, exported);
  }

  #write(tier: LowerTier, segment: Segment, exported: Promise<Uint8Array>): void {
    exported
      .then((payload) => this.#storeOf(tier).write(segment, payload))
      .catch(() => null)
      .then((bytes) => this.#listener?.report({ kind: "written", tier, segment, bytes }));
  }

  #read({ read, piece, range }: Extract<TierEffect, { kind: "read-tier" }>): void {
    this.#readTimed(piece, range).then(
      ({ outcome, ms }) => {
        const payload = typeof outcome === "string" ? null : outcome;
        this.#listener?.report({ kind: "read", read, payload, ms, wasBusy: outcome === "busy" });
      },
      (error: unknown) => this.#listener?.fatal(error),
    );
  }

  /** The part of a piece that covers these positions, as the engine would export it. */
  async read(piece: TierPiece, positions: KvPositions): Promise<ReadOutcome> {
    return (await this.#readTimed(piece, positions)).outcome;
  }

  async #readTimed(piece: TierPiece, part: KvPositions): Promise<{ outcome: ReadOutcome; ms: number }> {
    const { nowMs } = this.#options;
    const startMs = nowMs();
    const outcome = this.#slice(await this.#storeOf(piece.tier).read(piece.segment), piece, part);
    const endMs = nowMs();
    // Reads that run at a time share a disk: each is priced from the end of the one before.
    const ms = endMs - Math.max(startMs, this.#lastReadMs.get(piece.tier) ?? 0);
    this.#lastReadMs.set(piece.tier, endMs);
    return { outcome, ms };
  }

  #slice(read: ReadOutcome, { segment }: TierPiece, { start, end }: KvPositions): ReadOutcome {
    const { engine, blockSizeTokens } = this.#options;
    const first = segment.firstBlock * blockSizeTokens;
    const whole = { start: first, end: first + numBlocksOf(segment) * blockSizeTokens };
    if (typeof read === "string") return read;
    try {
      return engine.sliceKv(read, whole, { start, end });
    } catch (error) {
      if (error instanceof EngineError) return "bad";
      throw error;
    }
  }

  #storeOf(tier: LowerTier): TierStore {
    return this.#stores.get(tier)!;
  }

  /** Resolves when what was to be written has been. */
  async close(): Promise<void> {
    for (const store of this.#stores.values()) await store.close();
  }
}

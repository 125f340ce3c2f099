import type { KvEventLog } from "../../core/kv/kv-event-log.ts";
import type { PrefetchEffect } from "../../core/kv/tiers/host-raiser.ts";
import { KvTiers, type OffloadOp } from "../../core/kv/tiers/kv-tiers.ts";
import { type LowerTier, numBlocksOf } from "../../core/kv/tiers/segment.ts";
import type { TierEffect, TierReport } from "../../core/kv/tiers/tier-effects.ts";
import type { PerfModel } from "../../core/perf/perf-model.ts";
import type { TwinTier, TwinWorkerSpec } from "../twin-spec.ts";

const NO_TIERS: NonNullable<TwinWorkerSpec["tiers"]> = { tiers: [], eviction: "lru" };

type CarriedOut =
  | OffloadOp
  | Extract<TierEffect | PrefetchEffect, { kind: "read-tier" | "write-tier" | "delete-tier" }>;

/** A report that is due at a time. */
interface DueReport {
  readonly atMs: number;
  readonly report: TierReport;
}

/** One direction of a tier: what moves shares its bandwidth by taking turns. */
interface Lane {
  freeAtMs: number;
}

/**
 * Limits of what waits in a worker: a profile of our own engine has the server's, by default, since memory of a process and calls of an
 * engine are bounded there. An accelerator moves KV from its own memory; only the tier itself is bounded.
 */
function limitOf({ perf }: TwinWorkerSpec): number | undefined {
  return perf.handoff === undefined ? Number.POSITIVE_INFINITY : undefined;
}

/** The lower tiers of one simulated worker: the production bookkeeping, and the time that bytes take. */
export class TwinTiers {
  readonly tiers: KvTiers;
  /** See {@link limitOf}. */
  readonly maxExportedBytes: number | undefined;
  readonly #spec: ReadonlyMap<LowerTier, TwinTier>;
  readonly #perf: PerfModel;
  readonly #blockTokens: number;
  readonly #reads = new Map<LowerTier, Lane>();
  readonly #writes = new Map<LowerTier, Lane>();

  private constructor(
    spec: TwinWorkerSpec,
    options: NonNullable<TwinWorkerSpec["tiers"]>,
    kvEvents: KvEventLog | undefined,
  ) {
    this.#perf = spec.perf;
    this.maxExportedBytes = limitOf(spec);
    this.#blockTokens = spec.blockTokens;
    this.#spec = new Map(options.tiers.map((tier) => [tier.tier, tier]));
    for (const { tier } of options.tiers) {
      this.#reads.set(tier, { freeAtMs: 0 });
      this.#writes.set(tier, { freeAtMs: 0 });
    }
    this.tiers = new KvTiers({
      tiers: options.tiers.map(({ tier, maxBytes }) => ({ tier, maxBytes })),
      eviction: options.eviction,
      blockSizeTokens: spec.blockTokens,
      bytesPerToken: spec.perf.kvBytesPerToken,
      maxPendingBytes: limitOf(spec),
      maxPendingSegments: limitOf(spec),
      kvEvents,
    });
  }

  /** Null when the worker has none and takes no KV from others either, which is done by the same bookkeeping. */
  static of(spec: TwinWorkerSpec, kvEvents: KvEventLog | undefined, fetches: boolean): TwinTiers | null {
    if (spec.tiers === undefined && !fetches) return null;
    return new TwinTiers(spec, spec.tiers ?? NO_TIERS, kvEvents);
  }

  /** Reports that will be due. `hold` takes the engine for so many milliseconds, and says when that is over. */
  carryOut(effect: CarriedOut, nowMs: number, hold: (ms: number) => number): DueReport[] {
    // Bytes are not kept, so there are none to delete.
    if (effect.kind === "delete-tier") return [];
    if (effect.kind === "write-tier") {
      const { tier, segment } = effect;
      const bytes = numBlocksOf(segment) * this.#blockTokens * this.#perf.kvBytesPerToken;
      const atMs = this.#move(this.#writes.get(tier)!, tier, bytes, nowMs);
      return [{ atMs, report: { kind: "written", tier, segment, bytes } }];
    }
    const numTokens = effect.range.end - effect.range.start;
    const bytes = numTokens * this.#perf.kvBytesPerToken;
    if (effect.kind === "read-tier") {
      const { read, piece } = effect;
      const atMs = this.read(piece.tier, bytes, nowMs);
      return [{ atMs, report: { kind: "read", read, payload: bytes, ms: this.#ms(piece.tier, bytes) } }];
    }
    const { segment, tiers } = effect;
    const exportMs = this.#perf.handoff?.exportMs(numTokens);
    const exportedMs = exportMs === undefined ? nowMs : hold(exportMs);
    return tiers.map((tier) => ({
      atMs: this.#move(this.#writes.get(tier)!, tier, bytes, exportedMs),
      report: { kind: "written", tier, segment, bytes },
    }));
  }

  /** When bytes that are asked for now have been read, after those that were asked for before. */
  read(tier: LowerTier, bytes: number, nowMs: number): number {
    return this.#move(this.#reads.get(tier)!, tier, bytes, nowMs);
  }

  #move(lane: Lane, tier: LowerTier, bytes: number, nowMs: number): number {
    const { latencyMs } = this.#spec.get(tier)!;
    lane.freeAtMs = Math.max(lane.freeAtMs, nowMs) + this.#ms(tier, bytes) - latencyMs;
    return lane.freeAtMs + latencyMs;
  }

  /** How long bytes take by themselves. */
  #ms(tier: LowerTier, bytes: number): number {
    const { bytesPerSecond, latencyMs } = this.#spec.get(tier)!;
    return (bytes / bytesPerSecond) * 1000 + latencyMs;
  }
}

import type { KvEventLog } from "../../core/kv/kv-event-log.ts";
import { KvTiers, type OffloadOp } from "../../core/kv/tiers/kv-tiers.ts";
import type { TierEffect, TierReport } from "../../core/kv/tiers/onboarder.ts";
import type { LowerTier } from "../../core/kv/tiers/segment.ts";
import type { TwinTier, TwinWorkerSpec } from "../twin-spec.ts";

/** A report that is due at a time. */
export interface DueReport {
  readonly atMs: number;
  readonly report: TierReport;
}

/** One direction of a tier: what moves shares its bandwidth by taking turns. */
interface Lane {
  freeAtMs: number;
}

/** The lower tiers of one simulated worker: the production bookkeeping, and the time that bytes take. */
export class TwinTiers {
  readonly tiers: KvTiers;
  readonly #spec: ReadonlyMap<LowerTier, TwinTier>;
  readonly #bytesPerToken: number;
  readonly #reads = new Map<LowerTier, Lane>();
  readonly #writes = new Map<LowerTier, Lane>();

  private constructor(
    spec: TwinWorkerSpec,
    options: NonNullable<TwinWorkerSpec["tiers"]>,
    kvEvents: KvEventLog | undefined,
  ) {
    this.#bytesPerToken = spec.perf.kvBytesPerToken;
    this.#spec = new Map(options.tiers.map((tier) => [tier.tier, tier]));
    for (const { tier } of options.tiers) {
      this.#reads.set(tier, { freeAtMs: 0 });
      this.#writes.set(tier, { freeAtMs: 0 });
    }
    this.tiers = new KvTiers({
      tiers: options.tiers.map(({ tier, maxBytes }) => ({ tier, maxBytes })),
      eviction: options.eviction,
      blockSizeTokens: spec.blockTokens,
      bytesPerToken: this.#bytesPerToken,
      // Accelerators have links and memory of another size than the machines that the server's bound is made for.
      maxPendingBytes: Number.POSITIVE_INFINITY,
      kvEvents,
    });
  }

  /** Null when the worker has none. */
  static of(spec: TwinWorkerSpec, kvEvents: KvEventLog | undefined): TwinTiers | null {
    return spec.tiers === undefined ? null : new TwinTiers(spec, spec.tiers, kvEvents);
  }

  /** When each tier has what was exported by `exportedMs`. */
  offload({ segment, range, tiers }: OffloadOp, exportedMs: number): DueReport[] {
    const bytes = (range.end - range.start) * this.#bytesPerToken;
    return tiers.map((tier) => ({
      atMs: this.#move(this.#writes.get(tier)!, tier, bytes, exportedMs),
      report: { kind: "written", tier, segment, bytes },
    }));
  }

  read({ read, piece, range }: Extract<TierEffect, { kind: "read-tier" }>, nowMs: number): DueReport {
    const bytes = (range.end - range.start) * this.#bytesPerToken;
    const atMs = this.#move(this.#reads.get(piece.tier)!, piece.tier, bytes, nowMs);
    return { atMs, report: { kind: "read", read, payload: bytes, ms: this.#ms(piece.tier, bytes) } };
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

import type { WorkerId } from "../../request.ts";
import { assert } from "../../util/assert.ts";
import { RobustRatio } from "./robust-ratio.ts";

/** Before anything was seen: 100 Gb/s. */
const DEFAULT_MS_PER_BYTE = 1 / 12.5e6;
/** The first transfer puts the fleet's rate at most so many times above or below that: it may have waited for something else. */
const MAX_FIRST_FACTOR = 64;
/** Smaller transfers measure latency rather than bandwidth. */
const MIN_BYTES = 65_536;
/** Weight of one transfer. */
const WEIGHT = 0.2;
/** Pairs of workers that are remembered; the one unused for longest is forgotten. */
const MAX_PAIRS = 4096;

/**
 * What moving KV costs between two workers, learned from transfers, waiting for the link included: the fleet's milliseconds per byte, times
 * what the pair was seen to differ by, or before it was seen the slower of its ends.
 */
export class LinkPrices {
  readonly #pairs = new Map<string, RobustRatio>();
  readonly #ends = new Map<WorkerId, RobustRatio>();
  #fleetLog = Math.log(DEFAULT_MS_PER_BYTE);
  #hasSeen = false;

  msPerByte(from: WorkerId, to: WorkerId, nowMs: number): number {
    const pair = this.#pairs.get(`${from} ${to}`);
    const factor =
      pair?.at(nowMs) ?? Math.max(this.#ends.get(from)?.at(nowMs) ?? 1, this.#ends.get(to)?.at(nowMs) ?? 1);
    return Math.exp(this.#fleetLog) * factor;
  }

  /** A transfer that is too small, or of no finite rate above nothing, changes nothing. Both workers have to be in the fleet. */
  observe(from: WorkerId, to: WorkerId, bytes: number, ms: number, nowMs: number): void {
    const log = Math.log(ms / bytes);
    if (!(bytes >= MIN_BYTES) || !Number.isFinite(log)) return;
    const bound = Math.log(MAX_FIRST_FACTOR);
    if (!this.#hasSeen) this.#fleetLog += Math.max(-bound, Math.min(bound, log - this.#fleetLog));
    this.#hasSeen = true;
    const ratio = Math.exp(log - this.#fleetLog);
    this.#fleetLog += (WEIGHT / 2) * Math.max(-1, Math.min(1, log - this.#fleetLog));
    for (const end of [from, to]) ratioOf(this.#ends, end).observe(ratio, nowMs);
    const key = `${from} ${to}`;
    const pair = ratioOf(this.#pairs, key);
    pair.observe(ratio, nowMs);
    this.#pairs.delete(key);
    this.#pairs.set(key, pair);
    if (this.#pairs.size <= MAX_PAIRS) return;
    for (const oldest of this.#pairs.keys()) {
      this.#pairs.delete(oldest);
      break;
    }
  }

  /** Of a worker that has gone. Its pairs are forgotten as they age. */
  forget(worker: WorkerId): void {
    this.#ends.delete(worker);
  }

  /** Throws unless everything that is kept is bounded. */
  checkInvariants(isMember: (id: WorkerId) => boolean): void {
    for (const id of this.#ends.keys())
      assert(isMember(id), `links of ${id} are kept, the worker is not there`);
    assert(this.#pairs.size <= MAX_PAIRS, "too many pairs of workers are kept");
    assert(Number.isFinite(this.#fleetLog), "the fleet's links have no price");
  }
}

function ratioOf(ratios: Map<string, RobustRatio>, key: string): RobustRatio {
  let ratio = ratios.get(key);
  if (ratio === undefined) {
    ratio = new RobustRatio(WEIGHT);
    ratios.set(key, ratio);
  }
  return ratio;
}

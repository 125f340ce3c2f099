import type {
  DispatchEntry,
  DispatchInput,
  RecordedRequest,
} from "../../core/dispatch/recorded-dispatcher.ts";
import type { KvEventBatch } from "../../core/kv/kv-events.ts";
import type { RequestId, WorkerId } from "../../core/request.ts";
import type { ObservedStep, PlacementDecision } from "../../core/router/placement.ts";
import { HASH_WORDS } from "../../core/tokens/block-hash.ts";
import type { DispatchLogReader } from "./dispatch-log-reader.ts";

/** The most requests of a record that are run again. */
export const MAX_REPLAYED_REQUESTS = 1_000_000;
/** Steps of one worker, and transfers of all, from which prices are learned; later ones are left out. */
const MAX_LEARNED_STEPS = 20_000;
const MAX_LEARNED_TRANSFERS = 20_000;

/** A worker that was in the fleet, and what it has shown. */
export interface RecordedWorker {
  readonly facts: Extract<DispatchInput, { kind: "ready" }>["worker"];
  readonly steps: ObservedStep[];
  /** The most blocks that it has said to hold at once: in use and kept. */
  maxHeldBlocks: number;
}

/** What became of a request, as the gateway saw it. */
export interface RecordedOutcome {
  readonly request: RecordedRequest;
  readonly arrivalMs: number;
  /** The last one. */
  decision: PlacementDecision | null;
  firstTokenMs: number | null;
  numOutputTokens: number;
  numCachedTokens: number | null;
  /** Null: cancelled, failed, or not over when the record ended. */
  end: "stop" | "length" | null;
}

/** A record read as traffic: who came when, to which fleet, and how that went. */
export interface RecordedTraffic {
  readonly outcomes: readonly RecordedOutcome[];
  /** The workers of the moment with the most of them. */
  readonly workers: readonly RecordedWorker[];
  /** Whether workers came or went after that. */
  readonly fleetChanged: boolean;
  readonly transfers: ReadonlyArray<{ readonly bytes: number; readonly ms: number }>;
}

/** Reads a record to its end. Throws `WorkloadError` for a broken one, and for one without requests or workers. */
export function readTraffic(log: DispatchLogReader): RecordedTraffic {
  const reading = new TrafficReading();
  for (const entry of log.entries()) {
    if (entry.kind === "submit" && reading.numRequests === MAX_REPLAYED_REQUESTS)
      throw log.error(`is request ${MAX_REPLAYED_REQUESTS + 1}; more can't be run again`);
    reading.take(entry);
  }
  const traffic = reading.result();
  if (traffic.outcomes.length === 0) throw log.error("ends a record without a request");
  if (traffic.workers.length === 0) throw log.error("ends a record without a worker");
  return traffic;
}

class TrafficReading {
  readonly #outcomes: RecordedOutcome[] = [];
  /** Those that are not over, by id. */
  readonly #open = new Map<RequestId, RecordedOutcome>();
  readonly #alive = new Map<WorkerId, RecordedWorker>();
  readonly #held = new Map<WorkerId, Set<string>>();
  readonly #transfers: Array<{ bytes: number; ms: number }> = [];
  #fleet: RecordedWorker[] = [];
  #fleetChanged = false;

  get numRequests(): number {
    return this.#outcomes.length;
  }

  take(entry: DispatchEntry): void {
    switch (entry.kind) {
      case "submit":
        this.#submitted(entry.request, entry.nowMs);
        return;
      case "cancel":
        this.#open.delete(entry.requestId);
        return;
      case "decision": {
        const outcome = this.#open.get(entry.requestId);
        if (outcome !== undefined) outcome.decision = entry.decision;
        return;
      }
      case "events":
        this.#events(entry);
        return;
      case "ready":
        this.#alive.set(entry.worker.id, { facts: entry.worker, steps: [], maxHeldBlocks: 0 });
        if (this.#alive.size > this.#fleet.length) this.#fleet = [...this.#alive.values()];
        else this.#fleetChanged = true;
        return;
      case "lost":
        this.#alive.delete(entry.worker);
        this.#held.delete(entry.worker);
        this.#fleetChanged = true;
        return;
      case "kv":
        this.#kv(entry.worker, entry.batch);
        return;
      case "steps": {
        const steps = this.#alive.get(entry.worker)?.steps;
        if (steps !== undefined && steps.length < MAX_LEARNED_STEPS) steps.push(...entry.steps);
        return;
      }
      case "transfer":
        if (this.#transfers.length < MAX_LEARNED_TRANSFERS)
          this.#transfers.push({ bytes: entry.bytes, ms: entry.ms });
        return;
      default:
        return;
    }
  }

  result(): RecordedTraffic {
    return {
      outcomes: this.#outcomes,
      workers: this.#fleet,
      fleetChanged: this.#fleetChanged,
      transfers: this.#transfers,
    };
  }

  #submitted(request: RecordedRequest, arrivalMs: number): void {
    const outcome: RecordedOutcome = {
      request,
      arrivalMs,
      decision: null,
      firstTokenMs: null,
      numOutputTokens: 0,
      numCachedTokens: null,
      end: null,
    };
    this.#outcomes.push(outcome);
    this.#open.set(request.id, outcome);
  }

  #events({ events, nowMs }: Extract<DispatchInput, { kind: "events" }>): void {
    for (const event of events) {
      const outcome = this.#open.get(event.requestId);
      if (outcome === undefined) continue;
      if (event.kind === "run" || event.kind === "token") {
        const count = event.kind === "run" ? event.tokens.length : 1;
        outcome.firstTokenMs ??= nowMs;
        outcome.numOutputTokens = Math.max(outcome.numOutputTokens, event.index + count);
      } else if (event.kind === "cached") outcome.numCachedTokens = event.numTokens;
      else if (event.kind === "finish") {
        outcome.end = event.reason;
        // An output that is nothing but its end has no token that is passed on.
        outcome.firstTokenMs ??= nowMs;
        outcome.numOutputTokens = event.numOutputTokens;
        // Tokens of its other leg may still come; they change nothing.
        this.#open.delete(event.requestId);
      }
    }
  }

  #kv(worker: WorkerId, { isSnapshot, events }: KvEventBatch): void {
    const recorded = this.#alive.get(worker);
    if (recorded === undefined) return;
    let held = this.#held.get(worker);
    if (held === undefined || isSnapshot) {
      held = new Set();
      this.#held.set(worker, held);
    }
    for (const event of events) {
      if (event.tier !== "device") continue;
      if (event.kind === "cleared") held.clear();
      else
        for (const hash of hashKeys(event.hashes)) {
          if (event.kind === "stored") held.add(hash);
          else held.delete(hash);
        }
      recorded.maxHeldBlocks = Math.max(recorded.maxHeldBlocks, held.size);
    }
  }
}

/** Each block hash as a key of a map. */
export function hashKeys(hashes: Int32Array): string[] {
  const keys: string[] = [];
  for (let at = 0; at < hashes.length; at += HASH_WORDS)
    keys.push(`${hashes[at]},${hashes[at + 1]},${hashes[at + 2]},${hashes[at + 3]}`);
  return keys;
}

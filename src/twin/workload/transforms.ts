import type { RandomStream } from "../../core/util/rng.ts";
import type { CacheWishes } from "../../protocol/cache-hints.ts";
import { PulledSource } from "./trace-source.ts";
import type { WorkloadRequest, WorkloadSource } from "./workload.ts";

/**
 * Stretches all time by a factor: 0.5 makes the same requests arrive, and the same people think, twice as fast. Requests are never
 * thinned to change the rate, because that would break the reuse of prefixes.
 */
export class TimeScaledSource implements WorkloadSource {
  readonly #inner: WorkloadSource;
  readonly #factor: number;
  /** Time of the last end, as it was given and as the inner source knows it. */
  #nowMs = 0;
  #innerNowMs = 0;

  constructor(inner: WorkloadSource, factor: number) {
    this.#inner = inner;
    this.#factor = factor;
  }

  get isClosedLoop(): boolean {
    return this.#inner.isClosedLoop === true;
  }

  get nextArrivalMs(): number {
    return this.#scaled(this.#inner.nextArrivalMs);
  }

  take(): WorkloadRequest {
    const request = this.#inner.take();
    const { wishes } = request;
    return {
      ...request,
      arrivalMs: this.#scaled(request.arrivalMs),
      wishes:
        wishes?.nextTurnMs === undefined
          ? wishes
          : { ...wishes, nextTurnMs: wishes.nextTurnMs * this.#factor },
    };
  }

  ended(request: WorkloadRequest, nowMs: number): void {
    this.#nowMs = nowMs;
    this.#innerNowMs = nowMs / this.#factor;
    this.#inner.ended(request, this.#innerNowMs);
  }

  /** Dividing and multiplying may lose the last bit: what follows an end must not come before it. */
  #scaled(innerMs: number): number {
    const scaledMs = innerMs * this.#factor;
    return innerMs >= this.#innerNowMs && scaledMs < this.#nowMs ? this.#nowMs : scaledMs;
  }

  close(): void {
    this.#inner.close?.();
  }
}

/** Lets requests say of their KV what they do not say themselves. */
export class WishingSource implements WorkloadSource {
  readonly #inner: WorkloadSource;
  readonly #wishes: CacheWishes;

  constructor(inner: WorkloadSource, wishes: CacheWishes) {
    this.#inner = inner;
    this.#wishes = wishes;
  }

  get isClosedLoop(): boolean {
    return this.#inner.isClosedLoop === true;
  }

  get nextArrivalMs(): number {
    return this.#inner.nextArrivalMs;
  }

  take(): WorkloadRequest {
    const request = this.#inner.take();
    return { ...request, wishes: { ...this.#wishes, ...request.wishes } };
  }

  ended(request: WorkloadRequest, nowMs: number): void {
    this.#inner.ended(request, nowMs);
  }

  close(): void {
    this.#inner.close?.();
  }
}

/** Ends a workload after so many requests, or before the first that arrives at or after `durationMs`. */
export class LimitedSource implements WorkloadSource {
  readonly #inner: WorkloadSource;
  readonly #durationMs: number;
  #numLeft: number;

  constructor(inner: WorkloadSource, limits: { requests?: number; durationMs?: number }) {
    this.#inner = inner;
    this.#numLeft = limits.requests ?? Number.POSITIVE_INFINITY;
    this.#durationMs = limits.durationMs ?? Number.POSITIVE_INFINITY;
  }

  get isClosedLoop(): boolean {
    return this.#inner.isClosedLoop === true;
  }

  get nextArrivalMs(): number {
    if (this.#numLeft <= 0) return Number.POSITIVE_INFINITY;
    const nextMs = this.#inner.nextArrivalMs;
    return nextMs < this.#durationMs ? nextMs : Number.POSITIVE_INFINITY;
  }

  take(): WorkloadRequest {
    this.#numLeft--;
    const request = this.#inner.take();
    if (this.#numLeft === 0) this.#inner.close?.();
    return request;
  }

  ended(request: WorkloadRequest, nowMs: number): void {
    if (this.#numLeft > 0) this.#inner.ended(request, nowMs);
  }

  close(): void {
    this.#inner.close?.();
  }
}

/** Most requests with one and the same time that are spread. */
const MAX_BUCKET_REQUESTS = 1_000_000;

/**
 * Spreads requests of an open loop that a coarse clock gave the same time: over the `bucketMs` that follow, but not beyond the
 * next time of the trace. `even`: in equal gaps from the start of the bucket; `random`: each independently uniform, as a Poisson
 * process leaves them. Their order stays.
 */
export function spreadBuckets(
  inner: WorkloadSource,
  bucketMs: number,
  stream: RandomStream | null,
): WorkloadSource {
  let bucket: WorkloadRequest[] = [];
  let times = new Float64Array(0);
  let at = 0;
  const pull = (): WorkloadRequest | null => {
    if (at === bucket.length) {
      const startMs = inner.nextArrivalMs;
      if (startMs === Number.POSITIVE_INFINITY) return null;
      bucket = [];
      at = 0;
      while (inner.nextArrivalMs === startMs && bucket.length < MAX_BUCKET_REQUESTS)
        bucket.push(inner.take());
      const spanMs = Math.min(bucketMs, inner.nextArrivalMs - startMs);
      const size = bucket.length;
      times = Float64Array.from(bucket, (_, index) =>
        stream === null ? startMs + (spanMs * index) / size : startMs + spanMs * stream.nextFloat(),
      ).sort();
    }
    const request = { ...bucket[at]!, arrivalMs: times[at]! };
    at++;
    return request;
  };
  return new PulledSource(pull, () => inner.close?.());
}

/**
 * Plays an open-loop workload `times` times, one after the other: ids, sessions and block scopes are fresh in every round, so that
 * no round finds the prefixes of another unless `sharesBlocks`. A round starts one mean gap after the last arrival of the one
 * before it.
 */
export function repeatSource(
  open: () => WorkloadSource,
  times: number,
  sharesBlocks: boolean,
): WorkloadSource {
  let inner = open();
  let round = 0;
  let offsetMs = 0;
  let firstMs: number | null = null;
  let lastMs = 0;
  let numTaken = 0;
  const pull = (): WorkloadRequest | null => {
    if (inner.nextArrivalMs === Number.POSITIVE_INFINITY) {
      if (++round >= times || numTaken === 0) return null;
      const meanGapMs = numTaken > 1 ? (lastMs - firstMs!) / (numTaken - 1) : 0;
      offsetMs += lastMs - firstMs! + meanGapMs;
      inner = open();
      firstMs = null;
      numTaken = 0;
    }
    const request = inner.take();
    firstMs ??= request.arrivalMs;
    lastMs = request.arrivalMs;
    numTaken++;
    if (round === 0) return request;
    const { blocks, sessionId } = request;
    return {
      ...request,
      id: `${request.id}#${round}`,
      arrivalMs: request.arrivalMs + offsetMs,
      blocks: blocks === null || sharesBlocks ? blocks : { ...blocks, scope: `${blocks.scope}#${round}` },
      sessionId: sessionId === null ? null : `${sessionId}#${round}`,
    };
  };
  return new PulledSource(pull, () => inner.close?.());
}

/** Who sends a share of the requests. */
export interface TenantShare {
  readonly name: string;
  /** In proportion to the other shares. */
  readonly share: number;
  readonly priority: number;
}

/** Gives each request a tenant and its priority by chance; all requests of a session have the same. */
export class TenantSource implements WorkloadSource {
  readonly #inner: WorkloadSource;
  readonly #tenants: readonly TenantShare[];
  readonly #salt: number;

  constructor(inner: WorkloadSource, tenants: readonly TenantShare[], stream: RandomStream) {
    this.#inner = inner;
    this.#tenants = tenants;
    this.#salt = stream.nextUint32();
  }

  get isClosedLoop(): boolean {
    return this.#inner.isClosedLoop === true;
  }

  get nextArrivalMs(): number {
    return this.#inner.nextArrivalMs;
  }

  take(): WorkloadRequest {
    const request = this.#inner.take();
    const { name, priority } = this.#choose(request.sessionId ?? request.id);
    return { ...request, tenant: name, priority };
  }

  ended(request: WorkloadRequest, nowMs: number): void {
    this.#inner.ended(request, nowMs);
  }

  close(): void {
    this.#inner.close?.();
  }

  /** By a hash of the name instead of a draw, so that sessions need not be remembered. */
  #choose(name: string): TenantShare {
    let hash = this.#salt;
    for (let index = 0; index < name.length; index++)
      hash = Math.imul(hash ^ name.charCodeAt(index), 0x01000193);
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    const total = this.#tenants.reduce((sum, { share }) => sum + share, 0);
    let left = (((hash ^ (hash >>> 16)) >>> 0) / 0x1_0000_0000) * total;
    for (const tenant of this.#tenants) {
      left -= tenant.share;
      if (left < 0) return tenant;
    }
    return this.#tenants.at(-1)!;
  }
}

/** Several workloads at the same time. Ids, sessions and block scopes get the name of their workload before them. */
export class MergedSource implements WorkloadSource {
  readonly #parts: ReadonlyMap<string, WorkloadSource>;

  /** Names must not contain a slash. */
  constructor(parts: ReadonlyMap<string, WorkloadSource>) {
    this.#parts = parts;
  }

  get isClosedLoop(): boolean {
    return [...this.#parts.values()].some((part) => part.isClosedLoop === true);
  }

  get nextArrivalMs(): number {
    return this.#first()[1].nextArrivalMs;
  }

  take(): WorkloadRequest {
    const [name, part] = this.#first();
    const request = part.take();
    const { blocks, sessionId } = request;
    return {
      ...request,
      id: `${name}/${request.id}`,
      blocks: blocks === null ? null : { ...blocks, scope: `${name}/${blocks.scope}` },
      sessionId: sessionId === null ? null : `${name}/${sessionId}`,
    };
  }

  ended(request: WorkloadRequest, nowMs: number): void {
    const slash = request.id.indexOf("/");
    const part = this.#parts.get(request.id.slice(0, slash));
    part?.ended({ ...request, id: request.id.slice(slash + 1) }, nowMs);
  }

  close(): void {
    for (const part of this.#parts.values()) part.close?.();
  }

  #first(): readonly [string, WorkloadSource] {
    let best: readonly [string, WorkloadSource] | null = null;
    let bestMs = Number.POSITIVE_INFINITY;
    for (const entry of this.#parts) {
      const nextMs = entry[1].nextArrivalMs;
      if (best !== null && nextMs >= bestMs) continue;
      best = entry;
      bestMs = nextMs;
    }
    if (best === null) throw new RangeError("nothing to merge");
    return best;
  }
}

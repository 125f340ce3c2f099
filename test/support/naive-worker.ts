import type { HandoffId, HandoffMessage } from "../../src/core/handoff/messages.ts";
import { DEFAULT_HANDOFF_TIMEOUTS, type HandoffTimeouts } from "../../src/core/handoff/sender.ts";
import { BlockManager } from "../../src/core/kv/block-manager.ts";
import type { KvRange } from "../../src/core/kv/kv-ops.ts";
import { KvTiers, type KvTiersOptions, type OffloadOp } from "../../src/core/kv/tiers/kv-tiers.ts";
import { Onboarder } from "../../src/core/kv/tiers/onboarder.ts";
import type { LowerTier, TierPiece } from "../../src/core/kv/tiers/segment.ts";
import type { Request, WorkerId } from "../../src/core/request.ts";
import { findSchedulingPolicy } from "../../src/core/scheduler/policies/registry.ts";
import { Scheduler } from "../../src/core/scheduler/scheduler.ts";
import type { SampledToken, StepPlan, StepResult } from "../../src/core/scheduler/step-plan.ts";
import type { RequestEvent, WorkerEffect } from "../../src/core/worker-effects.ts";
import { WorkerLoop } from "../../src/core/worker-loop.ts";
import { KvCells } from "./kv-cells.ts";

export const END_OF_GENERATION = 0;
const VOCABULARY = 997;

function mix(a: number, b: number): number {
  let h = (Math.imul(a ^ 0x9e3779b9, 0x85ebca6b) + b) | 0;
  h = Math.imul(h ^ (h >>> 15), 0xc2b2ae35);
  return (h ^ (h >>> 13)) >>> 0;
}

/** KV content at a position: a chain over every token before it, so that any wrong cell changes all later tokens. */
function contentAfter(previous: string | undefined, token: number): string {
  return String(mix(Number(previous ?? "1"), token));
}

function tokenAfter(content: string): number {
  return mix(Number(content), 7) % VOCABULARY;
}

/** The output that a request must have, wherever and however it is computed. */
export function expectedOutput(request: Request): number[] {
  let content: string | undefined;
  for (const token of request.promptTokens) content = contentAfter(content, token);
  const output: number[] = [];
  while (output.length < request.maxOutputTokens) {
    const token = tokenAfter(content!);
    if (token === END_OF_GENERATION && !request.ignoreEndOfGeneration) break;
    output.push(token);
    content = contentAfter(content, token);
  }
  return output;
}

export interface NaiveWorkerOptions {
  readonly policy?: string;
  readonly numBlocks?: number;
  readonly blockSizeTokens?: number;
  readonly numSlots?: number;
  readonly tokenBudget?: number;
  readonly maxRunning?: number;
  readonly maxWaiting?: number;
  readonly timeouts?: Partial<HandoffTimeouts>;
  /** Lower tiers; a token has one byte. */
  readonly tiers?: Pick<KvTiersOptions, "tiers" | "eviction" | "maxPendingBytes">;
  /** Whether the next read or write of a tier fails. */
  readonly failsNext?: () => boolean;
}

type EngineJob = Extract<
  WorkerEffect,
  { kind: "kv-ops" | "execute" | "push-kv" | "install-kv" | "offload" | "serve-kv" }
>;

/** What leaves a naive worker: messages to peers in order, and events to the owner. */
export interface Outbox {
  send(from: WorkerId, to: WorkerId, message: HandoffMessage): void;
  emit(from: WorkerId, events: readonly RequestEvent[]): void;
}

/** A worker loop with an obvious engine: one queue of jobs, run one at a time whenever the test says so. */
export class NaiveWorker {
  readonly id: WorkerId;
  readonly loop: WorkerLoop;
  readonly scheduler: Scheduler;
  readonly blocks: BlockManager;
  readonly cells = new KvCells();
  readonly plans: StepPlan[] = [];
  readonly jobs: EngineJob[] = [];
  readonly tiers: KvTiers;
  /** Reads and writes of tiers that are under way; they may end in any order. */
  readonly io: Array<(nowMs: number) => void> = [];
  readonly stores: Record<LowerTier, Map<number, readonly string[]>> = { host: new Map(), disk: new Map() };
  readonly #failsNext: () => boolean;
  readonly #outbox: Outbox;

  constructor(id: WorkerId, outbox: Outbox, options: NaiveWorkerOptions = {}) {
    this.id = id;
    this.#outbox = outbox;
    this.#failsNext = options.failsNext ?? (() => false);
    const blockSizeTokens = options.blockSizeTokens ?? 4;
    const tiers = options.tiers ?? { tiers: [], eviction: "lru" };
    this.tiers = new KvTiers({ ...tiers, blockSizeTokens, bytesPerToken: 1 });
    this.blocks = new BlockManager({
      numBlocks: options.numBlocks ?? 64,
      blockSizeTokens,
      numSlots: options.numSlots ?? 32,
      modelId: "naive",
      tiers: this.tiers,
    });
    const onboarder = new Onboarder(this.tiers, this.blocks);
    const policy = findSchedulingPolicy(options.policy ?? "chunked");
    if (policy === null) throw new Error(`no policy ${options.policy}`);
    const maxRunning = options.maxRunning ?? 4;
    const maxWaiting = options.maxWaiting ?? 1000;
    this.scheduler = new Scheduler(
      {
        policy,
        tokenBudget: options.tokenBudget ?? 16,
        maxRunning,
        maxWaiting,
        endOfGenerationTokens: new Set([END_OF_GENERATION]),
        onboarder,
      },
      this.blocks,
    );
    const timeouts = { ...DEFAULT_HANDOFF_TIMEOUTS, ...options.timeouts };
    this.loop = new WorkerLoop({
      scheduler: this.scheduler,
      blocks: this.blocks,
      maxRequests: maxWaiting + maxRunning,
      timeouts,
      onboarder,
    });
  }

  /** Carries out what the loop wants: engine work is queued, the rest happens at once. */
  settle(): void {
    for (const effect of this.loop.takeEffects()) {
      if (effect.kind === "send") this.#outbox.send(this.id, effect.peer, effect.message);
      else if (effect.kind === "emit") this.#outbox.emit(this.id, effect.events);
      else if (effect.kind === "execute") {
        this.plans.push(effect.plan);
        this.jobs.push(effect);
      } else if (effect.kind === "read-tier") this.io.push((nowMs) => this.#read(effect, nowMs));
      else if (effect.kind === "delete-tier") {
        // What is removed is there, whole, at the time: an oracle for deletes that come too early, twice or not at all.
        if (!this.stores[effect.tier].delete(effect.segment.id))
          throw new Error(`${effect.tier} deletes a segment that it does not have`);
      } else if (effect.kind !== "abort-step" && effect.kind !== "kv-events") this.jobs.push(effect);
    }
  }

  /** Runs the oldest engine job. Returns whether there was one. */
  runJob(nowMs: number): boolean {
    const job = this.jobs.shift();
    if (job === undefined) return false;
    if (job.kind === "kv-ops") this.cells.apply(job.ops);
    else if (job.kind === "execute") {
      // A token takes a millisecond as far as the loop learns from it; otherwise time stands still.
      this.loop.stepDone(job.plan, this.#execute(job.plan), nowMs, job.plan.numTokens);
    } else if (job.kind === "offload") this.#offload(job);
    else if (job.kind === "serve-kv") this.#serve(job);
    else if (job.kind === "push-kv") this.#push(job.peer, job.id, job.range, nowMs);
    else this.#install(job.id, job.range, job.payload as string[], nowMs);
    this.settle();
    return true;
  }

  #execute(plan: StepPlan): StepResult {
    const samples: Array<SampledToken | null> = [];
    for (const { sequence, slot, start, numTokens, samples: draws } of plan.chunks) {
      let content = start === 0 ? undefined : this.cells.content(slot, start - 1);
      if (start > 0 && content === undefined) throw new Error(`slot ${slot} lacks position ${start - 1}`);
      for (let position = start; position < start + numTokens; position++) {
        content = contentAfter(content, sequence.tokenAt(position));
        this.cells.write(slot, position, content);
      }
      samples.push(draws ? { token: tokenAfter(content!) } : null);
    }
    return { kind: "done", samples };
  }

  #export(range: KvRange): string[] {
    const payload: string[] = [];
    for (let position = range.start; position < range.end; position++) {
      const content = this.cells.content(range.slot, position);
      if (content === undefined) throw new Error(`slot ${range.slot} lacks position ${position} to export`);
      payload.push(content);
    }
    return payload;
  }

  /** Cells are read at once, tiers one piece after the other whenever their turn comes. */
  #serve({ peer, id, answer, parts }: Extract<WorkerEffect, { kind: "serve-kv" }>): void {
    const exported = parts.map((part) => (part.kind === "device" ? this.#export(part) : null));
    const send = (at: number): void => {
      const part = parts[at];
      let bad: TierPiece | null = null;
      if (part !== undefined) {
        const { start, end } = part;
        const payload = part.kind === "device" ? exported[at]! : this.#stored(part.piece, part);
        if (payload !== null) {
          this.#outbox.send(this.id, peer, { kind: "fetched", ...id, start, end, payload });
          this.io.push(() => send(at + 1));
          return;
        }
        bad = part.kind === "tier" ? part.piece : null;
      }
      this.#outbox.send(this.id, peer, { kind: "fetch-end", ...id });
      if (parts.length > 0) this.loop.tierReport({ kind: "answered", answer, bad }, 0);
    };
    send(0);
  }

  #offload({ range, segment, tiers }: OffloadOp): void {
    const payload = this.#export(range);
    for (const tier of tiers) {
      this.io.push((nowMs) => {
        const ok = !this.#failsNext();
        if (ok) this.stores[tier].set(segment.id, payload);
        const bytes = ok ? payload.length : null;
        this.loop.tierReport({ kind: "written", tier, segment, bytes }, nowMs);
      });
    }
  }

  #read({ read, piece, range }: Extract<WorkerEffect, { kind: "read-tier" }>, nowMs: number): void {
    this.loop.tierReport({ kind: "read", read, payload: this.#stored(piece, range), ms: 1 }, nowMs);
  }

  #stored({ tier, segment }: TierPiece, { start, end }: { start: number; end: number }): string[] | null {
    const stored = this.stores[tier].get(segment.id);
    const from = start - segment.firstBlock * this.blocks.blockSizeTokens;
    return stored === undefined || this.#failsNext() ? null : stored.slice(from, from + end - start);
  }

  #push(peer: WorkerId, id: HandoffId, range: KvRange, nowMs: number): void {
    const payload = this.#export(range);
    this.#outbox.send(this.id, peer, { kind: "kv", ...id, start: range.start, end: range.end, payload });
    this.loop.kvPushed(id, true, nowMs);
  }

  #install(id: HandoffId, range: KvRange, payload: readonly string[], nowMs: number): void {
    if (this.#failsNext()) {
      this.loop.kvInstalled(id, range.end, false, nowMs);
      return;
    }
    payload.forEach((content, i) => {
      this.cells.write(range.slot, range.start + i, content);
    });
    this.loop.kvInstalled(id, range.end, true, nowMs);
  }

  check(): void {
    this.loop.checkInvariants();
  }
}

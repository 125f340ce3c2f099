import { inOrder } from "./effect-order.ts";
import { type EarlyReserve, EarlyReserves } from "./handoff/early-reserves.ts";
import { type HandoffEntry, HandoffTable } from "./handoff/handoff-table.ts";
import {
  type FetchMessage,
  type HandoffCounts,
  type HandoffFailure,
  type HandoffId,
  type HandoffMessage,
  idOf,
  isFetchMessage,
  unknownRequest,
} from "./handoff/messages.ts";
import { HandoffReceiver, type ReceiverEffect } from "./handoff/receiver.ts";
import {
  DEFAULT_HANDOFF_TIMEOUTS,
  type HandoffOrder,
  HandoffSender,
  type HandoffTimeouts,
  type SenderEffect,
} from "./handoff/sender.ts";
import type { BlockManager } from "./kv/block-manager.ts";
import type { Onboarder } from "./kv/tiers/onboarder.ts";
import type { TierReport } from "./kv/tiers/tier-effects.ts";
import type { Request, RequestId, WorkerId } from "./request.ts";
import type { AddOutcome, Scheduler } from "./scheduler/scheduler.ts";
import type { SampledToken, SequenceUpdate, StepPlan, StepResult } from "./scheduler/step-plan.ts";
import { Sequence } from "./sequence.ts";
import type { TurnExpectation } from "./sessions/turn-expectation.ts";
import { addEvents, runOf } from "./step-events.ts";
import { assert } from "./util/assert.ts";
import { NO_EFFECTS, type RequestEvent, type WorkerEffect, type WorkerTask } from "./worker-effects.ts";
import type { WorkerLoopOptions } from "./worker-loop-options.ts";

interface Entry extends HandoffEntry {
  cachedReported: boolean;
}

/**
 * One worker: takes requests, runs steps, hands KV over. The server and the twin drive this same file.
 *
 * Every input is a method that takes the time; what is to be done comes back through {@link takeEffects}. After each input
 * the loop turns once: grant room to incoming sequences, then schedule a step if the engine is idle.
 */
export class WorkerLoop {
  readonly #scheduler: Scheduler;
  readonly #blocks: BlockManager;
  readonly #timeouts: HandoffTimeouts;
  readonly #handoffOrder: HandoffOrder;
  readonly #maxRequests: number;
  readonly #entries = new Map<RequestId, Entry>();
  readonly #handoffs = new HandoffTable<Entry>();
  readonly #earlyReserves = new EarlyReserves();
  #effects: WorkerEffect[] = [];
  #events: RequestEvent[] = [];
  #nextOrder = 0;
  readonly #onboarder: Onboarder | null;

  constructor(options: WorkerLoopOptions) {
    this.#maxRequests = options.maxRequests;
    this.#scheduler = options.scheduler;
    this.#blocks = options.blocks;
    this.#timeouts = options.timeouts ?? DEFAULT_HANDOFF_TIMEOUTS;
    this.#onboarder = options.onboarder ?? null;
    this.#handoffOrder = options.handoffOrder ?? "reserve-first";
  }

  /** Requests that are not over on this worker. */
  get numRequests(): number {
    return this.#entries.size;
  }

  get handoffCounts(): HandoffCounts {
    return this.#handoffs.counts;
  }

  /** The earliest time at which `tick` has something to do; infinite when nothing is waited for. */
  get nextDeadlineMs(): number {
    const onboardMs = this.#onboarder?.nextDeadlineMs ?? Number.POSITIVE_INFINITY;
    const waitsMs = Math.min(this.#handoffs.nextDeadlineMs, this.#earlyReserves.nextDeadlineMs);
    return Math.min(waitsMs, onboardMs, this.#scheduler.nextRetryMs);
  }

  /** What is to be done since the last call, in order. */
  takeEffects(): readonly WorkerEffect[] {
    const effects = inOrder(this.#effects, this.#events, this.#blocks.kvEvents);
    if (effects.length === 0) return NO_EFFECTS;
    this.#effects = [];
    if (this.#events.length > 0) this.#events = [];
    return effects;
  }

  /** Takes a request over. An earlier epoch of the same request is given up. */
  submit(request: Request, task: WorkerTask, nowMs: number): AddOutcome {
    const earlier = this.#entries.get(request.id);
    if (earlier !== undefined) this.#giveUp(earlier, "cancelled");
    const sequence = new Sequence(request, {
      order: this.#nextOrder++,
      stopsAfterPrefill: task.kind === "prefill",
      fetch: task.kind === "decode" ? undefined : task.fetch,
    });
    const outcome = this.#accept(sequence, task, nowMs);
    this.#turn(nowMs);
    return outcome;
  }

  /** A turn is over, and another one of its conversation is expected. */
  expect(expectation: TurnExpectation, nowMs: number): void {
    this.#onboarder?.prefetcher?.expect(expectation, nowMs);
    this.#turn(nowMs);
  }

  #accept(sequence: Sequence, task: WorkerTask, nowMs: number): AddOutcome {
    this.#onboarder?.prefetcher?.arrived(sequence.request);
    if (!this.#scheduler.fits(sequence)) return "too_long";
    if (this.#entries.size >= this.#maxRequests) return "queue_full";
    if (task.kind !== "local") {
      this.#openHandoff(sequence, task, nowMs);
      return "added";
    }
    const outcome = this.#scheduler.add(sequence);
    if (outcome === "added") this.#track(sequence, null, null);
    return outcome;
  }

  /** Stops a request within one step. An unknown id or another epoch is ignored. */
  cancel(requestId: RequestId, epoch: number, nowMs: number): void {
    const entry = this.#entries.get(requestId);
    if (entry === undefined || entry.sequence.request.epoch !== epoch) return;
    this.#giveUp(entry, "cancelled");
    this.#turn(nowMs);
  }

  /** Stops every request: their owner has gone. */
  cancelAll(nowMs: number): void {
    for (const entry of [...this.#entries.values()]) this.#giveUp(entry, "cancelled");
    this.#turn(nowMs);
  }

  /** The engine has executed a plan, the last step of which took `ms` of it: waits for its other calls are no part of a step's price. */
  stepDone(plan: StepPlan, result: StepResult, nowMs: number, ms: number): void {
    if (result.kind === "done") this.#onboarder?.learnStep(plan, ms);
    for (const update of this.#scheduler.apply(plan, result)) this.#afterStep(update, nowMs);
    this.#turn(nowMs);
  }

  /**
   * The engine has run `tokens.length` steps of a plan that stands for several, each drawing the next of `tokens` for every
   * chunk, and goes on with the next one. Must come before anything else is put in.
   */
  stepsRepeated(plan: StepPlan, tokens: readonly SampledToken[]): void {
    this.#scheduler.repeat(plan, tokens);
    for (const { sequence } of plan.chunks) this.#events.push(runOf(sequence, tokens));
  }

  /** A `push-kv` effect has been carried out: the bytes are with the link, or it has failed. */
  kvPushed(id: HandoffId, ok: boolean, nowMs: number): void {
    const entry = this.#handoffs.find(id);
    if (entry?.sender) this.#runSender(entry, entry.sender.onPushed(ok, nowMs));
    this.#turn(nowMs);
  }

  /** An `install-kv` effect has been carried out. `ms`: how long the engine took, waits left out. */
  kvInstalled(id: HandoffId, end: number, ok: boolean, nowMs: number, ms = 0): void {
    if (!this.#onboarder?.installed(id, end, ok, ms)) {
      const entry = this.#handoffs.find(id);
      if (entry?.receiver) this.#runReceiver(entry, entry.receiver.onInstalled(end, ok));
      if (ok) this.#onboarder?.learnImport(ms);
    }
    this.#turn(nowMs);
  }

  /** What became of an effect on a lower tier. */
  tierReport(report: TierReport, nowMs: number): void {
    this.#onboarder?.report(report);
    this.#turn(nowMs);
  }

  /**
   * A message from another worker. Messages for an unknown request or epoch change nothing here. `ms`: how long one with KV took to
   * arrive from its first byte on; null when that is not known.
   */
  receive(peer: WorkerId, message: HandoffMessage, nowMs: number, ms: number | null = null): void {
    if (ms !== null) this.#onboarder?.learnReceived(message, ms);
    if (isFetchMessage(message)) this.#onboarder?.receive(peer, message);
    else this.#receiveHandoff(peer, message, nowMs);
    this.#turn(nowMs);
  }

  #receiveHandoff(peer: WorkerId, message: Exclude<HandoffMessage, FetchMessage>, nowMs: number): void {
    const entry = this.#handoffs.find(message);
    if (entry !== undefined && (entry.sender ?? entry.receiver)?.peer === peer) {
      if (entry.sender) this.#runSender(entry, entry.sender.receive(message, nowMs));
      else if (entry.receiver) this.#runReceiver(entry, entry.receiver.receive(message, nowMs));
    } else if (message.kind === "reserve") {
      this.#holdReserve(peer, message, nowMs);
    } else if (message.kind === "abort") {
      this.#earlyReserves.take(message.requestId, message.epoch, peer);
    } else if (message.kind === "kv" || message.kind === "commit" || message.kind === "grant") {
      this.#effects.push({ kind: "send", peer, message: unknownRequest("abort", message) });
    }
  }

  /** A worker is gone: every handoff with it fails. */
  peerLost(peer: WorkerId, nowMs: number): void {
    this.#onboarder?.peerLost(peer);
    for (const entry of this.#handoffs.all()) {
      if ((entry.sender ?? entry.receiver)?.peer === peer) this.#failHandoff(entry, "peer_lost", false);
    }
    this.#earlyReserves.forgetPeer(peer);
    this.#turn(nowMs);
  }

  /** Lets waits that are over run out. */
  tick(nowMs: number): void {
    this.#onboarder?.tick(nowMs);
    for (const entry of this.#handoffs.all()) {
      if (entry.sender) this.#runSender(entry, entry.sender.onDeadline(nowMs));
      else if (entry.receiver) this.#runReceiver(entry, entry.receiver.onDeadline(nowMs));
    }
    for (const reserve of this.#earlyReserves.takeExpired(nowMs)) this.#refuse(reserve);
    this.#turn(nowMs);
  }

  #openHandoff(sequence: Sequence, task: Exclude<WorkerTask, { kind: "local" }>, nowMs: number): void {
    const options = { sequence, peer: task.peer, timeouts: this.#timeouts };
    if (task.kind === "prefill") {
      const sender = new HandoffSender({ ...options, order: this.#handoffOrder });
      const entry = this.#track(sequence, sender, null);
      this.#runSender(entry, sender.start(nowMs));
      return;
    }
    const receiver = new HandoffReceiver({ ...options, nowMs });
    const entry = this.#track(sequence, null, receiver);
    const early = this.#earlyReserves.take(sequence.request.id, sequence.request.epoch, task.peer);
    if (early !== null) this.#runReceiver(entry, receiver.onReserve(early.numTokens));
  }

  #track(sequence: Sequence, sender: HandoffSender | null, receiver: HandoffReceiver | null): Entry {
    const entry: Entry = { sequence, sender, receiver, cachedReported: false };
    this.#entries.set(sequence.request.id, entry);
    if (sender !== null || receiver !== null) this.#handoffs.add(entry);
    return entry;
  }

  #afterStep(update: SequenceUpdate, nowMs: number): void {
    const { sequence, emitted, finishReason } = update;
    const entry = this.#entries.get(sequence.request.id);
    assert(entry?.sequence === sequence, "a step advanced a sequence that nobody owns");
    addEvents(this.#events, update, !entry.cachedReported);
    entry.cachedReported = true;
    if (finishReason !== null) {
      // The first token was the last: the decode worker is not needed any more.
      if (entry.sender) this.#failHandoff(entry, "cancelled", true);
      this.#untrack(entry);
    } else if (entry.sender) {
      this.#runSender(entry, entry.sender.onComputed(emitted, nowMs));
    }
  }

  #runSender(entry: Entry, effects: readonly SenderEffect[]): void {
    this.#handoffs.deadlineMoved();
    const { sequence, sender } = entry;
    for (const effect of effects) {
      if (effect.kind === "send") {
        this.#effects.push({ kind: "send", peer: sender!.peer, message: effect.message });
      } else if (effect.kind === "push") {
        this.#flushKvOps();
        const range = { slot: sequence.slot, start: effect.start, end: effect.end };
        this.#effects.push({ kind: "push-kv", peer: sender!.peer, id: idOf(sequence), range });
      } else if (effect.kind === "start") {
        const outcome = this.#scheduler.add(sequence);
        if (outcome !== "added") this.#runSender(entry, sender!.fail("no_space", true));
      } else {
        this.#closeHandoff(entry, effect.failure);
      }
    }
  }

  #runReceiver(entry: Entry, effects: readonly ReceiverEffect[]): void {
    this.#handoffs.deadlineMoved();
    const { sequence, receiver } = entry;
    for (const effect of effects) {
      if (effect.kind === "send") {
        this.#effects.push({ kind: "send", peer: receiver!.peer, message: effect.message });
      } else if (effect.kind === "queue") {
        const outcome = this.#scheduler.addIncoming(sequence);
        if (outcome !== "added") this.#runReceiver(entry, receiver!.fail("no_space", true));
      } else if (effect.kind === "install") {
        this.#flushKvOps();
        const range = { slot: sequence.slot, start: effect.start, end: effect.end };
        this.#effects.push({ kind: "install-kv", id: idOf(sequence), range, payload: effect.payload });
      } else if (effect.kind === "activate") {
        this.#handoffs.remove(entry);
        this.#handoffs.count("ok");
        // Only the prefill side knows how much of the prompt was cached, and it has said so.
        entry.cachedReported = true;
        this.#scheduler.activate(sequence, effect.firstToken.token);
        // The prefill side has emitted this token too, unless it died: the owner takes whichever comes first.
        const index = sequence.numOutputTokens - 1;
        this.#events.push({ kind: "token", ...idOf(sequence), index, sampled: effect.firstToken });
      } else {
        this.#closeHandoff(entry, effect.failure);
      }
    }
  }

  /** A handoff has ended on this side without an active sequence: the KV goes, and the owner hears of a failure. */
  #closeHandoff(entry: Entry, failure: HandoffFailure | null): void {
    this.#untrack(entry);
    this.#handoffs.count(failure ?? "ok");
    this.#scheduler.remove(entry.sequence);
    if (failure !== null && failure !== "cancelled") {
      this.#events.push({ kind: "failed", ...idOf(entry.sequence), reason: failure });
    }
  }

  #failHandoff(entry: Entry, reason: HandoffFailure, tellPeer: boolean): void {
    if (entry.sender) this.#runSender(entry, entry.sender.fail(reason, tellPeer));
    else if (entry.receiver) this.#runReceiver(entry, entry.receiver.fail(reason, tellPeer));
  }

  #giveUp(entry: Entry, reason: HandoffFailure): void {
    if (this.#handoffs.has(entry)) this.#failHandoff(entry, reason, true);
    this.#untrack(entry);
    this.#scheduler.remove(entry.sequence);
    const plan = this.#scheduler.planInFlight;
    if (plan?.chunks.every((chunk) => chunk.sequence.status === "finished")) {
      this.#effects.push({ kind: "abort-step" });
    }
  }

  #untrack(entry: Entry): void {
    const { id } = entry.sequence.request;
    if (this.#entries.get(id) === entry) this.#entries.delete(id);
    this.#handoffs.remove(entry);
  }

  #holdReserve(peer: WorkerId, message: HandoffId & { numTokens: number }, nowMs: number): void {
    const { requestId, epoch, numTokens } = message;
    const reserve = { requestId, epoch, peer, numTokens, deadlineMs: nowMs + this.#timeouts.reserveMs };
    const knownEpoch = this.#entries.get(requestId)?.sequence.request.epoch ?? -1;
    if (knownEpoch >= epoch || !this.#earlyReserves.hold(reserve)) this.#refuse(reserve);
  }

  #refuse({ peer, requestId, epoch }: EarlyReserve): void {
    this.#effects.push({ kind: "send", peer, message: unknownRequest("refuse", { requestId, epoch }) });
  }

  #flushKvOps(): void {
    for (const effect of this.#blocks.takeEffects()) this.#effects.push(effect);
  }

  /** Passes on what the lower tiers want. Returns whether sequences can go on whose KV has come up. */
  #runTiers(nowMs: number): boolean {
    if (this.#onboarder === null) return false;
    const { effects, finished } = this.#onboarder.turn(nowMs, this.#scheduler.numWaiting > 0);
    if (effects.length > 0) this.#flushKvOps();
    this.#effects.push(...effects);
    for (const sequence of finished) {
      if (this.#handoffs.find(idOf(sequence))?.receiver) {
        this.#scheduler.onboardedIncoming(sequence);
        this.#grant(sequence, nowMs);
      } else this.#scheduler.onboarded(sequence);
    }
    return finished.length > 0;
  }

  #grant(sequence: Sequence, nowMs: number): void {
    const entry = this.#handoffs.find(idOf(sequence));
    assert(entry?.receiver, "an incoming sequence has no receiver");
    this.#runReceiver(entry, entry.receiver.onRoom(nowMs));
  }

  #turn(nowMs: number): void {
    this.#blocks.advance(nowMs);
    this.#runTiers(nowMs);
    for (const sequence of this.#scheduler.grantIncoming(nowMs)) this.#grant(sequence, nowMs);
    const isIdle = this.#scheduler.planInFlight === null;
    const plan = isIdle ? this.#scheduler.schedule() : null;
    if (isIdle) this.#flushKvOps();
    if (plan !== null) this.#effects.push({ kind: "execute", plan });
    // What was to come up may be gone already, for one that was admitted just now.
    const isDue = isIdle || this.#onboarder?.hasBegun === true;
    if (isDue && this.#runTiers(nowMs) && this.#scheduler.planInFlight === null) this.#turn(nowMs);
  }

  /** Throws unless loop, scheduler, handoffs and KV bookkeeping agree. */
  checkInvariants(): void {
    this.#scheduler.checkInvariants(this.#onboarder?.prefetcher?.holders);
    for (const [requestId, entry] of this.#entries) {
      assert(entry.sequence.request.id === requestId, "an entry is filed under another id");
      assert(entry.sequence.status !== "finished", `finished request ${requestId} is still tracked`);
    }
    this.#handoffs.checkInvariants(this.#entries);
    this.#onboarder?.checkInvariants();
    this.#earlyReserves.checkInvariants();
  }
}

import type { BlockManager } from "../kv/block-manager.ts";
import type { Sequence } from "../sequence.ts";
import { assert } from "../util/assert.ts";
import { endsOutput, hasAny } from "./end-of-output.ts";
import { IncomingLine } from "./incoming-line.ts";
import type { KvReservation } from "./policy.ts";
import { pickVictim } from "./preemption.ts";
import { PrefixTokens } from "./prefix-tokens.ts";
import { removeFrom } from "./remove-from.ts";
import { longestRow, repeatSteps } from "./repeated-steps.ts";
import type { SchedulerOptions } from "./scheduler-options.ts";
import { ChunkCollector, type StepResources } from "./step-builder.ts";
import type { SampledToken, ScheduledChunk, SequenceUpdate, StepPlan, StepResult } from "./step-plan.ts";
import { comesBefore, WaitingQueue } from "./waiting-queue.ts";

/** Whether a sequence can be taken: `too_long` never, `queue_full` not now. */
export type AddOutcome = "added" | "queue_full" | "too_long";

/**
 * Decides, step by step, which tokens of which sequences are computed.
 *
 * The contract is `schedule → execute → apply`, strictly in turn. There is no prefill or decode phase in here: a step gives
 * sequences whose computed tokens lag behind their known tokens a share of the token budget.
 *
 * ```
 *   add ──▶ waiting ──admit──▶ running ──finish──▶ finished
 *              ▲──────preempt─────┘ └─prefill done─▶ handing-off ──release──▶ finished
 *   add ──▶ waiting ──admit, KV comes from a lower tier──▶ onboarding ──onboarded──▶ received ──▶ running
 *   addIncoming ──▶ waiting ──grantIncoming──▶ (onboarding ──▶) receiving ──activate──▶ (received ──▶) running
 * ```
 */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #blocks: BlockManager;
  readonly #waiting = new WaitingQueue();
  /** Sequences that wait for room to receive another worker's KV. */
  readonly #incoming: IncomingLine;
  /** Sequences in steps, in order of admission. */
  readonly #running: Sequence[] = [];
  /** Sequences that hold KV and are in no step: onboarding, receiving, received or handing off. */
  readonly #parked = new Set<Sequence>();
  /** Those of them that only wait for a place in the batch, in order. */
  readonly #received: Sequence[] = [];
  readonly #collector: ChunkCollector;
  #planInFlight: StepPlan | null = null;
  #numSteps = 0;
  /** Steps of the plan in flight that have ended already. */
  #numRepeats = 0;
  #numPreemptions = 0;
  /** Whether a sequence has left the steps, or given up KV while somebody waited, since the last plan. */
  #hasDeparture = false;
  /** Sequences that have come to where only room and a place are missing. */
  #numReady = 0;
  /** Sequences that have come into steps. */
  #numJoins = 0;
  readonly #prefixTokens = new PrefixTokens();

  constructor(options: SchedulerOptions, blocks: BlockManager) {
    assert(options.tokenBudget > 0 && options.maxRunning > 0, "budget and batch size must be positive");
    this.#options = options;
    this.#blocks = blocks;
    this.#incoming = new IncomingLine(options.incomingRetryMs ?? null);
    const resources: StepResources = {
      running: this.#running,
      waiting: this.#waiting,
      reserve: (sequence) => this.#blocks.grow(sequence, sequence.maxComputedTokens),
      admitNext: (reservation) => this.#admitNext(reservation),
      admit: (sequence, reservation) => this.#admit(sequence, reservation)?.status === "running",
      makeRoom: (sequence, numTokens, isScheduled) => this.#makeRoom(sequence, numTokens, isScheduled),
    };
    this.#collector = new ChunkCollector(resources);
  }

  get numRunning(): number {
    return this.#running.length;
  }

  get numWaiting(): number {
    return this.#waiting.length + this.#incoming.length;
  }

  /** Sequences that this worker computes and that are not in the step in flight: they wait for KV or for their turn. */
  get numQueued(): number {
    const numScheduled = this.#planInFlight?.chunks.length ?? 0;
    return Math.max(0, this.#waiting.length + this.#running.length + this.#received.length - numScheduled);
  }

  get numParked(): number {
    return this.#parked.size;
  }

  get numSteps(): number {
    return this.#numSteps;
  }

  get numPreemptions(): number {
    return this.#numPreemptions;
  }

  get planInFlight(): StepPlan | null {
    return this.#planInFlight;
  }

  /** Prompt tokens looked for in the prefix cache at first admissions, and how many of them were there. */
  get prefixTokens(): { readonly queried: number; readonly hit: number } {
    return this.#prefixTokens;
  }

  /** Known tokens without KV, over all sequences that this worker computes: how much work lies here. */
  get uncomputedTokens(): number {
    let total = 0;
    for (const sequence of this.#running) total += sequence.numUncomputedTokens;
    for (const sequence of this.#waiting) total += sequence.numUncomputedTokens;
    return total;
  }

  /** Queues a sequence that this worker computes. */
  add(sequence: Sequence): AddOutcome {
    sequence.readyOrder = ++this.#numReady;
    return this.#enqueue(sequence, this.#waiting);
  }

  /** Queues a sequence whose prompt another worker computes, until there is room to receive its KV. */
  addIncoming(sequence: Sequence): AddOutcome {
    return this.#enqueue(sequence, this.#incoming);
  }

  /** Whether the longest output that the sequence may have fits the KV of this worker at all. */
  fits(sequence: Sequence): boolean {
    return this.#blocks.blocksFor(sequence.maxComputedTokens) <= this.#blocks.numBlocks;
  }

  #enqueue(sequence: Sequence, queue: WaitingQueue | IncomingLine): AddOutcome {
    assert(sequence.status === "waiting", "only a waiting sequence can be queued");
    if (!this.fits(sequence)) return "too_long";
    if (this.numWaiting >= this.#options.maxWaiting) return "queue_full";
    queue.push(sequence);
    return "added";
  }

  /** When an incoming sequence asks for room again without a further input; infinite when none does. */
  get nextRetryMs(): number {
    return this.#incoming.nextAskMs;
  }

  /**
   * Takes KV room for incoming sequences, in order, as far as there is any. They are then `receiving`, and what was cached
   * here already counts as computed; those whose KV first comes up from a lower tier are `onboarding`, and not among the ones returned. A
   * preempted or local sequence that came earlier is not overtaken.
   */
  grantIncoming(nowMs: number): Sequence[] {
    const taken = this.#incoming.take(nowMs, (sequence) => {
      const local = this.#waiting.peek();
      if (local !== null && this.#waitsFor(sequence, local)) return false;
      if (this.#numHolding >= 2 * this.#options.maxRunning) return false;
      if (!this.#blocks.admit(sequence, sequence.numKnownTokens, sequence.numKnownTokens)) return false;
      this.#parked.add(sequence);
      if (this.#options.onboarder?.begin(sequence, sequence.numKnownTokens, "sent"))
        sequence.status = "onboarding";
      else {
        this.#prefixTokens.count(sequence);
        sequence.status = "receiving";
      }
      return true;
    });
    return taken.filter(({ status }) => status === "receiving");
  }

  /** What a lower tier had of an incoming sequence's prefix is here: it can receive the rest. */
  onboardedIncoming(sequence: Sequence): void {
    assert(sequence.status === "onboarding", "the sequence is not onboarding");
    this.#blocks.fileComputed(sequence);
    this.#prefixTokens.count(sequence);
    sequence.status = "receiving";
  }

  /**
   * A receiving sequence has all its KV and goes on from the first token, which the other worker drew and emitted. It joins
   * the steps as soon as there is a place.
   */
  activate(sequence: Sequence, firstToken: number): void {
    assert(sequence.status === "receiving", "the sequence is not receiving");
    assert(sequence.numComputedTokens === sequence.numKnownTokens, "KV is missing");
    this.#blocks.fileComputed(sequence);
    sequence.append(firstToken);
    sequence.readyOrder = ++this.#numReady;
    sequence.status = "received";
    this.#received.push(sequence);
  }

  /** What a lower tier had of a sequence's prefix is here: it joins the steps as soon as there is a place. */
  onboarded(sequence: Sequence): void {
    assert(sequence.status === "onboarding", "the sequence is not onboarding");
    this.#blocks.fileComputed(sequence);
    this.#prefixTokens.count(sequence);
    sequence.status = "received";
    this.#received.push(sequence);
  }

  /**
   * Removes a sequence wherever it stands and lets its KV go; cached blocks stay. If it is in the step in flight, its part
   * of the result is ignored.
   */
  remove(sequence: Sequence): void {
    if (sequence.status === "finished") return;
    if (sequence.status === "waiting") this.#waiting.remove(sequence) || this.#incoming.remove(sequence);
    else this.#leave(sequence);
    if (sequence.status === "onboarding") this.#options.onboarder!.forget(sequence);
    this.#blocks.free(sequence);
    sequence.status = "finished";
  }

  /** The next step, or null when nothing can run. Must be followed by `apply` before the next call. */
  schedule(): StepPlan | null {
    assert(this.#planInFlight === null, "the previous step has not been applied");
    const { policy, tokenBudget, maxRunning } = this.#options;
    const numMoves = this.#numJoins + this.#numPreemptions;
    while (this.#received.length > 0 && this.#running.length < maxRunning)
      this.#join(this.#received.shift()!);
    if (this.#running.length === 0 && this.#waiting.length === 0) return null;
    const collector = this.#collector;
    collector.begin(tokenBudget, this.#hasDeparture);
    this.#hasDeparture = false;
    policy.build(collector);
    if (collector.chunks.length === 0) return null;
    const numTokens = tokenBudget - collector.remainingTokens;
    const { chunks } = collector;
    // Whoever joined or was preempted may have made way for others that had looked before: the next step can be another one.
    const isSettled = this.#numJoins + this.#numPreemptions === numMoves;
    const maxSteps = isSettled ? this.#repeatable(chunks) : 1;
    this.#planInFlight = { index: this.#numSteps, chunks, numTokens, maxSteps };
    return this.#planInFlight;
  }

  /** How many steps the plan with these chunks may stand for: see {@link StepPlan.maxSteps}. */
  #repeatable(chunks: readonly ScheduledChunk[]): number {
    const { maxStepsPerPlan = 1, maxRunning } = this.#options;
    if (maxStepsPerPlan === 1 || chunks.length !== this.#running.length) return 1;
    const holdsMore = this.#numHolding < 2 * maxRunning;
    const joinsMore = this.#running.length < maxRunning;
    const hasWaiting =
      holdsMore && (this.#incoming.takesRoomAtOnce || (joinsMore && this.#waiting.length > 0));
    return longestRow(chunks, this.#blocks, { maxSteps: maxStepsPerPlan, hasWaiting });
  }

  /**
   * `tokens.length` steps of the plan in flight have ended, each drawing the next of `tokens` for every chunk, and one more
   * has begun. None of the tokens ends a sequence. Does what as many turns of `apply` and `schedule` would.
   */
  repeat(plan: StepPlan, tokens: readonly SampledToken[]): void {
    assert(this.#planInFlight === plan, "this is not the step in flight");
    assert(!hasAny(tokens, this.#options.endOfGenerationTokens), "a sequence ends within a row of steps");
    repeatSteps(plan.chunks, this.#blocks, tokens);
    this.#numSteps += tokens.length;
    this.#numRepeats += tokens.length;
    assert(this.#numRepeats < plan.maxSteps, "a plan is repeated too often");
  }

  /** Takes in what the engine made of the plan. Sequences that were removed meanwhile are left out. */
  apply(plan: StepPlan, result: StepResult): SequenceUpdate[] {
    assert(this.#planInFlight === plan, "this is not the step in flight");
    const numRepeats = this.#numRepeats;
    this.#planInFlight = null;
    this.#numRepeats = 0;
    this.#numSteps++;
    const updates: SequenceUpdate[] = [];
    if (result.kind === "aborted") return updates;
    assert(result.samples.length === plan.chunks.length, "the result does not match the plan");
    for (let i = 0; i < plan.chunks.length; i++) {
      const { sequence, start, numTokens, samples } = plan.chunks[i]!;
      if (sequence.status !== "running") continue;
      assert(sequence.numComputedTokens === start + numRepeats, "the sequence moved while its step ran");
      sequence.numComputedTokens += numTokens;
      this.#blocks.fileComputed(sequence);
      const sampled = result.samples[i]!;
      assert((sampled !== null) === samples, "samples do not match the plan");
      updates.push(
        sampled === null ? { sequence, emitted: null, finishReason: null } : this.#append(sequence, sampled),
      );
    }
    return updates;
  }

  #append(sequence: Sequence, sampled: SampledToken): SequenceUpdate {
    const { request } = sequence;
    if (endsOutput(sequence, sampled.token, this.#options.endOfGenerationTokens)) {
      this.remove(sequence);
      return { sequence, emitted: null, finishReason: "stop" };
    }
    sequence.append(sampled.token);
    if (sequence.numOutputTokens >= request.maxOutputTokens) {
      this.remove(sequence);
      return { sequence, emitted: sampled, finishReason: "length" };
    }
    if (sequence.stopsAfterPrefill) {
      this.#leave(sequence);
      sequence.status = "handing-off";
      this.#parked.add(sequence);
    }
    return { sequence, emitted: sampled, finishReason: null };
  }

  /** Whether a sequence may not take KV before one of the other queue. */
  #waitsFor(sequence: Sequence, other: Sequence): boolean {
    return (this.#options.ordersIncoming ?? true) && comesBefore(other, sequence);
  }

  /** Sequences that hold KV. */
  get #numHolding(): number {
    return this.#running.length + this.#parked.size;
  }

  #join(sequence: Sequence): void {
    this.#parked.delete(sequence);
    sequence.status = "running";
    this.#numJoins++;
    this.#running.push(sequence);
  }

  /** Takes a sequence that holds KV out of the lists; its KV stays. */
  #leave(sequence: Sequence): void {
    // Room that nobody waits for is news to nobody: who comes later looks for room anyway.
    if (sequence.status === "running" || this.numQueued > 0) this.#hasDeparture = true;
    if (sequence.status === "running") removeFrom(this.#running, sequence);
    else if (this.#parked.delete(sequence) && sequence.status === "received")
      removeFrom(this.#received, sequence);
  }

  /** The next sequence that can compute. Those whose KV comes up from a lower tier are admitted on the way, and parked. */
  #admitNext(reservation: KvReservation): Sequence | null {
    for (;;) {
      const first = this.#waiting.peek();
      const sequence = first === null ? null : this.#admit(first, reservation);
      if (sequence?.status !== "onboarding") return sequence;
    }
  }

  #admit(sequence: Sequence, reservation: KvReservation): Sequence | null {
    const { maxRunning } = this.#options;
    if (this.#running.length >= maxRunning || this.#numHolding >= 2 * maxRunning) return null;
    const incoming = this.#incoming.peek();
    if (incoming !== null && this.#waitsFor(sequence, incoming)) return null;
    const numTokens = reservation === "maximum" ? sequence.maxComputedTokens : sequence.numKnownTokens;
    const reusableTokens = sequence.numKnownTokens - 1;
    if (!this.#blocks.admit(sequence, numTokens, reusableTokens)) return null;
    if (this.#waiting.peek() === sequence) this.#waiting.shift();
    else this.#waiting.remove(sequence);
    if (this.#options.onboarder?.begin(sequence, reusableTokens, "computed")) {
      sequence.status = "onboarding";
      this.#parked.add(sequence);
      return sequence;
    }
    this.#prefixTokens.count(sequence);
    this.#join(sequence);
    return sequence;
  }

  #makeRoom(sequence: Sequence, numTokens: number, isScheduled: (sequence: Sequence) => boolean): boolean {
    while (!this.#blocks.grow(sequence, numTokens)) {
      const victim = pickVictim(sequence, this.#running, this.#received, isScheduled);
      if (victim === null) return false;
      this.#preempt(victim);
      if (victim === sequence) return false;
    }
    return true;
  }

  /** Preemption by recompute: the KV goes, the known tokens stay, and the sequence waits in its old place. */
  #preempt(sequence: Sequence): void {
    this.#leave(sequence);
    this.#blocks.free(sequence, true);
    sequence.status = "waiting";
    sequence.numPreemptions++;
    this.#numPreemptions++;
    this.#waiting.push(sequence);
  }

  /** Throws unless every sequence is in exactly the place that its status names, and the KV bookkeeping agrees. `others` hold KV too. */
  checkInvariants(others: readonly Sequence[] = []): void {
    for (const queue of [this.#waiting, this.#incoming]) {
      for (const sequence of queue) {
        assert(sequence.status === "waiting" && sequence.slot === -1, "a waiting sequence holds KV");
      }
    }
    for (const sequence of this.#running) {
      assert(sequence.status === "running", `a ${sequence.status} sequence is in steps`);
      assert(sequence.numUncomputedTokens > 0, "a running sequence has nothing to compute");
    }
    const parkedStatuses = ["onboarding", "receiving", "received", "handing-off"];
    for (const { status } of this.#parked)
      assert(parkedStatuses.includes(status), `a ${status} sequence is parked`);
    const astray = this.#received.find((one) => one.status !== "received" || !this.#parked.has(one));
    assert(astray === undefined, "a received sequence is not parked");
    assert(this.#running.length <= this.#options.maxRunning, "the batch is over its bound");
    assert(this.#numHolding <= 2 * this.#options.maxRunning, "too many sequences hold KV");
    this.#incoming.checkInvariants();
    this.#blocks.checkInvariants([...this.#running, ...this.#parked, ...others]);
  }
}

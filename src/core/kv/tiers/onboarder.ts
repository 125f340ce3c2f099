import type { FetchMessage, HandoffId, HandoffMessage } from "../../handoff/messages.ts";
import type { WorkerId } from "../../request.ts";
import type { StepPlan } from "../../scheduler/step-plan.ts";
import type { Sequence } from "../../sequence.ts";
import { HASH_WORDS } from "../../tokens/block-hash.ts";
import { assert } from "../../util/assert.ts";
import type { BlockManager } from "../block-manager.ts";
import { FetchAnswers, MAX_EXPORTED_BYTES } from "./fetch-answers.ts";
import type { PrefetchEffect } from "./host-raiser.ts";
import { type KvTiers, MIN_ONBOARD_BLOCKS } from "./kv-tiers.ts";
import type { Otherwise } from "./onboard-rule.ts";
import type { Onboarding, Read, Remote } from "./onboarding.ts";
import type { Prefetcher } from "./prefetcher.ts";
import { type ReadFor, ReadTurns } from "./read-turns.ts";
import type { TierPiece } from "./segment.ts";
import type { TierEffect, TierReport } from "./tier-effects.ts";

/** Pieces of one sequence that are being read, or have been and wait for those before them. */
const MAX_READS_AHEAD = 4;
/** A sequence whose KV has not come up by then computes the rest. */
const ONBOARD_TIMEOUT_MS = 10_000;

/** Blocks that are asked of another worker at most. */
export const MAX_FETCH_BLOCKS = 4096;

/**
 * Brings prefixes up from lower tiers into sequences that have been admitted. Meanwhile these hold their blocks, are in no step,
 * and others go on computing. Whatever goes wrong, the sequence goes on with what has come up in order, and computes the rest.
 */
export class Onboarder {
  readonly #tiers: KvTiers;
  readonly #answers: FetchAnswers;
  readonly #blockSizeTokens: number;
  /** Brings KV up ahead of turns, through this. Null: nothing does. */
  prefetcher: Prefetcher | null = null;
  /** Whose turn it is to read from a tier. */
  readonly readTurns = new ReadTurns();
  readonly #byRequest = new Map<string, Onboarding>();
  readonly #reads = new Map<number, Read>();
  #admitted: Array<Pick<Onboarding, "sequence" | "pieces" | "remote" | "whom">> = [];
  #finished: Sequence[] = [];
  #effects: TierEffect[] = [];
  #numReads = 0;

  /** `maxExportedBytes`: KV of the engine's cells that may be on its way to other workers at a time. */
  constructor(tiers: KvTiers, blocks: BlockManager, maxExportedBytes = MAX_EXPORTED_BYTES) {
    this.#tiers = tiers;
    this.#answers = new FetchAnswers(tiers, blocks, this.readTurns, maxExportedBytes);
    this.#blockSizeTokens = blocks.blockSizeTokens;
  }

  /** Whether something has been admitted that the next {@link turn} starts. */
  get hasBegun(): boolean {
    return this.#admitted.length > 0;
  }

  /** The earliest time at which `tick` has something to do; infinite when nothing is waited for. */
  get nextDeadlineMs(): number {
    let next = this.prefetcher?.nextDeadlineMs ?? Number.POSITIVE_INFINITY;
    // One that has failed waits for imports that are with the engine, which end by themselves.
    for (const { deadlineMs, hasFailed } of this.#byRequest.values())
      if (!hasFailed) next = Math.min(next, deadlineMs);
    return next;
  }

  /**
   * A sequence has been given blocks, and what the device has of its prefix. Returns whether more of it, up to `reusableTokens`,
   * is worth bringing up: the sequence then waits until {@link turn} returns it. `otherwise`: how it would come by the rest. One that
   * stands for a turn that may come is read for while nobody else is.
   */
  begin(sequence: Sequence, reusableTokens: number, otherwise: Otherwise, whom: ReadFor = "demand"): boolean {
    const from = sequence.numComputedTokens / this.#blockSizeTokens;
    const to = Math.min(
      Math.floor(reusableTokens / this.#blockSizeTokens),
      sequence.numBlockHashes,
      sequence.blocks.length,
    );
    if (from >= to) return false;
    const pieces = this.#tiers.plan(sequence.blockHashes!, from, to, otherwise);
    const end = pieces.reduce((sum, { numBlocks }) => sum + numBlocks, from);
    const remote = this.#remoteOf(sequence, end, to);
    if (pieces.length === 0 && remote === null) return false;
    this.#admitted.push({ sequence, pieces, remote, whom });
    return true;
  }

  /** What to ask another worker for, from block `fromBlock` on. */
  #remoteOf({ fetch }: Sequence, fromBlock: number, to: number): Remote | null {
    if (fetch === null) return null;
    const offered = Math.floor(fetch.numTokens / this.#blockSizeTokens);
    const toBlock = Math.min(to, offered, fromBlock + MAX_FETCH_BLOCKS);
    if (toBlock - fromBlock < MIN_ONBOARD_BLOCKS) return null;
    const arrivedEnd = fromBlock * this.#blockSizeTokens;
    return { peer: fetch.from, fromBlock, toBlock, isAsked: false, isOver: false, arrivedEnd };
  }

  /** A question of another worker, or an answer to one of ours; what comes too late is dropped. */
  receive(peer: WorkerId, message: FetchMessage): void {
    if (message.kind === "fetch") {
      this.#effects.push(this.#answers.answer(peer, message));
      return;
    }
    const onboarding = this.#byRequest.get(message.requestId);
    const remote = onboarding?.remote;
    if (onboarding === undefined || remote?.peer !== peer || remote.isOver || !remote.isAsked) return;
    if (onboarding.sequence.request.epoch !== message.epoch) return;
    if (message.kind === "fetched") this.#arrived(onboarding, remote, message);
    else remote.isOver = true;
    this.#advance(onboarding);
  }

  #arrived(
    onboarding: Onboarding,
    remote: Remote,
    message: Extract<FetchMessage, { kind: "fetched" }>,
  ): void {
    const { start, end, payload } = message;
    const last = remote.toBlock * this.#blockSizeTokens;
    const fits =
      start === remote.arrivedEnd && end > start && end <= last && end % this.#blockSizeTokens === 0;
    remote.isOver = !fits || end === last;
    if (!fits) return;
    remote.arrivedEnd = end;
    const range = { slot: onboarding.sequence.slot, start, end };
    onboarding.reads.push({ number: 0, piece: null, range, onboarding, payload, isDone: true, readMs: 0 });
  }

  /** A worker is gone: what it has not sent is computed. */
  peerLost(peer: WorkerId): void {
    for (const onboarding of [...this.#byRequest.values()]) {
      if (onboarding.remote?.peer !== peer) continue;
      onboarding.remote.isOver = true;
      this.#advance(onboarding);
    }
  }

  /** Starts what has been admitted. `isContested`: requests wait for their turn on the device. Returns what is to be done, in order, and the sequences that have got what there was. */
  turn(
    nowMs: number,
    isContested = false,
  ): {
    readonly effects: readonly (TierEffect | PrefetchEffect)[];
    readonly finished: readonly Sequence[];
  } {
    this.#start(nowMs);
    // Whoever has come goes first.
    const ahead = this.prefetcher?.turn(nowMs, isContested) ?? [];
    this.#start(nowMs);
    this.#resume();
    for (const { tier, segment } of this.#tiers.takeDeletions())
      this.#effects.push({ kind: "delete-tier", tier, segment });
    const { effects, finished } = { effects: this.#effects, finished: this.#finished };
    if (effects.length > 0) this.#effects = [];
    if (finished.length > 0) this.#finished = [];
    return {
      effects: ahead.length === 0 ? effects : [...effects, ...ahead],
      finished: finished.filter((sequence) => !this.prefetcher?.finished(sequence)),
    };
  }

  /** Goes on with what stands back for reads that somebody waits for. */
  #resume(): void {
    for (const onboarding of this.#byRequest.values())
      if (onboarding.whom === "ahead") this.#advance(onboarding);
  }

  /** Apart from `begin`, because an admission has no time. */
  #start(nowMs: number): void {
    const admitted = this.#admitted;
    if (admitted.length === 0) return;
    this.#admitted = [];
    for (const { sequence, pieces, remote, whom } of admitted) {
      const onboarding: Onboarding = {
        sequence,
        pieces,
        remote,
        whom,
        deadlineMs: nowMs + ONBOARD_TIMEOUT_MS,
        numStarted: 0,
        reads: [],
        installs: [],
        hasFailed: false,
      };
      this.#byRequest.set(sequence.request.id, onboarding);
      this.#advance(onboarding);
    }
  }

  /** A step of the engine took so long. */
  learnStep({ chunks, numTokens }: StepPlan, ms: number): void {
    let numPrefilled = 0;
    let positions = 0;
    for (const chunk of chunks) {
      if (chunk.numTokens > 1) numPrefilled += chunk.numTokens;
      positions += chunk.numTokens * (chunk.start + (chunk.numTokens - 1) / 2);
    }
    // Steps that mostly decode say little about prompts.
    if (2 * numPrefilled >= numTokens) this.#tiers.rule.prefill.learn(numTokens, positions / numTokens, ms);
  }

  /** A message took `ms` from its first byte on the link to its last. Those without KV say nothing. */
  learnReceived(message: HandoffMessage, ms: number): void {
    if (message.kind !== "kv" && message.kind !== "fetched") return;
    const numTokens = message.end - message.start;
    if (numTokens > 0) this.#tiers.rule.learn("link", numTokens, ms);
  }

  /** KV that another worker had sent took the engine `ms`. */
  learnImport(ms: number): void {
    this.#tiers.rule.learnImport(ms);
  }

  report(report: TierReport): void {
    if (this.prefetcher?.report(report)) return;
    if (report.kind === "written") this.#tiers.written(report.tier, report.segment, report.bytes);
    else if (report.kind === "off") this.#tiers.turnOff(report.tier);
    else if (report.kind === "answered") this.#answers.answered(report);
    else this.#readDone(report);
  }

  #readDone({ read: number, payload, ms, wasBusy }: Extract<TierReport, { kind: "read" }>): void {
    const read = this.#reads.get(number);
    assert(read !== undefined, "a read ended twice");
    const piece = read.piece!;
    this.#reads.delete(number);
    this.readTurns.end(piece.tier, read.onboarding.whom);
    this.#tiers.unpin(piece);
    if (payload === null && wasBusy !== true) this.#tiers.discard(piece);
    read.isDone = true;
    read.payload = payload;
    read.readMs = ms;
    this.#advance(read.onboarding);
  }

  /** An install has ended. Returns false when it was none of this class's. `ms`: how long it took. */
  installed(id: HandoffId, end: number, ok: boolean, ms: number): boolean {
    const onboarding = this.#byRequest.get(id.requestId);
    const read = onboarding?.installs[0];
    if (onboarding === undefined || onboarding.sequence.request.epoch !== id.epoch) return false;
    if (read?.range.end !== end) return false;
    onboarding.installs.shift();
    const { piece, range } = read;
    if (!ok) {
      // The engine knows better than any checksum what fits it.
      if (piece !== null) this.#tiers.discard(piece);
      onboarding.hasFailed = true;
    } else if (range.start === onboarding.sequence.numComputedTokens) {
      onboarding.sequence.numComputedTokens = end;
      if (piece !== null) this.#tiers.rule.learn(piece.tier, range.end - range.start, read.readMs + ms);
    }
    this.#advance(onboarding);
    return true;
  }

  /** Sequences that have waited too long go on without. */
  tick(nowMs: number): void {
    for (const onboarding of [...this.#byRequest.values()]) {
      if (onboarding.hasFailed || nowMs < onboarding.deadlineMs) continue;
      onboarding.hasFailed = true;
      this.#advance(onboarding);
    }
  }

  /** The sequence gives up its KV. What is being read for it is thrown away. */
  forget(sequence: Sequence): void {
    this.#admitted = this.#admitted.filter((admitted) => admitted.sequence !== sequence);
    this.#finished = this.#finished.filter((finished) => finished !== sequence);
    const onboarding = this.#byRequest.get(sequence.request.id);
    if (onboarding?.sequence !== sequence) return;
    onboarding.hasFailed = true;
    this.#byRequest.delete(sequence.request.id);
  }

  #advance(onboarding: Onboarding): void {
    if (this.#byRequest.get(onboarding.sequence.request.id) !== onboarding) return;
    const { pieces, reads, installs } = onboarding;
    while (!onboarding.hasFailed && reads[0]?.isDone) {
      const read = reads.shift()!;
      if (read.payload === null) onboarding.hasFailed = true;
      else this.#install(onboarding, read);
    }
    while (
      !onboarding.hasFailed &&
      onboarding.numStarted < pieces.length &&
      reads.length + installs.length < MAX_READS_AHEAD &&
      this.#mayRead(onboarding, pieces[onboarding.numStarted]!)
    )
      this.#read(onboarding, pieces[onboarding.numStarted++]!);
    const isStarted = onboarding.numStarted === pieces.length;
    if (isStarted && !onboarding.hasFailed) this.#ask(onboarding);
    const isOver = onboarding.remote?.isOver ?? true;
    const isThrough = onboarding.hasFailed || (isStarted && reads.length === 0 && isOver);
    if (isThrough && installs.length === 0) this.#finish(onboarding);
  }

  #mayRead({ whom }: Onboarding, { tier }: TierPiece): boolean {
    return whom === "demand" || this.readTurns.mayReadAhead(tier);
  }

  /** Asks another worker for the rest, once. */
  #ask({ sequence, remote }: Onboarding): void {
    if (remote === null || remote.isAsked || remote.isOver) return;
    remote.isAsked = true;
    const { id: requestId, epoch } = sequence.request;
    const hashes = sequence.blockHashes!.slice(remote.fromBlock * HASH_WORDS, remote.toBlock * HASH_WORDS);
    const message = { kind: "fetch", requestId, epoch, firstBlock: remote.fromBlock, hashes } as const;
    this.#effects.push({ kind: "send", peer: remote.peer, message });
  }

  #read(onboarding: Onboarding, piece: TierPiece): void {
    const { slot } = onboarding.sequence;
    const first = piece.segment.firstBlock + piece.skipBlocks;
    const start = first * this.#blockSizeTokens;
    const range = { slot, start, end: start + piece.numBlocks * this.#blockSizeTokens };
    const number = ++this.#numReads;
    const read: Read = { number, piece, range, onboarding, payload: null, isDone: false, readMs: 0 };
    onboarding.reads.push(read);
    if (!this.#tiers.holds(piece)) {
      // Evicted since it was planned.
      read.isDone = true;
      onboarding.hasFailed = true;
      return;
    }
    this.#reads.set(number, read);
    this.#tiers.pin(piece);
    this.readTurns.begin(piece.tier, onboarding.whom);
    this.#effects.push({ kind: "read-tier", read: number, piece, range });
  }

  #install(onboarding: Onboarding, read: Read): void {
    const { id: requestId, epoch } = onboarding.sequence.request;
    onboarding.installs.push(read);
    const { range, payload } = read;
    read.payload = null;
    this.#effects.push({ kind: "install-kv", id: { requestId, epoch }, range, payload });
  }

  #finish({ sequence, pieces, remote, hasFailed }: Onboarding): void {
    this.#byRequest.delete(sequence.request.id);
    this.#finished.push(sequence);
    if (!hasFailed) return;
    // Pieces after one that failed may have been written.
    const last = pieces.at(-1);
    const endBlock = remote?.toBlock ?? last!.segment.firstBlock + last!.skipBlocks + last!.numBlocks;
    const end = endBlock * this.#blockSizeTokens;
    const range = { slot: sequence.slot, start: sequence.numComputedTokens, end };
    if (range.start < end) this.#effects.push({ kind: "kv-ops", ops: [{ kind: "drop", ...range }] });
  }

  checkInvariants(): void {
    this.#tiers.checkInvariants();
    this.#answers.checkInvariants();
    this.prefetcher?.checkInvariants();
    for (const [requestId, { sequence, reads, installs, numStarted, pieces }] of this.#byRequest) {
      assert(sequence.request.id === requestId, "an onboarding is filed under another request");
      assert(sequence.status === "onboarding", `a ${sequence.status} sequence is onboarding`);
      const numLocal = [...reads, ...installs].filter(({ piece }) => piece !== null).length;
      assert(numLocal <= MAX_READS_AHEAD, "too much is read ahead");
      assert(numStarted <= pieces.length, "more is read than was planned");
      assert(sequence.numBlockHashes * HASH_WORDS <= sequence.blockHashes!.length, "hashes are missing");
    }
    for (const { piece } of this.#reads.values()) assert(piece!.numBlocks > 0, "an empty piece is read");
    const onboarded = [...this.#reads.values()].map(({ piece, onboarding }) => {
      return [piece!.tier, onboarding.whom] as const;
    });
    const ahead = this.prefetcher?.reads ?? [];
    this.readTurns.checkInvariants([...onboarded, ...ahead, ...this.#answers.reads]);
  }
}

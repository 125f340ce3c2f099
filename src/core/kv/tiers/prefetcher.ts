import type { Request } from "../../request.ts";
import type { Sequence } from "../../sequence.ts";
import type { TurnExpectation } from "../../sessions/turn-expectation.ts";
import { HASH_WORDS } from "../../tokens/block-hash.ts";
import { assert } from "../../util/assert.ts";
import type { BlockManager } from "../block-manager.ts";
import { HostRaiser, type PrefetchEffect } from "./host-raiser.ts";
import { type KvTiers, MIN_ONBOARD_BLOCKS } from "./kv-tiers.ts";
import type { Onboarder } from "./onboarder.ts";
import { MovedBlocks, PrefetchCounts, type PrefetchStats } from "./prefetch-counts.ts";
import { type Job, standIn, type Turn } from "./prefetch-turn.ts";
import { hashKey, type TierPiece } from "./segment.ts";
import type { TierReport } from "./tier-effects.ts";

/** Turns that are waited for; for a further one the one that was announced first goes. */
export const MAX_EXPECTED_TURNS = 1024;
/** Turns whose KV is brought up at the same time. */
export const MAX_RUNNING_PREFETCHES = 2;
/** Longest chain that is brought up for a turn. */
const MAX_PREFETCH_BLOCKS = 65_536;
/** Turns that are less likely than this to come are not prepared for. */
const MIN_PROBABILITY = 0.4;
/** Looks at a turn's KV: the first some time before it may come, the others until it is late. */
const MAX_LOOKS = 4;
/** The time that bringing KV up takes, as learned, is taken so many times, and this on top. */
const LEAD_FACTOR = 1.5;
const LEAD_EXTRA_MS = 20;
/**
 * A turn whose latest time is more than so many times its earliest has no time that is worth evicting others for: among such turns, who
 * was here last is the likeliest to come next, as the cache has it anyway.
 */
const MAX_SPREAD = 3;

/**
 * Brings the KV of conversations up before their next turns come: from disk to host memory, and on to the device where blocks are free
 * or others would take them soon, and keeps it there until the turn is late. It holds no more than it may be asked to give back at any moment.
 */
export class Prefetcher {
  readonly #tiers: KvTiers;
  readonly #blocks: BlockManager;
  readonly #onboarder: Onboarder;
  readonly #counts: PrefetchCounts;
  readonly #turns = new Map<string, Turn>();
  readonly #jobs = new Set<Job>();
  readonly #raiser: HostRaiser;
  #nowMs = Number.NEGATIVE_INFINITY;
  #numSequences = 0;
  #isContested = false;
  /** Nothing is due before; minus infinity when that has to be found out anew. */
  #nextMs = Number.POSITIVE_INFINITY;

  constructor(tiers: KvTiers, blocks: BlockManager, onboarder: Onboarder) {
    this.#tiers = tiers;
    this.#blocks = blocks;
    this.#onboarder = onboarder;
    this.#counts = new PrefetchCounts(tiers.bytesPerBlock);
    const { readTurns } = onboarder;
    const { blockSizeTokens } = blocks;
    this.#raiser = new HostRaiser({ tiers, counts: this.#counts, readTurns, blockSizeTokens });
    blocks.yieldRoom = () => this.#yieldRoom();
  }

  get stats(): PrefetchStats {
    return this.#counts.stats(this.#turns.size);
  }

  /** When the next turn has to be looked at. */
  get nextDeadlineMs(): number {
    if (this.#nextMs === Number.NEGATIVE_INFINITY) this.#nextMs = this.#findNext();
    return this.#nextMs;
  }

  #findNext(): number {
    let next = Number.POSITIVE_INFINITY;
    const mayLook = this.#jobs.size < MAX_RUNNING_PREFETCHES;
    for (const { nextLookMs, lateMs, isRunning } of this.#turns.values())
      next = Math.min(next, mayLook && !isRunning ? nextLookMs : lateMs, lateMs);
    // What is due already has waited for another one to end.
    return Math.max(next, this.#nowMs);
  }

  #changed(): void {
    this.#nextMs = Number.NEGATIVE_INFINITY;
  }

  /** A turn is over, and another one of its conversation is likely. */
  expect(expectation: TurnExpectation, nowMs: number): void {
    const { lastHash, numBlocks, owner, earlyMs, lateMs, probability } = expectation;
    this.#nowMs = nowMs;
    this.#tiers.expect(lastHash, { earlyMs: nowMs + earlyMs, lateMs: nowMs + lateMs, probability });
    if (probability < MIN_PROBABILITY || numBlocks < MIN_ONBOARD_BLOCKS) return;
    const key = hashKey(lastHash, 0);
    this.#drop(key);
    if (this.#turns.size >= MAX_EXPECTED_TURNS) this.#drop(this.#turns.keys().next().value!);
    const leadMs = LEAD_FACTOR * this.#tiers.raiseMs(numBlocks) + LEAD_EXTRA_MS;
    this.#turns.set(key, {
      lastHash,
      numBlocks,
      owner,
      dueMs: nowMs + earlyMs,
      lateMs: nowMs + lateMs + leadMs,
      nextLookMs: nowMs + Math.max(0, earlyMs - leadMs),
      numLooks: 0,
      isRunning: false,
      isSharp: lateMs <= MAX_SPREAD * earlyMs,
      moved: new MovedBlocks(this.#counts),
      leases: [],
      chain: new Int32Array(0),
    });
    this.#counts.expected++;
    this.#changed();
  }

  /** A prompt has come: if it is a turn that was waited for, what was brought up for it is its own from now on. */
  arrived({ knownBlockHashes: chain }: Request): void {
    if (chain === undefined || this.#turns.size === 0) return;
    for (const [key, turn] of this.#turns) {
      const at = (turn.numBlocks - 1) * HASH_WORDS;
      if (chain[at] !== turn.lastHash[0] || hashKey(chain, at) !== key) continue;
      this.#counts.came++;
      this.#drop(key, true);
    }
  }

  /**
   * Begins what is due. `isContested`: requests wait for their turn on the device, whose blocks are left to them. Returns what is to be
   * done, in order.
   */
  turn(nowMs: number, isContested: boolean): readonly PrefetchEffect[] {
    this.#nowMs = nowMs;
    this.#isContested = isContested;
    // Some may have waited for a transfer of their own, or for the disk.
    for (const job of this.#jobs) if (job.sequence === null) this.#advance(job);
    if (this.nextDeadlineMs <= nowMs) {
      for (const [key, turn] of this.#turns) if (turn.lateMs <= nowMs) this.#drop(key);
      while (this.#jobs.size < MAX_RUNNING_PREFETCHES) {
        const turn = this.#firstDue(nowMs);
        if (turn === null) break;
        this.#look(turn);
      }
      this.#changed();
    }
    return this.#raiser.takeEffects();
  }

  #firstDue(nowMs: number): Turn | null {
    let first: Turn | null = null;
    for (const turn of this.#turns.values()) {
      const isDue = turn.nextLookMs <= nowMs && !turn.isRunning;
      if (isDue && (first === null || turn.dueMs < first.dueMs)) first = turn;
    }
    return first;
  }

  #look(turn: Turn): void {
    const { dueMs, lateMs } = turn;
    turn.numLooks++;
    turn.nextLookMs =
      turn.isSharp && turn.numLooks < MAX_LOOKS
        ? dueMs + ((lateMs - dueMs) * turn.numLooks) / MAX_LOOKS
        : lateMs;
    const chain = this.#tiers.chainThrough(turn.lastHash);
    if (chain === null || chain.length > MAX_PREFETCH_BLOCKS * HASH_WORDS) return;
    turn.chain = chain;
    const pieces = this.#piecesForHost(turn);
    const job: Job = {
      turn,
      pieces,
      numMoving: 0,
      sequence: null,
      firstBlock: 0,
      hasBegun: false,
      isOver: false,
    };
    this.#jobs.add(job);
    turn.isRunning = true;
    this.#advance(job);
  }

  /** What is to come to host memory: nothing where the device has, or has room for, the whole chain. */
  #piecesForHost(turn: Turn): TierPiece[] {
    const { chain } = turn;
    if (this.#deviceRoomFor(turn).target * HASH_WORDS === chain.length) return [];
    const pieces = this.#tiers.raiseable(chain);
    return pieces.length > 0 && this.#counts.recent.host.isWorthIt() ? pieces : [];
  }

  /** Blocks of the chain that the device has, and that it could have without a cached block that others would keep. */
  #deviceRoomFor({ chain, isSharp }: Turn): { readonly numFound: number; readonly target: number } {
    const numBlocks = chain.length / HASH_WORDS;
    const numFound = this.#numOnDevice(chain);
    if (this.#isContested) return { numFound, target: numFound };
    const { numFree, numEvictable } = this.#blocks.prefetchable;
    // What is there already is among what could be evicted.
    const target = Math.min(numBlocks, isSharp ? numFree + numEvictable : numFound + numFree);
    return { numFound, target };
  }

  /** First to host memory, as far as it goes; then to the device. */
  #advance(job: Job): void {
    if (!this.#raiser.advance(job)) return;
    if (job.isOver) this.#close(job);
    else this.#raiseToDevice(job);
  }

  /** Takes in what became of an effect. Returns false when it was not, or not only, one of this class's. */
  report(report: TierReport): boolean {
    return this.#raiser.report(report);
  }

  /** Nothing of a cached block that others would keep goes for it, and nothing runs later. */
  #raiseToDevice(job: Job): void {
    const { turn } = job;
    const { blockSizeTokens } = this.#blocks;
    const { numFound, target } = this.#deviceRoomFor(turn);
    const numTokens = target * blockSizeTokens;
    if (target - numFound >= MIN_ONBOARD_BLOCKS && this.#counts.recent.device.isWorthIt()) {
      const sequence = standIn(turn, `prefetch ${++this.#numSequences}`, target, blockSizeTokens);
      if (this.#blocks.admit(sequence, numTokens, numTokens)) {
        job.firstBlock = sequence.blocks.length === 0 ? 0 : sequence.numComputedTokens / blockSizeTokens;
        if (this.#onboarder.begin(sequence, numTokens, "computed", "ahead")) {
          sequence.status = "onboarding";
          this.#counts.begun(job);
          job.sequence = sequence;
          return;
        }
        this.#blocks.free(sequence);
      }
    }
    this.#close(job);
  }

  /** An onboarding has ended. Returns false when it was a real request's. */
  finished(sequence: Sequence): boolean {
    for (const job of this.#jobs) {
      if (job.sequence !== sequence) continue;
      this.#release(job);
      this.#close(job);
      return true;
    }
    return false;
  }

  /** What has come up is cached; the stand-in is not needed any more. */
  #release(job: Job): void {
    const { sequence, turn, firstBlock } = job;
    if (sequence === null) return;
    job.sequence = null;
    this.#blocks.fileComputed(sequence);
    const end = sequence.numComputedTokens / this.#blocks.blockSizeTokens;
    this.#blocks.free(sequence);
    if (end > firstBlock) turn.moved.add("device", firstBlock, end);
  }

  /** The look is over: what the device has of the chain is kept until the turn is late. */
  #close(job: Job): void {
    this.#jobs.delete(job);
    this.#changed();
    const { turn } = job;
    turn.isRunning = false;
    if (job.isOver || !turn.isSharp) return;
    const blocks = this.#blocks.find(turn.chain, turn.chain.length / HASH_WORDS);
    const maxHeld = Number.POSITIVE_INFINITY;
    const lease = this.#blocks.leases.take(blocks, { owner: null, untilMs: turn.lateMs, maxHeld });
    if (lease !== 0) turn.leases.push(lease);
  }

  #endJob(turn: Turn): void {
    for (const job of this.#jobs) if (job.turn === turn) this.#stop(job);
  }

  #stop(job: Job): void {
    job.isOver = true;
    job.pieces.length = 0;
    if (job.sequence !== null) this.#onboarder.forget(job.sequence);
    this.#release(job);
    if (job.numMoving === 0) this.#close(job);
  }

  /** Somebody needs room: what comes up for nobody gives way. */
  #yieldRoom(): void {
    for (const job of this.#jobs) {
      if (job.sequence === null) continue;
      this.#counts.stopped++;
      this.#stop(job);
    }
  }

  /** A turn is not waited for any more, because it has come or because it has not. */
  #drop(key: string, hasCome = false): void {
    const turn = this.#turns.get(key);
    if (turn === undefined) return;
    this.#turns.delete(key);
    this.#endJob(turn);
    if (!turn.moved.isEmpty) {
      const host = this.#tiers.numHeld("host", turn.chain);
      turn.moved.settle({ device: this.#numOnDevice(turn.chain), host }, hasCome);
    }
    for (const lease of turn.leases) this.#blocks.leases.end(lease);
    this.#changed();
  }

  #numOnDevice(chain: Int32Array): number {
    return this.#blocks.find(chain, chain.length / HASH_WORDS).length;
  }

  /** Reads of lower tiers that run, but for those of its onboardings. */
  get reads(): HostRaiser["reads"] {
    return this.#raiser.reads;
  }

  /** Sequences that hold blocks. */
  get holders(): readonly Sequence[] {
    return [...this.#jobs].flatMap(({ sequence }) => sequence ?? []);
  }

  checkInvariants(): void {
    assert(this.#turns.size <= MAX_EXPECTED_TURNS, "too many turns are expected");
    assert(this.#jobs.size <= MAX_RUNNING_PREFETCHES, "too many prefetches run");
    this.#raiser.checkInvariants(this.#jobs);
    for (const job of this.#jobs) {
      const isWaiting = job.numMoving > 0 || job.pieces.length > 0 || job.sequence !== null;
      assert(isWaiting, "a prefetch waits for nothing");
      assert(job.isOver || [...this.#turns.values()].includes(job.turn), "a prefetch is for nobody");
    }
    this.#counts.checkInvariants([...this.#turns.values()].map(({ moved }) => moved));
  }
}

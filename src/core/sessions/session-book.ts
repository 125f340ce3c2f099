import type { Request, RequestId } from "../request.ts";
import { HASH_WORDS } from "../tokens/block-hash.ts";
import { promptBlockHashesOf } from "../tokens/prompt-hashes.ts";
import { assert } from "../util/assert.ts";
import { bucketOf, GapHistogram } from "./gap-histogram.ts";
import { announcedReturn, estimateReturn, type ReturnEstimate } from "./return-estimate.ts";
import { ownerOf, type TurnExpectation } from "./turn-expectation.ts";

/** Conversations that are remembered; the one that has been still for longest goes for a further one. */
const MAX_SESSIONS = 65_536;
/** Blocks that a turn may add to a conversation that is still known again. */
const MAX_TURN_BLOCKS = 4096;
/** Gaps of its own that a conversation is known by. */
const MAX_OWN_GAPS = 8;
/** One that has not come back after so many times its latest time, within these bounds, counts as lost. */
const LOST_FACTOR = 2;
const MIN_LOST_MS = 10_000;
const MAX_LOST_MS = 3_600_000;
/** Ended turns that are looked at whenever something happens. */
const MAX_SWEPT = 4;

interface Session {
  /** Hash of the last full block of its last prompt. */
  readonly lastHash: Int32Array;
  numBlocks: number;
  /** Turns under way: choices of one prompt. */
  numRunning: number;
  /** When the last turn ended; NaN before that. */
  endedMs: number;
  /** Buckets of its own last gaps. */
  readonly gaps: number[];
  isLost: boolean;
  /** Counts ends of turns, so that a note about an earlier one is known as stale. */
  numTurns: number;
}

/**
 * Knows conversations by their prompts: a turn belongs to the conversation whose last prompt is the longest beginning of its own.
 * Learns how long each one, and the fleet, takes to come back, and says so when a turn is over. Requests whose prompt
 * has no full block of their own tenant, or whose hashes are not known, are left out.
 */
export class SessionBook {
  /** By the first word of `lastHash`: of two that agree in it the later one is remembered. Longest still first. */
  readonly #sessions = new Map<number, Session>();
  readonly #byRequest = new Map<RequestId, Session>();
  /** Gaps after a first turn, and after later ones: most conversations end with the first. */
  readonly #first = new GapHistogram();
  readonly #later = new GapHistogram();
  /** Ended turns that are not known to be lost or continued, in order. */
  #ended: Array<{ readonly session: Session; readonly numTurns: number; readonly lostAtMs: number }> = [];
  #firstEnded = 0;

  get numSessions(): number {
    return this.#sessions.size;
  }

  /** A request has come. */
  arrived(request: Request, nowMs: number): void {
    this.#sweep(nowMs);
    const chain = promptBlockHashesOf(request);
    const numBlocks = chain === null ? 0 : chain.length / HASH_WORDS;
    if (chain === null || numBlocks <= (request.publicBlocks ?? 0)) return;
    let session = this.#find(chain, numBlocks);
    // While a turn runs, what goes on from its prompt is another conversation that branches off.
    if (session !== null && session.numRunning > 0 && session.numBlocks < numBlocks) session = null;
    if (session === null) session = newSession();
    else {
      this.#forget(session);
      if (session.numRunning === 0) this.#cameBack(session, nowMs);
    }
    session.lastHash.set(chain.subarray((numBlocks - 1) * HASH_WORDS));
    session.numBlocks = numBlocks;
    session.numRunning++;
    this.#remember(session);
    this.#byRequest.set(request.id, session);
  }

  /** A request is over, however it ended. Returns what is to be expected of its conversation, if this was the end of a turn. */
  ended(request: Request, nowMs: number): TurnExpectation | null {
    this.#sweep(nowMs);
    const session = this.#byRequest.get(request.id);
    if (session === undefined) return null;
    this.#byRequest.delete(request.id);
    session.numRunning--;
    if (session.numRunning > 0) return null;
    session.endedMs = nowMs;
    session.numTurns++;
    // Nobody comes back for it, its client says; so it is neither waited for nor lost.
    if (request.retention?.keep === "none") return null;
    const { nextTurnMs } = request;
    const prior = this.#priorOf(session);
    const estimate =
      nextTurnMs === undefined ? estimateReturn(session.gaps, prior) : announcedReturn(nextTurnMs);
    this.#note(session, estimate, nowMs);
    if (estimate === null) return null;
    return {
      lastHash: session.lastHash.slice(),
      numBlocks: session.numBlocks,
      ...estimate,
      owner: ownerOf(request),
    };
  }

  /** The conversation whose last prompt is the longest beginning of this one. */
  #find(chain: Int32Array, numBlocks: number): Session | null {
    const last = Math.max(1, numBlocks - MAX_TURN_BLOCKS);
    for (let depth = numBlocks; depth >= last; depth--) {
      const at = (depth - 1) * HASH_WORDS;
      const session = this.#sessions.get(chain[at]!);
      if (session?.numBlocks === depth && isEqual(session.lastHash, chain, at)) return session;
    }
    return null;
  }

  #cameBack(session: Session, nowMs: number): void {
    const bucket = bucketOf(nowMs - session.endedMs);
    const prior = this.#priorOf(session);
    if (session.isLost) prior.takeLost();
    session.isLost = false;
    prior.add(bucket);
    session.gaps.push(bucket);
    if (session.gaps.length > MAX_OWN_GAPS) session.gaps.shift();
  }

  #priorOf({ gaps }: Session): GapHistogram {
    return gaps.length === 0 ? this.#first : this.#later;
  }

  #note(session: Session, estimate: ReturnEstimate | null, nowMs: number): void {
    const waitMs = estimate === null ? MAX_LOST_MS : LOST_FACTOR * estimate.lateMs;
    const lostAtMs = nowMs + Math.min(Math.max(waitMs, MIN_LOST_MS), MAX_LOST_MS);
    this.#ended.push({ session, numTurns: session.numTurns, lostAtMs });
    if (this.#ended.length - this.#firstEnded > MAX_SESSIONS) this.#lose(this.#ended[this.#firstEnded++]!);
    if (2 * this.#firstEnded <= this.#ended.length) return;
    this.#ended = this.#ended.slice(this.#firstEnded);
    this.#firstEnded = 0;
  }

  /** Counts conversations as lost that have been away for too long. One that waits longer holds up those behind it. */
  #sweep(nowMs: number): void {
    for (let i = 0; i < MAX_SWEPT && this.#firstEnded < this.#ended.length; i++) {
      const note = this.#ended[this.#firstEnded]!;
      if (this.#isOpen(note) && nowMs < note.lostAtMs) return;
      this.#firstEnded++;
      this.#lose(note);
    }
  }

  #lose(note: { readonly session: Session; readonly numTurns: number }): void {
    if (!this.#isOpen(note)) return;
    note.session.isLost = true;
    this.#priorOf(note.session).addLost();
  }

  #isOpen({ session, numTurns }: { readonly session: Session; readonly numTurns: number }): boolean {
    return session.numTurns === numTurns && session.numRunning === 0 && !session.isLost;
  }

  #forget(session: Session): void {
    const key = session.lastHash[0]!;
    if (this.#sessions.get(key) === session) this.#sessions.delete(key);
  }

  #remember(session: Session): void {
    const key = session.lastHash[0]!;
    this.#sessions.delete(key);
    this.#sessions.set(key, session);
    if (this.#sessions.size <= MAX_SESSIONS) return;
    for (const oldest of this.#sessions.keys()) {
      this.#sessions.delete(oldest);
      return;
    }
  }

  checkInvariants(): void {
    assert(this.#sessions.size <= MAX_SESSIONS, "too many conversations are remembered");
    assert(this.#ended.length - this.#firstEnded <= MAX_SESSIONS, "too many turns are noted");
    const running = new Map<Session, number>();
    for (const session of this.#byRequest.values()) running.set(session, (running.get(session) ?? 0) + 1);
    for (const [session, count] of running)
      assert(session.numRunning === count, "a conversation's turns are miscounted");
    for (const [key, session] of this.#sessions) {
      assert(session.lastHash[0] === key, "a conversation is filed under another hash");
      assert(session.gaps.length <= MAX_OWN_GAPS, "too many gaps are kept");
      assert(session.numRunning === (running.get(session) ?? 0), "a turn runs that nobody asked for");
    }
    this.#first.checkInvariants();
    this.#later.checkInvariants();
  }
}

function newSession(): Session {
  return {
    lastHash: new Int32Array(HASH_WORDS),
    numBlocks: 0,
    numRunning: 0,
    endedMs: Number.NaN,
    gaps: [],
    isLost: false,
    numTurns: 0,
  };
}

function isEqual(hash: Int32Array, chain: Int32Array, at: number): boolean {
  for (let i = 0; i < HASH_WORDS; i++) if (hash[i] !== chain[at + i]) return false;
  return true;
}

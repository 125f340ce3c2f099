import { timed, type UntimedRequest } from "./plain-request.ts";
import { TimeHeap } from "./time-heap.ts";
import type { WorkloadRequest, WorkloadSource } from "./workload.ts";

/** What an agent does after its last request has ended. */
export interface AgentStep {
  /** Null: it only starts others, and is over. */
  readonly request: UntimedRequest | null;
  /** From the end of the agent's last request, or from its start, until this one is sent: thinking, running a tool. */
  readonly delayMs: number;
  /** From the arrival of the agent's last request, if that is later: for traces that do not say when that one ended. */
  readonly afterArrivalMs: number;
  /** Agents that start beside it, each after its delay. */
  readonly starts: ReadonlyArray<{ readonly agent: Agent; readonly delayMs: number }>;
  /** Whether the request waits until all agents that this one has started are over; the delay counts from then. */
  readonly waitsForAgents: boolean;
}

/** One line of requests, each sent after the one before has ended. Null: it is over. */
export interface Agent {
  next(): AgentStep | null;
}

/** When sessions start. */
export type SessionStarts =
  /** This many run at all times; they start `staggerMs` apart, and a new one follows `gapMs` after one that ends. */
  | { readonly lanes: number; readonly staggerMs: number; readonly gapMs: number }
  /** At the times of a process, whatever becomes of those before. */
  | { readonly arrivals: () => number };

/**
 * Most sessions at once. Those that would start beyond it start when another ends: a fleet that cannot keep up shall not take all
 * of the simulator's memory.
 */
export const MAX_ACTIVE_SESSIONS = 100_000;

interface Running {
  readonly agent: Agent;
  readonly parent: Running | null;
  readonly session: Session;
  lastArrivalMs: number;
  numChildren: number;
  /** Step that waits for the children. */
  held: AgentStep | null;
}

interface Session {
  numAgents: number;
}

/**
 * Plays sessions in a closed loop: an agent's next request arrives a delay after its last one has ended; agents that it starts run
 * beside it. Memory grows with the sessions that are running, not with their number.
 */
export class SessionSource implements WorkloadSource {
  readonly isClosedLoop = true;
  readonly #nextSession: () => Agent | null;
  readonly #starts: SessionStarts;
  readonly #ready = new TimeHeap<{ readonly request: UntimedRequest; readonly running: Running }>();
  readonly #waiting = new Map<string, Running>();
  #numSessions = 0;
  #nextStartMs = Number.POSITIVE_INFINITY;
  /** When there was last no room for a session: those due before start then. */
  #fullUntilMs = 0;
  #isExhausted = false;

  /** `nextSession` gives the first agent of each session, or null after the last. */
  constructor(nextSession: () => Agent | null, starts: SessionStarts) {
    this.#nextSession = nextSession;
    this.#starts = starts;
    if ("arrivals" in starts) this.#nextStartMs = starts.arrivals();
    else for (let lane = 0; lane < starts.lanes; lane++) this.#start(lane * starts.staggerMs);
  }

  get nextArrivalMs(): number {
    this.#startDue();
    return this.#ready.firstMs;
  }

  take(): WorkloadRequest {
    this.#startDue();
    const arrivalMs = this.#ready.firstMs;
    const { request, running } = this.#ready.pop();
    running.lastArrivalMs = arrivalMs;
    this.#waiting.set(request.id, running);
    return timed(request, arrivalMs);
  }

  ended(request: WorkloadRequest, nowMs: number): void {
    const running = this.#waiting.get(request.id);
    if (running === undefined) return;
    this.#waiting.delete(request.id);
    this.#advance(running, nowMs);
  }

  #startDue(): void {
    if (!("arrivals" in this.#starts)) return;
    while (
      !this.#isExhausted &&
      this.#numSessions < MAX_ACTIVE_SESSIONS &&
      this.#nextStartMs < Number.POSITIVE_INFINITY &&
      Math.max(this.#nextStartMs, this.#fullUntilMs) <= this.#ready.firstMs
    ) {
      const startMs = Math.max(this.#nextStartMs, this.#fullUntilMs);
      this.#nextStartMs = this.#starts.arrivals();
      this.#start(startMs);
    }
  }

  #start(nowMs: number): void {
    if (this.#isExhausted) return;
    const agent = this.#nextSession();
    if (agent === null) {
      this.#isExhausted = true;
      return;
    }
    this.#numSessions++;
    this.#launch(agent, null, { numAgents: 0 }, nowMs);
  }

  #launch(agent: Agent, parent: Running | null, session: Session, nowMs: number): void {
    session.numAgents++;
    if (parent !== null) parent.numChildren++;
    this.#advance({ agent, parent, session, lastArrivalMs: nowMs, numChildren: 0, held: null }, nowMs);
  }

  #advance(running: Running, nowMs: number): void {
    const step = running.agent.next();
    if (step === null) {
      this.#finish(running, nowMs);
      return;
    }
    // Held while children start: one without any request ends at once.
    running.held = step;
    running.numChildren++;
    for (const { agent, delayMs } of step.starts)
      this.#launch(agent, running, running.session, nowMs + delayMs);
    running.numChildren--;
    if (!step.waitsForAgents || running.numChildren === 0) this.#send(running, nowMs);
  }

  #send(running: Running, nowMs: number): void {
    const step = running.held;
    running.held = null;
    if (step === null) return;
    if (step.request === null) {
      this.#finish(running, nowMs);
      return;
    }
    const earliestMs = running.lastArrivalMs + step.afterArrivalMs;
    this.#ready.push(Math.max(nowMs + step.delayMs, earliestMs), { request: step.request, running });
  }

  #finish(running: Running, nowMs: number): void {
    const { parent, session } = running;
    session.numAgents--;
    if (parent !== null) {
      parent.numChildren--;
      if (parent.numChildren === 0 && parent.held?.waitsForAgents === true) this.#send(parent, nowMs);
    }
    if (session.numAgents > 0) return;
    if (this.#numSessions === MAX_ACTIVE_SESSIONS) this.#fullUntilMs = nowMs;
    this.#numSessions--;
    if ("lanes" in this.#starts) this.#start(nowMs + this.#starts.gapMs);
  }
}

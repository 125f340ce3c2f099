import type { CacheWishes } from "../../protocol/cache-hints.ts";
import { MAX_FAN_OUT, MAX_RETENTION_MS } from "../../protocol/request-codec.ts";
import type { UntimedRequest } from "./plain-request.ts";
import type { Agent, AgentStep } from "./session-source.ts";

/** What turns of a session say of what follows them, as their client knows it. */
export interface Told {
  /** How many sub-agents that are started next begin with the turn's prompt. */
  readonly fanOut: boolean;
  /** How long the tool takes, or the user thinks; after the last turn, that nobody comes back. */
  readonly nextTurn: boolean;
}

/** The sessions of a generator or a reader, whose turns tell what is asked for. Nothing else about them changes. */
export function tellSessions(nextSession: () => Agent | null, told: Told | undefined): () => Agent | null {
  if (told === undefined || !(told.fanOut || told.nextTurn)) return nextSession;
  return () => {
    const agent = nextSession();
    return agent === null ? null : new TellingAgent(agent, told);
  };
}

interface Start {
  readonly agent: TellingAgent;
  readonly delayMs: number;
}

/** Is one step ahead of whoever plays it, and so knows at each turn what comes after it. */
class TellingAgent implements Agent {
  readonly #agent: Agent;
  readonly #told: Told;
  #following: AgentStep | null;
  #starts: readonly Start[] = [];

  constructor(agent: Agent, told: Told) {
    this.#agent = agent;
    this.#told = told;
    this.#following = this.#pull();
  }

  /** The first request, before anything has been played. */
  get first(): UntimedRequest | null {
    return this.#following?.request ?? null;
  }

  next(): AgentStep | null {
    const step = this.#following;
    if (step === null) return null;
    this.#following = this.#pull();
    const { request } = step;
    if (request === null) return step;
    const wishes =
      this.#following === null
        ? { ...this.#farewell(), ...request.wishes }
        : { ...request.wishes, ...this.#fanOut(request), ...this.#nextTurn(this.#following) };
    return { ...step, request: { ...request, wishes } };
  }

  #pull(): AgentStep | null {
    const step = this.#agent.next();
    this.#starts = [];
    if (step === null || step.starts.length === 0) return step;
    this.#starts = step.starts.map(({ agent, delayMs }) => ({
      agent: new TellingAgent(agent, this.#told),
      delayMs,
    }));
    return { ...step, starts: this.#starts };
  }

  /** One that begins otherwise has no use for the prompt, so nobody would announce it. */
  #fanOut(request: UntimedRequest): { expectedFanOut?: number } {
    if (!this.#told.fanOut) return {};
    const numBeginning = this.#starts.filter(({ agent }) => beginsWith(agent.first, request)).length;
    return numBeginning === 0 ? {} : { expectedFanOut: Math.min(1 + numBeginning, MAX_FAN_OUT) };
  }

  #farewell(): Pick<CacheWishes, "retention"> {
    return this.#told.nextTurn ? { retention: { keep: "none", ttlMs: null } } : {};
  }

  /** Nobody knows how long other agents take, nor, in some traces, when the turn itself will have ended. */
  #nextTurn({ request, waitsForAgents, afterArrivalMs, delayMs }: AgentStep): { nextTurnMs?: number } {
    if (!this.#told.nextTurn || request === null || waitsForAgents || afterArrivalMs > 0) return {};
    return delayMs > MAX_RETENTION_MS ? {} : { nextTurnMs: delayMs };
  }
}

/** Whether a prompt begins with all full blocks of another one, of which there is at least one. */
function beginsWith(prompt: UntimedRequest | null, other: UntimedRequest): boolean {
  const [blocks, beginning] = [prompt?.blocks ?? null, other.blocks];
  if (blocks === null || beginning === null) return false;
  if (blocks.scope !== beginning.scope || blocks.blockTokens !== beginning.blockTokens) return false;
  const numFull = Math.floor(other.inputTokens / beginning.blockTokens);
  if (numFull === 0 || blocks.ids.length < numFull) return false;
  for (let i = 0; i < numFull; i++) if (blocks.ids[i] !== beginning.ids[i]) return false;
  return true;
}

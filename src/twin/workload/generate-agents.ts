import { drawLength, type LengthDistribution } from "../../core/util/length-distribution.ts";
import type { RandomStream, Rng } from "../../core/util/rng.ts";
import { plainRequest } from "./plain-request.ts";
import { BlockNames, PromptBuilder } from "./prompt-builder.ts";
import { type Agent, type AgentStep, SessionSource, type SessionStarts } from "./session-source.ts";
import { type Told, tellSessions } from "./tell-sessions.ts";
import type { WorkloadSource } from "./workload.ts";

/** Sessions of agents that call tools and other agents. */
export interface AgentsSpec {
  /** System prompt and tool descriptions, the same for all sessions. */
  readonly systemTokens: number;
  /** What the first request of an agent adds to it. */
  readonly taskTokens: LengthDistribution;
  /** Requests of an agent. */
  readonly turns: LengthDistribution;
  /** What a tool's result, or the user, adds between two requests, beside the output before. */
  readonly resultTokens: LengthDistribution;
  readonly outputTokens: LengthDistribution;
  /** Time of a tool: log-normal with this mean and deviation, in milliseconds. */
  readonly toolMs: { readonly mean: number; readonly deviation: number };
  /** Null: no sub-agents. */
  readonly fanOut: {
    /** Share of turns after which sub-agents are started instead of a tool. */
    readonly probability: number;
    readonly agents: LengthDistribution;
    readonly turns: LengthDistribution;
    /** What their prompts begin with: the system prompt, or everything that the agent which starts them has read and written. */
    readonly from?: "system" | "agent";
    /** Whether the agent waits for them; otherwise they run beside it. */
    readonly waits: boolean;
    /** How deep sub-agents may start others; 1: not at all. */
    readonly depth: number;
  } | null;
  /** An agent whose next prompt would be longer ends. */
  readonly maxInputTokens: number;
  readonly blockTokens: number;
}

interface Shared {
  readonly spec: AgentsSpec;
  readonly names: BlockNames;
  readonly system: PromptBuilder;
  readonly rng: Rng;
}

/**
 * Agent sessions in a closed loop, without end: each request's prompt is the one before, its output and a tool's result, so that
 * all but the new part can be found in a prefix cache. `told`: what turns say of what follows them; by default nothing.
 */
export function generateAgents(
  spec: AgentsSpec,
  starts: SessionStarts,
  rng: Rng,
  told?: Told,
): WorkloadSource {
  const names = new BlockNames();
  const system = new PromptBuilder(spec.blockTokens, names).append(spec.systemTokens);
  const shared = { spec, names, system, rng };
  let numSessions = 0;
  const nextSession = (): Agent => {
    const sessionId = `session-${++numSessions}`;
    return new GeneratedAgent(shared, {
      sessionId,
      name: sessionId,
      turns: spec.turns,
      depth: 0,
      from: system,
    });
  };
  return new SessionSource(tellSessions(nextSession, told), starts);
}

interface AgentOptions {
  readonly sessionId: string;
  readonly name: string;
  readonly turns: LengthDistribution;
  readonly depth: number;
  /** What its prompts begin with. */
  readonly from: PromptBuilder;
}

class GeneratedAgent implements Agent {
  readonly #shared: Shared;
  readonly #sessionId: string;
  readonly #name: string;
  readonly #depth: number;
  /** Its own, so that an agent sends the same whatever runs beside it, and however fast. */
  readonly #stream: RandomStream;
  readonly #numTurns: number;
  readonly #prompt: PromptBuilder;
  #turn = 0;
  #numChildren = 0;
  #outputTokens = 0;

  constructor(shared: Shared, { sessionId, name, turns, depth, from }: AgentOptions) {
    this.#shared = shared;
    this.#sessionId = sessionId;
    this.#name = name;
    this.#stream = shared.rng.stream(`workload/${name}`);
    this.#numTurns = drawLength(turns, this.#stream);
    this.#depth = depth;
    this.#prompt = new PromptBuilder(shared.spec.blockTokens, shared.names, from);
  }

  next(): AgentStep | null {
    const { spec } = this.#shared;
    const stream = this.#stream;
    if (this.#turn === this.#numTurns) return null;
    const isFirst = this.#turn === 0;
    const addedTokens = drawLength(isFirst ? spec.taskTokens : spec.resultTokens, stream);
    const isTooLong = this.#prompt.tokens + this.#outputTokens + addedTokens > spec.maxInputTokens;
    if (isTooLong && !isFirst) return null;
    this.#turn++;
    this.#prompt.append(this.#outputTokens);
    this.#outputTokens = drawLength(spec.outputTokens, stream);
    const starts = isFirst ? [] : this.#fanOut();
    this.#prompt.append(addedTokens);
    const isWaiting = starts.length > 0 && spec.fanOut?.waits === true;
    const request = {
      ...plainRequest(`${this.#name}/${this.#turn}`, this.#prompt.tokens, this.#outputTokens),
      blocks: this.#prompt.blocks(""),
      sessionId: this.#sessionId,
      kind: "agent",
    };
    const delayMs = isFirst || isWaiting ? 0 : this.#toolMs();
    return { request, delayMs, afterArrivalMs: 0, starts, waitsForAgents: isWaiting };
  }

  /** Agents that begin with the prompt as it is now, or with the system's. */
  #fanOut(): AgentStep["starts"] {
    const { system, spec } = this.#shared;
    const { fanOut } = spec;
    const stream = this.#stream;
    if (fanOut === null || this.#depth >= fanOut.depth || stream.nextFloat() >= fanOut.probability) return [];
    const from = fanOut.from === "agent" ? this.#prompt : system;
    return Array.from({ length: drawLength(fanOut.agents, stream) }, () => {
      const name = `${this.#name}.${++this.#numChildren}`;
      const shared = { sessionId: this.#sessionId, turns: fanOut.turns, depth: this.#depth + 1 };
      return { agent: new GeneratedAgent(this.#shared, { ...shared, name, from }), delayMs: 0 };
    });
  }

  #toolMs(): number {
    const { mean, deviation } = this.#shared.spec.toolMs;
    if (mean === 0) return 0;
    const variance = Math.log1p((deviation / mean) ** 2);
    const normal = this.#stream.nextNormal();
    return Math.exp(Math.log(mean) - variance / 2 + Math.sqrt(variance) * normal);
  }
}

import type { RandomStream } from "../../core/util/rng.ts";
import { plainRequest } from "../workload/plain-request.ts";
import type { PromptBlocks, WorkloadRequest, WorkloadSource } from "../workload/workload.ts";

/** One stage of constant load. */
export interface LoadStage {
  /** Requests per second. */
  readonly rate: number;
  readonly durationS: number;
}

/** Prompts of a shared-prefix load: groups of users share a system prompt, and every user has one question. */
export interface SharedPrefixPrompts {
  readonly systemPrompts: number;
  readonly usersPerSystemPrompt: number;
  readonly systemTokens: number;
  /** Of the whole prompt, as the server counts it. */
  readonly promptTokens: number;
  readonly outputTokens: number;
}

const BLOCK_TOKENS = 16;

/**
 * Load in stages as the generator inference-perf makes it. "Constant" rates have exponential gaps that are scaled so that a stage's
 * requests fill its duration exactly. Users take turns and ask the same question each time (prompt lengths that were measured show
 * no growing conversation), so that all but the first round find their prompts in the prefix cache. A stage begins when the last
 * one's requests have ended.
 */
export class LoadStages implements WorkloadSource {
  readonly isClosedLoop = true;
  readonly #stages: readonly LoadStage[];
  readonly #prompts: SharedPrefixPrompts;
  readonly #random: RandomStream;
  readonly #blocks: readonly PromptBlocks[];
  #stage = -1;
  #arrivals: Float64Array = new Float64Array(0);
  #at = 0;
  #numRequests = 0;
  #numOpen = 0;

  constructor(stages: readonly LoadStage[], prompts: SharedPrefixPrompts, random: RandomStream) {
    this.#stages = stages;
    this.#prompts = prompts;
    this.#random = random;
    this.#blocks = blocksOf(prompts);
    this.#begin(0);
  }

  get nextArrivalMs(): number {
    return this.#arrivals[this.#at] ?? Number.POSITIVE_INFINITY;
  }

  take(): WorkloadRequest {
    const arrivalMs = this.#arrivals[this.#at++]!;
    const { promptTokens, outputTokens } = this.#prompts;
    const number = this.#numRequests++;
    this.#numOpen++;
    return {
      ...plainRequest(`${this.#stage}/${number}`, promptTokens, outputTokens),
      arrivalMs,
      blocks: this.#blocks[number % this.#blocks.length]!,
      kind: `${this.#stage}`,
    };
  }

  ended(_: WorkloadRequest, nowMs: number): void {
    this.#numOpen--;
    if (this.#numOpen === 0 && this.#at === this.#arrivals.length) this.#begin(nowMs);
  }

  #begin(nowMs: number): void {
    const stage = this.#stages[++this.#stage];
    if (stage === undefined) return;
    const count = Math.floor(stage.rate * stage.durationS);
    const arrivals = new Float64Array(count);
    let sum = 0;
    for (let i = 0; i < count; i++) {
      sum += this.#random.nextExponential(1);
      arrivals[i] = sum;
    }
    const scale = (stage.durationS * 1000) / sum;
    for (let i = 0; i < count; i++) arrivals[i] = nowMs + arrivals[i]! * scale;
    this.#arrivals = arrivals;
    this.#at = 0;
  }
}

function blocksOf(prompts: SharedPrefixPrompts): PromptBlocks[] {
  const { systemPrompts, usersPerSystemPrompt, systemTokens, promptTokens } = prompts;
  const numBlocks = Math.ceil(promptTokens / BLOCK_TOKENS);
  const numShared = Math.floor(systemTokens / BLOCK_TOKENS);
  const users = systemPrompts * usersPerSystemPrompt;
  return Array.from({ length: users }, (_, user) => {
    const group = user % systemPrompts;
    const ids = Array.from({ length: numBlocks }, (_, block) =>
      block < numShared ? group * numBlocks + block : (systemPrompts + user) * numBlocks + block,
    );
    return { blockTokens: BLOCK_TOKENS, scope: "", ids };
  });
}

import {
  drawLength,
  type LengthDistribution,
  MAX_LENGTH_TOKENS,
} from "../../core/util/length-distribution.ts";
import type { Rng } from "../../core/util/rng.ts";
import { plainRequest } from "./plain-request.ts";
import { BlockNames, PromptBuilder } from "./prompt-builder.ts";
import { type Pace, paced } from "./untimed.ts";
import type { PromptBlocks, WorkloadSource } from "./workload.ts";

/** Independent requests that share nothing. */
export interface PlainSpec {
  readonly inputTokens: LengthDistribution;
  readonly outputTokens: LengthDistribution;
  /** Class of the requests. Default: that of text. */
  readonly class?: string | undefined;
}

/** Requests of drawn lengths at a given pace, without end. */
export function generatePlain(spec: PlainSpec, pace: Pace, rng: Rng): WorkloadSource {
  const inputs = rng.stream("workload/input-lengths");
  const outputs = rng.stream("workload/output-lengths");
  let numMade = 0;
  return paced(() => {
    const input = drawLength(spec.inputTokens, inputs);
    const request = plainRequest(String(++numMade), input, drawLength(spec.outputTokens, outputs));
    return spec.class === undefined ? request : { ...request, kind: spec.class };
  }, pace);
}

/** A tree of prompts: users under system prompts. */
export interface SharedPrefixSpec {
  readonly systemPrompts: number;
  readonly usersPerSystemPrompt: number;
  readonly systemTokens: LengthDistribution;
  readonly questionTokens: LengthDistribution;
  readonly outputTokens: LengthDistribution;
  /**
   * What a user asks at his turns: always the `same` question; a `fresh` one, of which only the system prompt is shared; or one
   * that is `appended` to all questions and answers before.
   */
  readonly questions: "same" | "fresh" | "appended";
  /** Longest prompt of `appended`; the conversation starts over instead. */
  readonly maxInputTokens: number;
  readonly blockTokens: number;
}

/**
 * Requests of the users in turn, in an order that is drawn once. `same` is what inference-perf's `shared_prefix` with
 * `enable_multi_turn_chat` has been measured to send: each user has one question for good, prompts do not grow, and a turn does not
 * wait for the one before.
 */
export function generateSharedPrefix(spec: SharedPrefixSpec, pace: Pace, rng: Rng): WorkloadSource {
  const inputs = rng.stream("workload/input-lengths");
  const outputs = rng.stream("workload/output-lengths");
  const names = new BlockNames();
  const users = makeUsers(spec, names, rng);
  let numMade = 0;
  return paced(() => {
    const user = users[numMade % users.length]!;
    const outputTokens = drawLength(spec.outputTokens, outputs);
    if (spec.questions !== "same") {
      const questionTokens = drawLength(spec.questionTokens, inputs);
      if (spec.questions === "fresh" || user.prompt.tokens + questionTokens > spec.maxInputTokens)
        user.prompt = new PromptBuilder(spec.blockTokens, names, user.system);
      user.prompt.append(questionTokens);
      user.blocks = user.prompt.blocks("");
    }
    const inputTokens = user.prompt.tokens;
    if (spec.questions === "appended") user.prompt.append(outputTokens);
    const request = plainRequest(String(++numMade), inputTokens, outputTokens);
    return { ...request, blocks: user.blocks, sessionId: user.name };
  }, pace);
}

interface User {
  readonly name: string;
  readonly system: PromptBuilder;
  prompt: PromptBuilder;
  blocks: PromptBlocks | null;
}

function makeUsers(spec: SharedPrefixSpec, names: BlockNames, rng: Rng): User[] {
  const lengths = rng.stream("workload/prefix-lengths");
  const users: User[] = [];
  for (let system = 0; system < spec.systemPrompts; system++) {
    const prefix = new PromptBuilder(spec.blockTokens, names).append(drawLength(spec.systemTokens, lengths));
    for (let user = 0; user < spec.usersPerSystemPrompt; user++) {
      const prompt = new PromptBuilder(spec.blockTokens, names, prefix);
      if (spec.questions === "same") prompt.append(drawLength(spec.questionTokens, lengths));
      const name = `user-${system}-${user}`;
      users.push({ name, system: prefix, prompt, blocks: prompt.blocks("") });
    }
  }
  const order = rng.stream("workload/user-order");
  // Fisher and Yates.
  for (let index = users.length - 1; index > 0; index--) {
    const other = order.nextBelow(index + 1);
    [users[index], users[other]] = [users[other]!, users[index]!];
  }
  return users;
}

/** Requests over video: frames are encoded before the prompt can be computed, and answers may be frames themselves. */
export interface VideoSpec {
  readonly frames: LengthDistribution;
  readonly tokensPerFrame: number;
  /** Accelerator time to decode and encode one frame of the input. */
  readonly encodeMsPerFrame: number;
  /** Text beside the frames. */
  readonly textTokens: LengthDistribution;
  readonly output:
    | { readonly tokens: LengthDistribution }
    | { readonly frames: LengthDistribution; readonly tokensPerFrame: number };
}

/** Requests of the class `video`. Prompts and outputs are cut at the longest length that there is. */
export function generateVideo(spec: VideoSpec, pace: Pace, rng: Rng): WorkloadSource {
  const inputs = rng.stream("workload/input-lengths");
  const outputs = rng.stream("workload/output-lengths");
  let numMade = 0;
  return paced(() => {
    const frames = drawLength(spec.frames, inputs);
    const textTokens = drawLength(spec.textTokens, inputs);
    const outputTokens =
      "tokens" in spec.output
        ? drawLength(spec.output.tokens, outputs)
        : drawLength(spec.output.frames, outputs) * spec.output.tokensPerFrame;
    const inputTokens = Math.min(frames * spec.tokensPerFrame + textTokens, MAX_LENGTH_TOKENS);
    const request = plainRequest(String(++numMade), inputTokens, Math.min(outputTokens, MAX_LENGTH_TOKENS));
    return { ...request, kind: "video", encodeMs: frames * spec.encodeMsPerFrame };
  }, pace);
}

import { randomBytes } from "node:crypto";
import type { SamplingParams } from "../../core/request.ts";
import { ServingError } from "../../protocol/errors.ts";
import type { ChatCompletionBody, CompletionBody } from "../../protocol/openai.ts";

type GenerationBody =
  | Omit<ChatCompletionBody, "messages" | "logprobs">
  | Omit<CompletionBody, "prompt" | "logprobs">;

/**
 * Sampling parameters of a request's first choice. Choice i draws with the seed plus i, so that `n` choices differ and each
 * can be had again alone. Without a seed a random one is drawn.
 *
 * @throws ServingError `invalid_value` for a token id that is not in the vocabulary
 */
export function samplingOf(
  body: GenerationBody,
  topLogprobs: number | null,
  vocabSize: number,
): SamplingParams {
  const logitBias = body.logit_bias ?? [];
  for (const [token] of logitBias)
    if (token >= vocabSize)
      throw new ServingError(
        "invalid_value",
        `Token ${token} is not in the vocabulary of ${vocabSize} tokens.`,
        {
          param: `logit_bias.${token}`,
        },
      );
  const topK = Math.max(0, body.top_k ?? 0);
  return {
    // Keeping only the most likely token is greedy whatever the temperature.
    temperature: topK === 1 ? 0 : (body.temperature ?? 1),
    topK,
    topP: body.top_p ?? 1,
    minP: body.min_p ?? 0,
    frequencyPenalty: body.frequency_penalty ?? 0,
    presencePenalty: body.presence_penalty ?? 0,
    repetitionPenalty: body.repetition_penalty ?? 1,
    seed: body.seed ?? randomBytes(4).readUInt32LE(),
    logitBias,
    topLogprobs,
  };
}

/** The parameters of choice `index`. */
export function samplingOfChoice(sampling: SamplingParams, index: number): SamplingParams {
  return index === 0 ? sampling : { ...sampling, seed: (sampling.seed + index) % 2 ** 32 };
}

/** What a request says of the length of its output, and the names of its fields. */
export interface WantedOutput {
  readonly maxTokens: number | undefined;
  readonly minTokens: number | undefined;
  readonly maxTokensParam: string;
  readonly promptParam: string;
}

/** The bounds on one prompt's output, after checking that prompt and output fit into the context. */
export function outputBounds(
  numPromptTokens: number,
  contextTokens: number,
  wanted: WantedOutput,
): { maxOutputTokens: number; minOutputTokens: number } {
  if (numPromptTokens === 0)
    throw new ServingError("invalid_value", "The prompt is empty; it needs at least one token.", {
      param: wanted.promptParam,
    });
  const maxOutputTokens = wanted.maxTokens ?? contextTokens - numPromptTokens;
  if (numPromptTokens + Math.max(1, maxOutputTokens) > contextTokens) {
    const asked =
      wanted.maxTokens === undefined
        ? `your prompt has ${numPromptTokens} tokens, which leaves no room for output`
        : `you asked for ${numPromptTokens + maxOutputTokens} (${numPromptTokens} in the prompt, ${maxOutputTokens} of output)`;
    throw new ServingError(
      "context_length_exceeded",
      `The maximum context length is ${contextTokens} tokens, but ${asked}. Shorten the prompt or the output.`,
      { param: wanted.promptParam },
    );
  }
  const minOutputTokens = wanted.minTokens ?? 0;
  if (minOutputTokens > maxOutputTokens)
    throw new ServingError(
      "invalid_value",
      `'min_tokens' (${minOutputTokens}) exceeds '${wanted.maxTokensParam}' (${maxOutputTokens}).`,
      {
        param: "min_tokens",
      },
    );
  return { maxOutputTokens, minOutputTokens };
}

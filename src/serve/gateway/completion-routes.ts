import type { FastifyInstance } from "fastify";
import { ServingError } from "../../protocol/errors.ts";
import { type CompletionBody, chatCompletionBody, completionBody, parseBody } from "../../protocol/openai.ts";
import type { Prompt } from "../conversations/conversations.ts";
import { type GatewayContext, servedName } from "./context.ts";
import { type RequestRecord, recordOf, sessionOf } from "./request-record.ts";
import { runGeneration } from "./run-generation.ts";
import { outputBounds, type WantedOutput } from "./sampling.ts";

/** `POST /v1/chat/completions` and `POST /v1/completions`. */
export function registerCompletionRoutes(app: FastifyInstance, context: GatewayContext): void {
  app.post("/v1/chat/completions", async (request, reply) => {
    const body = parseBody(chatCompletionBody, request.body);
    const model = servedName(context, body.model);
    const record = recordOf(request);
    record.session = sessionOf(request.headers, body.prompt_cache_key);
    const salt = saltOf(record);
    const wanted: WantedOutput = {
      maxTokens: body.max_completion_tokens ?? body.max_tokens,
      minTokens: body.min_tokens,
      maxTokensParam: body.max_completion_tokens === undefined ? "max_tokens" : "max_completion_tokens",
      promptParam: "messages",
    };
    const rendered = context.template.render(body, salt);
    const prompt = await context.conversations.tokenise(salt, rendered, (numTokens) => {
      outputBounds(numTokens, context.fleet.contextTokens, wanted);
    });
    record.turn = prompt.turn ?? null;
    return runGeneration(context, request, reply, {
      kind: "chat",
      model,
      prompts: [prompt],
      body,
      wanted,
      topLogprobs: body.logprobs === true ? (body.top_logprobs ?? 0) : null,
    });
  });
  app.post("/v1/completions", async (request, reply) => {
    const body = parseBody(completionBody, request.body);
    const model = servedName(context, body.model);
    return runGeneration(context, request, reply, {
      kind: "completion",
      model,
      prompts: await withHashes(context, recordOf(request), await promptTokens(context, body)),
      body,
      wanted: {
        maxTokens: body.max_tokens,
        minTokens: body.min_tokens,
        maxTokensParam: "max_tokens",
        promptParam: "prompt",
      },
      topLogprobs: body.logprobs ?? null,
    });
  });
}

/** Who sends a raw prompt frames it alone, so text that names control tokens means them, as in vLLM and llama-server. */
function promptTokens(context: GatewayContext, body: CompletionBody): Promise<Int32Array[]> {
  return Promise.all(
    body.prompt.map((prompt, i) => {
      if (typeof prompt === "string")
        return context.tokenizer.encode(prompt, { parseSpecial: true, addSpecial: true });
      checkVocabulary(prompt, context.texts.vocabSize, body.prompt.length === 1 ? "prompt" : `prompt[${i}]`);
      return prompt;
    }),
  );
}

function saltOf(record: RequestRecord): string {
  return record.tenant?.cacheSalt ?? "";
}

/** Adds the block hashes to tokenised prompts, if the fleet has said yet what goes into them. */
function withHashes(
  context: GatewayContext,
  record: RequestRecord,
  prompts: readonly Int32Array[],
): Promise<Prompt[]> {
  const chains = context.chains();
  const salt = saltOf(record);
  return Promise.all(
    prompts.map(async (tokens) => ({
      tokens,
      blocks: chains === null ? null : await chains.chain(salt, tokens),
    })),
  );
}

/** @throws ServingError `invalid_value` for the first token id that is not in the vocabulary */
export function checkVocabulary(tokens: Int32Array, vocabSize: number, param: string): void {
  const at = tokens.findIndex((token) => token >= vocabSize);
  if (at >= 0)
    throw new ServingError(
      "invalid_value",
      `Token ${tokens[at]} is not in the vocabulary of ${vocabSize} tokens.`,
      {
        param: `${param}[${at}]`,
      },
    );
}

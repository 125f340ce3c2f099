import type { FastifyReply, FastifyRequest } from "fastify";
import type { Request } from "../../core/request.ts";
import { type CacheWishes, cacheWishesOf } from "../../protocol/cache-hints.ts";
import { ServingError } from "../../protocol/errors.ts";
import type { ChatCompletionBody, CompletionBody } from "../../protocol/openai.ts";
import type { Prompt } from "../conversations/conversations.ts";
import type { Placement } from "../fleet/fleet.ts";
import type { Tenant } from "./api-keys.ts";
import type { ChoiceOptions } from "./choice.ts";
import { Collector } from "./collector.ts";
import type { GatewayContext } from "./context.ts";
import { type AnswerHead, type AnswerKind, answerJson, StreamFraming } from "./framing.ts";
import { Generation, type GenerationObserver } from "./generation.ts";
import { ChatLogprobs, CompletionLogprobs } from "./logprobs.ts";
import { mintId, type RequestRecord, recordOf } from "./request-record.ts";
import { outputBounds, samplingOf, samplingOfChoice, type WantedOutput } from "./sampling.ts";
import { StopPatterns } from "./stop-matcher.ts";
import { StreamSession } from "./stream-session.ts";

/** A completion request after parsing and tokenising, the same for both endpoints. */
export interface GenerationSpec {
  readonly kind: AnswerKind;
  readonly model: string;
  readonly prompts: readonly Prompt[];
  readonly body: ChatCompletionBody | CompletionBody;
  readonly wanted: WantedOutput;
  /** Null for no log probabilities. */
  readonly topLogprobs: number | null;
}

const NO_TOKENS = new Int32Array(0);

/** Runs a completion and answers it, as a stream or whole. Throws `ServingError` as long as nothing has been sent. */
export async function runGeneration(
  context: GatewayContext,
  request: FastifyRequest,
  reply: FastifyReply,
  spec: GenerationSpec,
): Promise<FastifyReply> {
  const record = recordOf(request);
  const requestId = mintId("tf");
  const head: AnswerHead = {
    id: `${spec.kind === "chat" ? "chatcmpl" : "cmpl"}-${requestId}`,
    createdSeconds: Math.floor(Date.now() / 1000),
    model: spec.model,
  };
  const choices = buildChoices(context, record, spec, requestId);
  if (record.isClosed) throw new ServingError("client_closed_request", "The client closed the connection.");
  if (context.isDraining)
    throw new ServingError("draining", "The server is shutting down; try another or later.");
  reply.header("x-twofold-request-id", requestId);
  const createGeneration = (observer: GenerationObserver) => {
    const generation = new Generation({
      fleet: context.fleet,
      metrics: context.metrics,
      promptTokens: spec.prompts.map(({ tokens }) => tokens.length),
      choices,
      arrivedAtMs: record.arrivedAtMs,
      deadlineMs: context.limits.generationMs,
      observer,
    });
    record.generation = generation;
    return generation;
  };
  if (spec.body.stream === true) return stream(context, record, reply, spec, head, createGeneration);
  const collector = new Collector();
  record.onClose = () => collector.close();
  const generation = createGeneration(collector);
  collector.start(generation);
  await collector.done;
  for (const [name, value] of Object.entries(placementHeaders(collector.placement)))
    reply.header(name, value);
  return reply
    .header("content-type", "application/json; charset=utf-8")
    .send(answerJson(spec.kind, head, generation.choices, generation.usage()));
}

async function stream(
  context: GatewayContext,
  record: RequestRecord,
  reply: FastifyReply,
  spec: GenerationSpec,
  head: AnswerHead,
  createGeneration: (observer: GenerationObserver) => Generation,
): Promise<FastifyReply> {
  const { limits, metrics, flushQueue } = context;
  const { stream_options: wanted } = spec.body;
  const includeUsage = wanted?.include_usage === true;
  const numChoices = spec.prompts.length * (spec.body.n ?? 1);
  const session = new StreamSession({
    response: reply.raw,
    sendHeaders: (placement) => sendStreamHeaders(reply, placement),
    framing: new StreamFraming(spec.kind, head, { numChoices, includeUsage }),
    includeUsage,
    continuousUsage: includeUsage && wanted?.continuous_usage_stats === true,
    metrics,
    flushQueue,
    limits,
    onTrouble: (trouble) => {
      record.errorCode = trouble.code;
      if (trouble.cause !== undefined)
        context.logger.error({ err: trouble.cause, requestId: record.id }, "stream failed");
      if (trouble.code === "client_closed_request") record.status = trouble.status;
    },
  });
  record.onClose = () => session.close();
  session.start(createGeneration(session));
  await session.opened;
  return reply;
}

function sendStreamHeaders(reply: FastifyReply, placement: Placement | null): void {
  reply.hijack();
  const headers = new Headers();
  for (const [name, value] of Object.entries(reply.getHeaders())) headers.set(name, String(value));
  reply.raw.writeHead(200, {
    ...Object.fromEntries(headers),
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    // Tells nginx not to gather the stream into buffers.
    "x-accel-buffering": "no",
    ...placementHeaders(placement),
  });
  reply.raw.flushHeaders();
}

/** Names of the workers, when the request has been placed. */
function placementHeaders(placement: Placement | null): Record<string, string> {
  if (placement === null) return {};
  // Whoever starts a worker names it; a name that is no header value must not cost the answer.
  const printable = (name: string) => name.replaceAll(/[^\x21-\x7e]/g, "?");
  return {
    "x-twofold-prefill-worker": printable(placement.prefillWorker),
    "x-twofold-decode-worker": printable(placement.decodeWorker),
  };
}

/** What a request says about the cache, and what its tenant may have of it. */
function cacheWishes(
  body: GenerationSpec["body"],
  tenant: Tenant | null,
): CacheWishes & Pick<Request, "cacheShare"> {
  const cacheShare = tenant?.cacheShare ?? 1;
  return { ...cacheWishesOf(body), ...(cacheShare === 1 ? {} : { cacheShare }) };
}

/** One fleet request per prompt and choice, numbered prompt by prompt as OpenAI does. */
function buildChoices(
  context: GatewayContext,
  record: RequestRecord,
  spec: GenerationSpec,
  requestId: string,
): Array<{ request: Request; options: ChoiceOptions }> {
  const { body, prompts, topLogprobs } = spec;
  const { texts, fleet } = context;
  const n = body.n ?? 1;
  const sampling = samplingOf(body, topLogprobs, texts.vocabSize);
  const stop = body.stop === undefined || body.stop.length === 0 ? null : new StopPatterns(body.stop);
  const isSingle = prompts.length * n === 1;
  const wishes = cacheWishes(body, record.tenant);
  return prompts.flatMap(({ tokens: promptTokens, blocks }, promptIndex) => {
    const bounds = outputBounds(promptTokens.length, fleet.contextTokens, spec.wanted);
    return Array.from({ length: n }, (_, i) => {
      const index = promptIndex * n + i;
      const request: Request = {
        id: isSingle ? requestId : `${requestId}-${index}`,
        epoch: 0,
        promptTokens,
        ...(blocks === null ? {} : { knownBlockHashes: blocks.hashes }),
        ...(blocks === null || blocks.publicBlocks === 0 ? {} : { publicBlocks: blocks.publicBlocks }),
        resumedTokens: NO_TOKENS,
        ...bounds,
        ignoreEndOfGeneration: body.ignore_eos ?? false,
        sampling: samplingOfChoice(sampling, i),
        cacheSalt: record.tenant?.cacheSalt ?? "",
        priority: body.priority ?? 0,
        ...(body.first_token_ms === undefined ? {} : { firstTokenGoalMs: body.first_token_ms }),
        ...wishes,
      };
      const logprobs =
        topLogprobs === null
          ? null
          : spec.kind === "chat"
            ? new ChatLogprobs(texts)
            : new CompletionLogprobs(texts, topLogprobs);
      return {
        request,
        options: { index, promptIndex, texts, stop, minTokens: bounds.minOutputTokens, logprobs },
      };
    });
  });
}

import type { FastifyInstance } from "fastify";
import { comparableDecision } from "../../protocol/dispatch-log.ts";
import { ServingError } from "../../protocol/errors.ts";
import { detokenizeBody, parseBody, tokenizeBody } from "../../protocol/openai.ts";
import { MAX_KEPT_DECISIONS } from "../fleet/decision-log.ts";
import { checkVocabulary } from "./completion-routes.ts";
import { type GatewayContext, servedName } from "./context.ts";
import { Detokenizer } from "./detokenizer.ts";
import { recordOf } from "./request-record.ts";

/** Paths that anybody may ask, so that a probe needs no key. */
export const PROBE_PATHS: ReadonlySet<string> = new Set(["/livez", "/readyz", "/health"]);

/** Why a request went where it went. */
export const DECISIONS_ROUTE = "/admin/decisions/:requestId";

/** Models, tokenising, probes, metrics and the state of the workers. */
export function registerInfoRoutes(app: FastifyInstance, context: GatewayContext): void {
  registerModels(app, context);
  registerTokenizing(app, context);
  app.get("/livez", async () => ({ status: "ok" }));
  for (const path of ["/readyz", "/health"])
    app.get(path, async () => {
      if (context.isDraining) throw new ServingError("draining", "The server is shutting down.");
      if (!context.fleet.isReady)
        throw new ServingError("no_workers", "Not every needed worker is ready yet.");
      return { status: "ok" };
    });
  app.get("/metrics", async (_request, reply) => {
    const { registry } = context.metrics;
    return reply.header("content-type", registry.contentType).send(await registry.metrics());
  });
  app.get("/admin/workers", async () => ({ object: "list", data: context.fleet.workers() }));
  app.get<{ Params: { requestId: string } }>(DECISIONS_ROUTE, async (request) =>
    explain(context, request.params.requestId, recordOf(request).tenant?.cacheSalt ?? ""),
  );
  for (const path of ["/v1/embeddings", "/v1/responses"])
    app.all(path, async () => {
      throw new ServingError(
        "not_found",
        `${path} is not supported by this server. Use /v1/chat/completions.`,
      );
    });
}

/** Why a request of this tenant went where it went. Requests of others are as unknown as those that never were. */
function explain(context: GatewayContext, requestId: string, cacheSalt: string): object {
  const explained = context.fleet.explain(requestId, cacheSalt);
  if (explained.length === 0) {
    const message = `No decision on the request is kept; the last ${MAX_KEPT_DECISIONS} are. Its id is in the header x-twofold-request-id of its answer.`;
    throw new ServingError("not_found", message);
  }
  const data = explained.map(({ attempts, ...shown }) => ({
    ...shown,
    attempts: attempts.map(({ atMs, decision }) => ({ atMs, decision: comparableDecision(decision) })),
  }));
  return { object: "list", data };
}

function registerModels(app: FastifyInstance, context: GatewayContext): void {
  const describe = (id: string) => ({
    id,
    object: "model",
    created: context.createdSeconds,
    owned_by: "twofold",
    root: context.modelNames[0],
    max_model_len: context.fleet.contextTokens,
  });
  app.get("/v1/models", async () => ({ object: "list", data: context.modelNames.map(describe) }));
  // A model's name may hold slashes, so the rest of the path is the name.
  app.get<{ Params: { "*": string } }>("/v1/models/*", async (request) =>
    describe(servedName(context, request.params["*"])),
  );
}

function registerTokenizing(app: FastifyInstance, context: GatewayContext): void {
  for (const prefix of ["", "/v1"]) {
    app.post(`${prefix}/tokenize`, async (request) => {
      const body = parseBody(tokenizeBody, request.body);
      servedName(context, body.model);
      // Each spelling keeps the default of the server that it comes from: vLLM adds special tokens, llama-server does not.
      const addSpecial = body.add_special_tokens ?? body.add_special ?? body.prompt !== undefined;
      const text = body.prompt ?? body.content ?? "";
      const tokens = await context.tokenizer.encode(text, { parseSpecial: true, addSpecial });
      return { tokens: Array.from(tokens), count: tokens.length, max_model_len: context.fleet.contextTokens };
    });
    app.post(`${prefix}/detokenize`, async (request) => {
      const body = parseBody(detokenizeBody, request.body);
      servedName(context, body.model);
      checkVocabulary(body.tokens, context.texts.vocabSize, "tokens");
      const detokenizer = new Detokenizer(context.texts);
      let text = "";
      for (const token of body.tokens) text += detokenizer.push(token);
      text += detokenizer.flush();
      return { prompt: text, content: text };
    });
  }
}

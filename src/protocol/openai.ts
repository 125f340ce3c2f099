import { z } from "zod";
import { cacheHintFields } from "./cache-hints.ts";
import { type ErrorCode, ServingError } from "./errors.ts";
import { MAX_FIRST_TOKEN_GOAL_MS } from "./request-codec.ts";

/** Limits on what one request may hold. Each exists so that a small body cannot cause unbounded work. */
const MAX_MESSAGES = 2048;
/** Text parts in one message. */
const MAX_CONTENT_PARTS = 256;
/** Tools in one request; they are only rendered by the chat template. */
const MAX_TOOLS = 128;
/**
 * Tools and tool calls of one request together, as JSON, in UTF-16 code units. The template engine turns each value in them into
 * an object of its own, on the event loop: about 0.2 s at this size.
 */
const MAX_TOOL_CHARS = 512 * 1024;
/** Prompts in one completion request. */
const MAX_PROMPTS = 64;
/** Choices per prompt. */
const MAX_N = 8;
/** Sequences that one request may start: prompts times `n`. */
const MAX_CHOICES = 128;
const MAX_STOP_STRINGS = 4;
/** Length of a stop string, in UTF-16 code units. */
const MAX_STOP_CHARS = 256;
const MAX_LOGIT_BIAS_ENTRIES = 1024;
const MAX_TOP_LOGPROBS = 20;
const MAX_INT32 = 2 ** 31 - 1;
/** 32 bits of seed: other integers are folded into this range. */
const SEED_RANGE = 2 ** 32;

type Context = z.core.$RefinementCtx<unknown>;

function reject(context: Context, code: ErrorCode, message: string, path: PropertyKey[] = []): void {
  context.addIssue({ code: "custom", message, path, params: { code } });
}

/** An array whose length is checked before its items, so that a million bad items yield one issue. */
function boundedArray<Item extends z.ZodType>(item: Item, maxItems: number) {
  return z.array(z.unknown()).max(maxItems).pipe(z.array(item));
}

const textPart = z.object({ type: z.string(), text: z.string().nullish() }).superRefine((part, context) => {
  if (part.type !== "text")
    reject(
      context,
      "unsupported_value",
      `Content of type '${clip(part.type)}' is not supported; send 'text'.`,
      ["type"],
    );
  else if (part.text == null)
    reject(context, "missing_required_parameter", "A text part needs 'text'.", ["text"]);
});

const content = z.union([z.string(), boundedArray(textPart, MAX_CONTENT_PARTS)]);

const message = z
  .object({
    role: z.enum(["system", "developer", "user", "assistant", "tool"]),
    content: content.nullish(),
    name: z.string().nullish(),
    tool_calls: z.array(z.unknown()).max(MAX_TOOLS).nullish(),
    tool_call_id: z.string().nullish(),
  })
  .superRefine((value, context) => {
    if (value.content == null && !(value.role === "assistant" && value.tool_calls != null))
      reject(context, "missing_required_parameter", "A message needs 'content'.", ["content"]);
  });

/** One message of a conversation, as the client sent it. */
export type ChatMessage = z.infer<typeof message>;

const stopString = z
  .string()
  .min(1)
  .max(MAX_STOP_CHARS)
  // Text is only ever held back at whole characters, which half a surrogate pair would break.
  .refine((text) => !/\p{Surrogate}/u.test(text), { message: "must be well-formed Unicode text" });

const stop = z.union([stopString.transform((text) => [text]), boundedArray(stopString, MAX_STOP_STRINGS)]);

const logitBias = z.unknown().transform((value, context) => {
  const pairs: Array<readonly [token: number, bias: number]> = [];
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    reject(context, "invalid_type", "must be an object of token id to bias");
    return z.NEVER;
  }
  const entries = Object.entries(value);
  if (entries.length > MAX_LOGIT_BIAS_ENTRIES) {
    reject(
      context,
      "invalid_value",
      `has ${entries.length} entries; at most ${MAX_LOGIT_BIAS_ENTRIES} are allowed`,
    );
    return z.NEVER;
  }
  for (const [key, bias] of entries) {
    if (!/^\d{1,10}$/.test(key) || Number(key) > MAX_INT32)
      reject(context, "invalid_value", `'${clip(key)}' is not a token id`);
    else if (typeof bias !== "number") reject(context, "invalid_type", "must be a number", [key]);
    else if (!(bias >= -100 && bias <= 100))
      reject(context, "invalid_value", "must be between -100 and 100", [key]);
    else pairs.push([Number(key), bias]);
  }
  return pairs;
});

const penalty = z.number().min(-2).max(2).optional();

/** What both completion endpoints take. Fields that are not listed are ignored. */
const generationFields = {
  model: z.string().optional(),
  max_tokens: z.int().min(1).optional(),
  temperature: z.number().min(0).max(2).optional(),
  top_p: z.number().gt(0).max(1).optional(),
  n: z.int().min(1).max(MAX_N).optional(),
  stop: stop.optional(),
  seed: z
    .int()
    .transform((seed) => ((seed % SEED_RANGE) + SEED_RANGE) % SEED_RANGE)
    .optional(),
  logit_bias: logitBias.optional(),
  presence_penalty: penalty,
  frequency_penalty: penalty,
  user: z.string().optional(),
  stream: z.boolean().optional(),
  stream_options: z
    .object({
      include_usage: z.boolean().nullish(),
      // With the former, as vLLM and SGLang have it.
      continuous_usage_stats: z.boolean().nullish(),
    })
    .optional(),
  // Extensions that vLLM's users know.
  top_k: z.int().min(-1).max(MAX_INT32).optional(),
  min_p: z.number().min(0).max(1).optional(),
  repetition_penalty: z.number().gt(0).max(10).optional(),
  ignore_eos: z.boolean().optional(),
  min_tokens: z.int().min(0).optional(),
  priority: z.int().min(-MAX_INT32).max(MAX_INT32).optional(),
  first_token_ms: z.int().min(1).max(MAX_FIRST_TOKEN_GOAL_MS).optional(),
  ...cacheHintFields,
  // Known, and refused below when they ask for something that does not exist here.
  response_format: z.object({ type: z.string() }).optional(),
};

interface CheckedFields {
  readonly stream?: boolean | undefined;
  readonly stream_options?: object | undefined;
  readonly response_format?: { readonly type: string } | undefined;
}

function checkCommon(body: CheckedFields, context: Context): void {
  if (body.stream_options !== undefined && body.stream !== true)
    reject(context, "invalid_value", "is only allowed when 'stream' is true", ["stream_options"]);
  const format = body.response_format?.type;
  if (format !== undefined && format !== "text")
    reject(context, "unsupported_value", `'${clip(format)}' is not supported; only 'text' is`, [
      "response_format",
      "type",
    ]);
}

/** Body of `POST /v1/chat/completions`. */
export const chatCompletionBody = z
  .object({
    ...generationFields,
    messages: z.array(z.unknown()).min(1).max(MAX_MESSAGES).pipe(z.array(message)),
    max_completion_tokens: z.int().min(1).optional(),
    logprobs: z.boolean().optional(),
    top_logprobs: z.int().min(0).max(MAX_TOP_LOGPROBS).optional(),
    tools: z.array(z.unknown()).max(MAX_TOOLS).optional(),
    tool_choice: z.union([z.string(), z.object({ type: z.string() })]).optional(),
    modalities: z.array(z.string()).max(8).optional(),
    add_generation_prompt: z.boolean().optional(),
    continue_final_message: z.boolean().optional(),
  })
  .superRefine((body, context) => {
    checkCommon(body, context);
    checkChat(body, context);
  });

interface ChatFields {
  readonly messages: readonly ChatMessage[];
  readonly max_tokens?: number | undefined;
  readonly max_completion_tokens?: number | undefined;
  readonly logprobs?: boolean | undefined;
  readonly top_logprobs?: number | undefined;
  readonly tools?: readonly unknown[] | undefined;
  readonly tool_choice?: string | { readonly type: string } | undefined;
  readonly modalities?: readonly string[] | undefined;
  readonly add_generation_prompt?: boolean | undefined;
  readonly continue_final_message?: boolean | undefined;
}

function checkChat(body: ChatFields, context: Context): void {
  const { max_tokens, max_completion_tokens } = body;
  if (max_tokens !== undefined && max_completion_tokens !== undefined && max_tokens !== max_completion_tokens)
    reject(context, "invalid_value", "differs from 'max_tokens'; send one of the two", [
      "max_completion_tokens",
    ]);
  if (body.top_logprobs !== undefined && body.logprobs !== true)
    reject(context, "invalid_value", "is only allowed when 'logprobs' is true", ["top_logprobs"]);
  if (body.tool_choice !== undefined && body.tool_choice !== "none" && body.tool_choice !== "auto")
    reject(context, "unsupported_value", "only 'none' and 'auto' are supported", ["tool_choice"]);
  const toolValues = [body.tools, ...body.messages.map((one) => one.tool_calls)].filter(
    (value) => value != null,
  );
  if (toolValues.length > 0 && JSON.stringify(toolValues).length > MAX_TOOL_CHARS)
    reject(context, "invalid_value", `tools and tool calls exceed ${MAX_TOOL_CHARS} characters of JSON`, [
      "tools",
    ]);
  if (body.modalities?.some((modality) => modality !== "text"))
    reject(context, "unsupported_value", "only 'text' is supported", ["modalities"]);
  if (body.continue_final_message !== true) return;
  if (body.add_generation_prompt === true)
    reject(context, "invalid_value", "cannot be combined with 'add_generation_prompt'", [
      "continue_final_message",
    ]);
  if (body.messages.at(-1)?.role !== "assistant")
    reject(context, "invalid_value", "needs a last message of role 'assistant'", ["continue_final_message"]);
}

export type ChatCompletionBody = z.infer<typeof chatCompletionBody>;

/** One prompt: text, or token ids that are not negative. Whether these are in the vocabulary is checked later. */
type Prompt = string | Int32Array;

function readTokens(value: readonly unknown[], context: Context, path: PropertyKey[]): Int32Array {
  const tokens = new Int32Array(value.length);
  for (const [i, token] of value.entries()) {
    if (typeof token === "number" && Number.isInteger(token) && token >= 0 && token <= MAX_INT32)
      tokens[i] = token;
    else {
      reject(context, typeof token === "number" ? "invalid_value" : "invalid_type", "must be a token id", [
        ...path,
        i,
      ]);
      break;
    }
  }
  return tokens;
}

const prompt = z.unknown().transform((value, context): Prompt[] => {
  if (typeof value === "string") return [value];
  if (!Array.isArray(value)) {
    reject(
      context,
      value === undefined ? "missing_required_parameter" : "invalid_type",
      value === undefined ? "is required" : "must be a string, an array of strings, or token ids",
    );
    return z.NEVER;
  }
  const items: readonly unknown[] = value;
  if (items.length === 0) {
    reject(context, "invalid_value", "must not be empty");
    return z.NEVER;
  }
  if (typeof items[0] === "number") return [readTokens(items, context, [])];
  if (items.length > MAX_PROMPTS) {
    reject(context, "invalid_value", `has ${items.length} prompts; at most ${MAX_PROMPTS} are allowed`);
    return z.NEVER;
  }
  return items.map((item, i) => {
    if (Array.isArray(item)) return readTokens(item, context, [i]);
    if (typeof item === "string") return item;
    reject(context, "invalid_type", "must be a string or an array of token ids", [i]);
    return "";
  });
});

/** Body of `POST /v1/completions`. */
export const completionBody = z
  .object({
    ...generationFields,
    prompt,
    logprobs: z.int().min(0).max(MAX_TOP_LOGPROBS).optional(),
    echo: z.boolean().optional(),
    best_of: z.int().min(1).optional(),
    suffix: z.string().optional(),
  })
  .superRefine((body, context) => {
    checkCommon(body, context);
    const n = body.n ?? 1;
    if (body.echo === true) reject(context, "unsupported_value", "is not supported", ["echo"]);
    if (body.suffix !== undefined && body.suffix !== "")
      reject(context, "unsupported_value", "is not supported", ["suffix"]);
    if (body.best_of !== undefined && body.best_of > n)
      reject(context, "unsupported_value", "larger than 'n' is not supported", ["best_of"]);
    if (body.best_of !== undefined && body.best_of < n)
      reject(context, "invalid_value", "must not be smaller than 'n'", ["best_of"]);
    if (body.prompt.length * n > MAX_CHOICES)
      reject(context, "invalid_value", `times the number of prompts exceeds ${MAX_CHOICES} choices`, ["n"]);
  });

export type CompletionBody = z.infer<typeof completionBody>;

/** Body of `POST /tokenize`, in vLLM's spelling (`prompt`) or llama-server's (`content`). */
export const tokenizeBody = z
  .object({
    model: z.string().optional(),
    prompt: z.string().optional(),
    content: z.string().optional(),
    add_special_tokens: z.boolean().optional(),
    add_special: z.boolean().optional(),
  })
  .superRefine((body, context) => {
    if (body.prompt === undefined && body.content === undefined)
      reject(context, "missing_required_parameter", "is required", ["prompt"]);
    if (body.prompt !== undefined && body.content !== undefined)
      reject(context, "invalid_value", "cannot be combined with 'prompt'", ["content"]);
  });

/** Body of `POST /detokenize`. */
export const detokenizeBody = z.object({
  model: z.string().optional(),
  tokens: z.unknown().transform((value, context) => {
    if (Array.isArray(value)) return readTokens(value, context, []);
    reject(
      context,
      value === undefined ? "missing_required_parameter" : "invalid_type",
      value === undefined ? "is required" : "must be an array of token ids",
    );
    return z.NEVER;
  }),
});

/**
 * Checks a parsed JSON body. Null stands for absent in every optional field, as in OpenAI's API.
 *
 * @throws ServingError `invalid_type`, `invalid_value`, `missing_required_parameter` or `unsupported_value`, whose `param`
 *   is the path of the first field at fault, such as `messages[0].role`
 */
export function parseBody<Schema extends z.ZodType>(schema: Schema, body: unknown): z.output<Schema> {
  if (typeof body !== "object" || body === null || Array.isArray(body))
    throw new ServingError("invalid_type", "The request body must be a JSON object.");
  const present = Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null));
  const result = schema.safeParse(present);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw issue === undefined
    ? new ServingError("invalid_value", "The request body is not valid.")
    : explain(issue, present);
}

type Issue = z.core.$ZodIssue;

function explain(issue: Issue, body: unknown): ServingError {
  const { leaf, path } = deepest(issue, issue.path);
  const param = path.reduce<string>(
    (name, key) =>
      typeof key === "number" ? `${name}[${key}]` : name === "" ? String(key) : `${name}.${String(key)}`,
    "",
  );
  const value = path.reduce<unknown>(
    (parent, key) => (typeof parent === "object" && parent !== null ? Reflect.get(parent, key) : undefined),
    body,
  );
  const code = codeOf(leaf, value);
  const what = code === "missing_required_parameter" ? "is required" : describe(leaf);
  return new ServingError(code, `Invalid '${clip(param)}': ${what}`, { param: clip(param) });
}

/** The most telling issue inside a union: one that accepted the value's outer type and found fault further in. */
function deepest(issue: Issue, path: readonly PropertyKey[]): { leaf: Issue; path: readonly PropertyKey[] } {
  if (issue.code !== "invalid_union") return { leaf: issue, path };
  for (const branch of issue.errors) {
    const inner = branch[0];
    if (inner !== undefined && !(inner.path.length === 0 && inner.code === "invalid_type"))
      return deepest(inner, [...path, ...inner.path]);
  }
  return { leaf: issue, path };
}

function codeOf(issue: Issue, value: unknown): ErrorCode {
  if (issue.code === "custom" && issue.params?.code !== undefined) return issue.params.code as ErrorCode;
  if (value === undefined) return "missing_required_parameter";
  if (issue.code === "invalid_type" || issue.code === "invalid_union") return "invalid_type";
  // An enumeration reports a number in the place of a name as a wrong value; to a client it is a wrong type.
  if (issue.code === "invalid_value" && typeof value !== "string") return "invalid_type";
  return "invalid_value";
}

function describe(issue: Issue): string {
  if (issue.code === "invalid_union") return "has the wrong type";
  return issue.message;
}

/** Keeps what a client sent from filling an error message. */
function clip(text: string): string {
  const maxChars = 100;
  return text.length <= maxChars ? text : `${text.slice(0, maxChars)}…`;
}

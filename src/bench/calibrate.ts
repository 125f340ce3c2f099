import { askJson, type JsonAnswer, type Target } from "./http-json.ts";
import { BenchError, type LoadOptions } from "./options.ts";
import { FIRST_WORD, type PromptCalibration } from "./prompts.ts";
import { WORDS } from "./words.ts";

/** Words of the two requests whose usage is compared. Short enough for any context. */
const SHORT_PROBE_WORDS = 24;
const LONG_PROBE_WORDS = 96;

/** Fewest words of one token that make varied prompts. */
const MIN_SINGLE_TOKEN_WORDS = 32;

/** Words asked about at the same time. */
const NUM_PARALLEL_QUESTIONS = 8;

/** The model to ask for: the named one, or the first that the server lists. Throws `BenchError`. */
export async function findModel(target: Target, named: string | null): Promise<string> {
  if (named !== null) return named;
  const answer = await askJson(target, "/v1/models");
  if (answer.status === 401 || answer.status === 403) {
    const message = `${target.baseUrl.origin} refuses /v1/models with status ${answer.status}; set TWOFOLD_API_KEY to a key that it knows`;
    throw new BenchError(message);
  }
  const id = field(
    Array.isArray(field(answer.body, "data")) ? field(field(answer.body, "data"), "0") : null,
    "id",
  );
  if (typeof id === "string") return id;
  throw new BenchError(
    `${target.baseUrl.origin}/v1/models names no model (status ${answer.status}); name one with --model`,
  );
}

/** The body of a request, for the chosen endpoint. */
export function completionBody(
  options: Pick<LoadOptions, "endpoint" | "temperature">,
  model: string,
  prompt: string,
): Record<string, unknown> {
  const { temperature } = options;
  if (options.endpoint === "completions") return { model, prompt, temperature };
  return { model, messages: [{ role: "user", content: prompt }], temperature };
}

/** Path of the chosen endpoint. */
export function completionEndpoint(options: Pick<LoadOptions, "endpoint">): string {
  return options.endpoint === "chat" ? "/v1/chat/completions" : "/v1/completions";
}

/** Finds out how words become tokens on this server, once. Throws `BenchError` when the server refuses a plain request. */
export async function calibratePrompts(
  target: Target,
  options: Pick<LoadOptions, "endpoint" | "temperature">,
  model: string,
): Promise<PromptCalibration> {
  const single = await findSingleTokenWords(target, model);
  const isTokenized = single.length >= MIN_SINGLE_TOKEN_WORDS;
  const words = isTokenized ? single : WORDS;
  const short = await measurePromptTokens(target, options, model, words, SHORT_PROBE_WORDS);
  const long = await measurePromptTokens(target, options, model, words, LONG_PROBE_WORDS);
  if (short === null || long === null)
    return { method: "assumed", words, tokensPerWord: 1, overheadTokens: 0 };
  const tokensPerWord = (long - short) / (LONG_PROBE_WORDS - SHORT_PROBE_WORDS);
  if (isTokenized && tokensPerWord === 1) {
    return { method: "tokenize", words, tokensPerWord, overheadTokens: short - SHORT_PROBE_WORDS };
  }
  if (tokensPerWord <= 0) return { method: "assumed", words, tokensPerWord: 1, overheadTokens: 0 };
  const overheadTokens = Math.max(0, Math.round(short - SHORT_PROBE_WORDS * tokensPerWord));
  return { method: "usage", words, tokensPerWord, overheadTokens };
}

/** How `/tokenize` wants its text: vLLM says `prompt`, llama-server `content`. Each ignores or refuses the other. */
const TOKENIZE_SPELLINGS = [
  { text: "prompt", special: "add_special_tokens" },
  { text: "content", special: "add_special" },
] as const;

type TokenizeSpelling = (typeof TOKENIZE_SPELLINGS)[number];

/** Words that add exactly one token when they follow another word; none when the server has no `/tokenize`. */
async function findSingleTokenWords(target: Target, model: string): Promise<string[]> {
  for (const spelling of TOKENIZE_SPELLINGS) {
    const reference = await countTokens(target, model, spelling, FIRST_WORD);
    if (reference !== null) return await keepSingleTokenWords(target, model, spelling, reference);
  }
  return [];
}

async function keepSingleTokenWords(
  target: Target,
  model: string,
  spelling: TokenizeSpelling,
  reference: number,
): Promise<string[]> {
  const found = new Set<string>();
  const queue = [...WORDS];
  const ask = async (): Promise<void> => {
    for (let word = queue.pop(); word !== undefined; word = queue.pop()) {
      const count = await countTokens(target, model, spelling, `${FIRST_WORD} ${word}`);
      if (count === reference + 1) found.add(word);
    }
  };
  await Promise.all(Array.from({ length: NUM_PARALLEL_QUESTIONS }, ask));
  // In the order of the list, so that the same seed makes the same prompts.
  return WORDS.filter((word) => found.has(word));
}

/** Tokens of a text by `/tokenize`, or null when the server has none or does not know the spelling. */
async function countTokens(
  target: Target,
  model: string,
  spelling: TokenizeSpelling,
  text: string,
): Promise<number | null> {
  const answer = await askJson(target, "/tokenize", {
    model,
    [spelling.text]: text,
    [spelling.special]: false,
  });
  if (answer.status !== 200) return null;
  const tokens = field(answer.body, "tokens");
  // llama-server answers a text that it does not find with no tokens.
  return Array.isArray(tokens) && tokens.length > 0 ? tokens.length : null;
}

/** Prompt tokens that the server counts for a prompt of so many different words, or null when it reports no usage. */
async function measurePromptTokens(
  target: Target,
  options: Pick<LoadOptions, "endpoint" | "temperature">,
  model: string,
  words: readonly string[],
  numWords: number,
): Promise<number | null> {
  const probe = Array.from({ length: numWords }, (_, index) => words[(index * 7 + numWords) % words.length]);
  const prompt = [FIRST_WORD, ...probe].join(" ");
  const body = { ...completionBody(options, model, prompt), max_tokens: 1, stream: false };
  const answer = await askJson(target, completionEndpoint(options), body);
  if (answer.status !== 200) throw new BenchError(describeRefusal(target, options, answer));
  const count = field(field(answer.body, "usage"), "prompt_tokens");
  return typeof count === "number" && Number.isSafeInteger(count) && count > 0 ? count : null;
}

function describeRefusal(target: Target, options: Pick<LoadOptions, "endpoint">, answer: JsonAnswer): string {
  const message = field(field(answer.body, "error"), "message");
  const reason = typeof message === "string" ? `: ${message.slice(0, 200)}` : "";
  const hint = answer.status === 401 ? "; set TWOFOLD_API_KEY to a key that it knows" : "";
  return `${target.baseUrl.origin}${completionEndpoint(options)} answers with status ${answer.status}${reason}${hint}`;
}

function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;
}

/**
 * CPU time of the gateway for a turn of a long conversation: everything between the parsed JSON of a request and the bytes that go to
 * its two workers. CPU time is the process's, all threads, so tokenising and garbage collection count. The same is measured for the turn's
 * new messages alone, which is what the new text costs, and for the first time that the whole conversation is seen.
 *
 * Then the same conversation goes to a whole server over the stub engine, one prefill and one decode worker, and the CPU time of the
 * gateway's process is read from the kernel: this has HTTP, JSON and the answer's stream in it as well.
 *
 *     npm run bench:sessions -- [--tokens 100000] [--model FILE.gguf] [--json]
 */
import { parseArgs } from "node:util";
import { GREEDY, type Request } from "../src/core/request.ts";
import { type ChatCompletionBody, chatCompletionBody, parseBody } from "../src/protocol/openai.ts";
import { encodeSubmission } from "../src/protocol/request-codec.ts";
import { ChainHasher } from "../src/serve/conversations/chain-hasher.ts";
import { Conversations } from "../src/serve/conversations/conversations.ts";
import { openTokenizer } from "../src/serve/engine/open-engine.ts";
import { createChatTemplate } from "../src/serve/gateway/chat-template.ts";
import { parseJsonBody } from "../src/serve/gateway/json-body.ts";
import { median, report, round } from "./lib/report.ts";
import { cpuSeconds, startServe } from "./lib/serve-process.ts";

const TURNS = 40;
const COLD_ROUNDS = 5;
const KEPT_BYTES = 128 * 1024 * 1024;
const QUESTION_WORDS = 120;
const ANSWER_WORDS = 250;
/** About what a turn adds. */
const TURN_TOKENS = 480;
const SALT = "s".repeat(64);

const { values: flags } = parseArgs({
  options: {
    tokens: { type: "string", default: "100000" },
    model: { type: "string", default: "models/lexicon-3m/lexicon-3m.Q8_0.gguf" },
    json: { type: "boolean", default: false },
  },
});
const tokenizer = await openTokenizer({ engine: "llama", modelPath: flags.model });
const WORDS =
  `river water stone mountain flows quickly through valley old bridge people walk across every morning sun light answer
  question tool result function return value when the a of and, in order. to (see) above; while there is nothing else left`.split(
    /\s+/,
  );
let state = 1;
const text = (numWords: number): string =>
  Array.from({ length: numWords }, () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return WORDS[state % WORDS.length];
  }).join(" ");
const question = () => ({ role: "user", content: text(QUESTION_WORDS) });
const answer = () => ({ role: "assistant", content: text(ANSWER_WORDS) });

interface Gateway {
  readonly template: ReturnType<typeof createChatTemplate>;
  readonly conversations: Conversations;
}

function openGateway(): Gateway {
  const hasher = new ChainHasher({ modelId: "m".repeat(32), blockSizeTokens: 16 });
  return {
    template: createChatTemplate(tokenizer, { maxChars: 1 << 22, keptBytes: KEPT_BYTES }),
    conversations: new Conversations({ tokenizer, chains: () => hasher, maxBytes: KEPT_BYTES }),
  };
}

const STAGES = ["json", "check", "render", "tokenise", "submit"] as const;
type Times = Record<(typeof STAGES)[number], number>;

/** One request through the gateway; CPU milliseconds by stage. */
async function turn(gateway: Gateway, body: Buffer): Promise<{ times: Times; numTokens: number }> {
  const times: Times = { json: 0, check: 0, render: 0, tokenise: 0, submit: 0 };
  const timed = async <Result>(stage: keyof Times, run: () => Result | Promise<Result>): Promise<Result> => {
    const before = process.cpuUsage();
    const result = await run();
    const { user, system } = process.cpuUsage(before);
    times[stage] = (user + system) / 1000;
    return result;
  };
  const json = await timed("json", () => parseJsonBody(body, 64));
  const checked: ChatCompletionBody = await timed("check", () => parseBody(chatCompletionBody, json));
  const rendered = await timed("render", () => gateway.template.render(checked, SALT));
  const { tokens, blocks } = await timed("tokenise", () => gateway.conversations.tokenise(SALT, rendered));
  const request: Request = {
    ...{ id: "request", epoch: 1, promptTokens: tokens, knownBlockHashes: blocks!.hashes },
    ...{ resumedTokens: new Int32Array(0), maxOutputTokens: 100, minOutputTokens: 0 },
    ...{ ignoreEndOfGeneration: false, sampling: GREEDY, cacheSalt: SALT, priority: 0 },
  };
  await timed("submit", () => {
    encodeSubmission(request, { kind: "decode", prefillWorker: "p" });
    encodeSubmission(request, { kind: "prefill", decodeWorker: "d", decodeKvAddress: "unix:/d" });
  });
  return { times, numTokens: tokens.length };
}

const bodyOf = (messages: readonly object[]) =>
  Buffer.from(JSON.stringify({ model: "m", messages, max_tokens: 100 }));
const withoutJson = ({ check, render, tokenise, submit }: Times) => check + render + tokenise + submit;

/** A conversation of about so many tokens. */
async function history(): Promise<object[]> {
  const messages: object[] = [{ role: "system", content: text(1000) }];
  const gateway = openGateway();
  for (;;) {
    for (let i = 0; i < 10; i++) messages.push(question(), answer());
    const { numTokens } = await turn(gateway, bodyOf([...messages, question()]));
    if (numTokens >= Number(flags.tokens) - (TURNS / 2) * TURN_TOKENS) return messages;
  }
}

/** CPU ms of the gateway's process per turn of a conversation, and prompt tokens of the last one. */
async function serverTurns(
  before: readonly object[],
): Promise<{ cpuMs: number; numTokens: number; cachedTokens: number }> {
  const server = await startServe([
    ...["--engine", "stub", "--prefill", "1", "--decode", "1", "--ctx", "1000000", "--kv-tokens", "2000000"],
    ...["--prefix-cache-tokens", "1000000", "--chunk", "16384"],
  ]);
  const conversation = [...before, question()];
  const ask = async () => {
    const response = await fetch(`${server.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ messages: conversation, max_tokens: 1 }),
    });
    return (
      (await response.json()) as {
        usage: { prompt_tokens: number; prompt_tokens_details: { cached_tokens: number } };
      }
    ).usage;
  };
  await ask();
  const cpuBefore = cpuSeconds(server.pid);
  let usage = await ask();
  for (let i = 1; i < TURNS; i++) {
    conversation.push(answer(), question());
    usage = await ask();
  }
  const cpuMs = (1000 * (cpuSeconds(server.pid) - cpuBefore)) / TURNS;
  await server.stop();
  const {
    prompt_tokens: numTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  } = usage;
  return { cpuMs, numTokens, cachedTokens };
}

const messages = await history();
const server = await serverTurns(messages);
const cold: Times[] = [];
for (let i = 0; i < COLD_ROUNDS; i++)
  cold.push((await turn(openGateway(), bodyOf([...messages, question()]))).times);
const gateway = openGateway();
messages.push(question());
await turn(gateway, bodyOf(messages));
const warm: Times[] = [];
const fresh: Times[] = [];
let numTokens = 0;
let bodyBytes = 0;
for (let i = 0; i < TURNS; i++) {
  const added = [answer(), question()];
  messages.push(...added);
  const body = bodyOf(messages);
  bodyBytes = body.length;
  const result = await turn(gateway, body);
  numTokens = result.numTokens;
  warm.push(result.times);
  fresh.push((await turn(openGateway(), bodyOf(added))).times);
}
const medians = (all: readonly Times[]) =>
  Object.fromEntries(
    STAGES.map((stage) => [stage, round(median(all.map((times) => times[stage])))]),
  ) as Times;
/** Of the turns that other work on the machine disturbed least. */
const least = (all: readonly Times[]) =>
  median(
    all
      .map(withoutJson)
      .sort((a, b) => a - b)
      .slice(0, TURNS / 4),
  );
const cpuMsPerTurn = median(warm.map(withoutJson));
const cpuMsNewText = median(fresh.map(withoutJson));
report({
  title: `CPU ms of a turn with ${numTokens} tokens in ${messages.length} messages, ${bodyBytes} bytes`,
  rows: [
    { turn: "next", ...medians(warm) },
    { turn: "its new messages alone", ...medians(fresh) },
    { turn: "first", ...medians(cold) },
  ],
  result: {
    tokens: numTokens,
    messages: messages.length,
    bodyBytes,
    turns: TURNS,
    cpuMsPerTurn: round(cpuMsPerTurn),
    cpuMsNewText: round(cpuMsNewText),
    cpuMsBeyondNewText: round(cpuMsPerTurn - cpuMsNewText),
    cpuMsBeyondNewTextLeast: round(least(warm) - least(fresh)),
    cpuMsCold: round(median(cold.map(withoutJson))),
    cpuMsJson: round(median(warm.map(({ json }) => json))),
    stages: medians(warm),
    server: {
      cpuMsPerTurn: round(server.cpuMs),
      tokens: server.numTokens,
      cachedTokens: server.cachedTokens,
    },
  },
});
await tokenizer.close();

/**
 * What KV on disk is worth to conversations, on a real fleet of one prefill and one decode worker: 20 conversations of 10 turns, taken
 * in turns so that the engine's own cache has forgotten each before it goes on; then every worker is killed, and each conversation has
 * one more turn. The same requests go to a fleet with `--disk-kv` and to one that caches nothing, side by side, one at a time; TTFT is
 * compared turn by turn, and every text has to be equal.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Rng } from "../src/core/util/rng.ts";
import { median, report, round } from "./lib/report.ts";
import { type ServeProcess, startServe } from "./lib/serve-process.ts";

const MODEL = "lexicon-3m";
/** `--conversations N` measures fewer. */
const CONVERSATIONS = Number(process.argv[process.argv.indexOf("--conversations") + 1]) || 20;
const TURNS = 10;
/** A first message with something to talk about, and what follows it. */
const FIRST_TOKENS = 400;
const USER_TOKENS = 60;
const OUTPUT_TOKENS = 8;
const SEED = 1;

const folder = mkdtempSync(join(tmpdir(), "twofold-bench-tiers-"));
const COMMON = ["--ctx", "4096", "--kv-tokens", "8192"];
const cached = await startServe([...COMMON, "--prefix-cache-tokens", "2048", "--disk-kv", folder]);
const uncached = await startServe([...COMMON, "--prefix-cache-tokens", "0"]);

interface Answer {
  readonly ttftMs: number;
  readonly text: string;
  readonly cachedTokens: number;
  readonly promptTokens: number;
}

/** Streams one greedy completion. */
async function ask({ url }: ServeProcess, prompt: readonly number[]): Promise<Answer> {
  const sentMs = performance.now();
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: MODEL,
      prompt,
      max_tokens: OUTPUT_TOKENS,
      temperature: 0,
      ignore_eos: true,
      stream: true,
      stream_options: { include_usage: true },
    }),
  });
  if (!response.ok || response.body === null)
    throw new Error(`status ${response.status}: ${await response.text()}`);
  const decoder = new TextDecoder();
  let rest = "";
  let ttftMs = 0;
  let text = "";
  let usage = { prompt_tokens: 0, prompt_tokens_details: { cached_tokens: 0 } };
  for await (const bytes of response.body) {
    const lines = (rest + decoder.decode(bytes as Uint8Array, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (!line.startsWith("data: {")) continue;
      const chunk = JSON.parse(line.slice(6)) as {
        choices: Array<{ text: string }>;
        usage?: typeof usage | null;
        error?: unknown;
      };
      if (chunk.error !== undefined) throw new Error(line);
      if (ttftMs === 0 && chunk.choices.length > 0) ttftMs = performance.now() - sentMs;
      text += chunk.choices[0]?.text ?? "";
      usage = chunk.usage ?? usage;
    }
  }
  const { prompt_tokens: promptTokens, prompt_tokens_details: details } = usage;
  return { ttftMs, text, cachedTokens: details.cached_tokens, promptTokens };
}

async function tokenize({ url }: ServeProcess, prompt: string): Promise<number[]> {
  const response = await fetch(`${url}/tokenize`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: MODEL, prompt }),
  });
  return ((await response.json()) as { tokens: number[] }).tokens;
}

interface Turn {
  readonly turn: number;
  readonly cachedMs: number;
  readonly uncachedMs: number;
  readonly promptTokens: number;
  readonly cachedTokens: number;
}

let numUnequal = 0;
const stream = new Rng(SEED).stream("conversations");
const histories: number[][] = Array.from({ length: CONVERSATIONS }, () => []);
const turns: Turn[] = [];

/** One more turn of every conversation, on both fleets. */
async function runTurn(turn: number): Promise<void> {
  for (const history of histories) {
    for (let i = 0; i < (turn === 1 ? FIRST_TOKENS : USER_TOKENS); i++)
      history.push(300 + stream.nextBelow(3700));
    const first = turn % 2 === 0 ? cached : uncached;
    const a = await ask(first, history);
    const b = await ask(first === cached ? uncached : cached, history);
    const [with_, without] = first === cached ? [a, b] : [b, a];
    if (with_.text !== without.text) numUnequal++;
    const { promptTokens, cachedTokens } = with_;
    turns.push({ turn, cachedMs: with_.ttftMs, uncachedMs: without.ttftMs, promptTokens, cachedTokens });
    history.push(...(await tokenize(cached, with_.text)));
  }
}

for (let turn = 1; turn <= TURNS; turn++) await runTurn(turn);
await restartWorkers();
await runTurn(TURNS + 1);
await Promise.all([cached.stop(), uncached.stop()]);
rmSync(folder, { recursive: true, force: true });

async function workers({ url }: ServeProcess): Promise<Array<{ id: string; pid: number; state: string }>> {
  const body = (await (await fetch(`${url}/admin/workers`)).json()) as { workers?: never; data?: never };
  return body.workers ?? body.data ?? [];
}

/** Kills every worker of both fleets, and waits for those that take their places. */
async function restartWorkers(): Promise<void> {
  for (const server of [cached, uncached]) {
    const before = await workers(server);
    for (const { pid } of before) process.kill(pid, "SIGKILL");
    for (;;) {
      const now = await workers(server).catch(() => []);
      const isNew = now.every(({ id, state }) => state === "ready" && !before.some((old) => old.id === id));
      if (now.length === before.length && isNew) break;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

const rows = Array.from({ length: TURNS + 1 }, (_, i) => {
  const of = turns.filter(({ turn }) => turn === i + 1);
  const withMs = median(of.map(({ cachedMs }) => cachedMs));
  const withoutMs = median(of.map(({ uncachedMs }) => uncachedMs));
  return {
    turn: i === TURNS ? `${i + 1}, workers new` : String(i + 1),
    promptTokens: median(of.map(({ promptTokens }) => promptTokens)),
    cachedTokens: median(of.map(({ cachedTokens }) => cachedTokens)),
    ttftMs: withMs,
    uncachedTtftMs: withoutMs,
    share: withMs / withoutMs,
  };
});
const last = rows[TURNS - 1]!;
const restarted = rows[TURNS]!;
report({
  title: `${CONVERSATIONS} conversations of ${TURNS} turns, --disk-kv against no cache, median TTFT`,
  rows,
  result: {
    shareLastTurn: round(last.share),
    shareAfterRestart: round(restarted.share),
    cachedShareAfterRestart: round(restarted.cachedTokens / restarted.promptTokens),
    unequalTexts: numUnequal,
    requests: turns.length,
  },
});
process.exit(numUnequal === 0 ? 0 : 1);

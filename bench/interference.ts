/**
 * What long prompts do to running decodes: p99 of the gaps between tokens, for three layouts of two engine processes under the
 * same load. Eight streams decode without a pause while prompts of 512 tokens arrive at random (Poisson, the same seeded times for
 * every layout). Only the gaps of the eight streams count. Layouts take turns.
 */
import { quantile } from "../src/core/util/quantiles.ts";
import { Rng } from "../src/core/util/rng.ts";
import { gapsOf, streamCompletion } from "./lib/load.ts";
import { report, round } from "./lib/report.ts";
import { startServe } from "./lib/serve-process.ts";

const MODEL = "lexicon-3m";
const STREAMS = 8;
const STREAM_TOKENS = 200;
const LONG_PROMPT_TOKENS = 512;
const LONG_PROMPTS_PER_SECOND = 4.5;
const SECONDS = 12;
const ROUNDS = 2;

const COMMON = ["--ctx", "2048", "--kv-tokens", "16384", "--prefix-cache-tokens", "0", "--placement", "load"];
const LAYOUTS: Readonly<Record<string, readonly string[]>> = {
  split: ["--prefill", "1", "--decode", "1"],
  mixed: ["--both", "2", "--policy", "prefill-first"],
  chunked: ["--both", "2", "--policy", "chunked", "--chunk", "128"],
};

const gaps: Record<string, number[]> = { split: [], mixed: [], chunked: [] };
const ttfts: Record<string, number[]> = { split: [], mixed: [], chunked: [] };
for (let i = 0; i < ROUNDS; i++) {
  for (const [name, args] of Object.entries(LAYOUTS)) {
    const server = await startServe([...args, ...COMMON]);
    const seen = await load(server.url, i);
    gaps[name]!.push(...seen.gaps);
    ttfts[name]!.push(...seen.ttfts);
    await server.stop();
  }
}

async function load(url: string, seed: number): Promise<{ gaps: number[]; ttfts: number[] }> {
  const rng = new Rng(seed).stream("prompts");
  const tokens = (count: number): number[] => Array.from({ length: count }, () => 300 + rng.nextBelow(3700));
  await streamCompletion(url, { model: MODEL, prompt: tokens(64), max_tokens: 32 });
  const endMs = performance.now() + SECONDS * 1000;
  const all: number[] = [];
  const streams = Array.from({ length: STREAMS }, async () => {
    while (performance.now() < endMs) {
      all.push(
        ...gapsOf(
          await streamCompletion(url, { model: MODEL, prompt: tokens(48), max_tokens: STREAM_TOKENS }),
        ),
      );
    }
  });
  const arrivals = new Rng(seed).stream("arrivals");
  const longs: Array<Promise<number>> = [];
  while (performance.now() < endMs) {
    await new Promise((resolve) =>
      setTimeout(resolve, arrivals.nextExponential(1000 / LONG_PROMPTS_PER_SECOND)),
    );
    const sentMs = performance.now();
    const call = streamCompletion(url, { model: MODEL, prompt: tokens(LONG_PROMPT_TOKENS), max_tokens: 2 });
    longs.push(call.then((trace) => trace.contentTimesMs[0]! - sentMs));
  }
  await Promise.all(streams);
  return { gaps: all, ttfts: await Promise.all(longs) };
}

const p = (values: readonly number[], q: number): number =>
  quantile(
    [...values].sort((a, b) => a - b),
    q,
  ) ?? 0;
const row = (name: string) => ({
  layout: name,
  p50ItlMs: p(gaps[name]!, 0.5),
  p99ItlMs: p(gaps[name]!, 0.99),
  maxItlMs: p(gaps[name]!, 1),
  p50TtftMs: p(ttfts[name]!, 0.5),
  gaps: gaps[name]!.length,
});
const rows = Object.keys(LAYOUTS).map(row);
const [split, mixed, chunked] = rows;
report({
  title: `${STREAMS} streams decoding while ${LONG_PROMPTS_PER_SECOND} prompts/s of ${LONG_PROMPT_TOKENS} tokens arrive, two engine processes`,
  rows,
  result: {
    p99ItlSplitMs: round(split!.p99ItlMs),
    p99ItlMixedMs: round(mixed!.p99ItlMs),
    ratio: round(split!.p99ItlMs / mixed!.p99ItlMs),
    p99ItlChunkedMs: round(chunked!.p99ItlMs),
  },
});
process.exit(0);

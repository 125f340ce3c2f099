import { afterEach, describe, expect, it } from "vitest";
import { Rng } from "../../src/core/util/rng.ts";
import { complete, mapConcurrently } from "../support/completions.ts";
import { type ServerProcess, startServer } from "../support/server-process.ts";

const NUM_PROMPTS = 64;
const MAX_PROMPT_TOKENS = 3000;
/** Decoding is cheap beside prompts, and one other token makes all that follow it others. */
const OUTPUT_TOKENS = 24;
const CONCURRENCY = 8;
const SEED = 20_251_123;
/** Less than the prompts take together, so that the engines' cells are freed, used again and compacted. */
const KV_TOKENS = 8192;
/** Every prompt is handed over, however short. */
const COMMON = [
  "--ctx",
  "4096",
  "--kv-tokens",
  String(KV_TOKENS),
  "--max-running",
  "8",
  "--placement",
  "load",
  "--local-prefill-below",
  "0",
];
/** Ordinary tokens of the built-in model: no control tokens. */
const FIRST_TOKEN = 300;
const LAST_TOKEN = 4000;

interface Prompt {
  readonly prompt: number[];
  readonly temperature: number;
  readonly seed: number;
}

/** Prompts of 1 to 3,000 tokens: half of them begin with one of three shared prefixes; half of them are greedy. */
function makePrompts(): Prompt[] {
  const rng = new Rng(SEED).stream("prompts");
  const integer = (low: number, high: number): number => low + Math.floor(rng.nextFloat() * (high - low + 1));
  const tokens = (count: number): number[] =>
    Array.from({ length: count }, () => integer(FIRST_TOKEN, LAST_TOKEN));
  const prefixes = [tokens(40), tokens(333), tokens(1500)];
  const ownLengths = [1, MAX_PROMPT_TOKENS];
  return Array.from({ length: NUM_PROMPTS }, (_, i) => {
    const isShared = i % 2 === 1;
    const alone = ownLengths[i / 2] ?? Math.round(MAX_PROMPT_TOKENS ** (rng.nextFloat() ** 2));
    const shared = isShared ? prefixes[integer(0, 2)]! : [];
    return {
      prompt: [...shared, ...tokens(isShared ? integer(1, 150) : alone)],
      temperature: i % 4 < 2 ? 0 : 0.9,
      seed: integer(0, 2 ** 31),
    };
  });
}

describe("a split fleet", () => {
  const servers: ServerProcess[] = [];
  afterEach(async () => {
    for (const server of servers.splice(0)) await server.stop();
  });

  async function textsOf(args: string[], prompts: readonly Prompt[]): Promise<string[]> {
    const server = await startServer([...args, ...COMMON]);
    servers.push(server);
    const texts = await mapConcurrently(prompts, CONCURRENCY, async ({ prompt, temperature, seed }) => {
      const result = await complete(server.url, {
        prompt,
        temperature,
        seed,
        max_tokens: OUTPUT_TOKENS,
        ignore_eos: true,
      });
      expect(result.error).toBeNull();
      expect(result.usage?.prompt_tokens).toBe(prompt.length);
      expect(result.usage?.completion_tokens).toBe(OUTPUT_TOKENS);
      return result.text;
    });
    if (args.includes("--prefill")) {
      const labels = '{worker="decode-1",role="decode",outcome="ok"}';
      // Workers report twice a second.
      await expect
        .poll(() => server.metric("twofold_worker_handoffs_total", labels), { timeout: 5000 })
        .toBe(NUM_PROMPTS);
    }
    await servers.pop()!.stop();
    return texts;
  }

  it("says byte for byte what one worker says, greedy and seeded, whatever the chunk size", async () => {
    const prompts = makePrompts();
    const numTokens = prompts.reduce((sum, { prompt }) => sum + prompt.length, 0);
    expect(numTokens).toBeGreaterThan(2 * KV_TOKENS);
    const reference = await textsOf(["--both", "1", "--chunk", "256"], prompts);
    expect(new Set(reference).size).toBeGreaterThan(NUM_PROMPTS / 2);
    for (const chunk of ["32", "256"]) {
      const split = await textsOf(["--prefill", "1", "--decode", "1", "--chunk", chunk], prompts);
      expect(split).toEqual(reference);
    }
  }, 180_000);
});

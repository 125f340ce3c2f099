/**
 * Tokens per second of the worker loop against bare `llama_decode` calls with the same batches. `ratio` is of requests as they
 * come, prompt and output, at batch 8; the other rows show its two halves by themselves. The worker's share is largest where steps
 * are shortest: decodes with little context.
 */
import { compareLoops, type LoopTime } from "./lib/loop-comparison.ts";
import { median, report, round } from "./lib/report.ts";

const WORK = {
  requests: { batch: 8, promptTokens: 256, outputTokens: 128, rounds: 16 },
  decode: { batch: 8, promptTokens: 64, outputTokens: 100, rounds: 30 },
  prefill: { batch: 2, promptTokens: 512, outputTokens: 1, rounds: 16 },
};

const tokensPerSecond = (list: readonly LoopTime[]): number =>
  median(list.map(({ numTokens, wallMs }) => (numTokens * 1000) / wallMs));

const rows = [];
for (const [name, work] of Object.entries(WORK)) {
  const { ours, bare } = await compareLoops(work);
  // Medians, not pairs: the machine's speed changes within a round as much as between rounds.
  const rates = { ours: tokensPerSecond(ours), bare: tokensPerSecond(bare) };
  const { batch, promptTokens, outputTokens } = work;
  rows.push({ name, batch, in: promptTokens, out: outputTokens, ...rates, ratio: rates.ours / rates.bare });
}
const [requests, decode, prefill] = rows;
report({
  title: "Tokens per second: worker loop against bare llama_decode + argmax, wall time, built-in model",
  rows,
  result: {
    ratio: round(requests!.ratio),
    decodeRatio: round(decode!.ratio),
    prefillRatio: round(prefill!.ratio),
  },
});

/** Tokens per second of the worker loop against bare `llama_decode` calls with the same batches: prefill and decode. */
import { compareLoops, type LoopTime } from "./lib/loop-comparison.ts";
import { median, report, round } from "./lib/report.ts";

const decode = await compareLoops({ batch: 8, promptTokens: 64, outputTokens: 100, rounds: 30 });
const prefill = await compareLoops({ batch: 2, promptTokens: 512, outputTokens: 1, rounds: 16 });

function ratioOf({ ours, bare }: { ours: LoopTime[]; bare: LoopTime[] }): number {
  // Medians, not pairs: the machine's speed changes within a round as much as between rounds.
  return median(bare.map(({ wallMs }) => wallMs)) / median(ours.map(({ wallMs }) => wallMs));
}
const tokensPerSecond = (list: readonly LoopTime[]): number =>
  median(list.map(({ numTokens, wallMs }) => (numTokens * 1000) / wallMs));
const ratios = { decode: ratioOf(decode), prefill: ratioOf(prefill) };
report({
  title: "Worker loop against bare llama_decode + argmax, wall time, built-in model",
  rows: [
    {
      work: "decode, batch 8",
      ours: tokensPerSecond(decode.ours),
      bare: tokensPerSecond(decode.bare),
      ratio: ratios.decode,
    },
    {
      work: "prefill, 2 × 512",
      ours: tokensPerSecond(prefill.ours),
      bare: tokensPerSecond(prefill.bare),
      ratio: ratios.prefill,
    },
  ],
  result: {
    ratio: round(Math.min(ratios.decode, ratios.prefill)),
    decodeRatio: round(ratios.decode),
    prefillRatio: round(ratios.prefill),
  },
});

import type { ModelEntry } from "../entry.ts";
import { denseModel, published } from "./model-notation.ts";

const PLAIN = { isGated: false, isTied: true, context: 2048 } as const;

/** Models with a plain two-matrix feed-forward part and one embedding matrix: those of the serving papers of 2022 to 2024. */
export const OPT_MODELS: readonly ModelEntry[] = [
  denseModel("opt-13b", "OPT-13B", "2022-05", [40, 5120, 40, 40, 128, 20480, 50272], {
    ...PLAIN,
    figures: published(13),
    aliases: ["facebook/opt-13b"],
    sources: ["distserve", "hf-config"],
  }),
  denseModel("opt-66b", "OPT-66B", "2022-05", [64, 9216, 72, 72, 128, 36864, 50272], {
    ...PLAIN,
    figures: published(66),
    aliases: ["facebook/opt-66b"],
    sources: ["distserve", "hf-config"],
    contradictions: [
      {
        topic: "KV of 512 tokens",
        finding: "DistServe's 1.13 GB are GiB: 512 x 2,359,296 B are 1.208 GB",
        sources: ["distserve", "arithmetic"],
      },
    ],
  }),
  denseModel("opt-175b", "OPT-175B", "2022-05", [96, 12288, 96, 96, 128, 49152, 50272], {
    ...PLAIN,
    figures: published(175),
    aliases: ["facebook/opt-175b"],
    sources: ["distserve"],
  }),
  denseModel("gpt3-175b", "GPT-3 175B", "2020-05", [96, 12288, 96, 96, 128, 49152, 50257], {
    ...PLAIN,
    figures: published(175),
    aliases: ["gpt-3"],
    sources: ["orca"],
  }),
  denseModel("bloom-176b", "BLOOM 176B", "2022-07", [70, 14336, 112, 112, 128, 57344, 250880], {
    ...PLAIN,
    figures: published(176.2),
    aliases: ["bigscience/bloom"],
    sources: ["splitwise-sim", "hf-config"],
  }),
];

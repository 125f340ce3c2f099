import { validateSplitwise } from "../paper/validate-splitwise.ts";
import { validateAiconfigurator } from "./aiconfigurator.ts";
import { validateInferencex } from "./inferencex.ts";
import { validateKernels } from "./kernels.ts";
import { validateLlmservingsim } from "./llmservingsim.ts";
import { validateOwn } from "./own.ts";
import type { ValidateOptions, ValidationReport } from "./report.ts";
import { validateVllmServing } from "./vllm-serving.ts";

/** A data set that predictions can be compared with. */
export interface Validator {
  readonly name: string;
  /** What `--data` has to be, for help texts. */
  readonly data: string;
  /** Throws an error whose message names the file (and line) when the data cannot be read. */
  run(path: string, options: ValidateOptions): Promise<ValidationReport>;
}

/** All validators, by name. */
export const VALIDATORS: readonly Validator[] = [
  {
    name: "kernels",
    data: "a folder of kernel tables in AIConfigurator's layout",
    run: validateKernels,
  },
  {
    name: "aiconfigurator",
    data: "silicon_sample.csv, or a CSV with its columns",
    run: validateAiconfigurator,
  },
  {
    name: "splitwise",
    data: "a folder of recorded runs of Splitwise's simulator with their traces and its perf_model.csv",
    run: async (path) => validateSplitwise(path),
  },
  {
    name: "vllm-serving",
    data: "leaderboard CSV of measured vLLM servers, or the JSON of experiments with their settings",
    run: validateVllmServing,
  },
  {
    name: "llmservingsim",
    data: "a folder with recorded vLLM runs in LLMServingSim's layout (vllm/requests.jsonl, vllm/meta.json)",
    run: validateLlmservingsim,
  },
  {
    name: "inferencex",
    data: "CSV of closed-loop points in InferenceX's columns",
    run: validateInferencex,
  },
  {
    name: "own",
    data: "the folder of a recorded run (requests.jsonl, fleet.yaml, profile.json), or a folder of such folders",
    run: validateOwn,
  },
];

/** The validator of that name, or null. */
export function validatorOf(name: string): Validator | null {
  return VALIDATORS.find((validator) => validator.name === name) ?? null;
}

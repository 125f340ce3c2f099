import { z } from "zod";
import { readTextFile } from "../../catalog/read-text-file.ts";
import type { MeasuredRow, ServingExperiment } from "./serving-experiment.ts";

/** Most requests of a stage, most users, and the largest file. */
const MAX_STAGE_REQUESTS = 1_000_000;
const MAX_USERS = 100_000;
const MAX_JSON_BYTES = 64 * 2 ** 20;

/** Percentiles of one latency, in seconds. */
const seconds = z.number().positive();
const Latency = z.object({ mean: seconds, median: seconds, p90: seconds, p99: seconds });

const Stage = z.object({
  success: z.number(),
  failures: z.number(),
  latency_s: z.object({ request_latency: Latency, time_to_first_token: Latency }),
  prompt_len: z.object({ mean: z.number().positive() }),
  output_len: z.object({ mean: z.number().positive() }),
});

const Experiments = z.array(
  z.object({
    experiment: z.string(),
    gpu: z.string(),
    server: z.object({
      model: z.string(),
      tensor_parallelism: z.coerce.number().int().min(1).max(1024),
      max_num_batched_tokens: z.coerce.number().int().min(1).max(1e6),
      max_num_seqs: z.coerce.number().int().min(1).max(1e6),
    }),
    workload: z.object({
      data: z.object({
        type: z.literal("shared_prefix"),
        shared_prefix: z
          .object({
            num_unique_system_prompts: z.number().int().min(1).max(1e5),
            num_users_per_system_prompt: z.number().int().min(1).max(1e5),
            output_len: z.number().int().min(2).max(1e6),
            question_len: z.number().int().min(1).max(1e6),
            system_prompt_len: z.number().int().min(0).max(1e6),
          })
          .refine(
            (prefix) => prefix.num_unique_system_prompts * prefix.num_users_per_system_prompt <= MAX_USERS,
            {
              message: `has more than ${MAX_USERS} users`,
            },
          ),
      }),
      load: z.object({
        type: z.literal("constant"),
        stages: z
          .array(
            z
              .object({ duration: z.number().positive().max(1e5), rate: z.number().positive().max(1e4) })
              .refine(({ duration, rate }) => duration * rate >= 1 && duration * rate <= MAX_STAGE_REQUESTS, {
                message: `has a rate and duration of fewer than 1 or more than ${MAX_STAGE_REQUESTS} requests`,
              }),
          )
          .min(1)
          .max(100),
      }),
    }),
    stages: z.record(z.string(), Stage),
  }),
);

type Described = z.infer<typeof Experiments>[number];

/** Share of device memory of servers that do not state it: vLLM's default. */
const DEFAULT_UTILISATION = 0.9;

/** Reads experiments with their settings, one JSON object each. Throws an error that names file and key for bad data. */
export async function readExperimentsJson(path: string): Promise<ServingExperiment[]> {
  let data: unknown;
  try {
    data = JSON.parse(readTextFile(path, MAX_JSON_BYTES, path));
  } catch (error) {
    throw new Error(`${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
  const parsed = Experiments.safeParse(data);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new Error(`${path}: ${issue.path.join(".") || "the file"}: ${issue.message}`);
  }
  return parsed.data.map(toExperiment);
}

function toExperiment(described: Described): ServingExperiment {
  const { server, workload, stages } = described;
  const { shared_prefix: prefix } = workload.data;
  const whole = stages.summary ?? Object.values(stages)[0]!;
  return {
    name: described.experiment,
    modelName: server.model,
    hardware: described.gpu,
    tp: server.tensor_parallelism,
    dp: 1,
    precision: "BF16",
    isOffloading: false,
    memoryUtilisation: DEFAULT_UTILISATION,
    tokenBudget: server.max_num_batched_tokens,
    maxRunning: server.max_num_seqs,
    load: {
      stages: workload.load.stages.map(({ duration, rate }) => ({ durationS: duration, rate })),
      prompts: {
        systemPrompts: prefix.num_unique_system_prompts,
        usersPerSystemPrompt: prefix.num_users_per_system_prompt,
        systemTokens: prefix.system_prompt_len,
        promptTokens: Math.round(whole.prompt_len.mean),
        outputTokens: prefix.output_len,
      },
    },
    loadName: described.experiment,
    recountedTokens: whole.output_len.mean,
    failedShare: whole.failures / Math.max(1, whole.success + whole.failures),
    rows: Object.entries(stages).flatMap(([name, stage]) => rowsOf(name, stage)),
  };
}

/** Rows with the metric names of the leaderboard. Stages are named `stage_0` and so on; `summary` is all of them. */
function rowsOf(name: string, stage: z.infer<typeof Stage>): MeasuredRow[] {
  const index = name === "summary" ? -1 : Number(name.replace(/^stage_/, ""));
  if (!Number.isInteger(index)) return [];
  const { request_latency: e2e, time_to_first_token: ttft } = stage.latency_s;
  const row = (metric: string, seconds: number): MeasuredRow => ({
    line: 0,
    stage: index,
    metric,
    measuredMs: seconds * 1000,
    rivals: new Map(),
  });
  return [
    row("e2e_mean", e2e.mean),
    row("e2e_p90", e2e.p90),
    row("e2e_p99", e2e.p99),
    row("ttft_mean", ttft.mean),
    row("ttft_p90", ttft.p90),
    row("ttft_p99", ttft.p99),
    row("itl_mean", (e2e.mean - ttft.mean) / (stage.output_len.mean - 1)),
  ];
}

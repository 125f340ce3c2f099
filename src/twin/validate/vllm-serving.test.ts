import { existsSync } from "node:fs";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import { VLLM_FIT } from "../../catalog/vllm-fit.ts";
import { predictServing, resolveExperiment } from "./predict-serving.ts";
import { readLeaderboard } from "./serving-experiment.ts";
import { readExperimentsJson } from "./serving-json.ts";
import { halvesOf } from "./serving-split.ts";
import { validateVllmServing } from "./vllm-serving.ts";

/** Measurements that are not part of this repository; without them the tests on them are reported as skipped. */
const LEADERBOARD = fileURLToPath(
  new URL("../../../../shared/silicon/vllm-serving-groundtruth/leaderboard26.csv", import.meta.url),
);

const HEADER =
  "exp_id,model,hardware,tp,workload,precision,cpu_offload,gpu_mem_util,max_num_batched_tokens,dp,stage_index,metric_name,measured_ms,pred_ms_rival";
const LLAMA = "meta-llama/Llama-3.1-8B-Instruct";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "twofold-serving-"));
});

async function csv(...rows: string[]): Promise<string> {
  const path = join(folder, `${rows.length}-${Math.abs(hash(rows.join()))}.csv`);
  await writeFile(path, `${[HEADER, ...rows].join("\n")}\n`);
  return path;
}

function hash(text: string): number {
  return [...text].reduce((sum, character) => (sum * 31 + character.charCodeAt(0)) | 0, 7);
}

/** One experiment with two short stages, as a file with settings describes it. */
function described(overrides: Record<string, unknown> = {}) {
  const latency = { mean: 1, median: 1, p90: 1, p99: 1 };
  const stage = {
    success: 30,
    failures: 0,
    latency_s: { request_latency: latency, time_to_first_token: { ...latency, mean: 0.1 } },
    prompt_len: { mean: 70.4 },
    output_len: { mean: 19 },
  };
  return {
    experiment: "tiny",
    gpu: "H100",
    server: {
      model: LLAMA,
      tensor_parallelism: "1",
      max_num_batched_tokens: "2048",
      max_num_seqs: "128",
    },
    workload: {
      data: {
        type: "shared_prefix",
        shared_prefix: {
          num_unique_system_prompts: 2,
          num_users_per_system_prompt: 2,
          output_len: 20,
          question_len: 50,
          system_prompt_len: 16,
        },
      },
      load: {
        type: "constant",
        stages: [
          { rate: 2, duration: 5 },
          { rate: 4, duration: 5 },
        ],
      },
    },
    stages: { stage_0: stage, stage_1: stage, summary: stage },
    ...overrides,
  };
}

async function json(...experiments: unknown[]): Promise<string> {
  const path = join(folder, `${Math.abs(hash(JSON.stringify(experiments)))}.json`);
  await writeFile(path, JSON.stringify(experiments));
  return path;
}

describe("reading a leaderboard", () => {
  it("gathers the rows of an experiment with what others predicted", async () => {
    const row = `1,${LLAMA},H100,2,general,FP16,True,0.95,1024,`;
    const [experiment, ...others] = readLeaderboard(
      await csv(`${row},-1,e2e_mean,1500,1600`, `${row},0,ttft_p99,30.5,`),
    );
    expect(others).toEqual([]);
    expect(experiment).toMatchObject({
      tp: 2,
      dp: 1,
      isOffloading: true,
      memoryUtilisation: 0.95,
      tokenBudget: 1024,
    });
    expect(experiment!.load!.stages.map(({ rate }) => rate)).toEqual([8, 20]);
    expect(experiment!.rows).toMatchObject([
      { stage: -1, metric: "e2e_mean", measuredMs: 1500 },
      { stage: 0, metric: "ttft_p99", measuredMs: 30.5 },
    ]);
    expect(experiment!.rows.map(({ rivals }) => rivals.get("rival"))).toEqual([1600, undefined]);
  });

  it.each([
    ["tp", `1,${LLAMA},H100,two,general,FP16,False,0.9,2048,,-1,e2e_mean,1500,`],
    ["gpu_mem_util", `1,${LLAMA},H100,1,general,FP16,False,1.5,2048,,-1,e2e_mean,1500,`],
    ["measured_ms", `1,${LLAMA},H100,1,general,FP16,False,0.9,2048,,-1,e2e_mean,-3,`],
    ["stage_index", `1,${LLAMA},H100,1,general,FP16,False,0.9,2048,,0.5,e2e_mean,3,`],
    ["pred_ms_rival", `1,${LLAMA},H100,1,general,FP16,False,0.9,2048,,0,e2e_mean,3,many`],
  ])("names the line and what is allowed for a bad %s", async (column, row) => {
    const path = await csv(row);
    expect(() => readLeaderboard(path)).toThrow(new RegExp(`:2: ${column} .*allowed:`));
  });
});

describe("reading experiments with settings", () => {
  it("takes load and lengths from the settings, and times in milliseconds", async () => {
    const [experiment] = await readExperimentsJson(await json(described()));
    expect(experiment!.load).toEqual({
      stages: [
        { rate: 2, durationS: 5 },
        { rate: 4, durationS: 5 },
      ],
      prompts: {
        systemPrompts: 2,
        usersPerSystemPrompt: 2,
        systemTokens: 16,
        promptTokens: 70,
        outputTokens: 20,
      },
    });
    const row = experiment!.rows.find(({ stage, metric }) => stage === -1 && metric === "itl_mean");
    expect(row!.measuredMs).toBeCloseTo(900 / 18);
  });

  it("names file and key of bad data", async () => {
    const path = await json(described({ server: { model: 3 } }));
    await expect(readExperimentsJson(path)).rejects.toThrow(/\.json: 0\.server\.model: /);
    await writeFile(join(folder, "broken.json"), "[{");
    await expect(readExperimentsJson(join(folder, "broken.json"))).rejects.toThrow(/broken\.json: /);
  });
});

describe("predictions", () => {
  it("cover stages and the whole run, with the client's count of tokens", async () => {
    const [experiment] = await readExperimentsJson(await json(described()));
    const resolved = resolveExperiment(experiment!);
    if ("problem" in resolved) throw new Error(resolved.problem);
    const prediction = predictServing(resolved);
    expect(prediction.problem).toBeNull();
    const [e2e, ttft, itl] = ["e2e_mean", "ttft_mean", "itl_mean"].map(
      (name) => prediction.valueOf(-1, name)!,
    );
    expect(itl).toBeCloseTo((e2e! - ttft!) / 18);
    // Ten requests and twenty: the whole run is their mean by number.
    const byStage = [0, 1].map((stage) => prediction.valueOf(stage, "e2e_mean")!);
    expect(e2e).toBeCloseTo((byStage[0]! + 2 * byStage[1]!) / 3);
    expect(prediction.valueOf(2, "e2e_mean")).toBeNull();
    expect(prediction.valueOf(0, "joules")).toBeNull();
  });

  it("say why there are none", async () => {
    const problemOf = async (overrides: Record<string, unknown>): Promise<string> => {
      const [experiment] = await readExperimentsJson(await json(described(overrides)));
      const resolved = resolveExperiment(experiment!);
      return "problem" in resolved ? resolved.problem : "";
    };
    expect(await problemOf({ gpu: "H1000" })).toContain("H1000");
    const failing = described().stages.summary;
    expect(await problemOf({ stages: { summary: { ...failing, failures: 30 } } })).toContain(
      "50 % of its requests",
    );
  });
});

describe("validateVllmServing", () => {
  it("skips what it cannot predict with its reason, and what the terms were fitted on", async () => {
    const fitted = VLLM_FIT.fittedOn.find((name) => name.includes(" H100 tp1 "))!;
    const [id, model, hardware, , load, precision, utilisation, budget] = fitted.split(" ");
    const path = await csv(
      `${id},${model},${hardware},1,${load},${precision},False,${utilisation},${budget},,-1,e2e_mean,1,`,
      `900,${LLAMA},H100,1,chess,FP16,False,0.9,2048,,-1,e2e_mean,1,`,
      `901,nobody/Nothing,H100,1,general,FP16,False,0.9,2048,,-1,e2e_mean,1,`,
      `902,${LLAMA},H100,1,general,FP3,False,0.9,2048,,-1,e2e_mean,1,`,
      `903,meta-llama/Llama-2-70b-hf,H100,1,general,FP16,False,0.9,2048,,-1,e2e_mean,1,`,
    );
    const report = await validateVllmServing(path, { includesFitted: false });
    expect(report.rows).toBe(5);
    expect(report.metrics).toEqual({});
    const reasons = report.skipped.map(({ reason }) => reason);
    for (const [index, part] of [
      "fitted on this",
      '"chess"',
      "nobody/Nothing",
      '"FP3"',
      "does not fit",
    ].entries())
      expect(reasons[index]).toContain(part);
  });

  // The measurements have no licence and are not in the repository: the test runs where they are.
  it.skipIf(!existsSync(LEADERBOARD))(
    "predicts a measured server that the fit has not seen within a loose bound",
    { timeout: 60_000 },
    async () => {
      const experiments = readLeaderboard(LEADERBOARD);
      const unseen = experiments.find(
        ({ name, loadName }) => loadName === "general-lite" && !VLLM_FIT.fittedOn.includes(name),
      )!;
      const resolved = resolveExperiment(unseen);
      if ("problem" in resolved) throw new Error(resolved.problem);
      const prediction = predictServing(resolved, { maxStageS: 60, ignoredShare: 0.5 });
      for (const metric of ["e2e_mean", "ttft_mean", "itl_mean"]) {
        const { measuredMs } = unseen.rows.find((row) => row.stage === 0 && row.metric === metric)!;
        expect(Math.abs(prediction.valueOf(0, metric)! / measuredMs - 1)).toBeLessThan(0.2);
      }
    },
  );
});

describe("halvesOf", () => {
  it("lets the members of a group take turns, whatever their order", () => {
    const items = Array.from({ length: 9 }, (_, i) => ({ group: i < 6 ? "a" : "b", name: `${i}` }));
    const halves = halvesOf(items, (item) => item);
    const again = halvesOf([...items].reverse(), (item) => item);
    for (const item of items) expect(again.get(item)).toBe(halves.get(item));
    expect(items.slice(0, 6).filter((item) => halves.get(item) === 0)).toHaveLength(3);
    expect(halves.get(items[0]!)).not.toBe(halves.get(items[1]!));
  });
});

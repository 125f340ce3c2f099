import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { validateInferencex } from "./inferencex.ts";

const HEADER =
  "source_file,model_id,isl,osl,num_prompts,max_concurrency,median_ttft,p99_ttft,median_e2el,p99_e2el,median_tpot,p99_tpot";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "twofold-loops-"));
});

async function run(...rows: string[]) {
  const path = join(folder, "points.csv");
  await writeFile(path, `${[HEADER, ...rows].join("\n")}\n`);
  return validateInferencex(path);
}

const TIMES = "0.2,0.4,1,2,0.01,0.02";

describe("validateInferencex", () => {
  it("runs a closed loop for every point whose server is known", async () => {
    const report = await run(`m/minimax_m25_vllm_tep8_isl64.json,MiniMaxAI/MiniMax-M2.5,64,4,6,2,${TIMES}`);
    expect(report.rows).toBe(6);
    expect(report.skipped).toEqual([]);
    expect(Object.keys(report.metrics)).toHaveLength(6);
    expect(report.metrics.median_e2el!.meanSignedPct).toBeGreaterThan(-100);
  });

  it("skips points whose server is not known", async () => {
    const report = await run(
      `g/glm5_fp8_vllm_tp8_isl64.json,zai-org/GLM-5-FP8,64,4,6,2,${TIMES}`,
      `x/other.json,zai-org/GLM-5-FP8,64,4,6,2,${TIMES}`,
    );
    expect(report.metrics).toEqual({});
    expect(report.skipped.map(({ reason }) => reason)).toEqual([
      "the GPU of these measurements is not stated",
      "no set-up of the server is known for results of this name",
    ]);
  });

  it("names the line of a number that cannot be", async () => {
    await expect(
      run(`m/minimax_m25_vllm_tep8.json,MiniMaxAI/MiniMax-M2.5,none,4,6,2,${TIMES}`),
    ).rejects.toThrow(/points\.csv:2: isl is "none"; allowed: /);
  });
});

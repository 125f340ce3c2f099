import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { FakeIo } from "../../test/support/cli-io.ts";
import { runCli } from "./program.ts";
import type { Product } from "./serving.ts";

const nothing: Product = {
  startServing: () => Promise.reject(new Error("not part of this test")),
  runWorker: () => Promise.reject(new Error("not part of this test")),
};

const HEADER =
  "id,backend,model_path,system,mode,isl,osl,gemm_quant_mode,moe_quant_mode,batch_size,tp_size," +
  "attention_dp_size,moe_tp_size,moe_ep_size,silicon_ttft_ms,silicon_tpot_ms";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "twofold-validate-"));
  const rows = [
    "a,vllm,Qwen/Qwen3-32B,h100_sxm,agg,1024,128,,,8,2,1,1,1,100,20",
    "b,vllm,nobody/Nothing,h100_sxm,agg,1024,128,,,8,2,1,1,1,100,20",
  ];
  await writeFile(join(folder, "good.csv"), `${[HEADER, ...rows].join("\n")}\n`);
  await writeFile(join(folder, "bad.csv"), `${HEADER}\n1,2\n`);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function run(...args: string[]): Promise<{ code: number; io: FakeIo }> {
  const io = new FakeIo();
  return { code: await runCli(["validate", ...args], io, nothing), io };
}

test("prints one JSON object with the promised keys for a file it has never seen", async () => {
  const path = join(folder, "good.csv");
  const { code, io } = await run("aiconfigurator", "--data", path, "--fitted", "--json");
  expect(io.errText).toBe("");
  expect(code).toBe(0);
  const report = JSON.parse(io.outText);
  expect(report).toMatchObject({ name: "aiconfigurator", data: path, rows: 2, rivals: {} });
  expect(report.skipped).toEqual([{ row: "b", reason: "model nobody/Nothing is not known" }]);
  expect(report.metrics.silicon_tpot_ms).toMatchObject({ n: 1 });
  expect(report.metrics.silicon_ttft_ms).toMatchObject({ n: 1 });
});

test("prints a table without --json", async () => {
  const { io } = await run("aiconfigurator", "--data", join(folder, "good.csv"), "--fitted");
  expect(io.outText).toMatch(/silicon_tpot_ms +1 /);
});

test("names the data sets when one is not known, and the closest", async () => {
  const { code, io } = await run("kernel", "--data", folder);
  expect(code).toBe(2);
  expect(io.errText).toMatch(/kernel: no such data set; allowed are kernels, .*did you mean kernels\?/);
});

test("names missing data, a broken line, and a folder without tables", async () => {
  const missing = await run("kernels", "--data", join(folder, "none"));
  expect(missing.code).toBe(2);
  expect(missing.io.errText).toMatch(/--data: .*none does not exist; it has to be a folder/);
  const broken = await run("aiconfigurator", "--data", join(folder, "bad.csv"));
  expect(broken.code).toBe(1);
  expect(broken.io.errText).toMatch(/bad\.csv:2: has 2 fields; the header names 16/);
  const empty = await run("kernels", "--data", folder);
  expect(empty.code).toBe(1);
  expect(empty.io.errText).toMatch(/no \*_perf\.parquet below it/);
});

import { describe, expect, it } from "vitest";
import { type SiliconRow, siliconRow } from "./silicon-row.ts";

const ROW: Readonly<Record<string, string>> = {
  id: "one",
  backend: "vllm",
  model_path: "Qwen/Qwen3-32B",
  system: "h100_sxm",
  mode: "agg",
  isl: "1024",
  osl: "128",
  gemm_quant_mode: "",
  moe_quant_mode: "",
  batch_size: "8",
  tp_size: "2",
  attention_dp_size: "",
  moe_tp_size: "1",
  moe_ep_size: "1",
  silicon_ttft_ms: "100",
  silicon_tpot_ms: "10",
};

const read = (change: Readonly<Record<string, string>>): ReturnType<typeof siliconRow> =>
  siliconRow({ values: { ...ROW, ...change } });

function good(change: Readonly<Record<string, string>>): SiliconRow {
  const row = read(change);
  if ("reason" in row) throw new Error(row.reason);
  return row;
}

describe("a measured row", () => {
  it("is read with its stated concurrency, or else that of its batch", () => {
    expect(good({}).concurrency).toBe(8);
    expect(good({ silicon_data_source: "x; silicon_concurrency=24" }).concurrency).toBe(24);
    expect(good({}).decode.parallelism).toEqual({ tp: 2, pp: 1, ep: 1, dp: 1 });
  });

  it("has nine tenths of the nominal lengths where they were drawn from the last fifth", () => {
    expect(good({ silicon_data_source: "db-dump/2026-04-27" }).inputTokens).toBe(922);
    expect(good({}).inputTokens).toBe(1024);
  });

  it("with devices counted twice is read as the number that its experts are spread over", () => {
    const change = {
      model_path: "deepseek-ai/DeepSeek-R1",
      gemm_quant_mode: "fp8",
      moe_quant_mode: "fp8_block",
    };
    expect(good({ ...change, tp_size: "64", moe_tp_size: "8", moe_ep_size: "8" }).decode.parallelism).toEqual(
      {
        tp: 8,
        pp: 1,
        ep: 8,
        dp: 1,
      },
    );
    const attention = { attention_dp_size: "4", tp_size: "4", moe_tp_size: "1", moe_ep_size: "16" };
    expect(good({ ...change, ...attention }).decode.parallelism).toEqual({ tp: 1, pp: 1, ep: 4, dp: 4 });
  });

  it.each([
    [{ model_path: "some/Unknown-7B" }, /model some\/Unknown-7B is not known/],
    [{ system: "z9" }, /system z9 is not known/],
    [{ mode: "disagg" }, /num_workers is missing/],
    [{ tp_size: "72", model_path: "deepseek-ai/DeepSeek-R1" }, /72 devices in one aggregated replica/],
    [{ tp_size: "3" }, /tp 3 does not divide 64 attention heads/],
    [{ silicon_tpot_ms: "" }, /no measured/],
    [{ gemm_quant_mode: "fp7" }, /gemm_quant_mode fp7/],
    [{ isl: "-5" }, /isl -5/],
    [{ mode: "magic" }, /mode magic/],
  ])("is skipped for a reason: %j", (change, reason) => {
    const row = read(change);
    expect("reason" in row && row.reason).toMatch(reason);
  });
});

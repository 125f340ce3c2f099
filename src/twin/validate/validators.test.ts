import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { ErrorSample } from "./error-stats.ts";
import { VALIDATORS, validatorOf } from "./registry.ts";
import { ReportBuilder } from "./report.ts";
import { renderValidation } from "./report-table.ts";
import { halfOf, isHeldOutShape } from "./split.ts";

/** Measurements that are not part of this repository; without them these tests are reported as skipped. */
const SILICON = fileURLToPath(new URL("../../../../shared/silicon/aiconfigurator/", import.meta.url));
const hasSilicon = existsSync(SILICON);

describe("error statistics", () => {
  it("are quantiles of the absolute and the mean of the signed relative error", () => {
    const sample = new ErrorSample();
    for (const predicted of [90, 95, 100, 110, 150]) sample.add(predicted, 100);
    expect(sample.stats()).toEqual({ n: 5, medianAbsPct: 10, p90AbsPct: 50, meanSignedPct: 9 });
    const ten = new ErrorSample();
    for (let error = 1; error <= 10; error++) ten.add(100 + error, 100);
    expect(ten.stats()).toMatchObject({ medianAbsPct: 5, p90AbsPct: 9 });
  });
});

describe("splits", () => {
  it("leave out about three tenths of the shapes and half of the rows, always the same", () => {
    const names = Array.from({ length: 4000 }, (_, i) => `${i} 128 ${i * 7}`);
    const share = names.filter(isHeldOutShape).length / names.length;
    expect(share).toBeGreaterThan(0.27);
    expect(share).toBeLessThan(0.33);
    const half = names.filter((name) => halfOf(name) === 1).length / names.length;
    expect(half).toBeGreaterThan(0.47);
    expect(half).toBeLessThan(0.53);
    expect(names.filter(isHeldOutShape)).toEqual(names.filter(isHeldOutShape));
  });
});

describe("a report", () => {
  it("has the promised keys, and a table with every metric and reason", () => {
    const builder = new ReportBuilder();
    builder.addRows(3);
    builder.add("ttft_mean", 110, 100, "h100");
    builder.addRival("other", "ttft_mean", 150, 100);
    builder.leaveOut("row 3", "no such model");
    const report = builder.build("sample", "file.csv");
    expect(report).toEqual({
      name: "sample",
      data: "file.csv",
      rows: 3,
      skipped: [{ row: "row 3", reason: "no such model" }],
      metrics: { ttft_mean: { n: 1, medianAbsPct: 10, p90AbsPct: 10, meanSignedPct: 10 } },
      rivals: { other: { ttft_mean: { n: 1, medianAbsPct: 50, p90AbsPct: 50, meanSignedPct: 50 } } },
      groups: { "h100: ttft_mean": { n: 1, medianAbsPct: 10, p90AbsPct: 10, meanSignedPct: 10 } },
    });
    const text = renderValidation(report);
    for (const part of ["ttft_mean", "other", "no such model", "h100"]) expect(text).toContain(part);
  });
});

describe("the registry", () => {
  it("finds every validator by its own name and none by another", () => {
    for (const validator of VALIDATORS) expect(validatorOf(validator.name)).toBe(validator);
    expect(validatorOf("kernel")).toBeNull();
  });
});

// Nobody may publish the measurements as part of this repository.
describe.skipIf(!hasSilicon)("on measured silicon", () => {
  it("kernels of one device are predicted within the bars on shapes that were left out", async () => {
    const path = `${SILICON}systems/data/a100_sxm`;
    const report = await validatorOf("kernels")!.run(path, { includesFitted: false });
    expect(report.metrics.gemm_ms!.n).toBeGreaterThan(1000);
    expect(report.metrics.gemm_ms!.medianAbsPct).toBeLessThan(5);
    expect(report.metrics.context_attention_ms!.medianAbsPct).toBeLessThan(5);
    expect(report.metrics.generation_attention_ms!.medianAbsPct).toBeLessThan(5);
    expect(Object.keys(report.rivals)).toEqual(["table interpolation"]);
  }, 60_000);

  it("end-to-end TPOT of rows that nothing was fitted on is predicted within the bar", async () => {
    const report = await validatorOf("aiconfigurator")!.run(`${SILICON}silicon_sample.csv`, {
      includesFitted: false,
    });
    expect(report.rows).toBe(4181);
    expect(report.metrics.silicon_tpot_ms!.n).toBeGreaterThan(1500);
    expect(report.metrics.silicon_tpot_ms!.medianAbsPct).toBeLessThan(13);
  }, 60_000);
});

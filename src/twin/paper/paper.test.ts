import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Rng } from "../../core/util/rng.ts";
import { readCsv } from "../csv-file.ts";
import { DedicatedLinks } from "../network/dedicated-links.ts";
import { highestRate, poissonRequests } from "./capacity.ts";
import { DistserveData } from "./distserve-data.ts";
import { drawDistserveSharegpt } from "./distserve-experiments.ts";
import { gapQuantile } from "./outcomes.ts";
import { parseSplitwiseDesign } from "./splitwise-fleet.ts";
import { readSplitwiseGolden, readSplitwiseTrace, SPLITWISE_METRICS } from "./splitwise-golden.ts";
import { readSplitwiseTable } from "./splitwise-table.ts";
import { validateSplitwise } from "./validate-splitwise.ts";

const SHARED = new URL("../../../../shared/silicon/splitwise-sim/", import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), "twofold-paper-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/** A table and a golden folder of the paper's form with made-up numbers. */
function makeGolden(): void {
  const machines = ["a100-80gb", "h100-80gb", "h100-80gb-pcap"];
  const rows = machines.flatMap((name) =>
    [512, 2048].map(
      (tokens) => `bloom-176b,${name},${tokens},1,128,0,0,${tokens / 4},${40 + tokens / 1000},0,8`,
    ),
  );
  const columns =
    "model,hardware,prompt_size,batch_size,token_size,peak_power,average_power,prompt_time,token_time,e2e_time,tensor_parallel";
  file("perf_model.csv", [columns, ...rows].join("\n"));
  file("rr_made-up_1_2min.csv", "arrival_timestamp,prompt_size,token_size\n0.5,400,10\n0.6,800,5\n");
  const figures = SPLITWISE_METRICS.map(() => "1").join(",");
  file(
    "splitwisesim_bloom176b_2min.csv",
    `config,completed,${SPLITWISE_METRICS.join(",")},workload,rps\nSplitwise-HA-1-1,2,${figures},made-up,1\nSplitwise-XX-1-1,2,${figures},made-up,1\nBaseline-A100-1,2,${figures},other,9\n`,
  );
}

describe("validateSplitwise", () => {
  it("reports the file's metrics, and skips rows that it cannot run with the reason", () => {
    makeGolden();
    const report = validateSplitwise(folder);
    expect(report.rows).toBe(3);
    expect(report.skipped.map(({ reason }) => reason)).toEqual([
      "unknown design Splitwise-XX-1-1",
      expect.stringContaining("rr_other_9_2min.csv"),
    ]);
    expect(Object.keys(report.metrics).sort()).toEqual([...SPLITWISE_METRICS].sort());
    // Alone on an H100 of the made-up table the first prompt takes a quarter of a millisecond per token.
    expect(report.metrics.ttft_s_p50!.n).toBe(1);
  });

  it("names what is missing", () => {
    expect(() => validateSplitwise(join(folder, "nowhere"))).toThrow(/nowhere.*does not exist/);
  });
});

// The recorded runs are their makers' and lie beside the repository, not in it.
describe.skipIf(!existsSync(SHARED))(
  "recorded runs of Splitwise's simulator (skipped without ../shared)",
  () => {
    it("are met to a thousandth by aggregated and split fleets alike", async () => {
      // Compiled: KV by the token is bookkeeping for tens of thousands of steps, which takes several times as long in transformed code.
      const path = new URL("../../../dist/twin/paper/splitwise-golden.js", import.meta.url).href;
      const compiled = (await import(path)) as typeof import("./splitwise-golden.ts");
      const perfs = readSplitwiseTable(`${SHARED}perf_model.csv`, "bloom-176b");
      const golden = readSplitwiseGolden(`${SHARED}golden/splitwisesim_bloom176b_2min.csv`, () => {});
      for (const config of ["Baseline-H100-40", "Splitwise-HHcap-35-7"]) {
        const row = golden.find((candidate) => candidate.config === config && candidate.trace === "code_50")!;
        const trace = readSplitwiseTrace(`${SHARED}golden/rr_code_50_2min.csv`);
        const figures = compiled.runSplitwise(row.design, perfs, trace);
        for (const metric of SPLITWISE_METRICS)
          expect(Math.abs(figures[metric]! / row.figures[metric]! - 1), `${config} ${metric}`).toBeLessThan(
            0.001,
          );
      }
    }, 120_000);
  },
);

describe("readers", () => {
  it("name file and line of what is wrong", () => {
    const trace = file("trace.csv", "arrival_timestamp,prompt_size,token_size\n1,5,5\n0.5,5,5\n");
    expect(() => readSplitwiseTrace(trace)).toThrow(/trace\.csv:3: arrives before/);
    const negative = file("negative.csv", "arrival_timestamp,prompt_size,token_size\n1,-5,5\n");
    expect(() => readSplitwiseTrace(negative)).toThrow(/negative\.csv:2: prompt_size.*numbers from 1/);
    expect(() => readCsv(file("short.csv", "a,b\n1\n"), ["a"])).toThrow(/short\.csv:2: has 1 fields/);
    expect(() => readCsv(file("none.csv", "a,b\n"), ["c"])).toThrow(/none\.csv:1: has no column c/);
    expect(() => new DistserveData(file("bad.json", "{"), trace)).toThrow(/bad\.json:1: is not JSON/);
    const wrong = file("wrong.json", '{"m": {"1": {"prefill": [1]}}}');
    expect(() => new DistserveData(wrong, trace)).toThrow(/wrong\.json:1: m\.1/);
  });

  it("know the paper's designs by name, and no others", () => {
    expect(parseSplitwiseDesign("Splitwise-HHcap-25-21")).toEqual({
      kind: "splitwise",
      promptHardware: "h100-80gb",
      tokenHardware: "h100-80gb-pcap",
      numPrompt: 25,
      numToken: 21,
    });
    for (const name of ["Splitwise-HA-25", "Baseline-B200-4", "Splitwise-HA-0-1"])
      expect(parseSplitwiseDesign(name)).toBeNull();
  });
});

describe("capacity", () => {
  it("is found to the tolerance", () => {
    const rate = highestRate({ max: 8, tolerance: 0.01 }, (tried) => tried <= Math.PI);
    expect(Math.PI - rate).toBeGreaterThanOrEqual(0);
    expect(Math.PI - rate).toBeLessThan(0.01);
  });

  it("is tried with the same requests at every rate", () => {
    const at = (requestsPerSecond: number) =>
      poissonRequests(new Rng(7).stream("x"), { count: 50, requestsPerSecond, draw: drawDistserveSharegpt });
    const [slow, fast] = [at(1), at(4)];
    expect(slow.map(({ inputTokens }) => inputTokens)).toEqual(fast.map(({ inputTokens }) => inputTokens));
    expect(slow[49]!.arrivalMs).toBeCloseTo(4 * fast[49]!.arrivalMs, 6);
  });

  it("draws lengths like those of the paper", () => {
    const stream = new Rng(3).stream("lengths");
    const drawn = Array.from({ length: 20_000 }, () => drawDistserveSharegpt(stream));
    const mean = (of: "inputTokens" | "outputTokens") =>
      drawn.reduce((sum, lengths) => sum + lengths[of], 0) / drawn.length;
    expect(Math.abs(mean("inputTokens") / 755 - 1)).toBeLessThan(0.05);
    expect(Math.abs(mean("outputTokens") / 200 - 1)).toBeLessThan(0.2);
    expect(Math.max(...drawn.map((lengths) => lengths.inputTokens + lengths.outputTokens))).toBeLessThan(
      2048,
    );
  });
});

describe("quantiles", () => {
  it("take gaps by how often they occur", () => {
    expect(
      gapQuantile(
        new Map([
          [50, 1],
          [20, 98],
          [30, 1],
        ]),
        0.99,
      ),
    ).toBe(30);
  });
});

describe("DedicatedLinks", () => {
  it("lets nothing contend, and ends flows in order of their ends", () => {
    const links = new DedicatedLinks({ bytesPerSecond: 1000, latencyMs: 1 });
    const long = links.start("a", "b", 10, 0);
    const short = links.start("a", "b", 5, 0);
    const gone = links.start("a", "b", 1, 0);
    links.cancel(gone);
    expect(links.nextEndMs).toBe(6);
    expect([links.takeEnded(5), links.takeEnded(6), links.takeEnded(6), links.takeEnded(11)]).toEqual([
      null,
      short,
      null,
      long,
    ]);
    links.scale("b", 0.5);
    links.start("a", "b", 10, 20);
    expect(links.nextEndMs).toBe(41);
  });
});

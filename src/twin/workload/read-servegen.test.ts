import { afterAll, describe, expect, it } from "vitest";
import { TempFiles } from "../../../test/support/temp-files.ts";
import { playWorkload } from "../../../test/support/workload-run.ts";
import { Rng } from "../../core/util/rng.ts";
import { openServeGen, type ServeGenOptions } from "./read-servegen.ts";
import type { WorkloadRequest } from "./workload.ts";

const files = new TempFiles();
afterAll(() => files.remove());

const SEED = 2;
const dataset = (windows: Record<string, [string, string]>): string =>
  JSON.stringify(
    Object.fromEntries(
      Object.entries(windows).map(([start, [input, output]]) => [
        start,
        { input_tokens: input, output_tokens: output },
      ]),
    ),
  );

function play(folder: string, options: ServeGenOptions = {}): WorkloadRequest[] {
  return playWorkload(openServeGen(`${files.folder}/${folder}`, new Rng(SEED), options));
}

describe("ServeGen clients", () => {
  it("arrive at each window's rate however bursty, idle windows with none, and end", () => {
    files.write(
      "rates/c-trace.csv",
      "0,2,1,Gamma,0.3,9\n600,0,0,,0,0\n1200,8,3,Weibull,0.4,9\n1800,4,1,,0,0\n",
    );
    files.write("rates/c-dataset.json", dataset({ 0: ["{10: 1.0}", "{5: 1.0}"] }));
    const played = play("rates");
    const count = (from: number, to: number): number =>
      played.filter(({ arrivalMs }) => arrivalMs >= from * 1000 && arrivalMs < to * 1000).length;
    // Deviations of a renewal count: CV × √n.
    expect(Math.abs(count(0, 600) - 1200)).toBeLessThan(4 * Math.sqrt(1200 / 0.3));
    expect(count(600, 1200)).toBe(0);
    expect(Math.abs(count(1200, 1800) - 4800)).toBeLessThan(4 * 3.2 * Math.sqrt(4800));
    expect(Math.abs(count(1800, 2400) - 2400)).toBeLessThan(4 * Math.sqrt(2400));
    expect(count(2400, 9999)).toBe(0);
    expect(new Set(played.map(({ tenant }) => tenant))).toEqual(new Set(["c"]));
  });

  it("draw lengths from the window of their time, the last with data if it has none", () => {
    files.write("lengths/c-trace.csv", "0,1,1,Gamma,1,1\n600,1,1,Gamma,1,1\n1200,1,1,Gamma,1,1\n");
    const windows: Record<string, [string, string]> = {
      0: ["{10: 0.5, 20: 0.5}", "{1: 1.0}"],
      600: ["{}", "{}"],
      1200: ["{0: 0.9, 70: 0.1}", "{2: 1e-3}"],
    };
    files.write("lengths/c-dataset.json", dataset(windows));
    const played = play("lengths");
    const lengths = (from: number, to: number): Set<number> =>
      new Set(played.filter(({ arrivalMs: t }) => t >= from && t < to).map((one) => one.inputTokens));
    expect(lengths(0, 1_200_000)).toEqual(new Set([10, 20]));
    expect(lengths(1_200_000, 1_800_000)).toEqual(new Set([70]));
  });

  it("may start in the middle and be scaled, several in order of time", () => {
    for (const name of ["a", "b"]) {
      files.write(`two/${name}-trace.csv`, "0,1,1,Gamma,1,1\n600,1,1,Gamma,1,1\n");
      files.write(`two/${name}-dataset.json`, dataset({ 0: ["{10: 1.0}", "{5: 1.0}"] }));
    }
    const played = play("two", { fromMs: 600_000, rateScale: 3 });
    expect(Math.abs(played.length - 3600)).toBeLessThan(4 * 60);
    expect(played.every(({ arrivalMs }, index) => arrivalMs >= (played[index - 1]?.arrivalMs ?? 0))).toBe(
      true,
    );
    expect(played.at(-1)!.arrivalMs).toBeLessThan(600_000);
    expect(play("two", { fromMs: 600_000, rateScale: 3 })).toEqual(played);
  });

  it.each([
    ["0,1,1,Gamma,1\n", "{}", "c-trace.csv:1: has 5 fields; expected 6"],
    ["0,-1,1,Gamma,1,1\n", "{}", 'c-trace.csv:1: rate: "-1" is not usable'],
    ["0,1,1,Pareto,1,1\n", "{}", 'c-trace.csv:1: family: "Pareto" is not allowed; allowed: Gamma, Weibull'],
    [
      "600,1,1,Gamma,1,1\n0,1,1,Gamma,1,1\n",
      "{}",
      "c-trace.csv:2: does not begin after the window before it",
    ],
    ["0,1,1,Gamma,1,1\n", "{", "c-dataset.json: cannot be read"],
    ["0,1,1,Gamma,1,1\n", "{}", "c-dataset.json: holds no lengths"],
    [
      "0,1,1,Gamma,1,1\n",
      dataset({ 0: ["{a: 1}", "{}"] }),
      'c-dataset.json: 0.input_tokens: "a: 1" is not LENGTH',
    ],
    ["0,1,1,Gamma,1,1\n", '{"0":{"input_tokens":3}}', "c-dataset.json: 0.input_tokens: 3 is not text"],
  ])("are refused: %#", (trace, lengths, message) => {
    files.write("bad/c-trace.csv", trace);
    files.write("bad/c-dataset.json", lengths);
    expect(() => play("bad")).toThrow(message);
  });
});

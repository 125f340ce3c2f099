import { describe, expect, it } from "vitest";
import { StepLoad } from "../../core/perf/step-load.ts";
import type { StepLogLine } from "../../protocol/step-log.ts";
import { fillLoad, readEngineLog } from "./engine-log.ts";
import { fitMeasurements, ProfileError } from "./fit-logs.ts";

const WORKER: StepLogLine = {
  kind: "worker",
  workerId: "both-1",
  role: "both",
  engine: "llama",
  modelName: "tiny",
  modelId: "0123",
  kvBytesPerToken: 816,
  kvCapacityTokens: 16_384,
};

function step(calledMs: number, endMs: number, overrides: Partial<StepLogLine> = {}): StepLogLine {
  return {
    kind: "step",
    calledMs,
    endMs,
    prefills: [],
    numDecodes: 1,
    decodeContextTokens: 10,
    numSamples: 1,
    ...overrides,
  } as StepLogLine;
}

function textOf(lines: readonly StepLogLine[]): string {
  return [WORKER, ...lines].map((line) => `${JSON.stringify(line)}\n`).join("");
}

const frame = (kind: "export" | "import", calledMs: number, endMs: number): StepLogLine => ({
  kind,
  calledMs,
  endMs,
  numTokens: 64,
  bytes: 64_000,
});

describe("a step log", () => {
  it("tells the time that a call had the engine from the time that it waited", () => {
    const log = readEngineLog(textOf([step(100, 110), frame("export", 105, 113), step(106, 120)]), "log");
    expect(log.steps.map(({ ms }) => ms)).toEqual([10, 7]);
    expect(log.exports.map(({ ms }) => ms)).toEqual([3]);
  });

  it("shows the pauses between steps that follow each other, and takes waits for requests for nothing of the kind", () => {
    const lines = [
      step(100, 110),
      step(110.2, 120),
      step(500, 510),
      frame("import", 510, 511),
      step(511.1, 520),
    ];
    expect(readEngineLog(textOf(lines), "log").pauses.map(({ ms }) => ms)).toEqual([expect.closeTo(0.2, 6)]);
  });

  it("may end in the middle of a line, and leaves out what ended before a time", () => {
    const text = `${textOf([step(100, 110), step(200, 210)])}{"kind":"st`;
    expect(readEngineLog(text, "log", 150).steps).toHaveLength(1);
  });

  it("with a bad line is refused, with its place", () => {
    expect(() => readEngineLog(`${textOf([])}{"kind":"nap"}\n`, "log")).toThrow(/^log:2: /);
    expect(() => readEngineLog(`${JSON.stringify(step(1, 2))}\n`, "log")).toThrow(/^log:1: /);
    expect(() => readEngineLog("", "log")).toThrow(/^log:1: /);
  });

  it("becomes the load that perf models price", () => {
    const line = step(0, 1, {
      prefills: [[256, 100]],
      numDecodes: 2,
      decodeContextTokens: 30,
      numSamples: 3,
    });
    const load = fillLoad(line as Extract<StepLogLine, { kind: "step" }>, new StepLoad());
    expect(load).toMatchObject({
      numPrefillTokens: 100,
      numDecodes: 2,
      decodeContextTokens: 30,
      numSamples: 3,
    });
  });
});

describe("the fit of measurements", () => {
  /** A worker whose steps take 2 ms and 0.1 ms per token, back to back with pauses of 0.05 ms. */
  function steadyLog(numSteps: number): string {
    const lines: StepLogLine[] = [];
    let atMs = 1000;
    for (let i = 0; i < numSteps; i++) {
      const tokens = i % 3 === 0 ? 1 + ((i * 37) % 250) : 0;
      const decodes = 1 + (i % 8);
      const endMs = atMs + 2 + 0.1 * (tokens + decodes);
      lines.push(
        step(atMs, endMs, {
          prefills: tokens > 0 ? [[0, tokens]] : [],
          numDecodes: decodes,
          decodeContextTokens: 100 * decodes,
          numSamples: decodes,
        }),
      );
      atMs = endMs + 0.05;
    }
    return textOf(lines);
  }

  it("finds what steps take and what is between them", () => {
    const { fit, host, range } = fitMeasurements({ logs: [readEngineLog(steadyLog(400), "log")], lone: [] });
    expect(fit.steps.medianAbsPct).toBeLessThan(1);
    expect(host.stepMs).toBeCloseTo(0.05, 2);
    expect(range).toMatchObject({ decodes: 8, contextTokens: 250 });
  });

  it("finds what a request that is alone costs outside its steps", () => {
    const log = readEngineLog(
      textOf([
        ...Array.from({ length: 60 }, (_, i) => step(10 * i, 10 * i + 5)),
        step(1003, 1010, { prefills: [[0, 256]], numDecodes: 0, decodeContextTokens: 0, numSamples: 0 }),
        step(1010, 1020, { prefills: [[256, 9]], numDecodes: 0, decodeContextTokens: 0, numSamples: 1 }),
        step(1020, 1025),
      ]),
      "log",
    );
    const trace = {
      sentMs: 1000,
      contentTimesMs: [1022, 1026],
      contentTokens: null,
      endMs: 1027,
      usage: null,
      failure: null,
    };
    const { host } = fitMeasurements({ logs: [log], lone: [{ trace, workerId: "both-1" }] });
    expect(host).toMatchObject({ requestMs: 3, outputMs: 2 });
  });

  it("follows frames from worker to worker", () => {
    const steps = Array.from({ length: 60 }, (_, i) => step(10 * i, 10 * i + 5));
    const prefill = readEngineLog(
      textOf([...steps, frame("export", 1000, 1002), frame("export", 1010, 1012)]),
      "p",
    );
    const decode = readEngineLog(textOf([frame("import", 1003.5, 1004), frame("import", 1013.5, 1014)]), "d");
    const { handoff } = fitMeasurements({ logs: [prefill, decode], lone: [] });
    const { export: out, import: into, link } = handoff!;
    expect(out.callMs + 64 * out.tokenMs).toBeCloseTo(2, 2);
    expect(into.callMs + 64 * into.tokenMs).toBeCloseTo(0.5, 2);
    expect(link.latencyMs + 64_000_000 / link.bytesPerSecond).toBeCloseTo(1.5, 2);
  });

  it("of too few steps is refused", () => {
    expect(() => fitMeasurements({ logs: [readEngineLog(steadyLog(10), "log")], lone: [] })).toThrow(
      ProfileError,
    );
  });
});

import { describe, expect, it } from "vitest";
import { playWorkload } from "../../../test/support/workload-run.ts";
import { Rng } from "../../core/util/rng.ts";
import { workloadSchema } from "../../protocol/workload-schema.ts";
import { isEndless, openWorkload } from "./open-workload.ts";
import type { WorkloadRequest } from "./workload.ts";

const SEED = 4;

function play(section: object, options: { serviceMs?: number; seed?: number } = {}): WorkloadRequest[] {
  const rng = new Rng(options.seed ?? SEED);
  return playWorkload(openWorkload(workloadSchema.parse(section), { baseDir: "/", rng }), {
    serviceMs: options.serviceMs ?? 0,
  });
}

/** How many leading block ids two prompts have in common. */
function shared(one: WorkloadRequest, other: WorkloadRequest): number {
  const [a = [], b = []] = [one.blocks?.ids, other.blocks?.ids];
  let count = 0;
  while (count < a.length && a[count] === b[count]) count++;
  return count;
}

const rate = { kind: "constant", requestsPerSecond: 10 };

describe("independent requests", () => {
  const section = { kind: "requests", inputTokens: "uniform:10:20", outputTokens: 7, requests: 50 };

  it("have the class that the section names, and that of text without one", () => {
    const kinds = (extra: object): (string | undefined)[] =>
      play({ ...section, ...extra, requests: 2, arrivals: rate }).map(({ kind }) => kind);
    expect(kinds({ class: "long" })).toEqual(["long", "long"]);
    expect(kinds({})).toEqual(["text", "text"]);
  });

  it("have drawn lengths, the same for the same seed", () => {
    const played = play({ ...section, arrivals: rate });
    expect(played).toHaveLength(50);
    expect(played[49]?.arrivalMs).toBe(4900);
    expect(
      played.every(
        ({ inputTokens, outputTokens }) => inputTokens >= 10 && inputTokens <= 20 && outputTokens === 7,
      ),
    ).toBe(true);
    expect(play({ ...section, arrivals: rate })).toEqual(played);
    expect(play({ ...section, arrivals: rate }, { seed: 5 })).not.toEqual(played);
  });

  it("in a closed loop keep their number running", () => {
    const played = play({ ...section, concurrency: 5, thinkMs: 2 }, { serviceMs: 10 });
    expect(played.map(({ arrivalMs }) => arrivalMs)).toEqual(
      Array.from({ length: 50 }, (_, i) => Math.floor(i / 5) * 12),
    );
  });

  it("may have measured lengths", () => {
    const inputTokens = { values: [3, 4], weights: [1, 1] };
    const lengths = new Set(play({ ...section, inputTokens, arrivals: rate }).map((one) => one.inputTokens));
    expect(lengths).toEqual(new Set([3, 4]));
  });
});

describe("a prefix tree", () => {
  const section = {
    kind: "shared-prefix",
    systemPrompts: 3,
    usersPerSystemPrompt: 2,
    systemTokens: 100,
    questionTokens: 466,
    outputTokens: 247,
    arrivals: rate,
    requests: 24,
  };

  it("with the same questions repeats each user's whole prompt", () => {
    const played = play({ ...section, questions: "same" });
    for (let turn = 6; turn < 24; turn++) {
      expect(played[turn]?.sessionId).toBe(played[turn - 6]?.sessionId);
      expect(played[turn]?.blocks).toEqual(played[turn - 6]?.blocks);
      expect(played[turn]?.inputTokens).toBe(566);
    }
    expect(new Set(played.slice(0, 6).map(({ sessionId }) => sessionId)).size).toBe(6);
  });

  it("shares full blocks of the system prompt among its users and nothing with others", () => {
    for (const questions of ["same", "fresh"]) {
      const first = play({ ...section, questions }).slice(0, 6);
      for (const one of first)
        for (const other of first) {
          if (one === other) continue;
          const isSibling = one.sessionId?.slice(0, 6) === other.sessionId?.slice(0, 6);
          expect(shared(one, other)).toBe(isSibling ? 6 : 0);
        }
    }
  });

  it("with fresh questions shares only the system prompt with itself", () => {
    const played = play({ ...section, questions: "fresh" });
    expect(shared(played[0]!, played[6]!)).toBe(6);
  });

  it("with appended questions grows by question and answer until it is too long", () => {
    const played = play({ ...section, questions: "appended", maxInputTokens: 2000 });
    const turns = [0, 6, 12, 18].map((turn) => played[turn]!);
    expect(turns.map(({ inputTokens }) => inputTokens)).toEqual([566, 1279, 1992, 566]);
    expect(shared(turns[0]!, turns[1]!)).toBe(Math.floor(566 / 16));
    expect(shared(turns[1]!, turns[2]!)).toBe(Math.floor(1279 / 16));
    expect(shared(turns[2]!, turns[3]!)).toBe(6);
  });
});

describe("agents", () => {
  const section = {
    kind: "agents",
    systemTokens: 1600,
    taskTokens: 200,
    turns: 4,
    resultTokens: 100,
    outputTokens: 60,
    toolMs: { mean: 1000 },
    lanes: 2,
    requests: 16,
  };

  it("append output and result to each prompt, think by their tools, and share the system prompt", () => {
    const played = play(section, { serviceMs: 500 });
    const first = played.filter(({ sessionId }) => sessionId === "session-1");
    expect(first.map(({ inputTokens }) => inputTokens)).toEqual([1800, 1960, 2120, 2280]);
    expect(first.map(({ arrivalMs }) => Math.round(arrivalMs))).toEqual([0, 1500, 3000, 4500]);
    expect(shared(first[0]!, first[1]!)).toBe(Math.floor(1800 / 16));
    const other = played.find(({ sessionId }) => sessionId === "session-2");
    expect(shared(first[0]!, other!)).toBe(100);
  });

  it("fan out to sub-agents and wait for the slowest", () => {
    const fanOut = { probability: 1, agents: 3, turns: 2 };
    const played = play(
      { ...section, lanes: 1, toolMs: { mean: 100 }, fanOut, turns: 2, requests: 8 },
      { serviceMs: 10 },
    );
    const times = new Map(played.map(({ id, arrivalMs }) => [id, Math.round(arrivalMs)]));
    expect(times.get("session-1/1")).toBe(0);
    for (const child of [1, 2, 3]) {
      expect(times.get(`session-1.${child}/1`)).toBe(10);
      expect(times.get(`session-1.${child}/2`)).toBe(120);
    }
    expect(times.get("session-1/2")).toBe(130);
  });

  it("send the same whatever the fleet's speed", () => {
    const fanOut = { probability: 0.5, agents: 3, turns: "uniform:1:4" };
    const busy = {
      ...section,
      outputTokens: "uniform:10:900",
      toolMs: { mean: 300, deviation: 200 },
      fanOut,
    };
    const lengths = (serviceMs: number) =>
      new Map(
        play({ ...busy, requests: 60 }, { serviceMs }).map((one) => [
          one.id,
          [one.inputTokens, one.outputTokens],
        ]),
      );
    const slow = lengths(2000);
    const common = [...lengths(3)].filter(([id]) => slow.has(id));
    expect(common.length).toBeGreaterThan(30);
    for (const [id, sizes] of common) expect(slow.get(id)).toEqual(sizes);
  });

  it("run their sub-agents beside when they do not wait", () => {
    const fanOut = { probability: 1, agents: 1, turns: 1, waits: false };
    const played = play(
      { ...section, lanes: 1, toolMs: { mean: 100 }, fanOut, turns: 2, requests: 3 },
      { serviceMs: 10 },
    );
    expect(played.map(({ id, arrivalMs }) => [id, Math.round(arrivalMs)])).toEqual([
      ["session-1/1", 0],
      ["session-1.1/1", 10],
      ["session-1/2", 110],
    ]);
  });

  it("end when their prompt would be too long", () => {
    const played = play({ ...section, lanes: 1, maxInputTokens: 2000, requests: 4 });
    expect(played.map(({ inputTokens }) => inputTokens)).toEqual([1800, 1960, 1800, 1960]);
  });
});

describe("video", () => {
  const section = {
    kind: "video",
    frames: 20,
    tokensPerFrame: 50,
    encodeMsPerFrame: 1.5,
    textTokens: 30,
    arrivals: rate,
    requests: 2,
  };

  it("has encoding before the prompt, and tokens or frames as output", () => {
    const [request] = play({ ...section, outputTokens: 9 });
    expect(request).toMatchObject({ kind: "video", inputTokens: 1030, outputTokens: 9, encodeMs: 30 });
    expect(play({ ...section, outputFrames: 4, tokensPerOutputFrame: 25 })[0]?.outputTokens).toBe(100);
  });
});

describe("merged workloads of one kind", () => {
  it("draw independently of each other", () => {
    const part = {
      kind: "requests",
      inputTokens: "uniform:1:1000000",
      outputTokens: 1,
      arrivals: rate,
      requests: 5,
    };
    const played = play({ kind: "merge", parts: { a: part, b: part } });
    expect(played).toHaveLength(10);
    expect(new Set(played.map(({ inputTokens }) => inputTokens)).size).toBe(10);
  });
});

describe("a workload without end", () => {
  const plain = { kind: "requests", inputTokens: 1, outputTokens: 1, arrivals: rate };
  it.each([
    [plain, true],
    [{ ...plain, requests: 5 }, false],
    [{ ...plain, durationMs: 5 }, false],
    [{ ...plain, arrivals: { kind: "stages", stages: [{ requestsPerSecond: 1, durationMs: 9 }] } }, false],
    [{ kind: "trace", path: "x" }, false],
    [{ kind: "lengths", path: "x", arrivals: rate }, false],
    [{ kind: "lengths", path: "x", arrivals: rate, order: "random" }, true],
    [{ kind: "merge", parts: { a: plain } }, true],
    [{ kind: "merge", parts: { a: plain }, requests: 3 }, false],
  ])("is known: %#", (section, expected) => {
    expect(isEndless(workloadSchema.parse(section))).toBe(expected);
  });
});

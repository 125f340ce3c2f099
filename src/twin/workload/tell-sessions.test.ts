import { afterAll, describe, expect, it } from "vitest";
import { TempFiles } from "../../../test/support/temp-files.ts";
import { playWorkload } from "../../../test/support/workload-run.ts";
import { Rng } from "../../core/util/rng.ts";
import { workloadSchema } from "../../protocol/workload-schema.ts";
import { openWorkload } from "./open-workload.ts";
import type { WorkloadRequest } from "./workload.ts";

const files = new TempFiles();
afterAll(() => files.remove());
const SERVICE_MS = 30;

function play(section: object, serviceMs = SERVICE_MS): WorkloadRequest[] {
  const environment = { baseDir: files.folder, rng: new Rng(11) };
  return playWorkload(openWorkload(workloadSchema.parse(section), environment), { serviceMs });
}

const AGENTS = {
  kind: "agents",
  systemTokens: 320,
  taskTokens: "uniform:50:400",
  turns: "uniform:2:8",
  resultTokens: "uniform:10:200",
  outputTokens: "uniform:5:90",
  toolMs: { mean: 500, deviation: 400 },
  fanOut: { probability: 0.4, agents: "uniform:1:3", turns: "uniform:1:3", depth: 2 },
  lanes: 5,
  requests: 400,
};
const TOLD = { fanOut: "told", nextTurnSeconds: "told" };

/** Everything but names of blocks, which are given in the order of their making. */
const shapes = (requests: readonly WorkloadRequest[]) =>
  requests.map(({ wishes: _, blocks, ...rest }) => ({ ...rest, numBlocks: blocks?.ids.length ?? 0 }));

const nameOf = ({ id }: WorkloadRequest) => id.slice(0, id.lastIndexOf("/"));
const turnOf = ({ id }: WorkloadRequest) => Number(id.slice(id.lastIndexOf("/") + 1));

/** Requests that begin with all full blocks of another one's prompt. */
function numBeginning(
  requests: readonly WorkloadRequest[],
  { blocks, inputTokens }: WorkloadRequest,
): number {
  const beginning = blocks!.ids.slice(0, Math.floor(inputTokens / blocks!.blockTokens)).join();
  return requests.filter((each) => `${each.blocks!.ids.join()},`.startsWith(`${beginning},`)).length;
}

describe("sessions that tell", () => {
  it.each(["system", "agent"])(
    "send the same requests at the same times as those that do not: from %s",
    (from) => {
      const section = { ...AGENTS, fanOut: { ...AGENTS.fanOut, from } };
      const silent = play(section);
      expect(silent.every(({ wishes }) => wishes === null)).toBe(true);
      expect(shapes(play({ ...section, cache: TOLD }))).toEqual(shapes(silent));
    },
  );

  it.each([1, 0.25])(
    "say when their next turn comes, unless it waits for other agents: times scaled by %d",
    (timeScale) => {
      const played = play({ ...AGENTS, timeScale, cache: { nextTurnSeconds: "told" } });
      const byId = new Map(played.map((request) => [request.id, request]));
      let numTold = 0;
      let numLast = 0;
      for (const request of played) {
        const nextTurnMs = request.wishes?.nextTurnMs;
        expect(request.wishes?.expectedFanOut).toBeUndefined();
        const next = byId.get(`${nameOf(request)}/${turnOf(request) + 1}`);
        if (next === undefined) {
          // The last one, or the one after which there are enough requests.
          if (request.wishes?.retention !== undefined) numLast++;
          continue;
        }
        expect(request.wishes?.retention).toBeUndefined();
        const gapMs = next.arrivalMs - request.arrivalMs - SERVICE_MS;
        if (nextTurnMs !== undefined) expect(nextTurnMs).toBeCloseTo(gapMs, 6);
        // It waits for agents that it starts, the first of which comes at once.
        else
          expect(
            played.some((each) => each.arrivalMs === request.arrivalMs + SERVICE_MS && turnOf(each) === 1),
          ).toBe(true);
        if (nextTurnMs !== undefined) numTold++;
      }
      expect(numTold).toBeGreaterThan(100);
      expect(numLast).toBeGreaterThan(50);
    },
  );

  it("say how many sub-agents begin with what they have read", () => {
    const fanOut = { ...AGENTS.fanOut, from: "agent", turns: 1, depth: 1, waits: false };
    const played = play({ ...AGENTS, turns: 3, fanOut, cache: { fanOut: "told" } });
    const told = played.filter(({ wishes }) => wishes?.expectedFanOut !== undefined);
    expect(told.length).toBeGreaterThan(20);
    // Those near the end may have more of them than there are requests.
    for (const request of told.slice(0, told.length - 10)) {
      const laterTurns = 3 - turnOf(request);
      const children = played.filter(
        (each) =>
          each.arrivalMs === request.arrivalMs + SERVICE_MS && nameOf(each).startsWith(`${nameOf(request)}.`),
      );
      expect(request.wishes).toEqual({ expectedFanOut: 1 + children.length });
      expect(numBeginning(played, request)).toBeGreaterThanOrEqual(1 + children.length + laterTurns);
    }
  });

  it("announce nobody who begins with the system prompt alone", () => {
    const played = play({ ...AGENTS, cache: { fanOut: "told" } });
    expect(played.some(({ wishes }) => wishes?.expectedFanOut !== undefined)).toBe(false);
  });

  it("of a trace know it where the trace does", () => {
    const request = (t: number, ids: number[], rest: object = {}) => ({
      ...{ t, in: 64 * ids.length, out: 5, hash_ids: ids, think_time: 0.5, api_time: 1 },
      ...rest,
    });
    const subagent = (ids: number[]) => ({ t: 1, type: "subagent", requests: [request(1, ids)] });
    const requests = [
      request(0, [1, 2]),
      subagent([1, 2, 9]),
      subagent([1, 2]),
      subagent([1, 7]),
      request(1.5, [1, 2, 3], { api_time: null }),
      request(4, [1, 2, 3, 4], { think_time: 2 }),
    ];
    const session = { id: "s", block_size: 64, hash_id_scope: "local", requests };
    files.write("told.json", JSON.stringify(session));
    const played = play({ kind: "sessions", path: "told.json", lanes: 1, cache: TOLD }, 1);
    const wishes = new Map(played.map((each) => [each.id.slice(each.id.indexOf("/") + 1), each.wishes]));
    expect(wishes.get("requests[0]")).toEqual({ expectedFanOut: 3, nextTurnMs: 500 });
    // Nobody knows when it will have ended.
    expect(wishes.get("requests[4]")).toEqual({});
    const nobody = { retention: { keep: "none", ttlMs: null } };
    expect(wishes.get("requests[5]")).toEqual(nobody);
    expect(wishes.get("requests[1].requests[0]")).toEqual(nobody);
  });
});

describe("wishes of a section", () => {
  it("are those of every request that does not say otherwise, in milliseconds", () => {
    const own = { id: "b", arrivalMs: 1, inputTokens: 4, outputTokens: 2, cache: { nextTurnSeconds: 8 } };
    const plain = { id: "a", arrivalMs: 0, inputTokens: 4, outputTokens: 2 };
    files.write("own.jsonl", `${JSON.stringify(plain)}\n${JSON.stringify(own)}\n`);
    const cache = { keep: "long", fanOut: 3, nextTurnSeconds: 2 };
    const [first, second] = play({ kind: "trace", path: "own.jsonl", timeScale: 0.5, cache });
    const retention = { keep: "long", ttlMs: null };
    expect(first!.wishes).toEqual({ retention, expectedFanOut: 3, nextTurnMs: 2000 });
    expect(second!.wishes).toEqual({ retention, expectedFanOut: 3, nextTurnMs: 4000 });
  });

  it("of a merged workload fill in what its parts leave open", () => {
    files.write("m.jsonl", JSON.stringify({ id: "a", arrivalMs: 0, inputTokens: 4, outputTokens: 2 }));
    const part = { kind: "trace", path: "m.jsonl" };
    const parts = { p: { ...part, cache: { fanOut: 2 } }, q: part };
    const played = play({ kind: "merge", parts, cache: { fanOut: 7, ttlSeconds: 9 } });
    const retention = { keep: "default", ttlMs: 9000 };
    expect(new Map(played.map(({ id, wishes }) => [id, wishes]))).toEqual(
      new Map([
        ["p/a", { retention, expectedFanOut: 2 }],
        ["q/a", { retention, expectedFanOut: 7 }],
      ]),
    );
  });
});

import { afterAll, describe, expect, it } from "vitest";
import { TempFiles } from "../../../test/support/temp-files.ts";
import { playWorkload } from "../../../test/support/workload-run.ts";
import { openWeka } from "./read-weka.ts";

const files = new TempFiles();
afterAll(() => files.remove());

const request = (t: number, input: number, more: object = {}): object => ({
  t,
  type: "n",
  model: "m",
  in: input,
  out: 5,
  hash_ids: Array.from({ length: Math.floor(input / 64) }, (_, index) => index + 1),
  api_time: 2,
  think_time: 0,
  ...more,
});

const session = (requests: object[], more: object = {}): string =>
  JSON.stringify({ id: "s", models: ["m"], block_size: 64, hash_id_scope: "local", requests, ...more });

const LANE = { starts: { lanes: 1, staggerMs: 0, gapMs: 0 } };

const play = (path: string, serviceMs: number): [string, number][] =>
  playWorkload(openWeka(path, LANE), { serviceMs }).map(({ id, arrivalMs }) => [id, arrivalMs]);

describe("an agent session", () => {
  it("thinks after each request and runs its sub-agents beside", () => {
    const sub = { t: 4, type: "subagent", requests: [request(0, 64), request(5, 128, { think_time: 3 })] };
    const path = files.write(
      "nested.json",
      session([request(0, 130), sub, request(10, 200, { think_time: 8 })]),
    );
    // The sub-agent starts 2 s after the first request ended (at 2 s in the trace).
    expect(play(path, 500)).toEqual([
      ["s.0/requests[0]", 0],
      ["s.0/requests[1].requests[0]", 2500],
      ["s.0/requests[1].requests[1]", 6000],
      ["s.0/requests[2]", 8500],
    ]);
  });

  it("keeps the distance of arrivals where the trace does not say how long a request took", () => {
    const unknown = { api_time: undefined };
    const requests = [
      request(0, 64, unknown),
      request(8, 64, { ...unknown, think_time: 8 }),
      request(12, 64, { think_time: 12 }),
    ];
    const path = files.write("unknown.json", session(requests));
    expect(play(path, 1000).map(([, arrivalMs]) => arrivalMs)).toEqual([0, 8000, 12_000]);
    expect(play(path, 20_000).map(([, arrivalMs]) => arrivalMs)).toEqual([0, 20_000, 40_000]);
  });

  it("is one of a folder or a JSONL file, with ids that compare within it alone", () => {
    files.write("set/b.json", session([request(0, 64)]));
    files.write("set/a.json", session([request(0, 64)], { id: "first" }));
    files.write("set/notes.txt", "not a session");
    const taken = playWorkload(openWeka(`${files.folder}/set`, { ...LANE, repeat: 2 }), { serviceMs: 1 });
    expect(taken.map(({ sessionId }) => sessionId)).toEqual(["first.0", "s.1", "first.2", "s.3"]);
    expect(new Set(taken.map(({ blocks }) => blocks?.scope)).size).toBe(4);
    expect(taken[0]?.blocks).toEqual({ blockTokens: 64, scope: "first.0", ids: [1] });
    const lines = files.write("set.jsonl", `${session([request(0, 64)])}\n${session([request(0, 64)])}\n`);
    expect(play(lines, 1)).toHaveLength(2);
  });

  it("shares blocks with others when its ids are global", () => {
    const text = session([request(0, 64)], { hash_id_scope: "global" });
    const path = files.write("global.jsonl", `${text}\n${text}\n`);
    const scopes = playWorkload(openWeka(path, { ...LANE, repeat: 2 })).map(({ blocks }) => blocks?.scope);
    expect(scopes).toEqual(["#0", "#0", "#1", "#1"]);
  });

  it.each<[string, string, string]>([
    ["{", ":1: is not JSON", "json"],
    [session([]), ":1: requests: holds no request", "json"],
    [
      session([request(0, -4)]),
      ":1: requests[0].in: -4 is not usable; allowed: whole numbers from 1",
      "json",
    ],
    [
      session([request(0, 64, { hash_ids: [1, 2] })]),
      ":1: requests[0].hash_ids: has 2 ids, but 64 tokens have 1",
      "json",
    ],
    [
      session([request(5, 64), request(4, 64)]),
      ":1: requests[1].t: lies before the request before it (5 s)",
      "json",
    ],
    [
      session([request(0, 64), request(4, 64, { think_time: -1 })]),
      ":1: requests[1].think_time: -1 is not usable",
      "json",
    ],
    [
      session([request(0, 64)], { hash_id_scope: "moon" }),
      'hash_id_scope: "moon" is not allowed; allowed: local, global',
      "json",
    ],
    [session([{ t: 0, type: "subagent" }]), ":1: requests[0].requests: is missing; expected a list", "json"],
    [`${session([request(0, 64)])}\n7\n`, ":2: session: 7 is not an object", "jsonl"],
  ])("is refused: %#", (text, message, ending) => {
    const path = files.write(`bad.${ending}`, text);
    expect(() => play(path, 1)).toThrow(message);
  });

  it("is refused when it is nested without end, and so is a folder without any", () => {
    let entry: object = request(0, 64);
    for (let depth = 0; depth < 9; depth++) entry = { t: 0, type: "subagent", requests: [entry] };
    const path = files.write("deep.json", session([entry]));
    expect(() => openWeka(path, LANE)).toThrow(/nested deeper than 8 agents/);
    files.write("empty/readme.md", "");
    expect(() => openWeka(`${files.folder}/empty`, LANE)).toThrow(/holds no \.json files/);
  });
});

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { temporaryFolder } from "../../../test/support/link-support.ts";
import { recordRun, sharingRequests } from "../../../test/support/recorded-run.ts";
import { findPlacementPolicy, PLACEMENT_POLICY_NAMES } from "../../core/router/policies/registry.ts";
import { DispatchLogReader } from "./dispatch-log-reader.ts";
import { type Repetition, repeatDecisions } from "./repeat-decisions.ts";

let folder: ReturnType<typeof temporaryFolder>;
let path: string;

beforeEach(() => {
  folder = temporaryFolder();
  path = join(folder.path, "log.jsonl");
});

afterEach(() => folder.remove());

const REQUESTS = sharingRequests(60, 15);
const CRASHES = [300, 500, 700, 900].map((atMs, i) => {
  return { kind: "crash", worker: ["p1", "p2", "d1", "b1"][i]!, atMs, restarts: true } as const;
});

function repeat(policy?: string): Repetition & { end: string | null } {
  const log = new DispatchLogReader(path);
  const { name, options } = log.header.policy;
  const placement = findPlacementPolicy(policy ?? name, options)!;
  return { ...repeatDecisions(log, placement), end: log.end };
}

function lines(): string[] {
  return readFileSync(path, "utf8").trimEnd().split("\n");
}

function rewrite(change: (lines: string[]) => string[]): void {
  writeFileSync(path, `${change(lines()).join("\n")}\n`);
}

describe("repeatDecisions", () => {
  it.each(PLACEMENT_POLICY_NAMES)("makes every decision of %s once more, bit for bit", (policy) => {
    const observer = recordRun(path, policy, { requests: REQUESTS, faults: CRASHES });
    expect(observer.outcomes.size).toBe(REQUESTS.length);
    const { numInputs, numDecisions, numEqual, firstDifference, end } = repeat();
    expect(firstDifference).toBeNull();
    expect(end).toBe("stopped");
    // Some requests are placed again after a crash.
    expect(numDecisions).toBeGreaterThan(REQUESTS.length);
    expect(numEqual).toBe(numDecisions);
    expect(numInputs).toBeGreaterThan(3 * REQUESTS.length);
  });

  it("changes nothing for the run that is recorded", () => {
    const first = recordRun(path, "dynamo", { requests: REQUESTS });
    const text = readFileSync(path, "utf8");
    const second = recordRun(path, "dynamo", { requests: REQUESTS });
    expect(second.outcomes).toEqual(first.outcomes);
    expect(readFileSync(path, "utf8")).toBe(text);
  });

  it("names the first decision that another policy makes otherwise", () => {
    recordRun(path, "load", { requests: REQUESTS });
    const { firstDifference, numEqual, numDecisions } = repeat("round-robin");
    expect(numEqual).toBeLessThan(numDecisions);
    const { line, requestId, recorded, repeated } = firstDifference!;
    expect(JSON.parse(lines()[line - 1]!)).toMatchObject({ kind: "decision", requestId });
    expect(recorded).not.toEqual(repeated);
  });

  it("notices a changed decision, one that is missing, and one that was never made", () => {
    recordRun(path, "load", { requests: REQUESTS });
    const original = lines();
    const at = original.findIndex((line) => line.startsWith('{"kind":"decision"'));
    const decision = original[at]!;
    rewrite((all) => all.with(at, decision.replace('"prefillWorker":"p', '"prefillWorker":"x')));
    expect(repeat().firstDifference).toMatchObject({
      line: at + 1,
      recorded: { prefillWorker: expect.stringMatching(/^x/) },
    });
    writeFileSync(path, `${original.toSpliced(at, 1).join("\n")}\n`);
    expect(repeat().firstDifference).toMatchObject({ line: at, recorded: null });
    writeFileSync(path, `${original.toSpliced(at, 0, decision).join("\n")}\n`);
    expect(repeat().firstDifference).toMatchObject({ line: at + 2, repeated: null });
  });

  it("says where a record is broken", () => {
    recordRun(path, "load", { requests: REQUESTS });
    const original = lines();
    const broken = (change: (all: string[]) => string[]) => {
      writeFileSync(path, change([...original]).join("\n"));
      return () => repeat();
    };
    expect(broken((all) => all.with(5, all[5]!.slice(0, 20)))).toThrow("log.jsonl:6: is not JSON");
    expect(broken((all) => [all[0]!.slice(0, 20)])).toThrow("log.jsonl:1: is no record of twofold");
    expect(broken((all) => all.with(3, '{"kind":"tick","nowMs":"soon"}'))).toThrow(
      "log.jsonl:4: is no entry",
    );
    expect(broken((all) => [...all, all[1]!])).toThrow(`log.jsonl:${original.length + 1}: stands behind`);
    // A worker that gets ready twice.
    const ready = original.findIndex((line) => line.startsWith('{"kind":"ready"'));
    expect(broken((all) => all.toSpliced(ready, 0, original[ready]!))).toThrow(
      `log.jsonl:${ready + 2}: can't have happened: a worker is added twice`,
    );
    expect(broken(() => ["hello"])).toThrow("log.jsonl:1: is no record of twofold");
    expect(broken(() => ['{"kind":"worker"}'])).toThrow("log.jsonl:1: is no record of twofold");
    expect(broken(() => [])).toThrow("is empty");
    expect(broken((all) => all.with(0, all[0]!.replace('Log":1', 'Log":9')))).toThrow(
      "version 9 of the format",
    );
  });

  it("takes a record that just stops as far as it goes", () => {
    recordRun(path, "load", { requests: REQUESTS });
    rewrite((all) => all.slice(0, all.findIndex((line) => line.startsWith('{"kind":"submit"')) + 1));
    expect(repeat()).toMatchObject({ firstDifference: null, end: null, numDecisions: 0 });
  });

  it("takes a record that was cut anywhere in a line as far as the line before", () => {
    recordRun(path, "load", { requests: REQUESTS });
    const original = readFileSync(path);
    const start = original.lastIndexOf('{"kind":"decision"');
    const end = original.indexOf("\n", start);
    const numAllButOne = repeat().numDecisions - 1;
    for (const length of [start, start + 1, (start + end) >> 1, end - 1]) {
      writeFileSync(path, original.subarray(0, length));
      expect(repeat()).toMatchObject({ firstDifference: null, end: null, numDecisions: numAllButOne });
    }
    writeFileSync(path, original.subarray(0, end));
    expect(repeat()).toMatchObject({ firstDifference: null, end: null, numDecisions: numAllButOne + 1 });
  });

  it("ends a record at its bound, and says so", () => {
    recordRun(path, "load", { requests: REQUESTS, maxBytes: 20_000 });
    expect(readFileSync(path).length).toBeLessThan(22_000);
    expect(repeat()).toMatchObject({ firstDifference: null, end: "full" });
  });
});

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FakeIo } from "../../test/support/cli-io.ts";
import { temporaryFolder } from "../../test/support/link-support.ts";
import { recordRun, sharingRequests } from "../../test/support/recorded-run.ts";
import { runCli } from "./program.ts";

const nothing = {
  startServing: () => Promise.reject(new Error("not part of this test")),
  runWorker: () => Promise.reject(new Error("not part of this test")),
};

let folder: ReturnType<typeof temporaryFolder>;

beforeEach(() => {
  folder = temporaryFolder();
});

afterEach(() => folder.remove());

async function replay(...args: string[]) {
  const io = new FakeIo({ cwd: folder.path });
  const code = await runCli(["replay", ...args], io, nothing);
  return { code, out: io.outText, err: io.errText };
}

describe("twofold replay", () => {
  it("says how many decisions came out the same", async () => {
    recordRun(join(folder.path, "log.jsonl"), "dynamo", { requests: sharingRequests(20, 20) });
    const { code, out, err } = await replay("log.jsonl");
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toContain("20 of 20 the same");
    expect(JSON.parse((await replay("log.jsonl", "--json")).out)).toMatchObject({
      schemaVersion: 1,
      policy: "dynamo",
      numEqual: 20,
      firstDifference: null,
    });
  });

  it("runs the arrivals again with another policy, on learned prices or a device's", async () => {
    recordRun(join(folder.path, "log.jsonl"), "load", { requests: sharingRequests(40, 20) });
    const { code, out, err } = await replay("log.jsonl", "--policy", "cache-aware");
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toMatch(/^policy +load +load +cache-aware$/m);
    expect(out).toMatch(/^completed +40 +40 +40$/m);
    expect(out).toContain("assumed: steps take what");
    const device = ["--device", "h100-sxm", "--model", "llama-3.1-8b"];
    const answer = await replay("log.jsonl", "--policy", "load", ...device, "--json");
    expect(answer.code).toBe(0);
    const { runs, assumptions } = JSON.parse(answer.out);
    expect(runs).toHaveLength(3);
    // The recorded policy was asked for, so both reruns are one.
    expect(runs[2].figures).toEqual(runs[1].figures);
    expect(runs[1].figures.ttftMs.p50).not.toBe(runs[0].figures.ttftMs.p50);
    expect(assumptions).toContain("steps take what the named device takes");
  });

  it("says what is wrong, and compares nothing then", async () => {
    recordRun(join(folder.path, "log.jsonl"), "load", { requests: sharingRequests(5, 20) });
    writeFileSync(join(folder.path, "other.jsonl"), "{}\n");
    const failures: Array<[args: string[], message: string]> = [
      [["nowhere.jsonl"], "nowhere.jsonl: cannot be opened"],
      [["other.jsonl"], "other.jsonl:1: is no record"],
      [["log.jsonl", "--policy", "lod"], "did you mean load?"],
      [["log.jsonl", "--device", "h100-sxm"], "--device: goes with --policy"],
      [["log.jsonl", "--policy", "load", "--model", "x"], "--model: goes with --device"],
      [["log.jsonl", "--policy", "load", "--device", "h100-sxm"], "--model: is missing"],
      [["log.jsonl", "--policy", "load", "--device", "h1000", "--model", "llama-3.1-8b"], "h1000"],
    ];
    for (const [args, message] of failures) {
      const { code, out, err } = await replay(...args);
      expect(err).toContain(message);
      expect({ code, out }).toEqual({ code: 2, out: "" });
    }
  });
});

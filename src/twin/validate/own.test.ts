import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { madeUpProfile } from "../../../test/support/profile.ts";
import { Rng } from "../../core/util/rng.ts";
import { resolveServeConfig } from "../../protocol/fleet-file.ts";
import type { Profile } from "../../protocol/profile-file.ts";
import type { RecordedRequest } from "../../protocol/run-record.ts";
import { replayRecorded, validateOwn } from "./own.ts";
import { eventGaps, knownEventGaps } from "./run-comparison.ts";

const SPLIT = "workers:\n  - role: prefill\n  - role: decode\n";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "twofold-own-test-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function arrivals(count: number): RecordedRequest[] {
  const stream = new Rng(3).stream("run");
  let arrivalMs = 0;
  return Array.from({ length: count }, () => {
    arrivalMs += stream.nextExponential(300);
    return {
      arrivalMs,
      firstTokenMs: arrivalMs + 1,
      lastTokenMs: arrivalMs + 2,
      endMs: arrivalMs + 2,
      inputTokens: 50 + stream.nextBelow(700),
      cachedTokens: 0,
      outputTokens: 20 + stream.nextBelow(80),
      contentChunks: 2,
      gapsMs: [1],
    };
  });
}

/**
 * A live run that went exactly as the twin says when steps take `factor` times what the profile says, and whose client got a share of
 * its tokens as events of their own.
 */
function writeRun(
  name: string,
  factor: number,
  { change = (text: string) => text, eventShare = 1 } = {},
): string {
  const stream = new Rng(99).stream("events");
  const requests = arrivals(60);
  const profile = madeUpProfile();
  const slow: Profile = {
    ...profile,
    step: {
      ...profile.step,
      stepMs: profile.step.stepMs * factor,
      tokenMs: profile.step.tokenMs.map((ms) => ms * factor),
    },
  };
  const config = resolveServeConfig({ workers: [{ role: "prefill" }, { role: "decode" }] }, () => "test", {});
  const { outcomes } = replayRecorded({ requests, config, profile: slow });
  const lines = requests.map((request, index) => {
    const { ttftMs, e2eMs, gapsMs } = outcomes.get(index)!;
    const events = eventGaps(gapsMs!, Math.round(gapsMs!.length * eventShare), stream);
    const run: RecordedRequest = {
      ...request,
      firstTokenMs: request.arrivalMs + ttftMs,
      lastTokenMs: request.arrivalMs + e2eMs,
      endMs: request.arrivalMs + e2eMs,
      contentChunks: events.length + 1,
      gapsMs: events,
    };
    return `${JSON.stringify(run)}\n`;
  });
  const path = join(folder, name);
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, "requests.jsonl"), change(lines.join("")));
  writeFileSync(join(path, "fleet.yaml"), SPLIT);
  writeFileSync(join(path, "profile.json"), JSON.stringify(profile));
  return path;
}

const OPTIONS = { includesFitted: false };

describe("validate own", () => {
  it("finds no error in a run that went as the twin says", async () => {
    const report = await validateOwn(writeRun("exact", 1), OPTIONS);
    expect(report).toMatchObject({ name: "own", rows: 60, skipped: [], rivals: {} });
    for (const metric of [
      "ttft_p50",
      "ttft_mean",
      "itl_p50",
      "itl_p90",
      "itl_mean",
      "e2e_p50",
      "e2e_mean",
      "request_ttft",
    ])
      expect(report.metrics[metric]!.medianAbsPct).toBeLessThan(0.01);
    expect(report.metrics.request_ttft!.n).toBe(60);
  });

  it("shows by how much a machine was slower than its profile", async () => {
    const { metrics } = await validateOwn(writeRun("slow", 1.25), OPTIONS);
    expect(metrics.ttft_p50!.meanSignedPct).toBeLessThan(-8);
    expect(metrics.itl_mean!.meanSignedPct).toBeLessThan(-8);
  });

  it("compares gaps between the tokens that each event told of", () => {
    expect(knownEventGaps([1, 2, 4, 8], [1, 2, 4, 5])).toEqual([1, 6, 8]);
    expect(knownEventGaps([1, 2, 4, 8], [2, 2, 5])).toEqual([0, 14]);
    expect(knownEventGaps([], [1])).toEqual([]);
  });

  it("compares gaps between events, however many tokens come in one", async () => {
    const { metrics } = await validateOwn(writeRun("merged", 1, { eventShare: 0.6 }), OPTIONS);
    expect(metrics.itl_p50!.medianAbsPct).toBeLessThan(5);
    expect(metrics.itl_p90!.medianAbsPct).toBeLessThan(5);
    expect(metrics.itl_mean!.medianAbsPct).toBeLessThan(5);
  });

  it("takes a folder of runs, each a row of the run's metrics", async () => {
    writeRun("several/one", 1);
    writeRun("several/two", 1.25);
    const report = await validateOwn(join(folder, "several"), OPTIONS);
    expect(report.metrics.ttft_p50!.n).toBe(2);
    expect(report.rows).toBe(120);
  });

  it("leaves out requests whose prompt came from a cache, and says so", async () => {
    const path = writeRun("cached", 1, {
      change: (text) => text.replace('"cachedTokens":0', '"cachedTokens":400'),
    });
    const { skipped, metrics } = await validateOwn(path, OPTIONS);
    expect(skipped).toHaveLength(1);
    expect(skipped[0]!.reason).toMatch(/400 of its prompt tokens/);
    expect(metrics.request_ttft!.n).toBe(59);
    rmSync(path, { recursive: true });
  });

  it("leaves them out of the figures of the run as well", async () => {
    const slow = (text: string, cachedTokens: number) =>
      text
        .replace('"cachedTokens":0', `"cachedTokens":${cachedTokens}`)
        .replace(/"endMs":[\d.]+/, '"endMs":9e6');
    const errorOf = async (cachedTokens: number) => {
      const path = writeRun(`slow-${cachedTokens}`, 1, { change: (text) => slow(text, cachedTokens) });
      const { metrics } = await validateOwn(path, OPTIONS);
      rmSync(path, { recursive: true });
      return metrics.e2e_mean!.medianAbsPct;
    };
    expect(await errorOf(0)).toBeGreaterThan(90);
    expect(await errorOf(400)).toBeLessThan(20);
  });

  it.each([
    ["is-not-json", (text: string) => `${text}{\n`, /requests\.jsonl:61: is not JSON/],
    ["no-arrival", (text: string) => text.replace('"arrivalMs"', '"arrived"'), /requests\.jsonl:1: /],
    [
      "backwards",
      (text: string) => text.replace(/"firstTokenMs":[\d.]+/, '"firstTokenMs":0'),
      /requests\.jsonl:1: has times that run backwards/,
    ],
    ["empty", () => "", /holds no requests/],
  ])("refuses a run that %s, with its line", async (name, change, message) => {
    const path = writeRun(name, 1, { change });
    await expect(validateOwn(path, OPTIONS)).rejects.toThrow(message);
    rmSync(path, { recursive: true });
  });

  it("says which file is missing, and where it comes from", async () => {
    const path = writeRun("incomplete", 1);
    rmSync(join(path, "profile.json"));
    await expect(validateOwn(path, OPTIONS)).rejects.toThrow(
      /profile\.json: there is no such file; .*twofold profile/,
    );
    await expect(validateOwn(join(folder, "nowhere"), OPTIONS)).rejects.toThrow(/there is no such folder/);
    rmSync(path, { recursive: true });
  });

  it("does not guess what a handoff costs", async () => {
    const path = writeRun("no-handoff", 1);
    writeFileSync(join(path, "profile.json"), JSON.stringify(madeUpProfile({ handoff: null })));
    await expect(validateOwn(path, OPTIONS)).rejects.toThrow(/its profile has no handoff/);
    rmSync(path, { recursive: true });
  });
});

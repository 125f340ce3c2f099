import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { emptyStepTime } from "../../src/core/perf/perf-model.ts";
import { ProfileModel } from "../../src/core/perf/profile-model.ts";
import { StepLoad } from "../../src/core/perf/step-load.ts";
import { parseProfile, toEngineProfile } from "../../src/protocol/profile-file.ts";
import { runCli } from "../support/server-process.ts";

/** Long enough that a busy machine's late timers are some percent of them. */
const STEP_MS = 30;
const PREFILL_MS = 0.25;
const DECODE_MS = 3;
/** Of a price: timers fire up to a millisecond late, and the machine may be busy. */
const TOLERANCE = 0.15;

const folder = mkdtempSync(join(tmpdir(), "twofold-profile-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("twofold profile", () => {
  it("finds the step times of the stub engine", async () => {
    const out = join(folder, "stub.json");
    const stub = [
      "--stub-step-ms",
      STEP_MS,
      "--stub-prefill-ms-per-token",
      PREFILL_MS,
      "--stub-decode-ms",
      DECODE_MS,
    ];
    const args = ["--engine", "stub", ...stub.map(String), "--seconds", "12"];
    const result = await runCli(["profile", ...args, "--out", out, "--json"]);
    expect(result.stderr).toBe("");
    expect(result.code).toBe(0);
    const profile = parseProfile(readFileSync(out, "utf8"), out);
    expect(JSON.parse(result.stdout)).toMatchObject({ profile: { engine: "stub" } });
    const model = new ProfileModel(toEngineProfile(profile));
    const priceOf = (fill: (load: StepLoad) => void): number => {
      const load = new StepLoad();
      const time = emptyStepTime();
      fill(load);
      model.stepTime(load, time);
      return time.deviceMs + time.hostMs;
    };
    const prices: Array<[measured: number, configured: number]> = [
      [priceOf((load) => load.addDecode(100)), STEP_MS + DECODE_MS],
      [
        priceOf((load) => {
          for (let i = 0; i < 4; i++) load.addDecode(200);
        }),
        STEP_MS + 4 * DECODE_MS,
      ],
      [priceOf((load) => load.addPrefill(0, 200, true)), STEP_MS + 200 * PREFILL_MS],
      [priceOf((load) => load.addPrefill(256, 256, true)), STEP_MS + 256 * PREFILL_MS],
    ];
    for (const [measured, configured] of prices)
      expect(Math.abs(measured / configured - 1)).toBeLessThan(TOLERANCE);
  });
});

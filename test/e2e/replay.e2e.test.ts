import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { runCli, runCliHere, startServer } from "../support/server-process.ts";

const SCENARIO = `
name: Recorded
model: llama-3.1-8b
fleets:
  split:
    placement: { policy: dynamo }
    workers:
      - { name: prefill, role: prefill, count: 2, device: h100-sxm, tokenBudget: 8192 }
      - { name: decode, role: decode, device: h100-sxm }
workload:
  kind: requests
  requests: 100
  inputTokens: lognormal:800:600
  outputTokens: lognormal:50:40
  arrivals: { kind: poisson, requestsPerSecond: 6 }
`;

describe("twofold replay", () => {
  const folder = mkdtempSync(join(tmpdir(), "twofold-replay-"));
  const log = join(folder, "log.jsonl");
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it("makes the decisions of a server once more, which left no text in the record", async () => {
    const server = await startServer(
      ["--engine", "stub", "--prefill", "1", "--decode", "2", "--record", log],
      { TWOFOLD_RUN_DIR: join(folder, "run") },
    );
    const ask = (content: string) =>
      fetch(`${server.url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ messages: [{ role: "user", content }], max_tokens: 12 }),
      });
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, i) => ask(`confidential ${"words ".repeat(20 * (i % 4))}${i}`)),
    );
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    await Promise.all(answers.map((answer) => answer.text()));
    expect(await server.stop()).toBe(0);
    const { code, stdout, stderr } = await runCli(["replay", log, "--json"]);
    expect(stderr).toBe("");
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      policy: "priced",
      numDecisions: 12,
      numEqual: 12,
      firstDifference: null,
      end: "stopped",
    });
    const text = readFileSync(log, "utf8");
    expect(text).toContain('"kind":"steps"');
    expect(text).toContain('"kind":"kv"');
    expect(text).not.toContain("confidential");
  });

  it("makes the decisions of a run of the twin once more, and notices one that was changed", async () => {
    const scenario = join(folder, "scenario.yaml");
    writeFileSync(scenario, SCENARIO);
    expect((await runCliHere(["simulate", scenario, "--seeds", "1", "--record", log])).code).toBe(0);
    const good = await runCliHere(["replay", log]);
    expect(good).toMatchObject({ code: 0, stderr: "" });
    expect(good.stdout).toContain("100 of 100 the same");
    const changed = readFileSync(log, "utf8").replace(
      '"prefillWorker":"prefill-0"',
      '"prefillWorker":"prefill-9"',
    );
    writeFileSync(log, changed);
    const bad = await runCliHere(["replay", log]);
    expect(bad.code).toBe(1);
    expect(bad.stdout).toContain("99 of 100 the same");
    expect(bad.stdout).toMatch(/first difference: request \S+, line \d+/);
    const damaged = `${changed.slice(0, 5000)}\n${changed.slice(5000)}`;
    writeFileSync(log, damaged);
    expect(await runCliHere(["replay", log])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/log\.jsonl:\d+: is not JSON/),
    });
  });
});

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { complete } from "../support/completions.ts";
import { type ServerProcess, startServer } from "../support/server-process.ts";

const folder = mkdtempSync(join(tmpdir(), "twofold-prefetch-"));
let server: ServerProcess | undefined;
afterAll(async () => {
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

it("a turn that comes back from a tool finds on the device what had gone to disk", async () => {
  const file = join(folder, "fleet.yaml");
  const tiers = `{ diskPath: ${join(folder, "kv")} }`;
  writeFileSync(file, `workers: [{ role: both }]\nprefixCacheTokens: 512\ntiers: ${tiers}\n`);
  server = await startServer([file, "--engine", "stub"], { TWOFOLD_RUN_DIR: join(folder, "run") });
  const { url } = server;
  /** The value of the worker's series with this name and these last labels; NaN while there is none. */
  const metric = async (name: string, labels = "") => {
    const lines = (await (await fetch(`${url}/metrics`)).text()).split("\n");
    const line = lines.find(
      (each) => each.startsWith(`twofold_worker_${name}{`) && each.includes(`${labels}}`),
    );
    return Number(line?.split(" ").at(-1));
  };
  await server.untilWorkers("the worker", (seen) => seen.some(({ state }) => state === "ready"));
  const ask = async (prompt: string, cache = {}) => {
    const answer = await complete(url, { model: "stub", prompt, max_tokens: 4, cache });
    expect(answer.error).toBeNull();
    return answer;
  };
  const text = (word: string) => `${word} `.repeat(30);
  // Nothing is told to a worker that has not said that it has a use for it.
  await expect.poll(() => metric("prefetch_pending")).toBe(0);
  // Longer than the others take to push it out.
  await ask(text("alpha"), { next_turn_seconds: 5 });
  for (const word of ["theta", "bravo", "gamma", "delta", "omega", "kappa"]) await ask(text(word));
  await expect
    .poll(() => metric("prefetch_bytes_total", 'to="device",state="started"'), { timeout: 15_000 })
    .toBeGreaterThan(0);
  const readBefore = await metric("tier_hits_total");
  const { usage } = await ask(`${text("alpha")}and a tool has said so`);
  expect(usage!.cached_tokens).toBeGreaterThanOrEqual(160);
  await expect.poll(() => metric("prefetch_came_total")).toBe(1);
  expect(await metric("tier_hits_total")).toBe(readBefore);
});

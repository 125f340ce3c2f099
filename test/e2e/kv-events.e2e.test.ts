import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { DispatchLogReader } from "../../src/twin/replay/dispatch-log-reader.ts";
import { hashKeys } from "../../src/twin/replay/recorded-traffic.ts";
import { complete } from "../support/completions.ts";
import { type EventFilter, startEventFilter } from "../support/event-filter.ts";
import { CLI_PATH, runCliHere, type ServerProcess, startServer } from "../support/server-process.ts";

const folder = mkdtempSync(join(tmpdir(), "twofold-kv-events-"));
const path = (name: string) => join(folder, name);
const ENV = { TWOFOLD_FLEET_SECRET: "0123456789abcdef", TWOFOLD_RUN_DIR: path("run") };

let worker: ChildProcess | undefined;
let filter: EventFilter | undefined;
let server: ServerProcess | undefined;
afterAll(async () => {
  await server?.stop();
  await filter?.close();
  if (worker?.kill("SIGTERM") === true) await once(worker, "exit");
  rmSync(folder, { recursive: true, force: true });
});

/** Which requests' blocks the gateway knows to be cached at the end of a record, and how many snapshots it was sent. */
function known(record: string): { requests: boolean[]; numSnapshots: number } {
  const log = new DispatchLogReader(record);
  const prompts: string[][] = [];
  const held = new Set<string>();
  let numSnapshots = 0;
  let next = 1;
  for (const entry of log.entries()) {
    if (entry.kind === "submit") prompts.push(hashKeys(entry.request.promptBlockHashes!));
    if (entry.kind !== "kv") continue;
    const { sequence, isSnapshot, events } = entry.batch;
    if (isSnapshot) {
      held.clear();
      numSnapshots++;
    } else if (sequence !== next) continue;
    next = sequence + 1;
    for (const event of events)
      if (event.kind === "stored") for (const key of hashKeys(event.hashes)) held.add(key);
  }
  for (const blocks of prompts) expect(blocks.length).toBeGreaterThan(2);
  return { requests: prompts.map((blocks) => blocks.every((key) => held.has(key))), numSnapshots };
}

it("a gateway that misses KV events asks for a snapshot, and knows then what it had missed", async () => {
  let numLost = 0;
  let isLosing = false;
  const lose = (line: string): boolean => isLosing && line.includes('"kind":"kv"') && ++numLost > 0;
  const listen = ["--listen", `unix:${path("worker")}`, "--kv-listen", `unix:${path("kv")}`];
  worker = spawn(process.execPath, [CLI_PATH, "worker", "--role", "both", "--engine", "stub", ...listen], {
    env: { ...process.env, ...ENV },
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(worker.stdout!, "data");
  filter = await startEventFilter({ listen: path("filter"), worker: path("worker") }, (line) => !lose(line));
  writeFileSync(path("fleet.yaml"), `workers: [{ role: both, address: "unix:${path("filter")}" }]\n`);
  const gateway = await startServer([path("fleet.yaml"), "--engine", "stub", "--record", path("log")], ENV);
  server = gateway;
  await gateway.untilWorkers("the worker", (seen) => seen.some(({ state }) => state === "ready"));
  const counts = () =>
    Promise.all(
      ["batches", "dropped", "gaps", "resyncs"].map((name) =>
        gateway.metric(`twofold_router_kv_event_${name}_total`),
      ),
    );
  const ask = async (word: string) => {
    const prompt = `${word} `.repeat(60);
    expect(await complete(gateway.url, { model: "stub", prompt, max_tokens: 1 })).toMatchObject({
      error: null,
    });
  };
  const untilCounted = (expected: readonly number[]) => expect.poll(counts).toEqual(expected);
  // The snapshot that a gateway begins with, and the first prompt's blocks.
  await ask("first");
  await untilCounted([2, 0, 0, 0]);
  isLosing = true;
  await ask("second");
  await expect.poll(() => numLost).toBe(1);
  isLosing = false;
  // Only the next batch shows that one is missing; the snapshot comes instead of it.
  await ask("third");
  await untilCounted([3, 1, 1, 1]);
  await ask("fourth");
  await untilCounted([4, 1, 1, 1]);
  expect(await gateway.stop()).toBe(0);
  expect(known(path("log"))).toEqual({ requests: [true, true, true, true], numSnapshots: 2 });
  expect((await runCliHere(["replay", path("log")])).stdout).toContain("4 of 4 the same");
});

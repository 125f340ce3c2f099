import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { makeIdentity, TEST_SECRET } from "../../../test/support/link-support.ts";
import { makeRequest, tokenRange } from "../../../test/support/make.ts";
import { TempFiles } from "../../../test/support/temp-files.ts";
import type { Request } from "../../core/request.ts";
import { HASH_WORDS } from "../../core/tokens/block-hash.ts";
import { resolveWorkerConfig, type WorkerConfigValues } from "../../protocol/worker-config.ts";
import type { Assignment } from "../../protocol/worker-rpc.ts";
import { StubEngine } from "../engine/stub/stub-engine.ts";
import { openTiers } from "../tiers/open-tiers.ts";
import { createKvMesh, type KvMesh } from "../transfer/kv-mesh.ts";
import { createDriver } from "./assemble.ts";
import type { EventSink } from "./subscribers.ts";
import type { WorkerDriver } from "./worker-driver.ts";

interface Node {
  readonly id: string;
  readonly driver: WorkerDriver;
  readonly mesh: KvMesh;
  readonly kvAddress: string;
  /** Blocks that can be found in its lower tiers, by what it says of them. */
  readonly found: Record<"host" | "disk", number>;
  closeTiers(): Promise<void>;
  run(request: Request, assignment: Assignment): Promise<{ tokens: number[]; numCached: number }>;
}

let temp: TempFiles;
let nodes: Node[];
beforeEach(() => {
  temp = new TempFiles();
  nodes = [];
});
afterEach(async () => {
  for (const { driver, mesh, closeTiers } of nodes) {
    driver.stop();
    await mesh.close();
    await closeTiers();
  }
  temp.remove();
});

/** A worker with a real driver and real links, and an engine without a model. */
async function start(id: string, values: Partial<WorkerConfigValues> = {}): Promise<Node> {
  const engine = new StubEngine({ kvCapacityTokens: 1024 });
  const config = resolveWorkerConfig(
    {
      workerId: id,
      role: "both",
      engine: "stub",
      kvCapacityTokens: 1024,
      contextTokens: 1024,
      listen: "unix:/unused",
      kvListen: "unix:/unused",
      ...values,
    },
    () => "test",
  );
  const tiers = await openTiers(config, engine, {
    key: Buffer.alloc(32, 7),
    warn: (message) => {
      throw new Error(message);
    },
  });
  const onFatal = (error: unknown): never => {
    throw error;
  };
  const driver = createDriver(config, engine, onFatal, tiers);
  const mesh = createKvMesh({
    identity: makeIdentity({ workerId: id }),
    secret: TEST_SECRET,
    onMessage: (peer, message) => driver.receive(peer, message),
    onPeerLost: (peer) => driver.peerLost(peer),
    onRefused: (reason) => {
      throw new Error(reason);
    },
  });
  const kvAddress = await mesh.listen(`unix:${temp.folder}/${id}`);
  driver.attachMesh(mesh, kvAddress);
  const open = new Map<string, { tokens: number[]; numCached: number; end: () => void }>();
  const found = { host: 0, disk: 0 };
  const subscriber: EventSink = (event) => {
    if (event.kind === "tokens")
      for (const { requestId, index, sampled } of event.tokens)
        open.get(requestId)!.tokens[index] = sampled.token;
    else if (event.kind === "cached") open.get(event.requestId)!.numCached = event.numTokens;
    else if (event.kind === "finish") open.get(event.requestId)!.end();
    else if (event.kind === "kv")
      for (const change of event.batch.events) {
        if (change.tier === "device" || change.kind === "cleared") continue;
        const numBlocks = change.hashes.length / HASH_WORDS;
        found[change.tier] += change.kind === "stored" ? numBlocks : -numBlocks;
      }
  };
  driver.subscribe(subscriber, { reports: true });
  const node: Node = {
    id,
    driver,
    mesh,
    kvAddress,
    found,
    closeTiers: async () => tiers?.close(),
    run: (request, assignment) =>
      new Promise((resolve) => {
        const state = { tokens: [] as number[], numCached: 0, end: () => {} };
        state.end = () => resolve({ tokens: state.tokens, numCached: state.numCached });
        open.set(request.id, state);
        driver.submit(request, assignment);
      }),
  };
  nodes.push(node);
  return node;
}

const ask = (id: string, cacheSalt = "a", numTokens = 300) =>
  makeRequest({
    id,
    cacheSalt,
    prompt: tokenRange(10, numTokens),
    maxOutputTokens: 6,
    ignoreEndOfGeneration: true,
  });
const from = ({ id, kvAddress }: Node): Assignment => ({
  kind: "local",
  fetch: { worker: id, kvAddress, numTokens: 320 },
});

describe("fetching a prefix from another worker", () => {
  it("gives the text of a computed one, for the tenant that it belongs to only", async () => {
    const [holder, other] = [await start("holder"), await start("other")];
    const { tokens } = await holder.run(ask("r1"), { kind: "local" });
    expect(await other.run(ask("r2"), from(holder))).toEqual({ tokens, numCached: 288 });
    expect((await other.run(ask("r3", "b"), from(holder))).numCached).toBe(0);
    // What came over is cached here from now on.
    expect(await other.run(ask("r4"), { kind: "local" })).toEqual({ tokens, numCached: 288 });
    for (const { driver } of nodes) driver.checkInvariants();
  });

  it("computes what the other worker does not have, or when it can't be reached", async () => {
    const [holder, other] = [await start("holder"), await start("other")];
    const alone = await start("alone");
    await holder.run(ask("r1", "a", 100), { kind: "local" });
    const { tokens } = await alone.run(ask("r2"), { kind: "local" });
    expect(await other.run(ask("r3"), from(holder))).toEqual({ tokens, numCached: 96 });
    const gone: Assignment = {
      kind: "local",
      fetch: { worker: "gone", kvAddress: `unix:${temp.folder}/gone`, numTokens: 300 },
    };
    const another = await start("another");
    expect(await another.run(ask("r4"), gone)).toEqual({ tokens, numCached: 0 });
    for (const { driver } of nodes) driver.checkInvariants();
  });
});

describe("fetching a prefix that another worker has in lower tiers", () => {
  const device = { prefixCacheTokens: 320 };
  const inHost = { ...device, tiers: { hostBytes: "1MiB" } };
  const onDisk = () => ({ ...device, tiers: { diskPath: temp.folder, diskFolder: "kv" } });
  const files = (): string[] => readdirSync(join(temp.folder, "kv")).filter((name) => name.endsWith(".kv"));
  /** A prompt of another conversation takes the device. */
  const other = (id: string) =>
    makeRequest({ id, prompt: tokenRange(700, 330), maxOutputTokens: 2, ignoreEndOfGeneration: true });
  /** Writing takes its time: waits until so many blocks can be found. */
  async function written({ found }: Node, tier: "host" | "disk", numBlocks: number): Promise<void> {
    while (found[tier] < numBlocks) await new Promise((resolve) => setImmediate(resolve));
  }

  it.each(["host", "disk"] as const)(
    "takes it from %s, for the tenant that it belongs to only",
    async (tier) => {
      const holder = await start("holder", tier === "host" ? inHost : onDisk());
      const asker = await start("asker");
      const { tokens } = await holder.run(ask("r1"), { kind: "local" });
      await holder.run(other("r2"), { kind: "local" });
      await written(holder, tier, 39);
      const { kvBlocksCached, numSteps } = holder.driver.load();
      expect(await asker.run(ask("r3"), from(holder))).toEqual({ tokens, numCached: 288 });
      expect((await asker.run(ask("r4", "b"), from(holder))).numCached).toBe(0);
      // Nothing was loaded into its engine or computed there.
      expect(holder.driver.load()).toMatchObject({ kvBlocksCached, numSteps });
      for (const { driver } of nodes) driver.checkInvariants();
    },
  );

  it("joins what is left in the engine and what is on disk", async () => {
    const holder = await start("holder", onDisk());
    const asker = await start("asker");
    const { tokens } = await holder.run(ask("r1"), { kind: "local" });
    // The end of the first prompt goes from the device, its beginning stays.
    await holder.run(
      { ...other("r2"), promptTokens: other("r2").promptTokens.slice(0, 100) },
      { kind: "local" },
    );
    await written(holder, "disk", 25);
    expect(holder.driver.load().kvBlocksCached).toBe(20);
    expect(await asker.run(ask("r3"), from(holder))).toEqual({ tokens, numCached: 288 });
    for (const { driver } of nodes) driver.checkInvariants();
  });

  it("computes from a damaged file on, which is deleted where it lies and counted", async () => {
    const holder = await start("holder", onDisk());
    const asker = await start("asker");
    const { tokens } = await holder.run(ask("r1"), { kind: "local" });
    await written(holder, "disk", 19);
    const damaged = files();
    expect(damaged).toHaveLength(2);
    for (const name of damaged) {
      const path = join(temp.folder, "kv", name);
      const bytes = readFileSync(path);
      bytes[bytes.length - 1]! ^= 1;
      writeFileSync(path, bytes);
    }
    await holder.run(other("r2"), { kind: "local" });
    await written(holder, "disk", 39);
    expect(await asker.run(ask("r3"), from(holder))).toEqual({ tokens, numCached: 0 });
    expect(holder.driver.load().tiers.disk).toMatchObject({ bad: 1 });
    // What hung below the damaged segment goes with it.
    while (files().some((name) => damaged.includes(name)))
      await new Promise((resolve) => setImmediate(resolve));
    for (const { driver } of nodes) driver.checkInvariants();
  });
});

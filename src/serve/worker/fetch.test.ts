import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type LinkedNode, LinkedNodes, written } from "../../../test/support/linked-nodes.ts";
import { makeRequest, tokenRange } from "../../../test/support/make.ts";
import { TempFiles } from "../../../test/support/temp-files.ts";
import type { Request } from "../../core/request.ts";
import type { WorkerConfigValues } from "../../protocol/worker-config.ts";
import type { Assignment } from "../../protocol/worker-rpc.ts";

let temp: TempFiles;
let fleet: LinkedNodes;
let nodes: readonly LinkedNode[];
beforeEach(() => {
  temp = new TempFiles();
  fleet = new LinkedNodes(temp.folder);
  nodes = fleet.nodes;
});
afterEach(async () => {
  await fleet.close();
  temp.remove();
});
const start = (id: string, values?: Partial<WorkerConfigValues>): Promise<LinkedNode> =>
  fleet.start(id, { values });

const ask = (id: string, cacheSalt = "a", numTokens = 300) =>
  makeRequest({
    id,
    cacheSalt,
    prompt: tokenRange(10, numTokens),
    maxOutputTokens: 6,
    ignoreEndOfGeneration: true,
  });
const from = ({ id, kvAddress }: LinkedNode): Assignment => ({
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

describe("a handoff to a decode worker that has the prompt on disk", () => {
  it("sends what that worker does not bring up itself, also to one that has been started again", async () => {
    const values = { tiers: { diskPath: temp.folder, diskFolder: "d" } };
    const prefill = await start("prefill");
    const handOver = async (
      request: Request,
      decode: LinkedNode,
    ): Promise<{ tokens: number[]; numBytes: number }> => {
      const before = prefill.driver.load().handoffBytes;
      const { id: decodeWorker, kvAddress: decodeKvAddress } = decode;
      // The first token is drawn by the one, the others by the other; both tell it.
      void prefill.run(request, { kind: "prefill", decodeWorker, decodeKvAddress });
      const { tokens } = await decode.run(request, { kind: "decode", prefillWorker: "prefill" });
      return { tokens, numBytes: prefill.driver.load().handoffBytes - before };
    };
    const first = await start("decode-1", values);
    const cold = await handOver(ask("r1"), first);
    await written(first, "disk", 19);
    await fleet.stop(first);
    const second = await start("decode-2", values);
    const warm = await handOver(ask("r2"), second);
    expect(warm.tokens).toEqual(cold.tokens);
    expect(warm.numBytes).toBeLessThan(100);
    // 300 tokens of 4 bytes.
    for (const { numBytes } of [cold, await handOver(ask("r3", "b"), second)])
      expect(numBytes).toBeGreaterThanOrEqual(1200);
    const other = await start("decode-3", { tiers: { diskPath: temp.folder, diskFolder: "d3" } });
    expect((await handOver(ask("r4"), other)).numBytes).toBeGreaterThanOrEqual(1200);
    for (const { driver } of nodes) driver.checkInvariants();
  });
});

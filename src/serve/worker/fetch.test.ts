import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { makeIdentity, TEST_SECRET } from "../../../test/support/link-support.ts";
import { makeRequest, tokenRange } from "../../../test/support/make.ts";
import { TempFiles } from "../../../test/support/temp-files.ts";
import type { Request } from "../../core/request.ts";
import { resolveWorkerConfig } from "../../protocol/worker-config.ts";
import type { Assignment } from "../../protocol/worker-rpc.ts";
import { StubEngine } from "../engine/stub/stub-engine.ts";
import { createKvMesh, type KvMesh } from "../transfer/kv-mesh.ts";
import { createDriver } from "./assemble.ts";
import type { WorkerDriver } from "./worker-driver.ts";

interface Node {
  readonly id: string;
  readonly driver: WorkerDriver;
  readonly mesh: KvMesh;
  readonly kvAddress: string;
  run(request: Request, assignment: Assignment): Promise<{ tokens: number[]; numCached: number }>;
}

let temp: TempFiles;
let nodes: Node[];
beforeEach(() => {
  temp = new TempFiles();
  nodes = [];
});
afterEach(async () => {
  for (const { driver, mesh } of nodes) {
    driver.stop();
    await mesh.close();
  }
  temp.remove();
});

/** A worker with a real driver and real links, and an engine without a model. */
async function start(id: string): Promise<Node> {
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
    },
    () => "test",
  );
  const driver = createDriver(config, engine, (error) => {
    throw error;
  });
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
  driver.subscribe((event) => {
    if (event.kind === "tokens")
      for (const { requestId, index, sampled } of event.tokens)
        open.get(requestId)!.tokens[index] = sampled.token;
    else if (event.kind === "cached") open.get(event.requestId)!.numCached = event.numTokens;
    else if (event.kind === "finish") open.get(event.requestId)!.end();
  });
  const node: Node = {
    id,
    driver,
    mesh,
    kvAddress,
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

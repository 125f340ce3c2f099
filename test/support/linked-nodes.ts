import type { Request } from "../../src/core/request.ts";
import { HASH_WORDS } from "../../src/core/tokens/block-hash.ts";
import { resolveWorkerConfig, type WorkerConfigValues } from "../../src/protocol/worker-config.ts";
import type { Assignment } from "../../src/protocol/worker-rpc.ts";
import type { Engine } from "../../src/serve/engine/engine.ts";
import { StubEngine } from "../../src/serve/engine/stub/stub-engine.ts";
import { openTiers, type WorkerTiers } from "../../src/serve/tiers/open-tiers.ts";
import { createKvMesh, type KvMesh } from "../../src/serve/transfer/kv-mesh.ts";
import { createDriver } from "../../src/serve/worker/assemble.ts";
import type { EventSink } from "../../src/serve/worker/subscribers.ts";
import type { WorkerDriver } from "../../src/serve/worker/worker-driver.ts";
import { makeIdentity, TEST_SECRET } from "./link-support.ts";

/** A worker of {@link LinkedNodes}. */
export interface LinkedNode {
  readonly id: string;
  readonly driver: WorkerDriver;
  readonly mesh: KvMesh;
  readonly kvAddress: string;
  readonly tiers: WorkerTiers | null;
  /** Blocks that can be found in its lower tiers, by what it says of them. */
  readonly found: Record<"host" | "disk", number>;
  stop(): Promise<void>;
  run(request: Request, assignment: Assignment): Promise<{ tokens: number[]; numCached: number }>;
}

/** Workers with real drivers, tiers and links in this process, on unix sockets in a folder; by default without a model. */
export class LinkedNodes {
  readonly nodes: LinkedNode[] = [];
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async start(
    id: string,
    options: { values?: Partial<WorkerConfigValues> | undefined; engine?: Engine } = {},
  ): Promise<LinkedNode> {
    const { values = {}, engine = new StubEngine({ kvCapacityTokens: 1024 }) } = options;
    const config = resolveWorkerConfig(
      {
        workerId: id,
        role: "both",
        engine: "stub",
        kvCapacityTokens: engine.info.kvCapacityTokens,
        contextTokens: engine.info.kvCapacityTokens,
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
      onMessage: (peer, message, ms) => driver.receive(peer, message, ms),
      onPeerLost: (peer) => driver.peerLost(peer),
      // Of two that dial each other at the same time one refuses.
      onRefused: () => {},
    });
    const kvAddress = await mesh.listen(`unix:${this.#folder}/${id}`);
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
    const node: LinkedNode = {
      id,
      driver,
      mesh,
      kvAddress,
      tiers,
      found,
      stop: async () => {
        driver.stop();
        await mesh.close();
        await engine.close();
        await tiers?.close();
      },
      run: (request, assignment) =>
        new Promise((resolve) => {
          const state = { tokens: [] as number[], numCached: 0, end: () => {} };
          state.end = () => resolve({ tokens: state.tokens, numCached: state.numCached });
          open.set(request.id, state);
          driver.submit(request, assignment);
        }),
    };
    this.nodes.push(node);
    return node;
  }

  async stop(node: LinkedNode): Promise<void> {
    this.nodes.splice(this.nodes.indexOf(node), 1);
    await node.stop();
  }

  async close(): Promise<void> {
    for (const node of [...this.nodes]) await this.stop(node);
  }
}

/** Writing takes its time: waits until so many blocks can be found. */
export async function written(
  { found }: LinkedNode,
  tier: "host" | "disk",
  numBlocks: number,
): Promise<void> {
  while (found[tier] < numBlocks) await new Promise((resolve) => setImmediate(resolve));
}

import { describe, expect, it } from "vitest";
import type { HandoffMessage } from "../../core/handoff/messages.ts";
import type { KvRange } from "../../core/kv/kv-ops.ts";
import { EngineError } from "../engine/engine.ts";
import { FetchServer, type FetchServerPorts } from "./fetch-server.ts";

const ID = { requestId: "r", epoch: 0 };
/** Of a model with half a billion parameters. */
const BYTES_PER_TOKEN = 12_288;

function open(overrides: Partial<FetchServerPorts> = {}) {
  const sent: HandoffMessage[] = [];
  const exports: KvRange[] = [];
  const failures: unknown[] = [];
  const server = new FetchServer({
    bytesPerToken: BYTES_PER_TOKEN,
    blockSizeTokens: 16,
    exportKv: async (range) => {
      exports.push(range);
      return new Uint8Array(1);
    },
    deliver: async (_, message) => {
      sent.push(message);
    },
    exported: () => {},
    fatal: (error) => failures.push(error),
    ...overrides,
  });
  return { server, sent, exports, failures };
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("FetchServer", () => {
  it("cuts what does not fit one frame between blocks, and says when there is no more", async () => {
    const { server, sent, exports } = open();
    server.serve("peer", ID, [
      { slot: 3, start: 32, end: 2080 },
      { slot: 4, start: 2080, end: 2096 },
    ]);
    // Before anything else can be done to the cells.
    expect(exports).toHaveLength(5);
    await settled();
    const fetched = sent.filter((message) => message.kind === "fetched");
    expect(fetched.map(({ start, end }) => [start, end])).toEqual([
      [32, 704],
      [704, 1376],
      [1376, 2048],
      [2048, 2080],
      [2080, 2096],
    ]);
    expect(sent.at(-1)).toEqual({ kind: "fetch-end", ...ID });
    for (const { start, end } of fetched) {
      expect([start % 16, end % 16]).toEqual([0, 0]);
      expect((end - start) * BYTES_PER_TOKEN).toBeLessThanOrEqual(8 * 1024 * 1024);
    }
  });

  it("says that there is no more when the link refuses a piece", async () => {
    const kinds: string[] = [];
    const { server, failures } = open({
      deliver: async (_, { kind }) => {
        kinds.push(kind);
        if (kind === "fetched") throw new Error("the queue is full");
      },
    });
    server.serve("peer", ID, [{ slot: 0, start: 0, end: 2080 }]);
    await settled();
    expect(kinds).toEqual(["fetched", "fetch-end"]);
    expect(failures).toEqual([]);
  });

  it("has a limit of answers under way, beyond which it sends nothing, and takes further ones when they are over", async () => {
    let letGo = (): void => {};
    const gate = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    const { server, exports } = open({ deliver: () => gate });
    const ask = (): void => server.serve("peer", ID, [{ slot: 0, start: 0, end: 16 }]);
    for (let i = 0; i < 20; i++) ask();
    expect(exports).toHaveLength(16);
    letGo();
    await settled();
    ask();
    expect(exports).toHaveLength(17);
  });

  it("holds no more than half a gigabyte for its links, and answers with the beginning", async () => {
    let letGo = (): void => {};
    const gate = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    const { server, exports } = open({ deliver: () => gate });
    // 32,768 tokens are 384 MiB.
    for (let i = 0; i < 3; i++) server.serve("peer", ID, [{ slot: i, start: 0, end: 32_768 }]);
    const numTokens = exports.reduce((sum, { start, end }) => sum + end - start, 0);
    expect(numTokens * BYTES_PER_TOKEN).toBeLessThanOrEqual(512 * 1024 * 1024);
    expect(numTokens * BYTES_PER_TOKEN).toBeGreaterThan(500 * 1024 * 1024);
    expect(exports.filter(({ slot }) => slot === 1)[0]!.start).toBe(0);
    letGo();
    await settled();
    const numBefore = exports.length;
    server.serve("peer", ID, [{ slot: 3, start: 0, end: 32_768 }]);
    expect(exports.slice(numBefore).at(-1)!.end).toBe(32_768);
  });

  it("reports an engine that fails", async () => {
    const error = new EngineError("native_failure", "no");
    const { server, sent, failures } = open({ exportKv: () => Promise.reject(error) });
    server.serve("peer", ID, [{ slot: 0, start: 0, end: 16 }]);
    await settled();
    expect(failures).toEqual([error]);
    expect(sent).toEqual([]);
  });
});

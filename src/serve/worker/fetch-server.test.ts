import { describe, expect, it } from "vitest";
import type { HandoffMessage } from "../../core/handoff/messages.ts";
import type { KvRange } from "../../core/kv/kv-ops.ts";
import { segmentOf, type TierPiece } from "../../core/kv/tiers/segment.ts";
import type { ServedPart } from "../../core/kv/tiers/tier-effects.ts";
import { EngineError } from "../engine/engine.ts";
import { ANSWER_TIMEOUT_MS, FetchServer, type FetchServerPorts } from "./fetch-server.ts";

const ID = { requestId: "r", epoch: 0 };
/** Of a model with half a billion parameters. */
const BYTES_PER_TOKEN = 12_288;

function open(overrides: Partial<FetchServerPorts> = {}) {
  const sent: HandoffMessage[] = [];
  const exports: KvRange[] = [];
  const reads: Array<{ start: number; end: number }> = [];
  const answered: Array<[number, TierPiece | null]> = [];
  const failures: unknown[] = [];
  const server = new FetchServer({
    bytesPerToken: BYTES_PER_TOKEN,
    blockSizeTokens: 16,
    nowMs: () => 0,
    exportKv: async (range) => {
      exports.push(range);
      return new Uint8Array(1);
    },
    readTier: async (_, positions) => {
      reads.push(positions);
      return new Uint8Array(2);
    },
    deliver: async (_, message) => {
      sent.push(message);
    },
    exported: () => {},
    answered: (answer, bad) => answered.push([answer, bad]),
    fatal: (error) => failures.push(error),
    ...overrides,
  });
  const serve = (...parts: ServedPart[]): void =>
    server.serve({ kind: "serve-kv", peer: "peer", id: ID, answer: 7, parts });
  return { serve, sent, exports, reads, answered, failures };
}

const device = (slot: number, start: number, end: number): ServedPart => ({
  kind: "device",
  slot,
  start,
  end,
});
const onDisk = (start: number, end: number): ServedPart & { kind: "tier" } => {
  const segment = segmentOf(start, new Int32Array(4096), start / 16, end / 16);
  const piece = { tier: "disk", segment, skipBlocks: 0, numBlocks: (end - start) / 16 } as const;
  return { kind: "tier", piece, start, end };
};

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("FetchServer", () => {
  it("cuts what does not fit one frame between blocks, and says when there is no more", async () => {
    const { serve, sent, exports, answered } = open();
    serve(device(3, 32, 2080), device(4, 2080, 2096));
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
    expect(answered).toEqual([[7, null]]);
  });

  it("sends what lies in tiers and in the engine as one prefix, and reads no more than one piece ahead of the link", async () => {
    const gates: Array<() => void> = [];
    const starts: number[] = [];
    const { serve, exports, reads, answered } = open({
      deliver: (_, message) => {
        if (message.kind === "fetched") starts.push(message.start);
        return new Promise((resolve) => gates.push(resolve));
      },
    });
    serve(onDisk(0, 256), onDisk(256, 512), onDisk(512, 768), device(1, 768, 800), onDisk(800, 816));
    expect(exports).toHaveLength(1);
    for (const numRead of [2, 3, 3, 4, 4]) {
      await settled();
      expect(reads).toHaveLength(numRead);
      gates.shift()!();
    }
    await settled();
    expect(starts).toEqual([0, 256, 512, 768, 800]);
    expect(answered).toEqual([]);
    gates.shift()!();
    await settled();
    expect(answered).toEqual([[7, null]]);
  });

  it.each(["bad", "busy"] as const)("ends before a piece that is %s", async (outcome) => {
    const [first, second] = [onDisk(0, 256), onDisk(256, 512)];
    const { serve, sent, answered } = open({
      readTier: async (piece) => (piece === second.piece ? outcome : new Uint8Array(1)),
    });
    serve(first, second, onDisk(512, 768));
    await settled();
    expect(sent.map(({ kind }) => kind)).toEqual(["fetched", "fetch-end"]);
    expect(answered).toEqual([[7, outcome === "bad" ? second.piece : null]]);
  });

  it("ends when the worker that asked has given up", async () => {
    let nowMs = 0;
    const { serve, sent, answered } = open({
      nowMs: () => nowMs,
      readTier: async () => {
        nowMs += 0.6 * ANSWER_TIMEOUT_MS;
        return new Uint8Array(1);
      },
    });
    serve(onDisk(0, 256), onDisk(256, 512), onDisk(512, 768));
    await settled();
    expect(sent.map(({ kind }) => kind)).toEqual(["fetched", "fetch-end"]);
    expect(answered).toEqual([[7, null]]);
  });

  it("says that there is no more when the link refuses a piece", async () => {
    const kinds: string[] = [];
    const { serve, answered, failures } = open({
      deliver: async (_, { kind }) => {
        kinds.push(kind);
        if (kind === "fetched") throw new Error("the queue is full");
      },
    });
    serve(device(0, 0, 2080));
    await settled();
    expect(kinds).toEqual(["fetched", "fetch-end"]);
    expect(answered).toEqual([[7, null]]);
    expect(failures).toEqual([]);
  });

  it("says at once that there is nothing, and waits for no report then", async () => {
    const { serve, sent, answered } = open();
    serve();
    await settled();
    expect(sent).toEqual([{ kind: "fetch-end", ...ID }]);
    expect(answered).toEqual([]);
  });

  it("reports an engine that fails", async () => {
    const error = new EngineError("native_failure", "no");
    const { serve, sent, failures } = open({ exportKv: () => Promise.reject(error) });
    serve(device(0, 0, 16));
    await settled();
    expect(failures).toEqual([error]);
    expect(sent).toEqual([]);
  });
});

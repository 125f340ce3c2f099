import { describe, expect, it } from "vitest";
import {
  ListObserver,
  linearPerf,
  PrivateLinks,
  twinSpec,
  twinWorker,
  workloadRequest,
} from "../../../test/support/twin.ts";
import type { TwinWorkerSpec } from "../twin-spec.ts";
import { ListSource } from "../workload/list-source.ts";
import { runTwin } from "./run-twin.ts";

const NUM_ROUNDS = 3;
const GAP_MS = 20_000;
const INPUT_TOKENS = 800;
const perf = linearPerf({ stepMs: 1, prefillMsPerToken: 1, decodeMs: 1, kvCapacityTokens: 832 });

/** Two prompts in turn, on a device that holds one of them. */
const REQUESTS = Array.from({ length: 2 * NUM_ROUNDS }, (_, i) =>
  workloadRequest({
    id: `r${i}`,
    arrivalMs: i * GAP_MS,
    inputTokens: INPUT_TOKENS,
    outputTokens: 4,
    blocks: {
      blockTokens: 16,
      scope: "",
      ids: Array.from({ length: INPUT_TOKENS / 16 }, (_block, at) => (i % 2) * 1000 + at),
    },
  }),
);

function ttfts(tiers: TwinWorkerSpec["tiers"]): { ttfts: Array<number | null>; hash: string } {
  const observer = new ListObserver();
  const spec = twinSpec({
    outputBound: 16,
    workers: [twinWorker({ perf, tokenBudget: 1024, ...(tiers === undefined ? {} : { tiers }) })],
    network: new PrivateLinks({ bytesPerSecond: 1e9, latencyMs: 0 }),
  });
  const { end, traceHash } = runTwin(spec, new ListSource(REQUESTS), observer);
  expect(end).toBe("finished");
  return { ttfts: REQUESTS.map(({ id }) => observer.outcomes.get(id)!.ttftMs), hash: traceHash };
}

const TIERS = {
  tiers: { tiers: [{ tier: "host", maxBytes: 1e9, bytesPerSecond: 1e9, latencyMs: 0 }], eviction: "lru" },
} as const;

const tier = (bytesPerSecond: number, which: "host" | "disk" = "host") =>
  ({
    tiers: [{ tier: which, maxBytes: 1e9, bytesPerSecond, latencyMs: 0 }],
    eviction: "lru",
  }) as const;

describe("lower tiers in the twin", () => {
  it("bring a prompt back in the time that its bytes take", () => {
    const without = ttfts(undefined);
    // 784 tokens of 1000 bytes at 10 MB/s take 78 ms; 16 are left to compute.
    const withTier = ttfts(tier(1e7));
    for (const ms of without.ttfts) expect(ms).toBeGreaterThan(700);
    for (const ms of withTier.ttfts.slice(2)) {
      expect(ms).toBeGreaterThan(78);
      expect(ms).toBeLessThan(78 + 30);
    }
    expect(withTier.ttfts.slice(0, 2)).toEqual(without.ttfts.slice(0, 2));
  });

  it("are left alone, after they have been measured, when computing is quicker", () => {
    const slow = ttfts(tier(1e5, "disk"));
    const without = ttfts(undefined);
    // The first prompt that finds something tries it: 784 tokens take 7.8 s.
    expect(slow.ttfts[2]).toBeGreaterThan(5000);
    expect(slow.ttfts[5]).toBe(without.ttfts[5]);
  });

  it("repeat themselves to the last bit", () => {
    expect(ttfts(tier(1e7)).hash).toBe(ttfts(tier(1e7)).hash);
  });

  it("take a prefix from another worker when placement says so", () => {
    const observer = new ListObserver();
    const [a, b] = ["a", "b"].map((id) =>
      twinWorker({ id, endpoint: id, perf, tokenBudget: 1024, ...TIERS }),
    );
    const spec = twinSpec({
      outputBound: 16,
      workers: [a!, b!],
      network: new PrivateLinks({ bytesPerSecond: 1e7, latencyMs: 1 }),
      placement: {
        name: "the other one",
        place: ({ requestId, numPromptTokens }) => {
          const worker = requestId === "r0" ? "a" : "b";
          const decision = { prefillWorker: worker, decodeWorker: worker, reason: "aggregated" } as const;
          return worker === "a"
            ? decision
            : { ...decision, fetch: { from: "a", numTokens: numPromptTokens } };
        },
      },
    });
    const requests = [REQUESTS[0]!, { ...REQUESTS[2]!, id: "r2" }];
    expect(runTwin(spec, new ListSource(requests), observer).end).toBe("finished");
    expect(observer.transfers).toMatchObject([{ from: "a", to: "b", bytes: 784_000 }]);
    // 784 tokens of 1000 bytes at 10 MB/s, two messages, and 16 tokens to compute.
    expect(observer.outcomes.get("r2")!.ttftMs).toBeGreaterThan(80);
    expect(observer.outcomes.get("r2")!.ttftMs).toBeLessThan(110);
  });

  it("give another worker a prefix that they read first, piece by piece and without the engine", () => {
    const observer = new ListObserver();
    // As quick as the link: all but the first piece are read while the one before is on it.
    const readers = tier(2e7, "disk");
    const workers = [
      twinWorker({ id: "a", endpoint: "a", perf, tokenBudget: 1024, tiers: readers }),
      twinWorker({ id: "b", endpoint: "b", perf, tokenBudget: 1024 }),
    ];
    const spec = twinSpec({
      outputBound: 16,
      workers,
      network: new PrivateLinks({ bytesPerSecond: 2e7, latencyMs: 1 }),
      placement: {
        name: "the last one elsewhere",
        fetches: true,
        place: ({ requestId, numPromptTokens }) => {
          const worker = requestId === "r2" ? "b" : "a";
          const decision = { prefillWorker: worker, decodeWorker: worker, reason: "aggregated" } as const;
          return worker === "a"
            ? decision
            : { ...decision, fetch: { from: "a", numTokens: numPromptTokens } };
        },
      },
    });
    // The second prompt takes the device of the first worker.
    expect(runTwin(spec, new ListSource(REQUESTS.slice(0, 3)), observer).end).toBe("finished");
    // A block is left on the device; the rest comes in segments of 256 tokens.
    expect(observer.transfers.map(({ from, to, bytes }) => [from, to, bytes])).toEqual(
      [16_000, 240_000, 256_000, 256_000, 16_000].map((bytes) => ["a", "b", bytes]),
    );
    // 12 ms until the rest of the first segment is read, 38.4 ms on the link from then on, messages, and 16 tokens to compute.
    const { ttftMs } = observer.outcomes.get("r2")!;
    expect(ttftMs).toBeGreaterThan(12 + 38.4 + 16);
    expect(ttftMs).toBeLessThan(12 + 38.4 + 16 + 10);
  });
});

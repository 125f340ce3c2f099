import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { playWorkload } from "../../../test/support/workload-run.ts";
import { HASH_WORDS } from "../../core/tokens/block-hash.ts";
import { Rng } from "../../core/util/rng.ts";
import { workloadSchema } from "../../protocol/workload-schema.ts";
import { promptBlockHashes } from "./block-identity.ts";
import { detectFormat } from "./detect-format.ts";
import { openWorkload } from "./open-workload.ts";
import type { WorkloadRequest } from "./workload.ts";

/** Published traces are not part of the repository; whoever has them beside it runs these tests. */
const TRACES = fileURLToPath(new URL("../../../../shared/traces", import.meta.url));
const SEED = 1;

function play(section: object, serviceMs = 0): WorkloadRequest[] {
  const source = openWorkload(workloadSchema.parse(section), { baseDir: TRACES, rng: new Rng(SEED) });
  return playWorkload(source, { serviceMs });
}

/** Share of blocks that an unlimited cache holds already, at a block size; partial last blocks count as blocks of the trace do. */
function hitRatio(requests: readonly WorkloadRequest[], blockTokens: number): number {
  const seen = new Set<number>();
  const out = new Int32Array(100_000 * HASH_WORDS);
  let numBlocks = 0;
  let numHits = 0;
  for (const { blocks } of requests) {
    if (blocks === null) continue;
    const count = promptBlockHashes(blocks, blocks.ids.length * blocks.blockTokens, blockTokens, out);
    for (let at = 0; at < count * HASH_WORDS; at += HASH_WORDS) {
      // 53 bits of the hash: enough for a million blocks, and quicker than a text.
      const name = (out[at]! >>> 0) * 2 ** 21 + (out[at + 1]! >>> 11);
      numBlocks++;
      if (seen.has(name)) numHits++;
      else seen.add(name);
    }
  }
  return numHits / numBlocks;
}

function quantileOf(values: readonly number[], q: number): number {
  return [...values].sort((a, b) => a - b)[Math.ceil(q * values.length) - 1]!;
}

// Skipped, and shown as skipped, where the published traces are not there.
describe.skipIf(!existsSync(TRACES))("published traces", { timeout: 60_000 }, () => {
  it.each([
    ["conversation", 12_031, 0.366, 6909],
    ["synthetic", 3993, 0.64, 11_587],
  ])(
    "Mooncake %s: %i requests, unlimited-cache hit ratio %f at any block size",
    (name, count, ratio, median) => {
      const path = `mooncake-fast25/${name}_trace.jsonl`;
      expect(detectFormat(`${TRACES}/${path}`)).toBe("mooncake");
      const requests = play({ kind: "trace", path });
      expect(requests).toHaveLength(count);
      expect(
        quantileOf(
          requests.map(({ inputTokens }) => inputTokens),
          0.5,
        ),
      ).toBe(median);
      for (const blockTokens of [512, 256]) expect(hitRatio(requests, blockTokens)).toBeCloseTo(ratio, 3);
    },
  );

  it("Mooncake conversation: buckets of 3 s can be spread", () => {
    const section = { kind: "trace", path: "mooncake-fast25/conversation_trace.jsonl" };
    const distinct = (requests: readonly WorkloadRequest[]): number =>
      new Set(requests.map(({ arrivalMs }) => arrivalMs)).size;
    expect(distinct(play(section))).toBe(1180);
    expect(distinct(play({ ...section, spread: { bucketMs: 3000 } }))).toBe(12_031);
  });

  it.each([
    ["conv", 19_366, 3502, 1020],
    ["code", 8819, 3436, 1469],
  ])("Azure 2023 %s: %i requests over %i s", (name, count, seconds, median) => {
    const path = `azure-llm-2023/AzureLLMInferenceTrace_${name}.csv`;
    expect(detectFormat(`${TRACES}/${path}`)).toBe("azure");
    const requests = play({ kind: "trace", path });
    expect(requests).toHaveLength(count);
    expect(Math.round(requests.at(-1)!.arrivalMs / 1000)).toBe(seconds);
    expect(
      quantileOf(
        requests.map(({ inputTokens }) => inputTokens),
        0.5,
      ),
    ).toBe(median);
  });

  it("WEKA sessions: every request of 21 sessions, most of each prompt found in the one before", () => {
    expect(detectFormat(`${TRACES}/kv-cache-tester/traces`)).toBe("weka");
    const requests = play({ kind: "sessions", path: "kv-cache-tester/traces", lanes: 4 }, 5000);
    expect(requests).toHaveLength(980 + 142);
    expect(new Set(requests.map(({ sessionId }) => sessionId)).size).toBe(21);
    expect(hitRatio(requests, 64)).toBeGreaterThan(0.9);
  });

  it.each(["reason/deepseek-r1", "language/m-small"])(
    "ServeGen %s: parameters are read, and requests come",
    (name) => {
      const path = `servegen/data/${name}`;
      expect(detectFormat(`${TRACES}/${path}`)).toBe("servegen");
      expect(play({ kind: "servegen", path, fromMs: 43_200_000, durationMs: 60_000 }).length).toBeGreaterThan(
        100,
      );
    },
  );

  it("length tables: every row in order, or drawn", () => {
    const path = "length-stats/arxiv_long_offline.csv";
    expect(detectFormat(`${TRACES}/${path}`)).toBe("lengths");
    const section = { kind: "lengths", path, concurrency: 8 };
    const requests = play(section, 100);
    expect(requests).toHaveLength(427);
    expect(requests[0]).toMatchObject({ inputTokens: 71_989, outputTokens: 386 });
    expect(play({ ...section, order: "random", requests: 1000 }, 100)).toHaveLength(1000);
  });
});

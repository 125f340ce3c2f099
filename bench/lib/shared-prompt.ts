import { Overlaps } from "../../src/core/router/index/overlaps.ts";
import { PrefixIndex } from "../../src/core/router/index/prefix-index.ts";
import { HASH_WORDS } from "../../src/core/tokens/block-hash.ts";
import { uniqueBlockHashes } from "../../src/twin/workload/block-identity.ts";

const NUM_BLOCKS = 4096;
const LOOKUPS = 2000;

/**
 * Blocks walked per second of CPU time in a prompt that `numWorkers` workers all have the beginning of: the first one a little, the last
 * one everything.
 */
export function measureSharedPrompt(numWorkers: number): number {
  const index = new PrefixIndex({ maxBytes: 2 ** 28 });
  const hashes = new Int32Array(NUM_BLOCKS * HASH_WORDS);
  uniqueBlockHashes(1, 0, NUM_BLOCKS, hashes);
  for (let i = 0; i < numWorkers; i++) {
    index.addWorker(`w${i}`);
    const numBlocks = Math.ceil(((i + 1) / numWorkers) * NUM_BLOCKS);
    const stored = hashes.slice(0, numBlocks * HASH_WORDS);
    index.apply(`w${i}`, {
      sequence: 1,
      isSnapshot: false,
      events: [{ kind: "stored", tier: "device", parent: null, hashes: stored }],
    });
  }
  const out = new Overlaps();
  const lookUp = (count: number): void => {
    for (let i = 0; i < count; i++) index.lookup(hashes, NUM_BLOCKS, out);
  };
  lookUp(LOOKUPS / 10);
  if (out.numWorkers !== numWorkers || out.device[numWorkers - 1] !== NUM_BLOCKS)
    throw new Error("a worker is missing");
  const cpu = process.cpuUsage();
  lookUp(LOOKUPS);
  const { user, system } = process.cpuUsage(cpu);
  return (LOOKUPS * NUM_BLOCKS * 1e6) / (user + system);
}

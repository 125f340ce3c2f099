import { expect, test } from "vitest";
import type { WorkerCaches } from "../observer.ts";
import { PoolCacheTable } from "./pool-caches.ts";

const NO_LEASES = { leases: 0, blocks: 0, renewed: 0, ended: 0, expired: 0, lost: 0 };
const LEASES = { leases: 1, blocks: 9, renewed: 2, ended: 3, expired: 1, lost: 1 };
const HOST = { blocks: 5, bytes: 500, hits: 7, misses: 3, evictions: 2, bad: 0, dropped: 1 };
const BYTES = { started: 10, used: 4, wasted: 3, gone: 1 };
const PREFETCH = {
  ...{ expected: 6, came: 4, pending: 2, begun: 3, stopped: 1 },
  bytes: { host: BYTES, device: { started: 2, used: 2, wasted: 0, gone: 0 } },
};
const BUSY: WorkerCaches = {
  tiers: [["host", HOST]],
  prefetch: PREFETCH,
  leases: { turns: LEASES, wishes: NO_LEASES },
};
const IDLE: WorkerCaches = { tiers: [], prefetch: null, leases: { turns: NO_LEASES, wishes: NO_LEASES } };

test("workers of a pool are added up, and a lost one holds and waits for nothing", () => {
  const table = new PoolCacheTable();
  table.add("main", BUSY, true);
  table.add("main", BUSY, false);
  const twice = { started: 20, used: 8, wasted: 6, gone: 2 };
  expect(table.results).toEqual([
    {
      pool: "main",
      tiers: [{ tier: "host", blocks: 5, bytes: 500, hits: 14, misses: 6, evictions: 4, bad: 0, dropped: 2 }],
      prefetch: {
        ...{ turns: 12, came: 8, pending: 2, begun: 6, stopped: 2 },
        bytes: { host: twice, device: { started: 4, used: 4, wasted: 0, gone: 0 } },
      },
      leases: {
        turns: { leases: 2, blocks: 18, renewed: 4, ended: 6, expired: 2, lost: 2 },
        wishes: NO_LEASES,
      },
    },
  ]);
  // What is reported belongs to the worker.
  expect(BYTES.started).toBe(10);
});

test("pools without any of it are left out", () => {
  const table = new PoolCacheTable();
  table.add("prefill", IDLE, false);
  table.add("decode", { ...IDLE, leases: { turns: NO_LEASES, wishes: LEASES } }, false);
  expect(table.results.map(({ pool, prefetch, tiers }) => [pool, prefetch, tiers])).toEqual([
    ["decode", null, []],
  ]);
});

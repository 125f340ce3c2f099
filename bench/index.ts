/**
 * Speed and memory of the prefix index on one thread. The Mooncake conversation trace in 16-token blocks is given to 64 workers with
 * caches of bounded size: look-ups return what every worker has, events are what those caches emit. Then the same at ten million
 * (block, worker) entries, and a prompt that every one of 64 and of 1,024 workers has a part of. The trace is the user's: see `TRACE`.
 *
 * Rates are per second of CPU time, since others may use the machine; those by the wall clock stand beside them.
 *
 *   npm run bench:index -- --json
 *   npm run bench:index -- --small        without the ten million entries
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { IndexMeter, type IndexRates } from "./lib/index-meter.ts";
import { KvEventStream, type Routing, readTrace, type TraceRow } from "./lib/kv-event-stream.ts";
import { median, report, round } from "./lib/report.ts";
import { measureSharedPrompt } from "./lib/shared-prompt.ts";

const TRACE = join(import.meta.dirname, "../../shared/traces/mooncake-fast25/conversation_trace.jsonl");
const NUM_WORKERS = 64;
const CACHE_BLOCKS = 16_384;
/** So that 64 full caches have ten million blocks. */
const LARGE_CACHE_BLOCKS = 160_000;
const LARGE_ENTRIES = 10_000_000;
const LARGE_REQUESTS = 4_000;
const ROUNDS = 3;
const MAX_BYTES = 2 ** 31;

const rows: Record<string, string | number>[] = [];

/** Heap and array buffers, after everything that can go has gone. */
function memoryBytes(): number {
  for (let i = 0; i < 3; i++) globalThis.gc?.();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** What the machine takes for one read of main memory that depends on the one before: about 100 ns when nobody else uses it. */
function randomReadNs(): number {
  const count = 2 ** 24;
  const next = Int32Array.from(
    { length: count },
    (_, i) => (Math.imul(i, 0x9e3779b1) + 12_345) & (count - 1),
  );
  let at = 0;
  const cpu = process.cpuUsage();
  for (let i = 0; i < 2 ** 20; i++) at = next[(at + i) & (count - 1)]!;
  const { user, system } = process.cpuUsage(cpu);
  if (at < 0) throw new Error("no index is negative");
  return ((user + system) * 1000) / 2 ** 20;
}

interface Measured extends IndexRates {
  /** Memory that is free without the index, for each (block, worker) entry. */
  readonly bytesPerEntry: number;
  /** As the index counts it. */
  readonly countedBytesPerEntry: number;
  readonly entries: number;
  /** CPU time of the end of one of the 64 workers. */
  readonly removeWorkerMs: number;
}

/** `before` requests unmeasured, then `requests`. Without `before`, the index begins empty. */
function measure(
  what: string,
  trace: readonly TraceRow[],
  options: { routing: Routing; capacityBlocks: number; minEntries: number; requests: number },
): Measured {
  const stream = new KvEventStream({ rows: trace, numWorkers: NUM_WORKERS, ...options });
  const meter = new IndexMeter({ maxBytes: MAX_BYTES, numWorkers: NUM_WORKERS });
  while (meter.stats().numEntries < options.minEntries) meter.run(stream, 100);
  meter.reset();
  meter.run(stream, options.requests);
  const rates = meter.rates();
  const { numEntries, numBlocks, bytes, numEvictedBlocks } = meter.stats();
  if (numEvictedBlocks > 0) throw new Error("the ceiling was too low for this measurement");
  const memory = memoryBytes();
  const removeWorkerMs = meter.removeWorkerMs(0);
  meter.forgetIndex();
  const without = memoryBytes();
  const measured: Measured = {
    ...rates,
    bytesPerEntry: (memory - without) / numEntries,
    countedBytesPerEntry: bytes / numEntries,
    entries: numEntries,
    removeWorkerMs,
  };
  rows.push({ what, ...measured, blocks: numBlocks });
  return measured;
}

if (!existsSync(TRACE)) {
  console.error(
    `No trace at ${TRACE}: put conversation_trace.jsonl of kvcache-ai/Mooncake there (FAST25-release/traces).`,
  );
  process.exit(1);
}
if (globalThis.gc === undefined) throw new Error("run it with node --expose-gc: memory is measured");
const readNs = randomReadNs();
const trace = readTrace(TRACE);
const whole = { capacityBlocks: CACHE_BLOCKS, minEntries: 0, requests: trace.length };
const affinity = Array.from({ length: ROUNDS }, () =>
  measure("trace, by prefix affinity", trace, { routing: "affinity", ...whole }),
);
const inTurn = measure("trace, in turn", trace, { routing: "round-robin", ...whole });
const large = process.argv.includes("--small")
  ? null
  : measure("10 million entries, in turn", trace, {
      routing: "round-robin",
      capacityBlocks: LARGE_CACHE_BLOCKS,
      minEntries: LARGE_ENTRIES,
      requests: LARGE_REQUESTS,
    });
const shared = [64, 1024].map((numWorkers) => {
  const blocksWalkedPerSecond = measureSharedPrompt(numWorkers);
  rows.push({ what: `one prompt, ${numWorkers} workers`, blocksWalkedPerSecond });
  return { workers: numWorkers, blocksWalkedPerSecond: round(blocksWalkedPerSecond) };
});

/** Three digits of the median of the rounds. */
function middle(field: keyof Measured): number {
  return round(median(affinity.map((measured) => measured[field])));
}

function rounded(measured: Measured): Record<string, number> {
  return Object.fromEntries(Object.entries(measured).map(([name, value]) => [name, round(value as number)]));
}

report({
  title: `Prefix index, ${NUM_WORKERS} workers, 16-token blocks of the Mooncake conversation trace, one thread`,
  rows,
  result: {
    lookupsPerSecond: middle("lookupsPerSecond"),
    blocksWalkedPerSecond: middle("blocksWalkedPerSecond"),
    eventsPerSecond: middle("eventsPerSecond"),
    bytesPerBlock: middle("bytesPerEntry"),
    lookupP50Us: middle("lookupP50Us"),
    lookupP99Us: middle("lookupP99Us"),
    rounds: affinity.map(rounded),
    inTurn: rounded(inTurn),
    tenMillionEntries: large === null ? null : rounded(large),
    sharedPrompt: shared,
    randomReadNs: round(readNs),
  },
});

/**
 * Time of a whole placement decision by `priced`: look-up of a 100,000-token prompt of a known conversation among what all workers have,
 * pricing, booking, predicting. Every conversation begins with one system prompt that all workers have, each worker has conversations of its
 * own, and has requests under way. Block hashes are known, as for a conversation in the server.
 */
import { performance } from "node:perf_hooks";
import { type Booking, FleetLedger } from "../src/core/router/fleet-ledger.ts";
import type { WorkerFacts } from "../src/core/router/placement.ts";
import { PricedPlacement } from "../src/core/router/priced/priced-placement.ts";
import { HASH_WORDS } from "../src/core/tokens/block-hash.ts";
import { quantile } from "../src/core/util/quantiles.ts";
import { type RandomStream, Rng } from "../src/core/util/rng.ts";
import { report } from "./lib/report.ts";

const PROMPT_TOKENS = 100_000;
const BLOCK_TOKENS = 16;
const PROMPT_BLOCKS = PROMPT_TOKENS / BLOCK_TOKENS;
/** Of them, those of the system prompt, and those that the present turn adds. */
const SYSTEM_BLOCKS = 500;
const TURN_BLOCKS = 60;
/** Conversations in all, so that the index of the largest fleet is about as large as it may be. */
const MAX_CONVERSATIONS = 1024;
const CONVERSATIONS_PER_WORKER = 3;
const REQUESTS_PER_WORKER = 4;
/** Prompts that are asked about in turn, made before anything is timed. */
const PROMPTS = 200;
const WARM_UP = 500;
const DECISIONS = 2000;
const INDEX_BYTES = 512 * 1024 * 1024;
const SEED = 7;
/** The most that the 99th percentile may be, in microseconds. */
const BARS = new Map([
  [8, 500],
  [128, 700],
  [1024, 1500],
]);
const LAYOUTS = ["both", "split"] as const;

function randomBlocks(random: RandomStream, count: number): Int32Array {
  return Int32Array.from({ length: count * HASH_WORDS }, () => random.nextUint32() | 0);
}

function joined(...parts: readonly Int32Array[]): Int32Array {
  const all = new Int32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

interface Times {
  readonly us: number[];
  /** Of the decisions during which nobody else was given the core: what is left of `us` on a busy machine. */
  readonly calmUs: number[];
}

function run(numWorkers: number, layout: (typeof LAYOUTS)[number]): Times {
  const random = new Rng(SEED).stream("routes");
  const policy = new PricedPlacement({ indexBytes: INDEX_BYTES });
  const ledger = new FleetLedger();
  const system = randomBlocks(random, SYSTEM_BLOCKS);
  const histories: Int32Array[] = [];
  const numConversations = Math.min(MAX_CONVERSATIONS, CONVERSATIONS_PER_WORKER * numWorkers);
  const sequences = new Array<number>(numWorkers).fill(0);
  const facts = Array.from(
    { length: numWorkers },
    (_, i): WorkerFacts => ({
      id: `w${i}`,
      role: layout === "both" ? "both" : i % 2 === 0 ? "prefill" : "decode",
      kvTokensTotal: 2_000_000,
      perf: null,
      tokenBudget: 2048,
      maxRunning: 256,
      kvBytesPerToken: 131_072,
    }),
  );
  const store = (worker: number, hashes: Int32Array): void => {
    const events = [{ kind: "stored", tier: "device", parent: null, hashes }] as const;
    const batch = { sequence: ++sequences[worker]!, isSnapshot: false, events };
    policy.observe({ kind: "kv", worker: `w${worker}`, batch }, 0);
  };
  for (const [i, worker] of facts.entries()) {
    ledger.add(worker);
    policy.observe({ kind: "ready", worker }, 0);
    store(i, system);
  }
  for (let i = 0; i < numConversations; i++) {
    const own = randomBlocks(random, PROMPT_BLOCKS - SYSTEM_BLOCKS - TURN_BLOCKS);
    histories.push(own);
    store(i % numWorkers, joined(system, own));
  }
  const prompts = Array.from({ length: PROMPTS }, () =>
    joined(system, histories[random.nextBelow(histories.length)]!, randomBlocks(random, TURN_BLOCKS)),
  );
  const inFlight: Array<{ id: string; booking: Booking }> = [];
  const times: Times = { us: [], calmUs: [] };
  for (let i = 0; i < WARM_UP + DECISIONS; i++) {
    const nowMs = i * 20;
    const query = {
      requestId: `r${i}`,
      nowMs,
      numPromptTokens: PROMPT_TOKENS + 5,
      maxOutputTokens: 1000,
      promptBlockHashes: prompts[i % PROMPTS]!,
      priority: 0,
      firstTokenDeadlineMs: null,
    };
    const before = process.resourceUsage().involuntaryContextSwitches;
    const startMs = performance.now();
    const decision = policy.place(query, ledger.views())!;
    const us = (performance.now() - startMs) * 1000;
    const isCalm = process.resourceUsage().involuntaryContextSwitches === before;
    if (i >= WARM_UP) {
      times.us.push(us);
      if (isCalm) times.calmUs.push(us);
    }
    inFlight.push({ id: query.requestId, booking: ledger.book(decision, PROMPT_TOKENS, 1000) });
    // The oldest ones make progress and end.
    if (inFlight.length <= REQUESTS_PER_WORKER * numWorkers) continue;
    const oldest = inFlight.shift()!;
    policy.observe({ kind: "prefilled", requestId: oldest.id, numCachedTokens: null }, nowMs);
    ledger.prefilled(oldest.booking);
    ledger.settle(oldest.booking);
    policy.observe({ kind: "over", requestId: oldest.id, numCachedTokens: null }, nowMs);
  }
  return times;
}

const rows: Array<Record<string, string | number>> = [];
for (const [workers, barUs] of BARS)
  for (const layout of LAYOUTS) {
    const times = run(workers, layout);
    const us = times.us.sort((a, b) => a - b);
    const calmUs = times.calmUs.sort((a, b) => a - b);
    const p99Us = quantile(us, 0.99);
    const calmP99Us = quantile(calmUs, 0.99);
    rows.push({
      fleet: `${workers} ${layout}`,
      p50Us: quantile(us, 0.5),
      p99Us,
      calm: calmUs.length,
      calmP50Us: quantile(calmUs, 0.5),
      calmP99Us,
      barUs,
      withinBar: p99Us <= barUs ? "yes" : "no",
      calmWithinBar: calmP99Us <= barUs ? "yes" : "no",
    });
  }
report({
  title: `Placement of a ${PROMPT_TOKENS.toLocaleString("en")}-token prompt of a known conversation, microseconds over ${DECISIONS} decisions`,
  rows,
  result: { promptTokens: PROMPT_TOKENS, decisions: DECISIONS, rows },
});

import { describe, expect, it } from "vitest";
import { hashTexts, KvListener } from "../../../test/support/kv-listener.ts";
import {
  ListObserver,
  linearPerf,
  twinSpec,
  twinWorker,
  workloadRequest,
} from "../../../test/support/twin.ts";
import {
  createLoadPlacement,
  type FleetEvent,
  type PlacementPolicy,
  type PlacementQuery,
} from "../../core/router/placement.ts";
import { Rng } from "../../core/util/rng.ts";
import type { TwinSpec } from "../twin-spec.ts";
import { ListSource } from "../workload/list-source.ts";
import type { WorkloadRequest } from "../workload/workload.ts";
import { runTwin } from "./run-twin.ts";

const BLOCK_TOKENS = 16;

/** Places by load, and keeps what it hears. */
class Listening implements PlacementPolicy {
  readonly name = "listening";
  readonly events: FleetEvent[] = [];
  readonly listeners = new Map<string, KvListener>();
  /** Cached tokens that the chosen prefill worker would have by the listener's knowledge. */
  readonly foreseen = new Map<string, number>();
  readonly #inner = createLoadPlacement({ localPrefillBelowTokens: 0 });

  place(query: PlacementQuery, ...rest: [Parameters<PlacementPolicy["place"]>[1], never]) {
    const decision = this.#inner.place(query, ...rest);
    if (decision !== null && query.promptBlockHashes !== null) {
      const usable = Math.floor((query.numPromptTokens - 1) / BLOCK_TOKENS);
      const chain = hashTexts(query.promptBlockHashes).slice(0, usable);
      const listener = this.listeners.get(decision.prefillWorker)!;
      this.foreseen.set(query.requestId, listener.match("device", chain) * BLOCK_TOKENS);
    }
    return decision;
  }

  observe(event: FleetEvent): void {
    this.events.push(event);
    if (event.kind === "ready") this.listeners.set(event.worker.id, new KvListener());
    else if (event.kind === "kv") this.listeners.get(event.worker)!.apply(event.batch);
  }

  of<K extends FleetEvent["kind"]>(kind: K): Array<Extract<FleetEvent, { kind: K }>> {
    return this.events.filter((event) => event.kind === kind) as Array<Extract<FleetEvent, { kind: K }>>;
  }
}

/** Prompts that begin alike, from a few families, `gapMs` apart. */
function prompts(count: number, gapMs: number): WorkloadRequest[] {
  const rng = new Rng(3).stream("prompts");
  return Array.from({ length: count }, (_, i) => {
    const family = rng.nextBelow(4);
    const shared = 1 + rng.nextBelow(12);
    const ids = Array.from({ length: 14 }, (_, at) => (at < shared ? family * 100 + at : 1000 + i * 20 + at));
    return workloadRequest({
      id: `r${i}`,
      arrivalMs: i * gapMs,
      inputTokens: 14 * BLOCK_TOKENS - rng.nextBelow(20),
      outputTokens: 1 + rng.nextBelow(40),
      blocks: { blockTokens: BLOCK_TOKENS, scope: "", ids },
    });
  });
}

const perf = {
  ...linearPerf({ stepMs: 5, prefillMsPerToken: 0.1, decodeMs: 0.5 }),
  host: { requestMs: 0, outputMs: 2 },
};
const FLEET = [
  twinWorker({ id: "p", endpoint: "p", role: "prefill", numBlocks: 60, perf }),
  twinWorker({ id: "d", endpoint: "d", role: "decode", numBlocks: 90, perf }),
];

function run(requests: readonly WorkloadRequest[], spec: Partial<TwinSpec> = {}) {
  const policy = new Listening();
  const observer = new ListObserver();
  const summary = runTwin(
    twinSpec({ workers: FLEET, placement: policy, outputBound: 100, checks: false, ...spec }),
    new ListSource(requests),
    observer,
  );
  expect(summary.end).toBe("finished");
  for (const { isCompleted } of observer.outcomes.values()) expect(isCompleted).toBe(true);
  return { policy, observer, summary };
}

describe("reports of the workers", () => {
  it("let a policy foresee exactly what is cached, where nothing is under way", () => {
    const requests = prompts(40, 2000);
    const { policy, observer } = run(requests, { checks: true });
    const cached = requests.map(({ id }) => observer.outcomes.get(id)!.numCachedTokens);
    expect(requests.map(({ id }) => policy.foreseen.get(id))).toEqual(cached);
    expect(cached.some((tokens) => tokens > 0)).toBe(true);
  });

  it("tell every step and transfer with its load and time", () => {
    const requests = prompts(60, 90);
    const { policy, observer } = run(requests);
    // The last steps may be reported after the last request has ended, so they are not.
    const steps = policy
      .of("steps")
      .flatMap(({ worker, steps }) => steps.map((step) => ({ worker, ...step })));
    for (const id of ["p", "d"]) {
      const described = steps
        .filter(({ worker }) => worker === id)
        .map((s) => `${s.numDecodes}/${s.decodeContextTokens}+${s.numPrefillTokens} ${s.ms.toFixed(6)}`);
      const seen = observer.steps
        .filter((step) => step.startsWith(`${id} `))
        .map((step) => /^\S+ ([\d.]+)-([\d.]+) (\S+)$/.exec(step)!)
        .map(([, start, end, load]) => `${load} ${(Number(end) - Number(start)).toFixed(6)}`);
      expect(described.length).toBeGreaterThan(seen.length / 2);
      expect(described).toEqual(seen.slice(0, described.length));
    }
    const transfers = policy.of("transfer").map(({ from, to, bytes }) => ({ from, to, bytes }));
    expect(transfers.length).toBeGreaterThan(20);
    expect(transfers).toEqual(
      observer.transfers.slice(0, transfers.length).map(({ from, to, bytes }) => ({ from, to, bytes })),
    );
    for (const { ms } of policy.of("transfer")) expect(ms).toBeGreaterThan(0);
  });

  it("count attention as tokens times the context before them and half of their own", () => {
    const { policy } = run([workloadRequest({ inputTokens: 300, outputTokens: 60 })]);
    const chunks = policy.of("steps").flatMap(({ steps }) => steps.filter((s) => s.numPrefillTokens > 0));
    expect(chunks).toMatchObject([
      { numPrefillTokens: 256, prefillAttention: (256 * 256) / 2 },
      { numPrefillTokens: 44, prefillAttention: 44 * (256 + 22) },
    ]);
  });

  it("begin anew with a worker that was restarted", () => {
    const crash = { kind: "crash", worker: "p", atMs: 1000, restarts: true } as const;
    const { policy } = run(prompts(40, 100), { faults: [crash] });
    expect(policy.of("gone")).toEqual([{ kind: "gone", worker: "p" }]);
    expect(policy.listeners.get("p#2")!.tiers.device.size).toBeGreaterThan(0);
  });

  it("change no decision of a policy that only listens", () => {
    const requests = prompts(60, 90);
    const { summary } = run(requests);
    const { traceHash } = run(requests, {
      placement: createLoadPlacement({ localPrefillBelowTokens: 0 }),
    }).summary;
    expect(summary.traceHash).toBe(traceHash);
  });
});

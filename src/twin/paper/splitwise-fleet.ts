import type { SplitwisePerf } from "../../core/perf/paper/splitwise.ts";
import type { WorkerRole } from "../../core/request.ts";
import { createMixedPoolPlacement } from "../../core/router/policies/mixed-pool.ts";
import { createTokenJsqPlacement } from "../../core/router/policies/token-jsq.ts";
import { DedicatedLinks } from "../network/dedicated-links.ts";
import type { TwinSpec, TwinWorkerSpec } from "../twin-spec.ts";
import { type SplitwiseHardware, splitwiseKvTokens } from "./splitwise-table.ts";

/** Settings of the paper's experiments. */
const TRANSFER_BYTES_PER_SECOND = 200 * 2 ** 30;
const MAX_PENDING_PROMPT_TOKENS = 8192;
const MAX_PASSES = 4;
/** Longer than any prompt of the traces: prompts run whole, however long. */
const LONGEST_PROMPT_TOKENS = 65_536;
const MAX_REQUESTS = 1_000_000;
/** The simulator counts memory in tokens, the last one of an output among them. */
const BLOCK_TOKENS = 1;
const LOOKAHEAD_TOKENS = 1;
/** A transfer that finds its decode worker full is tried again so much later. */
const TRANSFER_RETRY_MS = 1000;
/** Every run of the paper has ended by then. */
const MAX_VIRTUAL_MS = 86_400_000;

/** Machines of a fleet, as the names of the paper's designs spell them. */
export type SplitwiseDesign =
  | { readonly kind: "baseline"; readonly hardware: SplitwiseHardware; readonly numMachines: number }
  | {
      readonly kind: "splitwise";
      readonly promptHardware: SplitwiseHardware;
      readonly tokenHardware: SplitwiseHardware;
      readonly numPrompt: number;
      readonly numToken: number;
    };

const BASELINES: Readonly<Record<string, SplitwiseHardware>> = { A100: "a100-80gb", H100: "h100-80gb" };

const PAIRS: Readonly<Record<string, readonly [SplitwiseHardware, SplitwiseHardware]>> = {
  AA: ["a100-80gb", "a100-80gb"],
  HH: ["h100-80gb", "h100-80gb"],
  HA: ["h100-80gb", "a100-80gb"],
  HHcap: ["h100-80gb", "h100-80gb-pcap"],
};

/** `Baseline-A100-70`, `Splitwise-HHcap-25-21`: a design with its numbers of machines, or null. */
export function parseSplitwiseDesign(name: string): SplitwiseDesign | null {
  const baseline = /^Baseline-(\w+)-([1-9]\d{0,4})$/.exec(name);
  const split = /^Splitwise-(\w+)-([1-9]\d{0,4})-([1-9]\d{0,4})$/.exec(name);
  const hardware = BASELINES[baseline?.[1] ?? ""];
  if (hardware !== undefined) return { kind: "baseline", hardware, numMachines: Number(baseline![2]) };
  const pair = PAIRS[split?.[1] ?? ""];
  if (pair === undefined) return null;
  const [promptHardware, tokenHardware] = pair;
  const [numPrompt, numToken] = [Number(split![2]), Number(split![3])];
  return { kind: "splitwise", promptHardware, tokenHardware, numPrompt, numToken };
}

/** A fleet of the paper in paper mode: its performance model, its policies, a link of its own for every transfer. */
export function splitwiseFleet(
  design: SplitwiseDesign,
  perfs: ReadonlyMap<SplitwiseHardware, SplitwisePerf>,
): TwinSpec {
  const shared = {
    network: new DedicatedLinks({ bytesPerSecond: TRANSFER_BYTES_PER_SECOND, latencyMs: 0 }),
    handoffOrder: "compute-first",
    oneConnectionPerRequest: true,
    incomingRetryMs: TRANSFER_RETRY_MS,
    faults: [],
    maxRequests: MAX_REQUESTS,
    outputBound: "true",
    seed: 0,
    checks: false,
    maxVirtualMs: MAX_VIRTUAL_MS,
  } as const;
  if (design.kind === "baseline") {
    const workers = machines("both", "both", design.numMachines, perfs.get(design.hardware)!);
    return { ...shared, workers, placement: createTokenJsqPlacement() };
  }
  const { promptHardware, tokenHardware, numPrompt, numToken } = design;
  const workers = [
    ...machines("prompt", "prefill", numPrompt, perfs.get(promptHardware)!),
    ...machines("token", "decode", numToken, perfs.get(tokenHardware)!),
  ];
  const kvTokens = splitwiseKvTokens("bloom-176b");
  const placement = createMixedPoolPlacement({
    maxPendingTokens: MAX_PENDING_PROMPT_TOKENS,
    kvTokens,
    countsLocalDecodes: true,
  });
  return { ...shared, workers, placement };
}

function machines(name: string, role: WorkerRole, count: number, perf: SplitwisePerf): TwinWorkerSpec[] {
  return Array.from({ length: count }, (_, index) => ({
    id: `${name}-${index}`,
    role,
    perf,
    endpoint: `${name}-${index}`,
    policy: "splitwise",
    policyOptions: { maxPasses: MAX_PASSES },
    tokenBudget: LONGEST_PROMPT_TOKENS,
    maxRunning: 8192,
    maxWaiting: MAX_REQUESTS,
    blockTokens: BLOCK_TOKENS,
    lookaheadTokens: LOOKAHEAD_TOKENS,
    numBlocks: Math.floor(perf.kvCapacityTokens / BLOCK_TOKENS),
    maxCachedBlocks: 0,
    startUpMs: 0,
  }));
}

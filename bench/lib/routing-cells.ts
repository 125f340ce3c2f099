import { existsSync } from "node:fs";
import { join } from "node:path";

const TRACES = join(import.meta.dirname, "../../../shared/traces");

/** One workload at one load on one shape of fleet: what all policies are compared on. */
export interface Cell {
  readonly workload: string;
  readonly load: string;
  readonly shape: Shape;
  /** Section `workload` of a scenario, by seed. */
  readonly section: (seed: number) => string;
  readonly blockTokens: number;
}

type Shape = "aggregated" | "split";

interface Workload {
  readonly name: string;
  readonly path: string;
  readonly blockTokens: number;
  /** Section of a scenario at a figure of load. */
  readonly section: (load: number, seed: number) => string;
  /** Figures of load, lightest first: the factor on the trace's times, or sessions at once. */
  readonly loads: Readonly<Record<Shape, readonly [number, number, number]>>;
}

const LOADS = ["light", "middle", "heavy"] as const;
const REQUESTS = 3000;
/** Prompts of agents are ten times as long, and so is their simulation. */
const AGENT_REQUESTS = 1000;

/**
 * Traces are played faster or slower than they were recorded, never thinned. What a load means is measured by the rivals: by the highest at
 * which any of them still serves 90 % of the requests within the bounds (seed 1, in steps of 0.05: 0.65 of the times of the conversation trace on both
 * fleets, 0.7 and 0.87 of the synthetic one's, 53 agents on two pools; on one pool more agents than there are sessions). Light is about
 * half to two thirds of that, middle about that, and heavy about a quarter more.
 */
const WORKLOADS: readonly Workload[] = [
  trace("conversation", { aggregated: [1, 0.7, 0.52], split: [1, 0.7, 0.52] }),
  trace("synthetic", { aggregated: [1, 0.7, 0.55], split: [1.4, 0.9, 0.7] }),
  agents({ aggregated: [24, 48, 72], split: [24, 48, 66] }),
];

function trace(name: string, loads: Workload["loads"]): Workload {
  const path = join(TRACES, `mooncake-fast25/${name}_trace.jsonl`);
  const section = (timeScale: number): string =>
    `{ kind: trace, path: ${path}, spread: { bucketMs: 3000, gaps: random }, timeScale: ${timeScale}, requests: ${REQUESTS} }`;
  return { name, path, blockTokens: 512, section, loads };
}

function agents(loads: Workload["loads"]): Workload {
  const path = join(TRACES, "kv-cache-tester/traces");
  // Nothing is drawn in a replay of sessions: seeds differ by how far apart they begin.
  const section = (lanes: number, seed: number): string =>
    `{ kind: sessions, path: ${path}, lanes: ${lanes}, staggerMs: ${1000 + 400 * seed}, repeat: 4, requests: ${AGENT_REQUESTS} }`;
  return { name: "agents", path, blockTokens: 64, section, loads };
}

/** Cells whose traces are there, and the names of those that are not. */
export function cells(): { readonly present: readonly Cell[]; readonly missing: readonly string[] } {
  const present = WORKLOADS.filter(({ path }) => existsSync(path)).flatMap((workload) =>
    (["aggregated", "split"] as const).flatMap((shape) =>
      LOADS.map((load, i): Cell => {
        const { name, blockTokens, section, loads } = workload;
        return {
          workload: name,
          load,
          shape,
          blockTokens,
          section: (seed) => section(loads[shape][i]!, seed),
        };
      }),
    ),
  );
  return { present, missing: WORKLOADS.filter(({ path }) => !existsSync(path)).map(({ name }) => name) };
}

/** A fleet of `priced` whose requests say what first token they would be good with. Rivals have nothing that they could do about it. */
export const WITH_GOALS = "priced-goals";

/** Longest time to first token that counts as good. */
export function goalMsOf({ workload }: Cell): number {
  return workload === "agents" ? 10_000 : 4000;
}

/**
 * A scenario with one fleet per policy, all alike: eight workers of four H100s each with a 70 B model in FP8. Split: five
 * read prompts and three generate.
 */
export function scenarioOf(cell: Cell, policies: readonly string[], seed: number): string {
  const worker = `device: h100-sxm, parallelism: { tp: 4 }, precision: { weights: fp8 }, blockTokens: ${cell.blockTokens}, tokenBudget: 4096`;
  const pools =
    cell.shape === "aggregated"
      ? [`{ name: w, role: both, count: 8, ${worker} }`]
      : [`{ name: p, role: prefill, count: 5, ${worker} }`, `{ name: d, role: decode, count: 3, ${worker} }`];
  const goalMs = goalMsOf(cell);
  const placementOf = (policy: string): string =>
    policy === WITH_GOALS ? `{ policy: priced, firstTokenGoalMs: ${goalMs} }` : `{ policy: ${policy} }`;
  return `
name: Routing, ${cell.workload}, ${cell.load}, ${cell.shape}
model: llama-3.1-70b
fleets:
${policies.map((policy) => `  ${policy}: { workers: [${pools.join(", ")}], placement: ${placementOf(policy)} }`).join("\n")}
workload: ${cell.section(seed)}
slo:
  good: { kind: requests, ttftMs: ${goalMs}, tpotMs: 50 }
`;
}

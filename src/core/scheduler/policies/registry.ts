import type { SchedulingPolicy } from "../policy.ts";
import { chunkedPolicy } from "./chunked.ts";
import { orcaPolicy } from "./orca.ts";
import { prefillFirstPolicy } from "./prefill-first.ts";
import { SplitwisePolicy } from "./splitwise.ts";
import { staticPolicy } from "./static.ts";

/** By name; a policy that remembers something is made anew for every scheduler. */
const POLICIES = new Map<string, () => SchedulingPolicy>([
  ["static", () => staticPolicy],
  ["orca", () => orcaPolicy],
  ["prefill-first", () => prefillFirstPolicy],
  ["chunked", () => chunkedPolicy],
  ["splitwise", () => new SplitwisePolicy()],
]);

export const SCHEDULING_POLICY_NAMES: readonly string[] = [...POLICIES.keys()];

/** The policy of that name for one scheduler, or null. */
export function findSchedulingPolicy(name: string): SchedulingPolicy | null {
  return POLICIES.get(name)?.() ?? null;
}

import type { SchedulingPolicy } from "../policy.ts";
import { chunkedPolicy } from "./chunked.ts";
import { orcaPolicy } from "./orca.ts";
import { prefillFirstPolicy } from "./prefill-first.ts";
import { SplitwisePolicy } from "./splitwise.ts";
import { staticPolicy } from "./static.ts";

/** What policies can be told; each takes what concerns it. */
export interface PolicyOptions {
  /** `splitwise`: see `SplitwiseOptions.maxPasses`. */
  readonly maxPasses?: number;
}

/** By name; a policy that remembers something is made anew for every scheduler. */
const POLICIES = new Map<string, (options: PolicyOptions) => SchedulingPolicy>([
  ["static", () => staticPolicy],
  ["orca", () => orcaPolicy],
  ["prefill-first", () => prefillFirstPolicy],
  ["chunked", () => chunkedPolicy],
  ["splitwise", ({ maxPasses }) => new SplitwisePolicy(maxPasses === undefined ? {} : { maxPasses })],
]);

export const SCHEDULING_POLICY_NAMES: readonly string[] = [...POLICIES.keys()];

/** The policy of that name for one scheduler, or null. */
export function findSchedulingPolicy(name: string, options: PolicyOptions = {}): SchedulingPolicy | null {
  return POLICIES.get(name)?.(options) ?? null;
}

import type { SchedulingPolicy } from "../policy.ts";
import { chunkedPolicy } from "./chunked.ts";
import { orcaPolicy } from "./orca.ts";
import { prefillFirstPolicy } from "./prefill-first.ts";
import { staticPolicy } from "./static.ts";

const POLICIES: readonly SchedulingPolicy[] = [staticPolicy, orcaPolicy, prefillFirstPolicy, chunkedPolicy];

export const SCHEDULING_POLICY_NAMES: readonly string[] = POLICIES.map((policy) => policy.name);

/** The policy of that name, or null. */
export function findSchedulingPolicy(name: string): SchedulingPolicy | null {
  return POLICIES.find((policy) => policy.name === name) ?? null;
}

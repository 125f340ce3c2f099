import { assert } from "../../util/assert.ts";
import { createLoadPlacement, type PlacementPolicy } from "../placement.ts";
import { PricedPlacement } from "../priced/priced-placement.ts";
import { createCacheAwarePlacement } from "./cache-aware.ts";
import { createDynamoPlacement } from "./dynamo.ts";
import { createFewestRequestsPlacement } from "./fewest-requests.ts";
import { createLeastLoadedPlacement } from "./least-loaded.ts";
import { createLlmDPlacement } from "./llm-d.ts";
import { createMixedPoolPlacement } from "./mixed-pool.ts";
import { createMooncakePlacement } from "./mooncake.ts";
import { createPowerOfTwoPlacement } from "./power-of-two.ts";
import { createPrefixHashPlacement } from "./prefix-hash.ts";
import { createRandomPlacement } from "./random.ts";
import { createRoundRobinPlacement } from "./round-robin.ts";
import { createTokenJsqPlacement } from "./token-jsq.ts";

/** What the policies can be told. Each takes what concerns it. */
export interface PlacementOptions {
  /** Of the policies that draw. */
  readonly seed: number;
  /** `priced`, `load`: prompts with fewer tokens are prefilled on their decode worker, whatever it costs. */
  readonly localPrefillBelowTokens: number;
  /** `mixed-pool`: a prefill queue that would grow beyond it is long. */
  readonly maxPendingTokens: number;
  /** `mooncake`, `cache-aware`: prompt blocks that are remembered of each worker that does not say what it has cached. */
  readonly rememberedBlocks: number;
  /** `dynamo`: 0 takes the lowest cost, more draws. */
  readonly temperature: number;
}

export const DEFAULT_PLACEMENT_OPTIONS: PlacementOptions = {
  seed: 0,
  localPrefillBelowTokens: 0,
  maxPendingTokens: 8192,
  rememberedBlocks: 200_000,
  temperature: 0,
};

/** By name. Policies remember: each fleet gets its own. */
const POLICIES = new Map<string, (options: PlacementOptions) => PlacementPolicy>([
  ["load", createLoadPlacement],
  ["token-jsq", createTokenJsqPlacement],
  ["mixed-pool", ({ maxPendingTokens }) => createMixedPoolPlacement({ maxPendingTokens })],
  ["fewest-requests", createFewestRequestsPlacement],
  ["round-robin", createRoundRobinPlacement],
  ["random", createRandomPlacement],
  ["least-loaded", createLeastLoadedPlacement],
  ["power-of-two", createPowerOfTwoPlacement],
  [
    "cache-aware",
    (options) => createCacheAwarePlacement({ ...options, maxBlocksPerWorker: options.rememberedBlocks }),
  ],
  ["dynamo", createDynamoPlacement],
  ["llm-d", createLlmDPlacement],
  ["mooncake", ({ rememberedBlocks }) => createMooncakePlacement({ maxBlocksPerWorker: rememberedBlocks })],
  ["prefix-hash", createPrefixHashPlacement],
  ["priced", ({ localPrefillBelowTokens }) => new PricedPlacement({ localPrefillBelowTokens })],
]);

export const PLACEMENT_POLICY_NAMES: readonly string[] = [...POLICIES.keys()];

/** A new policy; null for a name that is none of {@link PLACEMENT_POLICY_NAMES}. */
export function findPlacementPolicy(
  name: string,
  options: Partial<PlacementOptions> = {},
): PlacementPolicy | null {
  return POLICIES.get(name)?.({ ...DEFAULT_PLACEMENT_OPTIONS, ...options }) ?? null;
}

/** The same for names that a schema has checked. */
export function createPlacementPolicy(
  name: string,
  options: Partial<PlacementOptions> = {},
): PlacementPolicy {
  const policy = findPlacementPolicy(name, options);
  assert(policy !== null, `no placement policy ${name}`);
  return policy;
}

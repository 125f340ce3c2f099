import { describe, expect, it } from "vitest";
import { type PlacementSuiteOptions, placementSuite } from "../../../../test/conformance/placement.suite.ts";
import { createPlacementPolicy, PLACEMENT_POLICY_NAMES } from "./registry.ts";

const PARTICULAR: Readonly<Record<string, PlacementSuiteOptions>> = {
  // Lends workers of either role to the other, and knows pools of both kinds only.
  "mixed-pool": { mixesRoles: true, layouts: ["split"] },
  // Never splits.
  "token-jsq": { layouts: ["aggregated"] },
};

describe("placement policies", () => {
  it("are found by name alone", () => {
    expect(() => createPlacementPolicy("cheapest")).toThrow("no placement policy cheapest");
  });

  for (const name of PLACEMENT_POLICY_NAMES)
    placementSuite(name, () => createPlacementPolicy(name, { seed: 5 }), PARTICULAR[name]);
});

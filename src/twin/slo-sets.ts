import type { ScenarioSlo } from "../protocol/scenario-file.ts";
import { type RequestBounds, type SloSet, SPLITWISE_RULES } from "./record/slo.ts";

/** The sets of service levels of a scenario, published ones written out. */
export function sloSets(section: Readonly<Record<string, ScenarioSlo>>): SloSet[] {
  return Object.entries(section).map(([name, slo]) => toSet(name, slo));
}

function toSet(name: string, slo: ScenarioSlo): SloSet {
  switch (slo.kind) {
    case "requests": {
      const { kind, attainment, class: requestClass, ...bounds } = slo;
      return { name, kind, attainment, bounds: known(bounds), requestClass: requestClass ?? null };
    }
    case "mooncake": {
      const { ttftMs, worstGapsMs, attainment } = slo;
      return { name, kind: "requests", attainment, bounds: { ttftMs, worstGapsMs }, requestClass: null };
    }
    case "quantiles":
      return { name, kind: "quantiles", rules: slo.rules };
    case "splitwise":
      return { name, kind: "quantiles", rules: SPLITWISE_RULES };
    case "sarathi":
      return {
        name,
        kind: "quantiles",
        rules: [
          { metric: "itlMs", quantile: 0.99, max: slo.itlMs },
          { metric: "queuedMs", quantile: 0.5, max: slo.queuedMs },
        ],
      };
  }
}

function known(bounds: Readonly<Record<string, number | undefined>>): RequestBounds {
  return Object.fromEntries(
    Object.entries(bounds).filter(([, bound]) => bound !== undefined),
  ) as RequestBounds;
}

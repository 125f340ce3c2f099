import type { PerfModel } from "../core/perf/perf-model.ts";
import type { PlacementPolicy } from "../core/router/placement.ts";
import { findPlacementPolicy, PLACEMENT_POLICY_NAMES } from "../core/router/policies/registry.ts";
import { ConfigError, show } from "../protocol/config-error.ts";
import { nearMiss } from "../protocol/near-miss.ts";
import { parseScenarioFile } from "../protocol/scenario-file.ts";
import { planFleet } from "../twin/fleet-plan.ts";
import { PRODUCTION_PARTS } from "../twin/production-parts.ts";
import { DispatchLogReader } from "../twin/replay/dispatch-log-reader.ts";
import { type RecordedWorker, readTraffic } from "../twin/replay/recorded-traffic.ts";
import { recordedFigures, rerun, rerunFleet, type TrafficFigures } from "../twin/replay/rerun.ts";
import { CliError, EXIT } from "./io.ts";
import { packageVersion } from "./package-root.ts";

/** Raised with every change to the output of `--json` that a reader of the older form would misread. */
const WHAT_IF_SCHEMA_VERSION = 1;

export interface WhatIfOptions {
  readonly policy: string;
  /** Null: steps are priced by the recorded ones. */
  readonly device: string | null;
  readonly model: string | null;
  /** Where a relative path of a profile starts. */
  readonly folder: string;
}

/** Recorded traffic, and the same run again in the twin. */
export interface WhatIf {
  readonly runs: ReadonlyArray<{
    readonly name: string;
    readonly policy: string;
    readonly figures: TrafficFigures;
  }>;
  readonly assumptions: readonly string[];
}

/** The placement policy of that name. Throws {@link ConfigError}; `origin` is where the name stands. */
export function placementOf(
  name: string,
  options: Readonly<Record<string, unknown>>,
  origin: string,
): PlacementPolicy {
  const placement = findPlacementPolicy(name, options);
  if (placement !== null) return placement;
  const meant = nearMiss(name, PLACEMENT_POLICY_NAMES);
  const hint = meant === null ? "" : ` (did you mean ${meant}?)`;
  const message = `there is no placement policy ${show(name)}${hint}; there are ${PLACEMENT_POLICY_NAMES.join(", ")}`;
  throw new ConfigError([{ origin, message }]);
}

/** Runs the arrivals of a record in the twin: with its own policy, to see how far the twin can be trusted, and with another one. */
export function askWhatIf(path: string, fileName: string, options: WhatIfOptions): WhatIf {
  const log = new DispatchLogReader(path, fileName);
  try {
    const { policy, blockSizeTokens, dispatcher } = log.header;
    // Before what takes long.
    const other = placementOf(options.policy, policy.options, "--policy");
    const own = placementOf(policy.name, policy.options, `${fileName}:1`);
    const traffic = readTraffic(log);
    const fleet = rerunFleet(traffic, blockSizeTokens, devicePerf(options, blockSizeTokens));
    if (fleet === null) {
      const message = `${fileName}: no step was recorded to learn prices from; name a device with --device`;
      throw new CliError(EXIT.usage, message);
    }
    const { maxRequests } = dispatcher;
    const again = (placement: PlacementPolicy) =>
      rerun(traffic, fleet, blockSizeTokens, { placement, maxRequests });
    return {
      runs: [
        { name: "recorded", policy: policy.name, figures: recordedFigures(traffic) },
        { name: "in the twin", policy: policy.name, figures: again(own) },
        { name: "what if", policy: options.policy, figures: again(other) },
      ],
      assumptions: fleet.assumptions,
    };
  } finally {
    log.close();
  }
}

/** Prices of a device of the catalogue or a profile, by way of a scenario, which has all the checks and defaults. */
function devicePerf(
  { device, model, folder }: WhatIfOptions,
  blockTokens: number,
): ((worker: RecordedWorker) => PerfModel) | null {
  if (device === null) return null;
  if (model === null && !device.startsWith("profile:")) {
    const message =
      "is missing: steps of a device of the catalogue depend on the model; see twofold catalog --kind model";
    throw new ConfigError([{ origin: "--model", message }]);
  }
  const known = new Map<string, PerfModel>();
  return ({ facts: { tokenBudget, maxRunning } }) => {
    const key = `${tokenBudget} ${maxRunning}`;
    let perf = known.get(key);
    if (perf === undefined) {
      const pool = { name: "worker", role: "both", device, tokenBudget, maxRunning, blockTokens };
      const scenario = {
        name: "recorded",
        // A profile has been measured with its own model and looks at no other.
        model: model ?? "llama-3.1-8b",
        fleets: { recorded: { workers: [pool] } },
        workload: { kind: "requests", requests: 1, inputTokens: 1, outputTokens: 1, concurrency: 1 },
      };
      const file = parseScenarioFile(JSON.stringify(scenario), "--device", []);
      perf = planFleet(file, "recorded", PRODUCTION_PARTS, folder).workers[0]!.perf;
      known.set(key, perf);
    }
    return perf;
  };
}

/** The runs side by side. */
export function renderWhatIf({ runs, assumptions }: WhatIf): string {
  const ms = (value: number | undefined) => (value === undefined ? "-" : value.toFixed(1));
  const percent = (share: number | undefined) =>
    share === undefined ? "-" : `${(100 * share).toFixed(1)} %`;
  const row = (name: string, value: (figures: TrafficFigures) => string) => [
    name,
    ...runs.map(({ figures }) => value(figures)),
  ];
  const workers = [
    ...new Set(
      runs.flatMap(({ figures }) => [
        ...Object.keys(figures.prefillShares),
        ...Object.keys(figures.decodeShares),
      ]),
    ),
  ];
  const rows = [
    ["", ...runs.map(({ name }) => name)],
    ["policy", ...runs.map(({ policy }) => policy)],
    row("requests", ({ numRequests }) => String(numRequests)),
    row("completed", ({ numCompleted }) => String(numCompleted)),
    row("prompt tokens from caches", ({ hitRate }) => percent(hitRate)),
    row("TTFT p50 ms", ({ ttftMs }) => ms(ttftMs?.p50)),
    row("TTFT p90 ms", ({ ttftMs }) => ms(ttftMs?.p90)),
    row("TTFT p99 ms", ({ ttftMs }) => ms(ttftMs?.p99)),
    ...workers.map((id) => row(`prefilled by ${id}`, ({ prefillShares }) => percent(prefillShares[id]))),
    ...workers.map((id) => row(`decoded by ${id}`, ({ decodeShares }) => percent(decodeShares[id]))),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((cells) => cells[column]!.length)));
  const lines = rows.map((cells) => {
    const padded = cells.map((cell, column) =>
      column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!),
    );
    return padded.join("  ").trimEnd();
  });
  return `${[...lines, "", ...assumptions.map((text) => `assumed: ${text}`)].join("\n")}\n`;
}

export function whatIfJson(answer: WhatIf): string {
  return JSON.stringify({
    schemaVersion: WHAT_IF_SCHEMA_VERSION,
    twofoldVersion: packageVersion(),
    ...answer,
  });
}

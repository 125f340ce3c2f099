import type { RunResult } from "../../protocol/simulation-schema.ts";
import { CACHE_METRICS } from "./cache-metrics.ts";

/** A figure of a run that is averaged over seeds and compared between fleets. */
export interface Metric {
  readonly name: string;
  /** As tables show it. */
  readonly label: string;
  readonly unit: string;
  /** Which direction is good; null: neither. */
  readonly better: "less" | "more" | null;
  readonly of: (run: RunResult) => number | null;
}

type LatencyName = keyof RunResult["latency"];
type Quantile = "mean" | "p50" | "p90" | "p99";

function latency(name: LatencyName, label: string, quantiles: readonly Quantile[]): Metric[] {
  const unit = name.endsWith("Ms") ? "ms" : "×";
  return quantiles.map((quantile) => ({
    name: `${name}.${quantile}`,
    label: `${label} ${quantile}`,
    unit,
    better: "less",
    of: (run) => run.latency[name]?.[quantile] ?? null,
  }));
}

/** Figures of every run, whatever its service levels. */
const COMMON: readonly Metric[] = [
  {
    name: "completedShare",
    label: "completed",
    unit: "share",
    better: "more",
    of: ({ requests }) => (requests.arrived === 0 ? null : requests.completed / requests.arrived),
  },
  {
    name: "requestsPerSecond",
    label: "requests",
    unit: "/s",
    better: "more",
    of: (run) => run.throughput.requestsPerSecond,
  },
  {
    name: "outputTokensPerSecond",
    label: "output tokens",
    unit: "/s",
    better: "more",
    of: (run) => run.throughput.outputTokensPerSecond,
  },
  {
    name: "outputTokensPerSecondPerDevice",
    label: "output tokens per device",
    unit: "/s",
    better: "more",
    of: (run) => run.throughput.outputTokensPerSecondPerDevice,
  },
  ...latency("ttftMs", "TTFT", ["mean", "p50", "p90", "p99"]),
  ...latency("itlMs", "ITL", ["mean", "p50", "p90", "p99"]),
  ...latency("tpotMs", "TPOT", ["mean", "p50", "p90", "p99"]),
  ...latency("e2eMs", "E2E", ["mean", "p50", "p90", "p99"]),
  ...latency("queuedMs", "queued", ["p50", "p99"]),
  ...latency("maxGapMs", "longest gap", ["p50", "p99"]),
  ...latency("worstGapsMs", "worst gaps", ["p50", "p99"]),
  ...latency("ttftSlowdown", "TTFT slowdown", ["p50", "p90", "p99"]),
  ...latency("tpotSlowdown", "TPOT slowdown", ["p50", "p90", "p99"]),
  ...latency("e2eSlowdown", "E2E slowdown", ["p50", "p90", "p99"]),
];

const RESOURCES: readonly Metric[] = [
  {
    name: "prefixHitRate",
    label: "prefix hit rate",
    unit: "share",
    better: "more",
    of: (run) => run.prefixHitRate,
  },
  ...CACHE_METRICS,
  { name: "utilisation", label: "utilisation", unit: "share", better: "more", of: (run) => run.utilisation },
  {
    name: "meanKilowatts",
    label: "power",
    unit: "kW",
    better: "less",
    of: (run) => (run.energy === null ? null : run.energy.meanWatts / 1000),
  },
  {
    name: "joulesPerOutputToken",
    label: "energy per output token",
    unit: "J",
    better: "less",
    of: (run) => run.energy?.joulesPerOutputToken ?? null,
  },
  {
    name: "joulesPerToken",
    label: "energy per token",
    unit: "J",
    better: "less",
    of: (run) => run.energy?.joulesPerToken ?? null,
  },
  {
    name: "dollarsPerMillionOutputTokens",
    label: "cost per Mtok output",
    unit: "$",
    better: "less",
    of: (run) => run.cost?.dollarsPerMillionOutputTokens ?? null,
  },
  {
    name: "dollarsPerMillionTokens",
    label: "cost per Mtok",
    unit: "$",
    better: "less",
    of: (run) => run.cost?.dollarsPerMillionTokens ?? null,
  },
  {
    name: "usefulShare",
    label: "useful accelerator time",
    unit: "share",
    better: "more",
    of: (run) => run.useful.usefulShare,
  },
  {
    name: "usefulAcceleratorHoursPerMwh",
    label: "useful accelerator-hours per MW-hour",
    unit: "h/MWh",
    better: "more",
    of: (run) => run.useful.usefulAcceleratorHoursPerMwh,
  },
];

/** Every metric that one of the runs may have, those of its service levels included, in the order of tables. */
export function metricsOf(runs: readonly RunResult[]): Metric[] {
  const slos = new Map(runs.flatMap((run) => run.slos.map((slo) => [slo.name, slo] as const)));
  const goodput = [...slos].flatMap(([name, slo]): Metric[] => {
    const find = (run: RunResult) => run.slos.find((entry) => entry.name === name);
    if (slo.kind === "quantiles") {
      const isMet = (run: RunResult): number | null => {
        const found = find(run);
        return found === undefined ? null : Number(found.isMet);
      };
      return [{ name: `slo.${name}.met`, label: `${name} met`, unit: "share", better: "more", of: isMet }];
    }
    const read = (run: RunResult, key: "share" | "requestsPerSecond"): number | null => {
      const found = find(run);
      return found?.kind === "requests" ? found[key] : null;
    };
    return [
      {
        name: `slo.${name}.goodput`,
        label: `goodput ${name}`,
        unit: "/s",
        better: "more",
        of: (run) => read(run, "requestsPerSecond"),
      },
      {
        name: `slo.${name}.share`,
        label: `attainment ${name}`,
        unit: "share",
        better: "more",
        of: (run) => read(run, "share"),
      },
    ];
  });
  return [...COMMON, ...goodput, ...RESOURCES].filter((metric) =>
    runs.some((run) => metric.of(run) !== null),
  );
}

import type { FleetResult, SimulationResult } from "../../../protocol/simulation-schema.ts";
import { formatEstimate, formatLabel, formatNumber, formatValue } from "../format.ts";
import { type Metric, metricsOf } from "../metrics.ts";
import { isKeyMetric } from "../terminal.ts";
import { type Cell, escapeHtml, htmlTable } from "./escape.ts";
import type { PagePlot } from "./page-data.ts";

/** Most workers in one table. */
const MAX_TABLE_WORKERS = 256;

/** Most rows of the table beside a plot. */
const MAX_PLOT_ROWS = 24;

const number = (text: string): Cell => ({ number: text });

export function comparisonTables(result: SimulationResult): string {
  const metrics = metricsOf(result.fleets.flatMap((fleet) => fleet.runs));
  const key = metrics.filter(isKeyMetric);
  const rest = metrics.filter((metric) => !isKeyMetric(metric));
  const n = result.scenario.seeds.length;
  const caption =
    n > 1
      ? `Means over ${n} seeds, ± half of the 95 % interval; green: better than every other fleet by more than the seeds explain`
      : "One seed: no intervals";
  return `${metricTable(caption, result, key)}
<details><summary>All figures</summary>${metricTable(caption, result, rest)}</details>`;
}

function metricTable(caption: string, result: SimulationResult, metrics: readonly Metric[]): string {
  const finished = result.fleets.map((fleet): Cell => {
    const bad = fleet.runs.filter((run) => run.end !== "finished").length;
    if (fleet.runs.length === 0) return number("not run");
    return bad === 0
      ? number("yes")
      : { html: `<strong class="bad">NO: ${bad} of ${fleet.runs.length} runs</strong>` };
  });
  const rows = metrics.map((metric): Cell[] => {
    const cells = result.fleets.map((fleet): Cell => {
      const estimate = fleet.estimates[metric.name];
      if (estimate === undefined) return number("–");
      const text = formatEstimate(estimate, metric.unit);
      if (!beatsAll(result, fleet.name, metric)) return number(text);
      return {
        html: `<span class="n best" title="better than every other fleet">${escapeHtml(text)}</span>`,
      };
    });
    return [formatLabel(metric.label, metric.unit), ...cells];
  });
  return htmlTable(
    caption,
    ["", ...result.fleets.map((fleet) => fleet.name)],
    [["finished", ...finished], ...rows],
  );
}

/** Whether a fleet is better than each other one by more than the seeds explain. */
function beatsAll(result: SimulationResult, fleet: string, metric: Metric): boolean {
  if (metric.better === null) return false;
  const pairs = result.comparisons.filter(({ first, second }) => first === fleet || second === fleet);
  const wins = pairs.filter(({ second, differences }) => {
    const found = differences[metric.name];
    if (found?.isSignificant !== true) return false;
    return found.mean > 0 === ((second === fleet) === (metric.better === "more"));
  });
  return pairs.length > 0 && wins.length === pairs.length;
}

/** Differences between every two fleets, in the key metrics. */
export function differenceTables(result: SimulationResult): string {
  if (result.comparisons.length === 0) return "";
  const metrics = metricsOf(result.fleets.flatMap((fleet) => fleet.runs)).filter(isKeyMetric);
  return result.comparisons
    .map(({ first, second, differences }) => {
      const rows = metrics.flatMap((metric): Cell[][] => {
        const found = differences[metric.name];
        if (found === undefined) return [];
        const isBetter = found.mean > 0 === (metric.better === "more");
        const judged = metric.better === null ? "other" : isBetter ? "better" : "worse";
        const verdict = found.isSignificant ? judged : "within the spread";
        const span =
          found.low95 === null || found.high95 === null
            ? "–"
            : `${formatValue(found.low95, metric.unit)} to ${formatValue(found.high95, metric.unit)}`;
        return [
          [
            formatLabel(metric.label, metric.unit),
            number(formatValue(found.mean, metric.unit)),
            number(span),
            verdict,
          ],
        ];
      });
      const caption = `${second} less ${first}, paired by seed`;
      const table = htmlTable(caption, ["", "mean difference", "95 % interval", second], rows);
      return `<details><summary>${escapeHtml(caption)}</summary>${table}</details>`;
    })
    .join("\n");
}

export function sloTable(result: SimulationResult): string {
  const rows = result.fleets.flatMap((fleet) =>
    fleet.runs.slice(0, 1).flatMap((run) =>
      run.slos.flatMap((slo): Cell[][] => {
        if (slo.kind === "requests") {
          const bounds = Object.entries(slo.bounds).map(([metric, bound]) => `${metric} ≤ ${bound}`);
          const who = slo.requestClass === null ? "" : `, class ${slo.requestClass}`;
          const share = `${formatValue(slo.share, "share")} of requests, ${formatNumber(slo.requestsPerSecond)}/s`;
          return [
            [
              fleet.name,
              slo.name,
              `${bounds.join(", ")}${who}`,
              `${slo.attainment * 100} %`,
              share,
              met(slo.isMet),
            ],
          ];
        }
        return slo.rules.map((rule): Cell[] => [
          fleet.name,
          slo.name,
          `p${Number((rule.quantile * 100).toPrecision(6))} of ${rule.metric}`,
          `≤ ${rule.max}`,
          rule.value === null ? "not recorded" : formatNumber(rule.value),
          met(rule.isMet),
        ]);
      }),
    ),
  );
  if (rows.length === 0) return "<p>The scenario states no service levels.</p>";
  return htmlTable("Service levels, first seed", ["fleet", "set", "bound", "wanted", "found", "met"], rows);
}

function met(isMet: boolean): Cell {
  return isMet ? "yes" : { html: '<strong class="bad">no</strong>' };
}

/** What each worker did in the first run of a fleet. */
export function workerTable(fleet: FleetResult): string {
  const [run] = fleet.runs;
  if (run === undefined) return "";
  const share = (ms: number, readyMs: number): Cell =>
    number(readyMs > 0 ? formatValue(ms / readyMs, "share") : "–");
  const rows = run.workers
    .slice(0, MAX_TABLE_WORKERS)
    .map((worker): Cell[] => [
      worker.id,
      worker.pool,
      share(worker.prefillMs, worker.readyMs),
      share(worker.mixedMs, worker.readyMs),
      share(worker.decodeMs, worker.readyMs),
      share(worker.idleMs, worker.readyMs),
      share(worker.sendMs, worker.readyMs),
      share(worker.receiveMs, worker.readyMs),
      number(formatNumber(worker.numSteps)),
      number(formatNumber(worker.meanBatch)),
      number(
        worker.kvCapacityBlocks === null
          ? "–"
          : formatValue(worker.kvPeakBlocks / worker.kvCapacityBlocks, "share"),
      ),
    ]);
  const left = run.workers.length - MAX_TABLE_WORKERS;
  const note = left > 0 ? `<p>${left} more workers are in the JSON.</p>` : "";
  const head = [
    "worker",
    "pool",
    "prefill",
    "mixed",
    "decode",
    "idle",
    "sending",
    "receiving",
    "steps",
    "mean batch",
    "KV peak",
  ];
  return htmlTable(`${fleet.name}: share of each worker's time, seed ${run.seed}`, head, rows) + note;
}

/** Latencies by class or tenant, where there is more than one. */
export function groupTable(fleet: FleetResult, key: "byClass" | "byTenant"): string {
  const groups = fleet.runs[0]?.[key] ?? [];
  if (groups.length < 2) return "";
  const rows = groups.map((group): Cell[] => {
    const cell = (metric: "ttftMs" | "tpotMs" | "e2eMs", quantile: "p50" | "p99"): Cell => {
      const value = group.latency[metric]?.[quantile];
      return number(value === undefined ? "–" : formatNumber(value));
    };
    const { completed, arrived } = group.requests;
    return [
      group.name,
      number(`${completed} of ${arrived}`),
      cell("ttftMs", "p50"),
      cell("ttftMs", "p99"),
      cell("tpotMs", "p50"),
      cell("tpotMs", "p99"),
      cell("e2eMs", "p50"),
      cell("e2eMs", "p99"),
    ];
  });
  const what = key === "byClass" ? "class" : "tenant";
  const head = [what, "completed", "TTFT p50 [ms]", "p99", "TPOT p50 [ms]", "p99", "E2E p50 [ms]", "p99"];
  return htmlTable(`${fleet.name} by ${what}, first seed`, head, rows);
}

/** The values of a plot, thinned, for those who do not see it. */
export function plotTable(plot: PagePlot): string {
  const rows = plot.lines.flatMap(({ label, x, y }): Cell[][] => {
    const every = Math.max(1, Math.ceil(x.length / MAX_PLOT_ROWS));
    return x.flatMap((value, index) =>
      index % every === 0 || index === x.length - 1
        ? [[label, number(formatNumber(value)), number(formatNumber(y[index]!))]]
        : [],
    );
  });
  const table = htmlTable(plot.title, ["line", plot.xLabel, plot.yLabel], rows);
  return `<details class="values"><summary>Values</summary>${table}</details>`;
}

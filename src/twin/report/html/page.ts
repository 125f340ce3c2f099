import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { FleetResult, SimulationResult } from "../../../protocol/simulation-schema.ts";
import { describeSources } from "../terminal.ts";
import { cacheTables } from "./cache-tables.ts";
import { escapeHtml } from "./escape.ts";
import { type DetailedRun, MAX_PAGE_TIMELINES, type PageData, pageData } from "./page-data.ts";
import {
  comparisonTables,
  differenceTables,
  groupTable,
  plotTable,
  sloTable,
  workerTable,
} from "./tables.ts";

export type { DetailedRun } from "./page-data.ts";

/** Modules of the page, each after those that it imports. */
const SCRIPTS = ["plots.js", "timeline.js", "main.js"] as const;

/**
 * The result as one HTML page that needs nothing else: styles, scripts and data are inside. Without scripts, or for those who do not
 * see plots, every figure stands in a table.
 */
export function renderPage(result: SimulationResult, runs: readonly DetailedRun[]): string {
  const data = pageData(runs, blockCapacities(result));
  const { scenario } = result;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="twofold ${escapeHtml(result.twofoldVersion)}">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<title>${escapeHtml(scenario.name)}</title>
<style>
${readPackageFile("uplot/dist/uPlot.min.css")}
${readAsset("report.css")}
</style>
</head>
<body>
<main>
<h1>${escapeHtml(scenario.name)}</h1>
${scenario.description === "" ? "" : `<p class="lead">${escapeHtml(scenario.description)}</p>`}
<p class="meta">${describeScenario(result)}</p>
${foundations(result)}
<section aria-labelledby="h-compare"><h2 id="h-compare">Fleets side by side</h2>
${fleetList(result.fleets)}
${comparisonTables(result)}
${differenceTables(result)}
${sloTable(result)}
</section>
${plotSections(data)}
${result.fleets.map((fleet, index) => fleetSection(fleet, data, index)).join("\n")}
</main>
<script type="application/json" id="data">${JSON.stringify(data).replaceAll("<", "\\u003c")}</script>
<script>${inlineScript(readPackageFile("uplot/dist/uPlot.iife.min.js"))}</script>
<script>"use strict";(() => {
${SCRIPTS.map((name) => inlineScript(asScript(readAsset(name)))).join("\n")}
})();</script>
</body>
</html>
`;
}

/** Scripts and styles of the page, beside the compiled and the source tree alike. */
function readAsset(name: string): string {
  return readFileSync(new URL(`../../../../assets/report/${name}`, import.meta.url), "utf8");
}

function readPackageFile(path: string): string {
  return readFileSync(createRequire(import.meta.url).resolve(path), "utf8");
}

/** A module without its imports and exports: all of them share the scope of one function. */
function asScript(text: string): string {
  return text.replaceAll(/^import .*;$/gm, "").replaceAll(/^export /gm, "");
}

/** A script must not hold the tag that would end it. */
function inlineScript(text: string): string {
  return text.replaceAll("</script", "<\\/script");
}

function describeScenario({ scenario, isInterrupted }: SimulationResult): string {
  const seeds =
    scenario.seeds.length === 1 ? `seed ${scenario.seeds[0]}` : `seeds ${scenario.seeds.join(", ")}`;
  const parts = [`${scenario.file}, model ${scenario.model}, ${seeds}`];
  if (scenario.overrides.length > 0) parts.push(`with ${scenario.overrides.join(", ")}`);
  if (scenario.paper !== null) parts.push(`paper mode ${scenario.paper}`);
  if (isInterrupted) parts.push("INTERRUPTED: not every run took place");
  return parts.map(escapeHtml).join(" · ");
}

/** What the result rests on; it comes before any figure. */
function foundations(result: SimulationResult): string {
  const list = (items: readonly string[], ifNone: string): string =>
    items.length === 0
      ? `<p>${ifNone}</p>`
      : `<ul>${items.map((item) => `<li>${escapeHtml(item)}</li>`).join("")}</ul>`;
  const assumptions = result.assumptions.map(({ subject, statement }) => `${subject}: ${statement}`);
  const isBad = result.warnings.length > 0;
  return `<section aria-labelledby="h-rests" class="rests"><h2 id="h-rests">What this rests on</h2>
<div class="columns">
<div class="${isBad ? "warn" : ""}"><h3>Warnings</h3>${list(result.warnings, "None: every run finished and kept up, inside the measured range.")}</div>
<div><h3>Assumptions</h3>${list(assumptions, "None stated.")}</div>
<div><h3>Where step times come from</h3>${list(result.fleets.map(describeSources), "No steps.")}</div>
</div></section>`;
}

function fleetList(fleets: readonly FleetResult[]): string {
  const items = fleets.map((fleet, index) => {
    const pools = fleet.pools.map((pool) => {
      const { tp, pp, ep, dp } = pool.parallelism;
      return `${pool.count} × ${pool.name} (${pool.role}; ${pool.devicesPerWorker} × ${pool.device}, tp ${tp} pp ${pp} ep ${ep} dp ${dp}; ${pool.policy}, budget ${pool.tokenBudget})`;
    });
    const description = fleet.description === "" ? "" : ` ${fleet.description}`;
    return `<li><span class="swatch c${index % 8}"></span><strong>${escapeHtml(fleet.name)}</strong>${escapeHtml(`${description} ${pools.join(" + ")}; ${fleet.numDevices} accelerators`)}</li>`;
  });
  return `<ul class="fleets">${items.join("")}</ul>`;
}

function plotSections({ plots }: PageData): string {
  if (plots.length === 0) return "";
  const figure = (plot: PageData["plots"][number]): string =>
    `<figure><figcaption>${escapeHtml(plot.title)}</figcaption><div class="plot" id="plot-${plot.id}"></div>${plotTable(plot)}</figure>`;
  const isLatency = (plot: PageData["plots"][number]): boolean => plot.id.startsWith("cdf-");
  const grid = (title: string, id: string, chosen: readonly PageData["plots"][number][]): string =>
    `<section aria-labelledby="${id}"><h2 id="${id}">${title}</h2><div class="grid">${chosen.map(figure).join("\n")}</div></section>`;
  return `${grid("Latency, first seed", "h-latency", plots.filter(isLatency))}
${grid(
  "Over time, first seed",
  "h-time",
  plots.filter((plot) => !isLatency(plot)),
)}`;
}

function fleetSection(fleet: FleetResult, data: PageData, index: number): string {
  const at = data.timelines.findIndex((timeline) => timeline.fleet === fleet.name);
  const numWorkers = fleet.runs[0]?.workers.length ?? 0;
  const note =
    numWorkers > MAX_PAGE_TIMELINES ? `<p>The first ${MAX_PAGE_TIMELINES} of ${numWorkers} workers.</p>` : "";
  const timeline = at < 0 ? "" : `${note}<div class="timeline" data-timeline="${at}"></div>`;
  return `<section aria-labelledby="h-fleet-${index}"><h2 id="h-fleet-${index}">Workers of ${escapeHtml(fleet.name)}</h2>
${timeline}
<details><summary>Time of each worker as a table</summary>${workerTable(fleet)}</details>
${cacheTables(fleet)}
${groupTable(fleet, "byClass")}
${groupTable(fleet, "byTenant")}
</section>`;
}

/** Blocks of each pool, all its workers together, by `FLEET/POOL`. */
function blockCapacities(result: SimulationResult): ReadonlyMap<string, number> {
  const capacities = new Map<string, number>();
  for (const fleet of result.fleets) {
    for (const pool of fleet.pools) {
      capacities.set(
        `${fleet.name}/${pool.name}`,
        pool.count * Math.floor(pool.kvCapacityTokens / pool.blockTokens),
      );
    }
  }
  return capacities;
}

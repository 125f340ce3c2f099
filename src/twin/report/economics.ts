import type { RunResult } from "../../protocol/simulation-schema.ts";
import { plannedWorker, type Recorder, type WorkerPower } from "../record/recorder.ts";
import type { SloTally } from "../record/slo.ts";
import { STEP_KINDS } from "../record/worker-usage.ts";

/** What one worker costs and draws, all its accelerators together. */
export interface WorkerEconomics {
  readonly numDevices: number;
  readonly power: WorkerPower | null;
  /** Installed (nameplate) power, hosts and network included. */
  readonly installedWatts: number | null;
  readonly dollarsPerHour: number | null;
}

/** What the site adds. */
export interface SiteEconomics {
  /** Power usage effectiveness: facility power over IT power. */
  readonly pue: number;
  readonly dollarsPerKwh: number | null;
}

interface Totals {
  readonly endMs: number;
  readonly outputTokens: number;
  /** Output tokens, and prompt tokens of completed requests less those found in a cache. */
  readonly computedTokens: number;
}

const MS_PER_HOUR = 3_600_000;
const JOULES_PER_KWH = 3_600_000;

/**
 * Energy of a run: every worker draws its idle power for the whole run, ready or not, and more during steps and while it only
 * moves KV. Null: the power of some worker is not known.
 */
export function energyOf(
  recorder: Recorder,
  workers: readonly WorkerEconomics[],
  site: SiteEconomics,
  totals: Totals,
): RunResult["energy"] {
  const idleWatts = sumKnown(workers.map(({ power }) => power?.idleWatts ?? null));
  if (idleWatts === null || totals.endMs <= 0) return null;
  const transferJoules = recorder.usages.reduce((sum, [id, usage]) => {
    const power = recorder.powerOf(id);
    const watts = power === null ? 0 : Math.max(power.transferWatts - power.idleWatts, 0);
    return sum + (watts * usage.transferOnlyMs) / 1000;
  }, 0);
  const itJoules = recorder.activeJoules + transferJoules + (idleWatts * totals.endMs) / 1000;
  const facilityJoules = itJoules * site.pue;
  return {
    itJoules,
    facilityJoules,
    pue: site.pue,
    meanWatts: (facilityJoules * 1000) / totals.endMs,
    joulesPerOutputToken: ratio(facilityJoules, totals.outputTokens),
    joulesPerToken: ratio(facilityJoules, totals.computedTokens),
    installedWatts: sumKnown(workers.map(({ installedWatts }) => installedWatts)),
  };
}

/** Cost of a run: accelerator-hours, busy or not, and energy. Null when some worker has no price. */
export function costOf(
  workers: readonly WorkerEconomics[],
  site: SiteEconomics,
  energy: RunResult["energy"],
  totals: Totals,
): RunResult["cost"] {
  const perHour = sumKnown(workers.map(({ dollarsPerHour }) => dollarsPerHour));
  if (perHour === null) return null;
  const hours = totals.endMs / MS_PER_HOUR;
  const isMetered = energy !== null && site.dollarsPerKwh !== null;
  const energyDollars = isMetered ? (energy.facilityJoules / JOULES_PER_KWH) * site.dollarsPerKwh : null;
  const dollars = perHour * hours + (energyDollars ?? 0);
  return {
    deviceDollars: perHour * hours,
    energyDollars,
    dollars,
    dollarsPerHour: hours > 0 ? dollars / hours : 0,
    dollarsPerMillionOutputTokens: ratio(dollars * 1e6, totals.outputTokens),
    dollarsPerMillionTokens: ratio(dollars * 1e6, totals.computedTokens),
  };
}

/**
 * Useful accelerator time: step time, weighted with the share of the tokens it computed that reached a client within the
 * bounds. What was recomputed after preemption or fault, or belongs to late, failed or unfinished requests, is not useful.
 */
export function usefulOf(
  recorder: Recorder,
  workers: ReadonlyMap<string, WorkerEconomics>,
  tally: SloTally | null,
  endMs: number,
): RunResult["useful"] {
  const { all } = recorder;
  const goodPrefill = tally?.computedInputTokens ?? Math.max(all.inputTokens - all.cachedTokens, 0);
  // The last chunk of a prompt draws the first output token, so decodes compute one token less per request.
  const goodDecode =
    tally === null ? all.outputTokens - all.numCompleted : tally.outputTokens - tally.numGood;
  let prefillTokens = 0;
  let decodeTokens = 0;
  for (const [, { steps }] of recorder.usages) {
    for (const kind of STEP_KINDS) {
      prefillTokens += steps[kind].prefillTokens;
      decodeTokens += steps[kind].decodeTokens;
    }
  }
  const prefillShare = Math.min(ratio(goodPrefill, prefillTokens) ?? 0, 1);
  const decodeShare = Math.min(ratio(goodDecode, decodeTokens) ?? 0, 1);
  let deviceMs = 0;
  let busyMs = 0;
  let usefulMs = 0;
  for (const [id, usage] of recorder.usages) {
    const numDevices = workers.get(plannedWorker(id))?.numDevices ?? 1;
    if (workers.has(id)) deviceMs += endMs * numDevices;
    busyMs += usage.busyMs * numDevices;
    const { prefill, decode, mixed } = usage.steps;
    const mixedTokens = mixed.prefillTokens + mixed.decodeTokens;
    const mixedGood = mixed.prefillTokens * prefillShare + mixed.decodeTokens * decodeShare;
    const mixedMs = mixed.busyMs * (ratio(mixedGood, mixedTokens) ?? 0);
    usefulMs += (prefill.busyMs * prefillShare + decode.busyMs * decodeShare + mixedMs) * numDevices;
  }
  const installed = sumKnown([...workers.values()].map(({ installedWatts }) => installedWatts));
  const megawattHours = installed === null ? null : (installed / 1e6) * (endMs / MS_PER_HOUR);
  const usefulAcceleratorHours = usefulMs / MS_PER_HOUR;
  return {
    slo: tally?.slo.name ?? null,
    occupancy: Math.min(ratio(busyMs, deviceMs) ?? 0, 1),
    usefulShare: Math.min(ratio(usefulMs, deviceMs) ?? 0, 1),
    usefulAcceleratorHours,
    usefulAcceleratorHoursPerMwh:
      megawattHours === null ? null : ratio(usefulAcceleratorHours, megawattHours),
  };
}

/** The sum, or null when a part is not known or there is none. */
function sumKnown(values: readonly (number | null)[]): number | null {
  let sum = 0;
  for (const value of values) {
    if (value === null) return null;
    sum += value;
  }
  return values.length === 0 ? null : sum;
}

function ratio(value: number, by: number): number | null {
  return by > 0 ? value / by : null;
}

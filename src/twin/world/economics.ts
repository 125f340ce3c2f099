import { assert } from "../../core/util/assert.ts";
import type { Assumption } from "./assumption.ts";

const MS_PER_HOUR = 3_600_000;
const HOURS_PER_YEAR = 8760;
const JOULES_PER_KWH = 3_600_000;
const WATTS_PER_MW = 1e6;

/** A price, with who says so. */
export interface StatedFigure {
  readonly value: number;
  readonly source: string;
}

/** What a fleet costs: rent, energy included, or a purchase that is written off, and energy. */
export type FleetPrice =
  | {
      readonly kind: "rent";
      /** Of the whole fleet. */
      readonly usdPerHour: StatedFigure;
    }
  | {
      readonly kind: "purchase";
      /** Of the whole fleet, racks and network included as far as its source says. */
      readonly capexUsd: StatedFigure;
      readonly amortisationYears: StatedFigure;
      /** Share of the time in which the fleet carries a load like the run's. The rest costs capital and earns nothing. */
      readonly utilisation: StatedFigure;
      readonly usdPerKwh: StatedFigure;
      /** Repairs, staff and rent of the building: share of the capital per year. */
      readonly upkeepPerYear: StatedFigure;
    };

/** What a run did. */
export interface RunTotals {
  readonly durationMs: number;
  /** Tokens that count: by default those of requests that completed; the caller decides, and says so. */
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Energy of the racks, without the building's share. */
  readonly itJoules: number;
  readonly installedWatts: number;
  /** Device time spent on tokens that counted, over all devices, weighted by the caller if parts differ. */
  readonly usefulDeviceMs: number;
}

/** Results; null where nothing was produced to divide by. */
export interface RunEconomics {
  readonly costUsd: number;
  readonly usdPerMillionOutputTokens: number | null;
  readonly usdPerMillionTokens: number | null;
  /** With the building's share, over output tokens alone and over all tokens. */
  readonly joulesPerOutputToken: number | null;
  readonly joulesPerToken: number | null;
  /** Accelerator-hours per MW-hour of installed IT power. */
  readonly usefulDeviceHoursPerMwHour: number;
  readonly outputTokensPerSecondPerMw: number;
  readonly tokensPerSecondPerMw: number;
  /** Everything that went in, for the report. */
  readonly assumptions: readonly Assumption[];
}

/**
 * Cost and energy of a run.
 *
 * ```
 *   rent      cost = usdPerHour · h
 *   purchase  cost = capex · h · (1 / (years · 8760) + upkeep / 8760) / utilisation  +  itJoules / 3.6e6 · PUE · usdPerKwh
 *   USD per million tokens      = cost / tokens · 1e6
 *   joules per token            = itJoules · PUE / tokens
 *   useful device-hours per MWh = usefulDeviceMs / durationMs / (installedWatts / 1e6)
 *   tokens/s per MW             = tokens / s / (installedWatts / 1e6)
 * ```
 *
 * with h the run's hours. PUE is the site's power over the racks' (ISO/IEC 30134-2). Rent contains energy. Installed power
 * is IT power: PUE does not enter what is "per MW".
 */
export function runEconomics(totals: RunTotals, price: FleetPrice, pue: StatedFigure): RunEconomics {
  const { durationMs, inputTokens, outputTokens, itJoules, usefulDeviceMs } = totals;
  assert(durationMs > 0 && totals.installedWatts > 0, "a run takes time and power");
  assert(pue.value >= 1, "PUE is at least 1");
  const tokens = inputTokens + outputTokens;
  const siteJoules = itJoules * pue.value;
  const costUsd = costOf(price, durationMs / MS_PER_HOUR, siteJoules);
  const installedMw = totals.installedWatts / WATTS_PER_MW;
  const seconds = durationMs / 1000;
  return {
    costUsd,
    usdPerMillionOutputTokens: ratio(costUsd * 1e6, outputTokens),
    usdPerMillionTokens: ratio(costUsd * 1e6, tokens),
    joulesPerOutputToken: ratio(siteJoules, outputTokens),
    joulesPerToken: ratio(siteJoules, tokens),
    usefulDeviceHoursPerMwHour: usefulDeviceMs / durationMs / installedMw,
    outputTokensPerSecondPerMw: outputTokens / seconds / installedMw,
    tokensPerSecondPerMw: tokens / seconds / installedMw,
    assumptions: [
      ...priceAssumptions(price),
      { name: "power usage effectiveness", value: pue.value, unit: "", source: pue.source },
      {
        name: "installed IT power",
        value: totals.installedWatts,
        unit: "W",
        source: "parts and rack overhead above",
      },
    ],
  };
}

/** USD for so many hours, of which a purchased fleet used `siteJoules`. */
function costOf(price: FleetPrice, hours: number, siteJoules: number): number {
  if (price.kind === "rent") return price.usdPerHour.value * hours;
  const { capexUsd, amortisationYears, utilisation, usdPerKwh, upkeepPerYear } = price;
  assert(amortisationYears.value > 0, "a purchase is written off over some time");
  assert(utilisation.value > 0 && utilisation.value <= 1, "utilisation is a share above 0");
  const sharePerHour = (1 / amortisationYears.value + upkeepPerYear.value) / HOURS_PER_YEAR;
  const capital = (capexUsd.value * sharePerHour * hours) / utilisation.value;
  return capital + (siteJoules / JOULES_PER_KWH) * usdPerKwh.value;
}

function priceAssumptions(price: FleetPrice): Assumption[] {
  const entry = (name: string, { value, source }: StatedFigure, unit: string): Assumption => ({
    name,
    value,
    unit,
    source,
  });
  if (price.kind === "rent") return [entry("price of the fleet, energy included", price.usdPerHour, "USD/h")];
  return [
    entry("price of the fleet", price.capexUsd, "USD"),
    entry("amortisation", price.amortisationYears, "years"),
    entry("utilisation", price.utilisation, ""),
    entry("upkeep per year over price", price.upkeepPerYear, ""),
    entry("price of energy", price.usdPerKwh, "USD/kWh"),
  ];
}

function ratio(value: number, by: number): number | null {
  return by > 0 ? value / by : null;
}

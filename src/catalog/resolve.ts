import { nearMiss } from "../protocol/near-miss.ts";
import { CatalogError } from "./catalog.ts";
import type { AcceleratorEntry } from "./entry.ts";
import type { Confidence, Figure } from "./figure.ts";
import { ACCELERATOR_FIGURES, type AcceleratorFigureKey, type FigureKind } from "./figure-keys.ts";

/** Figures that a scenario states itself, by key, in the unit of the key: `{ "dense.fp8": 10000 }`. */
export type Assumptions = Readonly<Record<string, number>>;

/** A figure that went into a simulation, as its report repeats it. */
export interface UsedFigure {
  /** Id of the entry. */
  readonly entry: string;
  readonly key: string;
  readonly label: string;
  readonly unit: string;
  readonly value: number;
  /** `assumed`: the scenario said so. */
  readonly confidence: Confidence | "assumed";
  readonly sources: readonly string[];
  /** What the catalogue says where the scenario assumes something else; null: unknown. */
  readonly catalogValue: number | null;
  readonly note: string;
}

/** A figure without which the entry cannot be simulated. */
export interface MissingFigure {
  readonly entry: string;
  readonly key: string;
  readonly label: string;
  readonly unit: string;
  readonly note: string;
}

/** Either everything that was asked for, or what is missing. */
export type Conversion<Spec> =
  | { readonly spec: Spec; readonly used: readonly UsedFigure[] }
  | { readonly missing: readonly MissingFigure[] };

/** The spec, or a {@link CatalogError} that lists what blocks it and how to go on. */
export function specOf<Spec>(conversion: Conversion<Spec>): { spec: Spec; used: readonly UsedFigure[] } {
  if ("spec" in conversion) return conversion;
  const [first] = conversion.missing;
  const list = conversion.missing.map(({ key, unit, label }) => `${key} (${label}, ${unit})`).join(", ");
  throw new CatalogError(
    `${first?.entry}: the catalogue does not know ${list}; state them as assumptions of the scenario to simulate it all the same`,
  );
}

/** Whether a report has to state the figure: assumed, estimated, or of unknown origin. */
export function needsStating(figure: UsedFigure): boolean {
  return figure.confidence !== "vendor" && figure.confidence !== "third-party";
}

/**
 * A used figure as a sentence of a report: what was taken, how it is known, and what the catalogue says instead.
 *
 * @param under the entry that the sentence stands under, which it does not name again
 */
export function describeFigure(figure: UsedFigure, under?: string): string {
  const { entry, key, value, unit, confidence, catalogValue, note } = figure;
  const subject = `${entry === under ? key : `${key} of ${entry}`} is ${value} ${unit}`;
  if (confidence !== "assumed") return `${subject} (${confidence}${note === "" ? "" : `: ${note}`})`;
  const instead = catalogValue === null ? "not known" : `${catalogValue} ${unit}`;
  return `${subject} (assumed by the scenario; in the catalogue: ${instead})`;
}

/** Takes figures of one entry, notes which it took, and collects those that are missing. */
export class FigureTaker<Key extends string> {
  readonly used: UsedFigure[] = [];
  readonly missing: MissingFigure[] = [];
  readonly #entry: { readonly id: string; readonly figures: Readonly<Partial<Record<Key, Figure>>> };
  readonly #kinds: Readonly<Record<Key, FigureKind>>;
  readonly #assumptions: Assumptions;

  /** Throws {@link CatalogError} for an assumption whose key is unknown or whose value is out of bounds. */
  constructor(
    entry: { readonly id: string; readonly figures: Readonly<Partial<Record<Key, Figure>>> },
    kinds: Readonly<Record<Key, FigureKind>>,
    assumptions: Assumptions = {},
  ) {
    this.#entry = entry;
    this.#kinds = kinds;
    this.#assumptions = assumptions;
    for (const [key, value] of Object.entries(assumptions)) checkAssumption(entry.id, kinds, key, value);
  }

  /** Whether a figure is known or assumed. */
  has(key: Key): boolean {
    return this.#assumptions[key] !== undefined || typeof this.#entry.figures[key]?.value === "number";
  }

  /** The figure, or NaN when it is missing, which is then noted. */
  take(key: Key): number {
    const { label, unit } = this.#kinds[key];
    const figure = this.#entry.figures[key];
    const assumed = this.#assumptions[key];
    const value = assumed ?? figure?.value ?? null;
    const about = { entry: this.#entry.id, key, label, unit, note: figure?.note ?? "" };
    if (value === null) {
      if (!this.missing.some((other) => other.key === key)) this.missing.push(about);
      return Number.NaN;
    }
    if (!this.used.some((other) => other.key === key)) {
      this.used.push({
        ...about,
        value,
        confidence: assumed === undefined ? (figure?.confidence ?? "unknown") : "assumed",
        sources: assumed === undefined ? (figure?.sources ?? []) : [],
        catalogValue: figure?.value ?? null,
      });
    }
    return value;
  }

  conversion<Spec>(spec: Spec): Conversion<Spec> {
    return this.missing.length > 0 ? { missing: this.missing } : { spec, used: this.used };
  }
}

function checkAssumption(
  id: string,
  kinds: Readonly<Record<string, FigureKind>>,
  key: string,
  value: number,
): void {
  if (!Object.hasOwn(kinds, key)) {
    const meant = nearMiss(key, Object.keys(kinds));
    const hint = meant === null ? "" : ` (did you mean ${meant}?)`;
    throw new CatalogError(
      `${id}: there is no figure ${JSON.stringify(key)} to assume${hint}; allowed: ${Object.keys(kinds).join(", ")}`,
    );
  }
  const { min, max, unit } = kinds[key]!;
  if (!(value >= min && value <= max)) {
    throw new CatalogError(`${id}: ${key} cannot be ${value} ${unit}; allowed: ${min} to ${max}`);
  }
}

export function takeFromAccelerator(
  entry: AcceleratorEntry,
  assumptions?: Assumptions,
): FigureTaker<AcceleratorFigureKey> {
  return new FigureTaker<AcceleratorFigureKey>(entry, ACCELERATOR_FIGURES, assumptions);
}

import type { SourceId } from "./data/sources.ts";

/**
 * How a figure is known. `vendor`: stated by the maker of the part, or by the authors of the paper or model that it belongs to.
 * `third-party`: an analyst, a price list, somebody's measurement. `derived`: computed from other figures, or a stated estimate.
 * `unknown`: nobody has published it (value null), or its origin is not known.
 */
export const CONFIDENCES = ["vendor", "third-party", "derived", "unknown"] as const;
export type Confidence = (typeof CONFIDENCES)[number];

/** One figure of the catalogue with its origin. The unit belongs to the figure's key. */
export interface Figure {
  /** Null: unknown. 0 is a statement: the part does not have it. */
  readonly value: number | null;
  /** Ids of sources, at least one. */
  readonly sources: readonly string[];
  readonly confidence: Confidence;
  /** Where sources give a range, its ends; `value` is what a calculation takes when nothing else is said. */
  readonly range?: readonly [low: number, high: number];
  /** The figure was written down from memory and not compared with its source again. */
  readonly isRecalled?: true;
  readonly note?: string;
}

interface FigureExtras {
  readonly range?: readonly [number, number];
  readonly note?: string;
}

type Sources = SourceId | readonly SourceId[];

function figure(
  value: number | null,
  confidence: Confidence,
  sources: Sources,
  extras: FigureExtras | string = {},
): Figure {
  const { range, note } = typeof extras === "string" ? { note: extras, range: undefined } : extras;
  return {
    value,
    sources: typeof sources === "string" ? [sources] : sources,
    confidence,
    ...(range === undefined ? {} : { range }),
    ...(note === undefined ? {} : { note }),
  };
}

/** A figure stated by the vendor or by the paper's authors. A text as the last argument is a note. */
export function vendor(value: number, sources: Sources, extras?: FigureExtras | string): Figure {
  return figure(value, "vendor", sources, extras);
}

/** A figure that somebody else states. */
export function thirdParty(value: number, sources: Sources, extras?: FigureExtras | string): Figure {
  return figure(value, "third-party", sources, extras);
}

/** A figure computed from others; the note says how. */
export function derived(value: number, sources: Sources, extras: FigureExtras | string): Figure {
  return figure(value, "derived", sources, extras);
}

/** A figure that nobody has published. */
export function unknown(note = "not published"): Figure {
  return figure(null, "unknown", "arithmetic", note);
}

/** Marks a figure as written down from memory. */
export function recalled(of: Figure): Figure {
  return { ...of, isRecalled: true };
}

/** A range without a better middle: the value is the middle of it. */
export function between(
  low: number,
  high: number,
  confidence: "vendor" | "third-party" | "unknown",
  sources: Sources,
  note?: string,
): Figure {
  const middle = "the value is the middle of the range";
  return figure((low + high) / 2, confidence, sources, {
    range: [low, high],
    note: note === undefined ? middle : `${note}; ${middle}`,
  });
}

/** A statement that the part lacks something: no FP8 path, no NVLink. */
export function none(sources: Sources, note: string): Figure {
  return figure(0, "vendor", sources, note);
}

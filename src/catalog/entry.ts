import type { ModelShape } from "../core/perf/model-shape.ts";
import type { Figure } from "./figure.ts";
import type { AcceleratorFigureKey, LinkFigureKey, ModelFigureKey, RackFigureKey } from "./figure-keys.ts";

export const ENTRY_KINDS = ["accelerator", "rack", "link", "model"] as const;
export type EntryKind = (typeof ENTRY_KINDS)[number];

/** Sources that do not agree, or a sum that does not close. */
export interface Contradiction {
  readonly topic: string;
  readonly finding: string;
  readonly sources: readonly string[];
  /** The figure of the entry that it is about. */
  readonly figure?: string;
  /** What the parts add up to, where the stated figure says otherwise. */
  readonly recomputed?: readonly [low: number, high: number];
}

/** What happened to a part, oldest first. */
export interface HistoryEvent {
  readonly date: string;
  readonly event: string;
  readonly source: string;
}

interface EntryBase<Kind extends EntryKind, Key extends string> {
  readonly kind: Kind;
  /** Lower case, never given to another entry; a changed specification is a new entry. */
  readonly id: string;
  readonly name: string;
  /** Date of the facts, as precisely as it is known: `2026-03`, `2025-09-09`. */
  readonly revision: string;
  /** Other names under which it is found; case does not count. */
  readonly aliases?: readonly string[];
  /** Entries of one family are variants of one part; the family's name alone finds none of them. */
  readonly family?: string;
  readonly figures: Readonly<Partial<Record<Key, Figure>>>;
  readonly contradictions?: readonly Contradiction[];
  readonly notes?: readonly string[];
}

/** Which links an accelerator uses; they give the bandwidths and latencies that the entry does not state itself. */
export interface AcceleratorLinks {
  readonly scaleUp?: string | undefined;
  readonly scaleOut?: string | undefined;
  readonly host?: string | undefined;
}

export interface AcceleratorEntry extends EntryBase<"accelerator", AcceleratorFigureKey> {
  readonly vendor: string;
  readonly processor: "gpu" | "lpu" | "cpu";
  /** `shipping`, `announced 2026-03`, `rumour`. */
  readonly status: string;
  readonly memoryKind: string;
  readonly formFactor?: string;
  readonly links: AcceleratorLinks;
  readonly history?: readonly HistoryEvent[];
}

export interface RackEntry extends EntryBase<"rack", RackFigureKey> {
  readonly vendor: string;
  readonly status: string;
  /** Accelerators and CPUs by catalogue id. */
  readonly parts: Readonly<Record<string, number>>;
  /** Cabinets that the entry spans. */
  readonly numRacks: number;
}

export interface LinkEntry extends EntryBase<"link", LinkFigureKey> {}

export interface ModelEntry extends EntryBase<"model", ModelFigureKey> {
  readonly shape: ModelShape;
  /** Where the shape comes from. */
  readonly sources: readonly string[];
}

export type CatalogEntry = AcceleratorEntry | RackEntry | LinkEntry | ModelEntry;

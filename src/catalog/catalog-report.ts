import { z } from "zod";
import type { Catalog } from "./catalog.ts";
import { toDeviceSpec } from "./device-spec.ts";
import type { AcceleratorEntry, CatalogEntry, ModelEntry, RackEntry } from "./entry.ts";
import { CONFIDENCES, type Figure } from "./figure.ts";
import {
  ACCELERATOR_FIGURES,
  type FigureKind,
  LINK_FIGURES,
  MODEL_FIGURES,
  RACK_FIGURES,
} from "./figure-keys.ts";
import { modelShapeSchema } from "./model-shape-schema.ts";
import { countParameters, kvElementsPerToken } from "./model-size.ts";
import { sumOfParts } from "./rack-spec.ts";

/** Raised with every change to the report that a reader of the older form would misread. */
const REPORT_SCHEMA_VERSION = 1;

const figureSchema = z.strictObject({
  key: z.string(),
  label: z.string(),
  unit: z.string(),
  /** Null: unknown. 0: the part does not have it. */
  value: z.number().nullable(),
  low: z.number().nullable(),
  high: z.number().nullable(),
  confidence: z.enum(CONFIDENCES),
  /** Written down from memory, not compared with the source again. */
  isRecalled: z.boolean(),
  sources: z.array(z.string()),
  note: z.string(),
});

const commonFields = {
  id: z.string(),
  name: z.string(),
  /** Date of the facts. */
  revision: z.string(),
  family: z.string().nullable(),
  aliases: z.array(z.string()),
  figures: z.array(figureSchema),
  /** Keys of figures that an entry of this kind should have and that nobody knows. */
  missing: z.array(z.string()),
  contradictions: z.array(
    z.strictObject({
      topic: z.string(),
      finding: z.string(),
      figure: z.string().nullable(),
      sources: z.array(z.string()),
    }),
  ),
  notes: z.array(z.string()),
};

const acceleratorSchema = z.strictObject({
  kind: z.literal("accelerator"),
  ...commonFields,
  vendor: z.string(),
  status: z.string(),
  processor: z.enum(["gpu", "lpu", "cpu"]),
  memoryKind: z.string(),
  formFactor: z.string().nullable(),
  links: z.strictObject({
    scaleUp: z.string().nullable(),
    scaleOut: z.string().nullable(),
    host: z.string().nullable(),
  }),
  history: z.array(z.strictObject({ date: z.string(), event: z.string(), source: z.string() })),
  /** Figures that a scenario has to assume before the part can be simulated. */
  blockedBy: z.array(z.string()),
});

const rackSchema = z.strictObject({
  kind: z.literal("rack"),
  ...commonFields,
  vendor: z.string(),
  status: z.string(),
  numRacks: z.int(),
  parts: z.record(z.string(), z.int()),
  /** By figure key: what the parts add up to. */
  sumOfParts: z.record(z.string(), z.number()),
});

const linkSchema = z.strictObject({ kind: z.literal("link"), ...commonFields });

const modelSchema = z.strictObject({
  kind: z.literal("model"),
  ...commonFields,
  sources: z.array(z.string()),
  shape: z.looseObject({ numLayers: z.int(), hiddenSize: z.int(), vocabSize: z.int() }),
  /** Counted from the shape. */
  parameters: z.strictObject({ total: z.number(), active: z.number() }),
  /** BF16, over all layers; `growing` without the layers whose window is full. */
  kvBytesPerToken: z.strictObject({ all: z.number(), growing: z.number() }),
});

/** What `twofold catalog --json` prints. */
export const catalogReportSchema = z.strictObject({
  schemaVersion: z.literal(REPORT_SCHEMA_VERSION),
  entries: z.array(z.discriminatedUnion("kind", [acceleratorSchema, rackSchema, linkSchema, modelSchema])),
  /** The sources that the entries name. */
  sources: z.record(
    z.string(),
    z.strictObject({
      title: z.string(),
      date: z.string().nullable(),
      url: z.string().nullable(),
      note: z.string().nullable(),
    }),
  ),
});

export type CatalogReport = z.output<typeof catalogReportSchema>;
export type ReportedEntry = CatalogReport["entries"][number];
export type ReportedFigure = ReportedEntry["figures"][number];

const KINDS: Readonly<Record<CatalogEntry["kind"], Readonly<Record<string, FigureKind>>>> = {
  accelerator: ACCELERATOR_FIGURES,
  rack: RACK_FIGURES,
  link: LINK_FIGURES,
  model: MODEL_FIGURES,
};

/** Without these an entry is complete all the same. */
const OPTIONAL: ReadonlySet<string> = new Set([
  "dense.int8",
  "dense.int4",
  "sparse.bf16",
  "sparse.fp8",
  "sparse.fp4",
  "video.encoders",
  "video.decoders",
  "params.active",
]);

/** Of a system only these are missed; the rest is the sum of its parts. */
const EXPECTED_OF_RACK: ReadonlySet<string> = new Set(["power.rack", "price.purchase"]);

/** Entries with every figure and every source that they name. */
export function makeCatalogReport(catalog: Catalog, entries: readonly CatalogEntry[]): CatalogReport {
  const reported = entries.map((entry) => reportEntry(catalog, entry));
  const sources: CatalogReport["sources"] = {};
  for (const id of [...new Set(reported.flatMap(sourcesOf))].sort()) {
    const source = catalog.sources.get(id);
    const { title = "not described", date = null, url = null, note = null } = source ?? {};
    sources[id] = { title, date, url, note };
  }
  return { schemaVersion: REPORT_SCHEMA_VERSION, entries: reported, sources };
}

/** Ids of the sources that an entry names, in order of appearance. */
export function sourcesOf(entry: ReportedEntry): string[] {
  const named = [
    ...entry.figures.flatMap(({ sources }) => sources),
    ...entry.contradictions.flatMap(({ sources }) => sources),
    ...(entry.kind === "accelerator" ? entry.history.map(({ source }) => source) : []),
    ...(entry.kind === "model" ? entry.sources : []),
  ];
  return [...new Set(named)];
}

function reportEntry(catalog: Catalog, entry: CatalogEntry): ReportedEntry {
  const figures = reportFigures(entry);
  const common = {
    id: entry.id,
    name: entry.name,
    revision: entry.revision,
    family: entry.family ?? null,
    aliases: [...(entry.aliases ?? [])],
    figures,
    missing: missingKeys(entry, figures),
    contradictions: (entry.contradictions ?? []).map(({ topic, finding, figure, sources }) => ({
      topic,
      finding,
      figure: figure ?? null,
      sources: [...sources],
    })),
    notes: [...(entry.notes ?? [])],
  };
  switch (entry.kind) {
    case "accelerator":
      return { kind: entry.kind, ...common, ...acceleratorDetails(entry) };
    case "rack":
      return { kind: entry.kind, ...common, ...rackDetails(catalog, entry) };
    case "link":
      return { kind: entry.kind, ...common };
    case "model":
      return { kind: entry.kind, ...common, ...modelDetails(entry) };
  }
}

function acceleratorDetails(entry: AcceleratorEntry) {
  const { vendor, status, processor, memoryKind, links } = entry;
  const conversion = toDeviceSpec(entry);
  return {
    vendor,
    status,
    processor,
    memoryKind,
    formFactor: entry.formFactor ?? null,
    links: {
      scaleUp: links.scaleUp ?? null,
      scaleOut: links.scaleOut ?? null,
      host: links.host ?? null,
    },
    history: (entry.history ?? []).map(({ date, event, source }) => ({ date, event, source })),
    blockedBy: "missing" in conversion ? conversion.missing.map(({ key }) => key) : [],
  };
}

function rackDetails(catalog: Catalog, { vendor, status, numRacks, parts, ...entry }: RackEntry) {
  const sums = sumOfParts(catalog, { vendor, status, numRacks, parts, ...entry });
  // Twelve digits: sums of decimals carry noise in the last bits.
  const rounded = Object.entries(sums).map(([key, sum]) => [key, Number(sum.toPrecision(12))]);
  return { vendor, status, numRacks, parts: { ...parts }, sumOfParts: Object.fromEntries(rounded) };
}

function modelDetails({ shape, sources }: ModelEntry) {
  const { all, growing } = kvElementsPerToken(shape);
  const bytesOfBf16 = 2;
  return {
    sources: [...sources],
    shape: { ...modelShapeSchema.parse(withoutName(shape)) },
    parameters: countParameters(shape),
    kvBytesPerToken: { all: all * bytesOfBf16, growing: growing * bytesOfBf16 },
  };
}

function withoutName({ name: _, ...shape }: ModelEntry["shape"]): Omit<ModelEntry["shape"], "name"> {
  return shape;
}

/** In the order of the keys' table, so that entries compare line by line. */
function reportFigures(entry: CatalogEntry): ReportedFigure[] {
  const figures: Readonly<Record<string, Figure | undefined>> = entry.figures;
  return Object.entries(KINDS[entry.kind]).flatMap(([key, { label, unit }]): ReportedFigure[] => {
    const figure = figures[key];
    if (figure === undefined) return [];
    const { value, range, confidence, isRecalled = false, sources, note = "" } = figure;
    const [low, high] = range ?? [null, null];
    return [{ key, label, unit, value, low, high, confidence, isRecalled, sources: [...sources], note }];
  });
}

function missingKeys(entry: CatalogEntry, figures: readonly ReportedFigure[]): string[] {
  const known = new Set(figures.filter(({ value }) => value !== null).map(({ key }) => key));
  const isExpected = (key: string) =>
    entry.kind === "rack" ? EXPECTED_OF_RACK.has(key) : !OPTIONAL.has(key);
  return Object.keys(KINDS[entry.kind]).filter((key) => isExpected(key) && !known.has(key));
}

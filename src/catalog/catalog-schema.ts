import { z } from "zod";
import { CONFIDENCES } from "./figure.ts";
import {
  ACCELERATOR_FIGURES,
  type FigureKind,
  LINK_FIGURES,
  MODEL_FIGURES,
  RACK_FIGURES,
} from "./figure-keys.ts";
import { modelShapeSchema } from "./model-shape-schema.ts";

const MAX_ENTRIES = 1000;
const MAX_SOURCES = 1000;
const MAX_PARTS = 64;
const MAX_PART_COUNT = 1_000_000;
const MAX_TEXT = 500;
const MAX_LIST = 50;

const text = z.string().min(1).max(MAX_TEXT);
const id = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9._-]{0,63}$/,
    "has to be 1 to 64 of a-z 0-9 . _ - and begin with a letter or digit",
  );
const date = z
  .string()
  .regex(/^\d{4}(-\d\d(-\d\d)?)?$/, "has to be a quoted date such as '2026', '2026-03' or '2026-03-16'");

const sourceSchema = z.strictObject({
  title: text,
  date: date.optional(),
  url: text.optional(),
  note: text.optional(),
});

/** A figure is a number, or a mapping where its origin is known. */
function figureSchema({ min, max, unit }: FigureKind) {
  const isInside = (value: number) => value >= min && value <= max;
  const number = z.number().refine(isInside, `is out of range; allowed: ${min} to ${max} ${unit}`);
  const full = z.strictObject({
    value: number.nullable(),
    source: z.union([id, z.array(id).min(1).max(MAX_LIST)]).optional(),
    confidence: z.enum(CONFIDENCES).optional(),
    low: number.optional(),
    high: number.optional(),
    note: text.optional(),
  });
  const message = `has to be a number of ${unit} from ${min} to ${max}, null, or a mapping with value, source, confidence, low, high, note`;
  return z.union([number, z.null(), full], { error: message });
}

function figuresSchema(kinds: Readonly<Record<string, FigureKind>>) {
  const shape = Object.fromEntries(
    Object.entries(kinds).map(([key, kind]) => [key, figureSchema(kind).optional()]),
  );
  return z.strictObject(shape).default({});
}

const base = {
  id,
  name: text,
  revision: date.optional(),
  aliases: z.array(text).max(MAX_LIST).default([]),
  notes: z.array(text).max(MAX_LIST).default([]),
};

const acceleratorSchema = z.strictObject({
  ...base,
  vendor: text.default("unknown"),
  processor: z.enum(["gpu", "lpu", "cpu"]).default("gpu"),
  status: text.default("as the file says"),
  memoryKind: text.default("unknown"),
  /** Entry whose figures hold wherever this one does not state its own. */
  basedOn: text.optional(),
  links: z.strictObject({ scaleUp: id.optional(), scaleOut: id.optional(), host: id.optional() }).default({}),
  figures: figuresSchema(ACCELERATOR_FIGURES),
});

const rackSchema = z.strictObject({
  ...base,
  vendor: text.default("unknown"),
  status: text.default("as the file says"),
  parts: z
    .record(text, z.int().min(1).max(MAX_PART_COUNT))
    .refine((parts) => Object.keys(parts).length <= MAX_PARTS, `has more than ${MAX_PARTS} kinds of parts`),
  racks: z.int().min(1).max(MAX_PART_COUNT).default(1),
  figures: figuresSchema(RACK_FIGURES),
});

const linkSchema = z.strictObject({ ...base, figures: figuresSchema(LINK_FIGURES) });

const modelSchema = z
  .strictObject({
    ...base,
    /** Hugging Face config.json, relative to the folder of the catalogue file. */
    config: text.optional(),
    /** GGUF file, relative to the folder of the catalogue file. */
    gguf: text.optional(),
    shape: modelShapeSchema.optional(),
    figures: figuresSchema(MODEL_FIGURES),
  })
  .superRefine(({ config, gguf, shape }, context) => {
    const given = [config, gguf, shape].filter((value) => value !== undefined).length;
    if (given !== 1) {
      context.addIssue({ code: "custom", message: "needs exactly one of config, gguf and shape" });
    }
  });

/** A catalogue file: what it adds to the built-in catalogue. Every list may be left out. */
export const catalogFileSchema = z.strictObject({
  sources: z
    .record(id, sourceSchema)
    .refine((sources) => Object.keys(sources).length <= MAX_SOURCES, `has more than ${MAX_SOURCES} entries`)
    .default({}),
  accelerators: z.array(acceleratorSchema).max(MAX_ENTRIES).default([]),
  racks: z.array(rackSchema).max(MAX_ENTRIES).default([]),
  links: z.array(linkSchema).max(MAX_ENTRIES).default([]),
  models: z.array(modelSchema).max(MAX_ENTRIES).default([]),
});

export type CatalogFileValues = z.output<typeof catalogFileSchema>;

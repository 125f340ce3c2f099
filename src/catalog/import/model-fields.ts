import type { AttentionShape, ModelShape } from "../../core/perf/model-shape.ts";
import { ConfigError, formatPath, type Origin, show } from "../../protocol/config-error.ts";
import { modelShapeSchema } from "../model-shape-schema.ts";

/** A model read from a file. */
export interface ImportedModel {
  readonly shape: ModelShape;
  /** What the shape leaves out, or had to assume. */
  readonly notes: readonly string[];
}

/** Values of a model's configuration by key, with errors that name file and key. */
export class ModelFields {
  readonly notes: string[] = [];
  readonly #value: (key: string) => unknown;
  readonly #locate: (key: string) => Origin;

  /** `value`: undefined or null for a key that is not there. */
  constructor(value: (key: string) => unknown, locate: (key: string) => Origin) {
    this.#value = value;
    this.#locate = locate;
  }

  fail(key: string, message: string): never {
    throw new ConfigError([{ origin: this.#locate(key), message: `${key}: ${message}` }]);
  }

  value(key: string): unknown {
    return this.#value(key) ?? undefined;
  }

  /** The first of the keys that is there, which has to be a whole number of at least 0. */
  int(...keys: readonly [string, ...string[]]): number {
    const found = this.optionalInt(...keys);
    if (found !== null) return found;
    return this.fail(keys[0], `is missing${keys.length > 1 ? ` (as are ${keys.slice(1).join(", ")})` : ""}`);
  }

  optionalInt(...keys: readonly string[]): number | null {
    for (const key of keys) {
      const value = this.value(key);
      if (value === undefined) continue;
      if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
      return this.fail(key, `${describe(value)} is not a whole number of at least 0`);
    }
    return null;
  }

  boolean(key: string, otherwise: boolean): boolean {
    const value = this.value(key);
    if (value === undefined) return otherwise;
    return typeof value === "boolean" ? value : this.fail(key, `${describe(value)} is not true or false`);
  }

  /** How many entries of a list of texts are one of `words`; null when the list is not there. */
  countOf(key: string, words: readonly string[]): number | null {
    const value = this.value(key);
    if (value === undefined) return null;
    if (!Array.isArray(value)) return this.fail(key, `${describe(value)} is not a list`);
    return value.filter((entry) => words.includes(String(entry))).length;
  }

  /** Checks the numbers of a shape against each other. Throws {@link ConfigError} that names the file. */
  checked(shape: ModelShape): ImportedModel {
    const { name, ...sizes } = shape;
    const result = modelShapeSchema.safeParse(sizes);
    if (result.success) return { shape: { name, ...result.data }, notes: this.notes };
    throw new ConfigError(
      result.error.issues.map((issue) => ({
        origin: this.#locate(""),
        message: `${formatPath(issue.path.map(String))} of the model ${issue.message}`,
      })),
    );
  }
}

/** Values that stand for arrays of a GGUF file show as such. */
function describe(value: unknown): string {
  if (typeof value === "object" && value !== null && "arrayLength" in value) {
    return "a list with one value per layer, which is not supported,";
  }
  return show(value);
}

export function gqaShape(
  heads: { readonly numHeads: number; readonly numKvHeads: number; readonly headDim: number },
  window: { readonly layers: number; readonly tokens: number } = { layers: 0, tokens: 0 },
): Extract<AttentionShape, { kind: "gqa" }> {
  const isWindowed = window.layers > 0;
  return {
    kind: "gqa",
    ...heads,
    numWindowLayers: isWindowed ? window.layers : 0,
    windowTokens: isWindowed ? window.tokens : 0,
    numLinearLayers: 0,
  };
}

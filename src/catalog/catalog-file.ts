import { basename, dirname, resolve } from "node:path";
import { ConfigError, type ConfigPath, type ConfigProblem, type Origin } from "../protocol/config-error.ts";
import { readYaml, toProblems } from "../protocol/yaml-document.ts";
import { type Catalog, CatalogError } from "./catalog.ts";
import { type CatalogFileValues, catalogFileSchema } from "./catalog-schema.ts";
import type { AcceleratorEntry, CatalogEntry, EntryKind, ModelEntry } from "./entry.ts";
import type { Figure } from "./figure.ts";
import { readGgufModel } from "./import/gguf-model.ts";
import { MAX_HF_CONFIG_LENGTH, readHfConfig } from "./import/hf-config.ts";
import type { ImportedModel } from "./import/model-fields.ts";
import { readTextFile } from "./read-text-file.ts";

/** Longest catalogue file, in bytes. */
export const MAX_CATALOG_FILE_BYTES = 1024 * 1024;

/**
 * The catalogue and what a YAML file adds to it; the files of its models are looked for beside it. Throws {@link ConfigError} with file, line and column, and
 * `GgufError` for a bad GGUF file.
 */
export function loadCatalogFile(path: string, catalog: Catalog): Catalog {
  return parseCatalogFile(readTextFile(path, MAX_CATALOG_FILE_BYTES, path), path, catalog);
}

/** {@link loadCatalogFile} for a text that has been read; `path` is for messages and for the files of models. */
export function parseCatalogFile(text: string, path: string, catalog: Catalog): Catalog {
  const { data, locate } = readYaml(text, path, {
    what: "a catalogue file",
    maxLength: MAX_CATALOG_FILE_BYTES,
  });
  const result = catalogFileSchema.safeParse(data);
  if (!result.success) throw new ConfigError(toProblems(result.error, catalogFileSchema, data, locate));
  return new FileEntries(path, result.data, locate, catalog).joined();
}

type FileFigure = CatalogFileValues["accelerators"][number]["figures"][string];
type FileFigures = Readonly<Record<string, FileFigure>>;

/** Turns what a file says into entries and collects what is wrong with it. */
class FileEntries {
  readonly #path: string;
  readonly #values: CatalogFileValues;
  readonly #locate: (path: ConfigPath) => Origin;
  readonly #catalog: Catalog;
  readonly #problems: ConfigProblem[] = [];
  /** Id of the source that stands for the file itself. */
  readonly #fileSource: string;

  constructor(
    path: string,
    values: CatalogFileValues,
    locate: (path: ConfigPath) => Origin,
    catalog: Catalog,
  ) {
    this.#path = path;
    this.#values = values;
    this.#locate = locate;
    this.#catalog = catalog;
    this.#fileSource = `file:${basename(path)}`;
  }

  joined(): Catalog {
    const sources = {
      ...this.#values.sources,
      [this.#fileSource]: { title: `Stated in ${this.#path}` },
    };
    const entries = [...this.#links(), ...this.#accelerators(), ...this.#racks(), ...this.#models()];
    this.#checkNames(entries);
    const catalog = this.#catalog.with({ entries, sources });
    this.#checkReferences(catalog);
    if (this.#problems.length > 0) throw new ConfigError(this.#problems);
    return catalog;
  }

  #links(): CatalogEntry[] {
    return this.#values.links.map(({ figures, ...entry }, index) => ({
      kind: "link",
      ...entry,
      revision: entry.revision ?? UNDATED,
      figures: this.#figures(figures, ["links", index]),
    }));
  }

  #accelerators(): AcceleratorEntry[] {
    const made: AcceleratorEntry[] = [];
    for (const [index, { figures, basedOn, ...entry }] of this.#values.accelerators.entries()) {
      const base = basedOn === undefined ? null : this.#baseOf(basedOn, index, made);
      made.push({
        kind: "accelerator",
        ...entry,
        revision: entry.revision ?? UNDATED,
        links: { ...base?.links, ...withoutUndefined(entry.links) },
        figures: {
          ...(base === null ? {} : ownFigures(base, entry.links)),
          ...this.#figures(figures, ["accelerators", index]),
        },
      });
    }
    return made;
  }

  #baseOf(name: string, index: number, made: readonly AcceleratorEntry[]): AcceleratorEntry | null {
    const earlier = made.find(({ id }) => id === name);
    if (earlier !== undefined) return earlier;
    return this.#attempt(["accelerators", index, "basedOn"], () => this.#catalog.get("accelerator", name));
  }

  #racks(): CatalogEntry[] {
    return this.#values.racks.map(({ figures, racks, ...entry }, index) => ({
      kind: "rack",
      ...entry,
      numRacks: racks,
      revision: entry.revision ?? UNDATED,
      figures: this.#figures(figures, ["racks", index]),
    }));
  }

  #models(): ModelEntry[] {
    return this.#values.models.flatMap(({ figures, config, gguf, shape, ...entry }, index): ModelEntry[] => {
      const model = this.#attempt(["models", index], (): ImportedModel => {
        if (shape !== undefined) return { shape: { name: entry.name, ...shape }, notes: [] };
        if (gguf !== undefined) return readGgufModel(this.#beside(gguf), entry.name);
        const file = this.#beside(config!);
        return readHfConfig(
          readTextFile(file, MAX_HF_CONFIG_LENGTH, this.#locate(["models", index, "config"])),
          file,
          entry.name,
        );
      });
      if (model === null) return [];
      return [
        {
          kind: "model",
          ...entry,
          notes: [...entry.notes, ...model.notes],
          revision: entry.revision ?? UNDATED,
          figures: this.#figures(figures, ["models", index]),
          shape: model.shape,
          sources: [this.#fileSource],
        },
      ];
    });
  }

  #beside(file: string): string {
    return resolve(dirname(this.#path), file);
  }

  #figures(figures: FileFigures, path: ConfigPath): Record<string, Figure> {
    const made: Record<string, Figure> = {};
    for (const [key, figure] of Object.entries(figures)) {
      if (figure === undefined) continue;
      made[key] = this.#figure(figure, [...path, "figures", key]);
    }
    return made;
  }

  #figure(figure: NonNullable<FileFigure> | null, path: ConfigPath): Figure {
    if (typeof figure !== "object" || figure === null) {
      const confidence = figure === null ? "unknown" : "derived";
      return { value: figure, sources: [this.#fileSource], confidence };
    }
    const { value, source, confidence, low, high, note } = figure;
    const sources = source === undefined ? [this.#fileSource] : [source].flat();
    for (const name of sources) this.#checkSource(name, [...path, "source"]);
    if ((low === undefined) !== (high === undefined)) {
      this.#report([...path], "low and high go together");
    } else if (
      value !== null &&
      low !== undefined &&
      high !== undefined &&
      !(low <= value && value <= high)
    ) {
      this.#report([...path], `${value} is not between low ${low} and high ${high}`);
    }
    return {
      value,
      sources,
      confidence: confidence ?? (value === null ? "unknown" : "derived"),
      ...(low === undefined || high === undefined ? {} : { range: [low, high] as const }),
      ...(note === undefined ? {} : { note }),
    };
  }

  #checkSource(name: string, path: ConfigPath): void {
    if (name === this.#fileSource || Object.hasOwn(this.#values.sources, name)) return;
    if (this.#catalog.sources.has(name)) return;
    this.#report(path, `there is no source ${JSON.stringify(name)}; describe it under sources`);
  }

  /** Ids inside the file are unique, and an alias does not take a name that something else has. */
  #checkNames(entries: readonly CatalogEntry[]): void {
    const owners = new Map<string, string>();
    for (const { kind, id, aliases } of entries) {
      const numTimes = entries.filter((other) => other.id === id).length;
      if (numTimes > 1) this.#report([LISTS[kind]], `${JSON.stringify(id)} is defined more than once`);
      for (const alias of aliases ?? []) {
        const name = alias.toLowerCase();
        const owner = owners.get(name) ?? this.#ownerOf(kind, name, entries);
        if (owner !== null && owner !== id) {
          this.#report([LISTS[kind]], `the alias ${JSON.stringify(alias)} of ${id} is a name of ${owner}`);
        }
        owners.set(name, id);
      }
    }
  }

  #ownerOf(kind: EntryKind, name: string, entries: readonly CatalogEntry[]): string | null {
    const inFile = entries.find((entry) => entry.id === name);
    if (inFile !== undefined) return inFile.id;
    return this.#catalog.has(kind, name) ? this.#catalog.get(kind, name).id : null;
  }

  #checkReferences(catalog: Catalog): void {
    for (const [index, { links }] of this.#values.accelerators.entries()) {
      for (const [role, link] of Object.entries(links)) {
        if (link === undefined) continue;
        this.#attempt(["accelerators", index, "links", role], () => catalog.get("link", link));
      }
    }
    for (const [index, { parts }] of this.#values.racks.entries()) {
      for (const part of Object.keys(parts)) {
        this.#attempt(["racks", index, "parts", part], () => catalog.get("accelerator", part));
      }
    }
  }

  #attempt<Value>(path: ConfigPath, make: () => Value): Value | null {
    try {
      return make();
    } catch (error) {
      if (error instanceof ConfigError) this.#problems.push(...error.problems);
      else if (error instanceof CatalogError || (error instanceof Error && error.name === "GgufError")) {
        this.#report(path, error.message);
      } else throw error;
      return null;
    }
  }

  #report(path: ConfigPath, message: string): void {
    this.#problems.push({ origin: this.#locate(path), message });
  }
}

/** Revision of an entry whose file gives no date. */
const UNDATED = "undated";

const LISTS: Readonly<Record<EntryKind, string>> = {
  accelerator: "accelerators",
  rack: "racks",
  link: "links",
  model: "models",
};

/** What an entry based on another takes over: not the figures of a link that it replaces. */
function ownFigures(base: AcceleratorEntry, links: AcceleratorEntry["links"]): AcceleratorEntry["figures"] {
  const replaced = (["scaleUp", "scaleOut", "host"] as const).filter((role) => links[role] !== undefined);
  const kept = Object.entries(base.figures).filter(
    ([key]) => !replaced.some((role) => key === `${role}.bandwidth` || key === `${role}.latency`),
  );
  return Object.fromEntries(kept);
}

function withoutUndefined<Value extends object>(value: Value): Partial<Value> {
  return Object.fromEntries(
    Object.entries(value).filter(([, entry]) => entry !== undefined),
  ) as Partial<Value>;
}

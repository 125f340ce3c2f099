import { nearMiss } from "../protocol/near-miss.ts";
import { ACCELERATORS, MODELS } from "./data/built-in.ts";
import { LINKS } from "./data/links.ts";
import { RACKS } from "./data/racks.ts";
import { SOURCES, type Source } from "./data/sources.ts";
import {
  type AcceleratorEntry,
  type AcceleratorLinks,
  type CatalogEntry,
  ENTRY_KINDS,
  type EntryKind,
  type LinkEntry,
  type ModelEntry,
  type RackEntry,
} from "./entry.ts";
import type { AcceleratorFigureKey } from "./figure-keys.ts";

/** Something that was asked of the catalogue and cannot be had; the message says what can. */
export class CatalogError extends Error {
  override name = "CatalogError";
}

interface EntryOfKind {
  readonly accelerator: AcceleratorEntry;
  readonly rack: RackEntry;
  readonly link: LinkEntry;
  readonly model: ModelEntry;
}

/** What makes up a catalogue, or is added to one. */
export interface CatalogContent {
  readonly entries: readonly CatalogEntry[];
  readonly sources: Readonly<Record<string, Source>>;
}

/** Names shown when a name is unknown and nothing is close. */
const MAX_NAMES_SHOWN = 60;

/** Parts, systems, links and models by name. Immutable. */
export class Catalog {
  readonly sources: ReadonlyMap<string, Source>;
  readonly #entries: ReadonlyMap<EntryKind, ReadonlyMap<string, CatalogEntry>>;
  readonly #names: ReadonlyMap<EntryKind, ReadonlyMap<string, CatalogEntry>>;

  readonly #raw: readonly CatalogEntry[];

  constructor(content: CatalogContent) {
    this.#raw = content.entries;
    this.sources = new Map(Object.entries(content.sources));
    const links = new Map<string, LinkEntry>();
    for (const entry of content.entries) if (entry.kind === "link") links.set(entry.id, entry);
    const entries = new Map<EntryKind, Map<string, CatalogEntry>>();
    const names = new Map<EntryKind, Map<string, CatalogEntry>>();
    for (const kind of ENTRY_KINDS) {
      entries.set(kind, new Map());
      names.set(kind, new Map());
    }
    for (const raw of content.entries) {
      const entry = raw.kind === "accelerator" ? withLinkFigures(raw, links) : raw;
      entries.get(entry.kind)!.set(entry.id, entry);
      for (const name of [entry.id, ...(entry.aliases ?? [])]) {
        names.get(entry.kind)!.set(name.toLowerCase(), entry);
      }
    }
    this.#entries = entries;
    this.#names = names;
  }

  /** All entries of a kind, in the order of the catalogue. */
  all<Kind extends EntryKind>(kind: Kind): readonly EntryOfKind[Kind][] {
    return [...this.#entries.get(kind)!.values()] as EntryOfKind[Kind][];
  }

  has(kind: EntryKind, name: string): boolean {
    return this.#names.get(kind)!.has(name.toLowerCase());
  }

  /** The entry of that id or alias; case does not count. Throws {@link CatalogError} that names what is close. */
  get<Kind extends EntryKind>(kind: Kind, name: string): EntryOfKind[Kind] {
    const found = this.#names.get(kind)!.get(name.toLowerCase());
    if (found === undefined) throw new CatalogError(this.#describeUnknown(name, [kind]));
    return found as EntryOfKind[Kind];
  }

  /** Like {@link get}, over all kinds, in the order of `ENTRY_KINDS`. */
  find(name: string): CatalogEntry {
    for (const kind of ENTRY_KINDS) {
      const found = this.#names.get(kind)!.get(name.toLowerCase());
      if (found !== undefined) return found;
    }
    throw new CatalogError(this.#describeUnknown(name, ENTRY_KINDS));
  }

  /** This catalogue and more. An added entry replaces one with the same id, a link also for the parts that use it. */
  with(more: CatalogContent): Catalog {
    const added = new Set(more.entries.map(({ kind, id }) => `${kind} ${id}`));
    const kept = this.#raw.filter(({ kind, id }) => !added.has(`${kind} ${id}`));
    return new Catalog({
      entries: [...kept, ...more.entries],
      sources: { ...Object.fromEntries(this.sources), ...more.sources },
    });
  }

  #describeUnknown(name: string, kinds: readonly EntryKind[]): string {
    const what = kinds.length === 1 ? `${kinds[0]}` : "entry";
    const candidates = kinds.flatMap((kind): readonly CatalogEntry[] => this.all(kind));
    const variants = candidates.filter((entry) => entry.family === name.toLowerCase());
    if (variants.length > 0) {
      const list = variants.map((entry) => `${entry.id} (${entry.revision})`).join(", ");
      return `${JSON.stringify(name)} has several variants; choose one: ${list}`;
    }
    const ids = candidates.map((entry) => entry.id);
    const meant =
      nearMiss(
        name,
        kinds.flatMap((kind) => [...this.#names.get(kind)!.keys()]),
      ) ?? startOf(name, ids);
    const hint = meant === null ? "" : ` (did you mean ${meant}?)`;
    const shown = ids.slice(0, MAX_NAMES_SHOWN).join(", ");
    const rest = ids.length > MAX_NAMES_SHOWN ? `, and ${ids.length - MAX_NAMES_SHOWN} more` : "";
    return `the catalogue has no ${what} ${JSON.stringify(name)}${hint}; known: ${shown}${rest}`;
  }
}

/** The only id that begins with `name`, or null: `gb3` means gb300. */
function startOf(name: string, ids: readonly string[]): string | null {
  const found = ids.filter((id) => name !== "" && id.startsWith(name.toLowerCase()));
  return found.length === 1 ? found[0]! : null;
}

/** Fills in bandwidths and latencies from the links that an accelerator names. */
function withLinkFigures(entry: AcceleratorEntry, links: ReadonlyMap<string, LinkEntry>): AcceleratorEntry {
  const figures = { ...entry.figures };
  for (const role of ["scaleUp", "scaleOut", "host"] as const satisfies readonly (keyof AcceleratorLinks)[]) {
    const link = links.get(entry.links[role] ?? "");
    if (link === undefined) continue;
    for (const term of ["bandwidth", "latency"] as const) {
      const key: AcceleratorFigureKey = `${role}.${term}`;
      const figure = link.figures[term];
      if (figures[key] === undefined && figure !== undefined) figures[key] = figure;
    }
  }
  return { ...entry, figures };
}

/** The catalogue that comes with the program. */
export const BUILT_IN_CATALOG = new Catalog({
  entries: [...ACCELERATORS, ...RACKS, ...LINKS, ...MODELS],
  sources: SOURCES,
});

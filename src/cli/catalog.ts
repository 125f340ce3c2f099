import { resolve } from "node:path";
import type { Command } from "commander";
import { z } from "zod";
import { BUILT_IN_CATALOG, type Catalog, CatalogError } from "../catalog/catalog.ts";
import { loadCatalogFile } from "../catalog/catalog-file.ts";
import { makeCatalogReport } from "../catalog/catalog-report.ts";
import { type CatalogEntry, ENTRY_KINDS, type EntryKind } from "../catalog/entry.ts";
import { renderEntry, renderOverview } from "./catalog-table.ts";
import { CliError, type CliIo, EXIT, type ExitCode } from "./io.ts";
import { addSettings, readSettings, type Setting } from "./settings.ts";

const EXAMPLES = `
Examples:
  twofold catalog                              everything, one table per kind
  twofold catalog --kind model
  twofold catalog rubin-cpx-2025               every figure of one entry, with its source
  twofold catalog --file lab.yaml lab-chip     with parts and models of a file of your own
  twofold catalog gb300-nvl72 --json           the same for a script

A file is described in docs/reference/catalog.md. Exit code 2: no such entry, or a bad file.`;

const SETTINGS: readonly Setting[] = [
  {
    key: "kind",
    flag: "--kind <kind>",
    schema: z.enum(ENTRY_KINDS),
    help: "only entries of one kind: accelerator, rack, link or model",
  },
  {
    key: "file",
    flag: "--file <catalog.yaml>",
    schema: z.string().min(1, "needs the name of a file"),
    help: "adds the entries of a catalogue file",
  },
];

const DEFAULT_COLUMNS = 100;

/** Adds `twofold catalog`. */
export function addCatalog(program: Command, io: CliIo, exit: (code: ExitCode) => void): void {
  const command = program
    .command("catalog")
    .summary("accelerators, racks, links and models, with sources")
    .description("Shows what is known of accelerators, racks, links and models, and where it comes from.")
    .argument("[name]", "id or alias of one entry");
  addSettings(command, SETTINGS);
  command.option("--json", "print one JSON object instead of tables");
  command.addHelpText("after", EXAMPLES);
  command.action((name: string | undefined, flags: Record<string, unknown>) => {
    const { json, ...settings } = flags;
    const given = readSettings(SETTINGS, settings, io.env);
    const kind = given.get("kind")?.value as EntryKind | undefined;
    const file = given.get("file")?.value as string | undefined;
    const catalog =
      file === undefined ? BUILT_IN_CATALOG : loadCatalogFile(resolve(io.cwd, file), BUILT_IN_CATALOG);
    const entries = chosen(catalog, name, kind);
    const report = makeCatalogReport(catalog, entries);
    if (json === true) io.stdout.write(`${JSON.stringify(report)}\n`);
    else if (name === undefined) io.stdout.write(renderOverview(report));
    else io.stdout.write(renderEntry(report, report.entries[0]!, io.stdout.columns ?? DEFAULT_COLUMNS));
    exit(EXIT.ok);
  });
}

function chosen(
  catalog: Catalog,
  name: string | undefined,
  kind: EntryKind | undefined,
): readonly CatalogEntry[] {
  if (name === undefined) {
    const kinds = kind === undefined ? ENTRY_KINDS : [kind];
    return kinds.flatMap((one): readonly CatalogEntry[] => catalog.all(one));
  }
  try {
    return [kind === undefined ? catalog.find(name) : catalog.get(kind, name)];
  } catch (error) {
    if (error instanceof CatalogError) throw new CliError(EXIT.usage, error.message, { cause: error });
    throw error;
  }
}

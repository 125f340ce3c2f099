import type { CatalogReport, ReportedEntry, ReportedFigure } from "../catalog/catalog-report.ts";
import { sourcesOf } from "../catalog/catalog-report.ts";
import { ENTRY_KINDS, type EntryKind } from "../catalog/entry.ts";

const HEADINGS: Readonly<Record<EntryKind, string>> = {
  accelerator: "Accelerators and CPUs: dense TFLOPS; memory in GB and GB/s; scale-up in GB/s per direction",
  rack: "Racks and servers",
  link: "Links, per direction",
  model: "Models: parameters in billions; KV in bytes per token, BF16",
};

const LEGEND = `* third party   ~ derived, recalled or of unknown origin   ? unknown   - does not have it
twofold catalog NAME shows every figure with its source.`;

/** All entries as one table per kind. */
export function renderOverview(report: CatalogReport): string {
  const tables = ENTRY_KINDS.flatMap((kind) => {
    const entries = report.entries.filter((entry) => entry.kind === kind);
    if (entries.length === 0) return [];
    return [`${HEADINGS[kind]}\n\n${table([HEADERS[kind], ...entries.map(rowOf)])}`];
  });
  return `${[...tables, LEGEND].join("\n\n")}\n`;
}

const HEADERS: Readonly<Record<EntryKind, readonly string[]>> = {
  accelerator: ["id", "as of", "BF16", "FP8", "FP4", "GB", "GB/s", "up", "devices", "W", "simulates"],
  rack: ["id", "as of", "kW", "USD", "parts"],
  link: ["id", "GB/s", "µs", "name"],
  model: ["id", "as of", "params", "active", "layers", "KV", "context", "name"],
};

function rowOf(entry: ReportedEntry): readonly string[] {
  const cell = (key: string) => shortValue(entry.figures.find((figure) => figure.key === key));
  switch (entry.kind) {
    case "accelerator":
      return [
        entry.id,
        entry.revision,
        ...["dense.bf16", "dense.fp8", "dense.fp4", "memory.capacity", "memory.bandwidth"].map(cell),
        ...["scaleUp.bandwidth", "scaleUp.devices", "power.tdp"].map(cell),
        entry.blockedBy.length === 0 ? "yes" : `with ${entry.blockedBy.length} assumptions`,
      ];
    case "rack": {
      const parts = Object.entries(entry.parts).map(([id, count]) => `${count} ${id}`);
      return [entry.id, entry.revision, cell("power.rack"), cell("price.purchase"), parts.join(", ")];
    }
    case "link":
      return [entry.id, cell("bandwidth"), cell("latency"), entry.name];
    case "model": {
      const { shape, kvBytesPerToken } = entry;
      const active = entry.figures.some(({ key }) => key === "params.active") ? cell("params.active") : "all";
      return [
        entry.id,
        entry.revision,
        cell("params.total"),
        active,
        String(shape.numLayers),
        format(kvBytesPerToken.all),
        format(Number(shape.maxContextTokens)),
        entry.name,
      ];
    }
  }
}

/** A value with a mark for its confidence. */
function shortValue(figure: ReportedFigure | undefined): string {
  if (figure === undefined || figure.value === null) return "?";
  if (figure.value === 0) return "-";
  if (figure.confidence === "third-party") return `${format(figure.value)}*`;
  const isSure = figure.confidence === "vendor" && !figure.isRecalled;
  return `${format(figure.value)}${isSure ? "" : "~"}`;
}

/** Everything that is known of one entry. */
export function renderEntry(report: CatalogReport, entry: ReportedEntry, columns: number): string {
  const width = Math.max(columns, MIN_COLUMNS);
  const sections = [
    [`${entry.id}  ${entry.name}`, ...describe(entry)].join("\n"),
    `Figures\n${table(entry.figures.map(figureRow), "  ")}`,
    section("Computed from the shape", computed(entry)),
    section("Sum of the parts", sums(entry)),
    section("Missing", entry.missing.length === 0 ? [] : [entry.missing.join(", ")], width),
    section("Has to be assumed before it can be simulated", blocked(entry), width),
    section("Contradictions", entry.contradictions.map(contradiction), width),
    section("History", history(entry), width),
    section("Notes", notes(entry), width),
    section(
      "Sources",
      sourcesOf(entry).map((id) => describeSource(report, id)),
      width,
    ),
  ];
  return `${sections.filter((text) => text !== "").join("\n\n")}\n`;
}

const MIN_COLUMNS = 60;

function describe(entry: ReportedEntry): string[] {
  const lines = [`${entry.kind}, facts of ${entry.revision}`];
  if (entry.aliases.length > 0) lines.push(`also called ${entry.aliases.join(", ")}`);
  if (entry.kind === "accelerator") {
    const form = entry.formFactor === null ? "" : `; ${entry.formFactor}`;
    lines.push(`${entry.vendor} ${entry.processor}, ${entry.memoryKind}${form}`, `status: ${entry.status}`);
    const links = Object.entries(entry.links).filter(([, link]) => link !== null);
    if (links.length > 0) lines.push(`links: ${links.map(([role, link]) => `${role} ${link}`).join(", ")}`);
  }
  if (entry.kind === "rack") {
    const parts = Object.entries(entry.parts).map(([id, count]) => `${count} x ${id}`);
    lines.push(
      `${entry.vendor}; status: ${entry.status}`,
      `parts: ${parts.join(", ")} in ${entry.numRacks} cabinet(s)`,
    );
  }
  return lines;
}

function figureRow({
  key,
  value,
  unit,
  low,
  high,
  confidence,
  isRecalled,
  sources,
}: ReportedFigure): string[] {
  const shown = value === null ? "unknown" : `${format(value)} ${unit}`;
  const range = low === null || high === null ? "" : ` (${format(low)} to ${format(high)})`;
  const origin = `${confidence}${isRecalled ? ", recalled" : ""}`;
  return [key, `${shown}${range}`, origin, sources.join(", ")];
}

function notes(entry: ReportedEntry): string[] {
  const ofFigures = entry.figures.flatMap(({ key, note }) => (note === "" ? [] : [`${key}: ${note}`]));
  return [...entry.notes, ...ofFigures];
}

function computed(entry: ReportedEntry): string[] {
  if (entry.kind !== "model") return [];
  const { parameters, kvBytesPerToken, shape } = entry;
  const growing =
    kvBytesPerToken.growing === kvBytesPerToken.all
      ? ""
      : `; ${format(kvBytesPerToken.growing)} once the windows are full`;
  return [
    `parameters: ${format(parameters.total / 1e9)} billion, ${format(parameters.active / 1e9)} per token`,
    `KV: ${format(kvBytesPerToken.all)} bytes per token in BF16${growing}`,
    `shape: ${JSON.stringify(shape)}`,
  ];
}

function sums(entry: ReportedEntry): string[] {
  if (entry.kind !== "rack") return [];
  return Object.entries(entry.sumOfParts).map(([key, sum]) => {
    const figure = entry.figures.find((candidate) => candidate.key === key);
    const stated = figure === undefined || figure.value === null ? "" : `, stated ${format(figure.value)}`;
    return `${key}: ${format(sum)}${stated}`;
  });
}

function blocked(entry: ReportedEntry): string[] {
  return entry.kind === "accelerator" && entry.blockedBy.length > 0 ? [entry.blockedBy.join(", ")] : [];
}

function history(entry: ReportedEntry): string[] {
  if (entry.kind !== "accelerator") return [];
  return entry.history.map(({ date, event, source }) => `${date}: ${event} [${source}]`);
}

function contradiction({ topic, finding, sources }: ReportedEntry["contradictions"][number]): string {
  return `${topic}: ${finding} [${sources.join(", ")}]`;
}

function describeSource(report: CatalogReport, id: string): string {
  const source = report.sources[id];
  if (source === undefined) return id;
  const { title, date, url, note } = source;
  return [`${id}: ${title}`, date, url, note].filter((part) => part !== null).join("; ");
}

function section(title: string, lines: readonly string[], width = Number.POSITIVE_INFINITY): string {
  if (lines.length === 0) return "";
  return [title, ...lines.map((line) => wrap(line, width))].join("\n");
}

/** Breaks a line at spaces; what follows is indented. A word that is too long stands alone. */
function wrap(text: string, width: number): string {
  const lines: string[] = [];
  let line = " ";
  for (const word of text.split(" ")) {
    if (line.trim() !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = "   ";
    }
    line += ` ${word}`;
  }
  return [...lines, line].join("\n");
}

/** Columns padded to their widest cell, without blanks at the ends of lines. */
function table(rows: ReadonlyArray<readonly string[]>, indent = ""): string {
  const numColumns = Math.max(0, ...rows.map((row) => row.length));
  const widths = Array.from({ length: numColumns }, (_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? "").length)),
  );
  return rows
    .map(
      (row) =>
        indent +
        row
          .map((cell, column) => cell.padEnd(widths[column]!))
          .join("  ")
          .trimEnd(),
    )
    .join("\n");
}

/** At most six digits, thousands separated. */
function format(value: number): string {
  return value.toLocaleString("en-US", { maximumSignificantDigits: value >= 1e6 ? 9 : 6 });
}

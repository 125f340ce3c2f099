import type { Summary } from "../core/util/quantiles.ts";
import type { LoadReport } from "./report.ts";

/** A p99 send delay above this means that the load generator was too slow for its own schedule. */
const SEND_DELAY_WARNING_MS = 20;

const COLUMNS = ["mean", "p50", "p90", "p95", "p99", "p999", "max"] as const;

/** The report as text for a terminal, without colours. */
export function renderReport(report: LoadReport): string {
  const { requests, tokens, throughput, target, prompts, latency } = report;
  const lines = [
    `${target.url}  ${target.endpoint}  model ${target.model}${report.isInterrupted ? "  (interrupted)" : ""}`,
    `load        ${describeLoad(report)}`,
    `prompts     ${prompts.isExact ? "exact lengths by /tokenize" : `approximate lengths (${prompts.method})`}`,
    `requests    ${requests.completed} completed of ${requests.scheduled}; ${requests.failed} failed, ${requests.dropped} dropped, ${requests.aborted} aborted`,
    `duration    ${(report.durationMs / 1000).toFixed(2)} s`,
    `throughput  ${format(throughput.requestsPerSecond)} requests/s, ${format(throughput.outputTokensPerSecond)} output tokens/s, ${format(throughput.inputTokensPerSecond)} input tokens/s`,
    `tokens      ${tokens.output} output of ${tokens.requestedOutput} requested (by ${tokens.countedBy}) in ${tokens.contentChunks} chunks; ${tokens.input} input, ${tokens.cachedInput} of them cached`,
    "",
    ["ms".padEnd(16), ...COLUMNS.map((name) => (name === "p999" ? "p99.9" : name).padStart(9))].join(" "),
    row("TTFT", latency.ttftMs),
    row("TTFT from sent", latency.ttftFromSentMs),
    row("ITL", latency.itlMs),
    row("TPOT", latency.tpotMs),
    row("E2E", latency.e2eMs),
    row("send delay", latency.sendDelayMs),
  ];
  const notes = [...describeGoodput(report), ...describeFailures(report), ...describeDoubts(report)];
  if (notes.length > 0) lines.push("", ...notes);
  return `${lines.join("\n")}\n`;
}

function describeLoad({ load }: LoadReport): string {
  if (load.workload !== null) return `workload ${load.workload}, seed ${load.seed}`;
  const rate = load.requestsPerSecond;
  const arrivals =
    rate === null ? `${load.concurrency} at once` : `${load.arrivals} ${format(rate)} requests/s`;
  return `${arrivals}, ISL ${describeLengths(load.inputLengths)}, OSL ${describeLengths(load.outputLengths)}, seed ${load.seed}`;
}

function describeLengths({ kind, ...parameters }: Record<string, unknown>): string {
  const values = Object.values(parameters).join(":");
  return kind === "fixed" ? values : `${String(kind)}:${values}`;
}

function describeGoodput({ goodput, slo }: LoadReport): string[] {
  if (goodput === null) return [];
  const names = { ttftMs: "TTFT", itlMs: "mean ITL", e2eMs: "E2E" } as const;
  const bounds = [slo.ttftMs, slo.itlMs, slo.e2eMs];
  const shown = Object.values(names).flatMap((name, index) => {
    const bound = bounds[index] ?? null;
    return bound === null ? [] : [`${name} ≤ ${bound} ms`];
  });
  const share = (goodput.share * 100).toFixed(1);
  return [
    `goodput     ${format(goodput.requestsPerSecond)} requests/s, ${share} % of requests (${shown.join(", ")})`,
  ];
}

function describeFailures({ failures }: LoadReport): string[] {
  return failures.map(({ kind, count, example }) => `failed      ${count} × ${kind}: ${example}`);
}

function describeDoubts({ latency, itlGaps, tokens }: LoadReport): string[] {
  const notes: string[] = [];
  const delayMs = latency.sendDelayMs?.p99 ?? 0;
  if (delayMs > SEND_DELAY_WARNING_MS) {
    notes.push(
      `note        the load generator was late itself (p99 ${format(delayMs)} ms): use a lower rate or an idle machine`,
    );
  }
  if (itlGaps.recorded < itlGaps.seen) {
    notes.push(
      `note        ITL quantiles are of a uniform sample of ${itlGaps.recorded} of ${itlGaps.seen} gaps`,
    );
  }
  if (tokens.contentChunks > 0 && tokens.output > tokens.contentChunks * 1.1) {
    const perChunk = (tokens.output / tokens.contentChunks).toFixed(2);
    notes.push(`note        ${perChunk} tokens per chunk: ITL is between chunks, TPOT between tokens`);
  }
  return notes;
}

function row(name: string, summary: Summary | null): string {
  const cells = COLUMNS.map((column) => (summary === null ? "-" : format(summary[column])).padStart(9));
  return [name.padEnd(16), ...cells].join(" ");
}

/** Three significant digits, never fewer than the whole part has. */
function format(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

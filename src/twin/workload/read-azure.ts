import { show } from "../../protocol/config-error.ts";
import { CsvTable } from "./csv.ts";
import { nonZero } from "./fields.ts";
import { plainRequest, timed } from "./plain-request.ts";
import { openRows, type TraceOptions } from "./trace-source.ts";
import type { WorkloadSource } from "./workload.ts";

/** `2023-11-16 18:17:03.9799600`, in 2024 with microseconds and `+00:00` behind it. */
const TIMESTAMP = /^(\d{4}-\d\d-\d\d)[ T]([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(\.\d{1,9})?(Z|[+-]\d\d:?\d\d)?$/;

/** Columns that tell the format. */
export const AZURE_COLUMNS: readonly string[] = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"];

/**
 * A trace of Azure's LLM inference service, 2023 or 2024: columns `TIMESTAMP` (wall clock), `ContextTokens` and `GeneratedTokens`.
 * Times count from the first row. Prompts share nothing: the trace says nothing about it. Throws `WorkloadError`.
 */
export function openAzure(path: string, { zeroLengths = "error" }: TraceOptions = {}): WorkloadSource {
  return openRows(path, (lines) => {
    const table = new CsvTable(lines, AZURE_COLUMNS);
    const clock = new WallClock();
    let firstMs: number | null = null;
    return () => {
      table.read();
      const timestamp = table.text("TIMESTAMP");
      const timeMs = clock.read(timestamp);
      if (timeMs === null)
        throw lines.error(
          `TIMESTAMP: ${show(timestamp)} is not usable; allowed: YYYY-MM-DD HH:MM:SS[.fraction]`,
        );
      firstMs ??= timeMs;
      const inputTokens = nonZero(lines, "ContextTokens", table.length("ContextTokens"), zeroLengths);
      const outputTokens = nonZero(lines, "GeneratedTokens", table.length("GeneratedTokens"), zeroLengths);
      if (inputTokens === null || outputTokens === null) return null;
      // Doubles hold microseconds of today's dates; what is below is noise of the subtraction.
      const arrivalMs = Math.round((timeMs - firstMs) * 1000) / 1000;
      return timed(plainRequest(String(lines.line), inputTokens, outputTokens), arrivalMs);
    };
  });
}

/** Reads wall clock times. Rows come sorted, so that the date is mostly that of the row before and need not be computed again. */
class WallClock {
  #date = "";
  #dateMs = 0;

  /** Milliseconds since 1970, with what there is of a fraction; null when the text is no time. */
  read(text: string): number | null {
    const match = TIMESTAMP.exec(text);
    if (match === null) return null;
    const [, date, hour, minute, second, fraction, zone] = match;
    if (date !== this.#date) {
      const dateMs = Date.parse(`${date}T00:00:00Z`);
      // The 31st of February is none, or runs over into March.
      if (Number.isNaN(dateMs) || new Date(dateMs).toISOString().slice(0, 10) !== date) return null;
      this.#date = date!;
      this.#dateMs = dateMs;
    }
    const seconds = +hour! * 3600 + +minute! * 60 + +second!;
    const timeMs = this.#dateMs + seconds * 1000 + (fraction === undefined ? 0 : +fraction * 1000);
    return zone === undefined || zone === "Z" ? timeMs : timeMs - offsetMs(zone);
  }
}

function offsetMs(zone: string): number {
  const minutes = +zone.slice(1, 3) * 60 + +zone.slice(-2);
  return (zone.startsWith("-") ? -1 : 1) * minutes * 60_000;
}

import { CsvTable } from "./csv.ts";
import { nonZero } from "./fields.ts";
import { plainRequest, timed } from "./plain-request.ts";
import { openRows, type TraceOptions } from "./trace-source.ts";
import type { WorkloadSource } from "./workload.ts";

/** Columns that tell the format. Later releases add `Session ID` and `Elapsed time`. */
export const BURSTGPT_COLUMNS: readonly string[] = [
  "Timestamp",
  "Model",
  "Request tokens",
  "Response tokens",
];

/**
 * A BurstGPT trace: `Timestamp` (seconds), `Model`, `Request tokens`, `Response tokens`, `Log Type`, and since its third part
 * `Session ID`. Times count from the first row; the model becomes the class. Failed requests have no response tokens and are left
 * out unless told otherwise. Throws `WorkloadError`.
 */
export function openBurstGpt(path: string, { zeroLengths = "skip" }: TraceOptions = {}): WorkloadSource {
  return openRows(path, (lines) => {
    const table = new CsvTable(lines, BURSTGPT_COLUMNS);
    let firstMs: number | null = null;
    return () => {
      table.read();
      const timeMs = table.number("Timestamp") * 1000;
      firstMs ??= timeMs;
      const inputTokens = nonZero(lines, "Request tokens", table.length("Request tokens"), zeroLengths);
      const outputTokens = nonZero(lines, "Response tokens", table.length("Response tokens"), zeroLengths);
      if (inputTokens === null || outputTokens === null) return null;
      const session = table.text("Session ID");
      const request = {
        ...plainRequest(String(lines.line), inputTokens, outputTokens),
        sessionId: session === "" ? null : session,
        kind: table.text("Model"),
      };
      return timed(request, timeMs - firstMs);
    };
  });
}

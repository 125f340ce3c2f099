import { closeSync, openSync, writeFileSync, writeSync } from "node:fs";
import { resolve } from "node:path";
import type { SimulationResult } from "../protocol/simulation-schema.ts";
import { chromeTrace } from "../twin/report/chrome-trace.ts";
import { type DetailedRun, renderPage } from "../twin/report/html/page.ts";
import type { CliIo } from "./io.ts";
import { checkOutputFile } from "./output-file.ts";

/** Files to write; null: none. */
export interface SimulateOutputs {
  readonly html: string | null;
  readonly chromeTrace: string | null;
  /** Written while the run goes on. */
  readonly record: string | null;
}

/** Finds out before a long run whether its results can be written. Throws `ConfigError`. */
export function checkOutputs(outputs: SimulateOutputs, cwd: string): void {
  const files = [
    ["--html", outputs.html],
    ["--chrome-trace", outputs.chromeTrace],
    ["--record", outputs.record],
  ] as const;
  for (const [origin, file] of files) {
    if (file !== null) checkOutputFile(origin, file, cwd);
  }
}

/** Writes the files and says so on stderr. */
export function writeOutputs(
  outputs: SimulateOutputs,
  io: CliIo,
  result: SimulationResult,
  runs: readonly DetailedRun[],
): void {
  if (outputs.html !== null) {
    writeFileSync(resolve(io.cwd, outputs.html), renderPage(result, runs));
    io.stderr.write(`Wrote ${outputs.html}\n`);
  }
  if (outputs.chromeTrace !== null) {
    const traced = runs.map(({ fleet, seed, detail }) => ({ name: `${fleet}, seed ${seed}`, detail }));
    const file = openSync(resolve(io.cwd, outputs.chromeTrace), "w");
    try {
      for (const piece of chromeTrace(traced)) writeSync(file, piece);
    } finally {
      closeSync(file);
    }
    io.stderr.write(`Wrote ${outputs.chromeTrace}\n`);
  }
  if (outputs.record !== null) io.stderr.write(`Wrote ${outputs.record}\n`);
}

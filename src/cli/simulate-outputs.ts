import { closeSync, openSync, statSync, writeFileSync, writeSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { ConfigError } from "../protocol/config-error.ts";
import type { SimulationResult } from "../protocol/simulation-schema.ts";
import { chromeTrace } from "../twin/report/chrome-trace.ts";
import { type DetailedRun, renderPage } from "../twin/report/html/page.ts";
import type { CliIo } from "./io.ts";

/** Files to write; null: none. */
export interface SimulateOutputs {
  readonly html: string | null;
  readonly chromeTrace: string | null;
  /** Written while the run goes on. */
  readonly record: string | null;
}

/** Finds out before a long run whether its results can be written. Throws {@link ConfigError}. */
export function checkOutputs(outputs: SimulateOutputs, cwd: string): void {
  const files = [
    ["--html", outputs.html],
    ["--chrome-trace", outputs.chromeTrace],
    ["--record", outputs.record],
  ] as const;
  for (const [origin, file] of files) {
    if (file === null) continue;
    const folder = dirname(resolve(cwd, file));
    if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() === true) continue;
    throw new ConfigError([
      { origin, message: `there is no folder ${folder}; make it, or name another file` },
    ]);
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

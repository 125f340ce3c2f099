import { readFileSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import type { Arrivals } from "../bench/arrivals.ts";
import { ConfigError, type Origin } from "../protocol/config-error.ts";
import { parseWorkloadFile } from "../protocol/workload-file.ts";
import { type WorkloadSection, workloadSchema } from "../protocol/workload-schema.ts";
import { detectFormat, type WorkloadFormat } from "../twin/workload/detect-format.ts";
import { isEndless, openWorkload } from "../twin/workload/open-workload.ts";

/** Sessions of a folder that run at the same time unless a YAML section says otherwise. */
const DEFAULT_LANES = 4;

/** What flags say about a workload. */
export interface BenchWorkloadFlags {
  readonly format: WorkloadFormat | null;
  readonly timeScale: number;
  /** Whether the run has an end of its own. */
  readonly isEnded: boolean;
}

/**
 * The arrivals of a workload: a YAML file with a workload section, or a trace in any format that is known. `origin` names the flag
 * in messages. Throws `ConfigError` and `WorkloadError`.
 */
export function readBenchWorkload(path: string, origin: Origin, flags: BenchWorkloadFlags): Arrivals {
  const section = /\.ya?ml$/i.test(path) ? readSection(path, origin) : sectionOf(path, origin, flags.format);
  const timeScale = section.timeScale * flags.timeScale;
  if (!flags.isEnded && isEndless(section)) {
    const message = `${path} describes requests without end; give --requests or --duration`;
    throw new ConfigError([{ origin, message }]);
  }
  const baseDir = dirname(resolve(path));
  return {
    kind: "workload",
    name: basename(path),
    open: (rng) => openWorkload({ ...section, timeScale }, { baseDir, rng }),
  };
}

function readSection(path: string, origin: Origin): WorkloadSection {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ConfigError([{ origin, message: `cannot be read: ${reason}` }], { cause: error });
  }
  return parseWorkloadFile(text, path);
}

function sectionOf(path: string, origin: Origin, named: WorkloadFormat | null): WorkloadSection {
  const format = named ?? detectFormat(path);
  const file = resolve(path);
  switch (format) {
    case "weka":
      return workloadSchema.parse({ kind: "sessions", path: file, lanes: DEFAULT_LANES });
    case "servegen":
      return workloadSchema.parse({ kind: "servegen", path: file });
    case "lengths": {
      const message = `${path} has no times; name it in a YAML section with kind: lengths and arrivals`;
      throw new ConfigError([{ origin, message }]);
    }
    default:
      return workloadSchema.parse({ kind: "trace", path: file, format });
  }
}

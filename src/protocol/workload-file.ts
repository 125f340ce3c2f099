import { ConfigError, valueAt } from "./config-error.ts";
import { type WorkloadSection, workloadSchema } from "./workload-schema.ts";
import { readYaml, toProblems } from "./yaml-document.ts";

/** Longest file with a workload section, in UTF-16 units. */
const MAX_WORKLOAD_FILE_LENGTH = 4 * 1024 * 1024;

/**
 * Reads the workload section of a YAML file: that of a scenario under `workload:`, or a file that is nothing but the section.
 * `fileName` is for messages. Throws {@link ConfigError} with line and column.
 */
export function parseWorkloadFile(text: string, fileName: string): WorkloadSection {
  const { data, locate } = readYaml(text, fileName, {
    what: "a workload section",
    maxLength: MAX_WORKLOAD_FILE_LENGTH,
  });
  const nested = valueAt(data, ["workload"]);
  const prefix = nested === undefined ? [] : ["workload"];
  const section = nested ?? data;
  const result = workloadSchema.safeParse(section);
  if (result.success) return result.data;
  throw new ConfigError(
    toProblems(result.error, workloadSchema, section, (path) => locate([...prefix, ...path])),
  );
}

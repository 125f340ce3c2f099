import { resolve } from "node:path";
import type { Command } from "commander";
import { findPlacementPolicy, PLACEMENT_POLICY_NAMES } from "../core/router/policies/registry.ts";
import { ConfigError, show } from "../protocol/config-error.ts";
import { comparableDecision } from "../protocol/dispatch-log.ts";
import { nearMiss } from "../protocol/near-miss.ts";
import { DispatchLogReader } from "../twin/replay/dispatch-log-reader.ts";
import {
  type DecisionDifference,
  type Repetition,
  repeatDecisions,
} from "../twin/replay/repeat-decisions.ts";
import { WorkloadError } from "../twin/workload/workload.ts";
import { CliError, type CliIo, EXIT, type ExitCode } from "./io.ts";
import { packageVersion } from "./package-root.ts";

const EXAMPLES = `
Examples:
  twofold replay log.jsonl                        every decision once more, compared bit for bit

Exit code 1: a decision came out otherwise. Exit code 2: the file is no record, or a broken one.`;

/** Raised with every change to the output of `--json` that a reader of the older form would misread. */
const REPLAY_SCHEMA_VERSION = 1;

/** Adds `twofold replay`. */
export function addReplay(program: Command, io: CliIo, exit: (code: ExitCode) => void): void {
  program
    .command("replay")
    .summary("the recorded decisions of a server once more")
    .description(
      "Feeds what --record has written to the same decision code, and compares every decision with the recorded one.",
    )
    .argument("<log>", "file that twofold serve or simulate has written with --record")
    .option("--json", "print one JSON object instead of text")
    .addHelpText("after", EXAMPLES)
    .action((fileName: string, flags: Record<string, unknown>) => {
      const repetition = repeat(resolve(io.cwd, fileName), fileName);
      io.stdout.write(flags.json === true ? `${toJson(repetition)}\n` : render(repetition));
      exit(repetition.firstDifference === null ? EXIT.ok : EXIT.failure);
    });
}

/** A repetition and what it was of. */
interface Repeated extends Repetition {
  readonly policy: string;
  readonly recordedBy: string;
  readonly end: DispatchLogReader["end"];
}

function repeat(path: string, fileName: string): Repeated {
  let log: DispatchLogReader | null = null;
  try {
    log = new DispatchLogReader(path, fileName);
    const { policy, twofoldVersion } = log.header;
    const placement = findPlacementPolicy(policy.name, policy.options);
    if (placement === null) throw unknownPolicy(policy.name, `${fileName}:1`);
    const repetition = repeatDecisions(log, placement);
    return { ...repetition, policy: policy.name, recordedBy: twofoldVersion, end: log.end };
  } catch (error) {
    if (error instanceof WorkloadError) throw new CliError(EXIT.usage, error.message, { cause: error });
    throw error;
  } finally {
    log?.close();
  }
}

function unknownPolicy(name: string, origin: string): ConfigError {
  const meant = nearMiss(name, PLACEMENT_POLICY_NAMES);
  const hint = meant === null ? "" : ` (did you mean ${meant}?)`;
  const message = `there is no placement policy ${show(name)}${hint}; there are ${PLACEMENT_POLICY_NAMES.join(", ")}`;
  return new ConfigError([{ origin, message }]);
}

function render(repeated: Repeated): string {
  const { policy, numInputs, numDecisions, numEqual, firstDifference, end, recordedBy } = repeated;
  const lines = [
    `policy     ${policy}, recorded by version ${recordedBy}`,
    `inputs     ${numInputs}`,
    `decisions  ${numEqual} of ${numDecisions} the same`,
    ...endNote(end),
    ...(firstDifference === null ? [] : describeDifference(firstDifference)),
  ];
  return `${lines.join("\n")}\n`;
}

function endNote(end: Repeated["end"]): string[] {
  if (end === "full") return ["note       the record ends early: its file had reached its bound"];
  if (end === null) return ["note       the record has no end: what wrote it was killed, or goes on writing"];
  return [];
}

function describeDifference({ line, requestId, recorded, repeated }: DecisionDifference): string[] {
  const shown = (decision: typeof recorded) =>
    decision === null ? "none" : JSON.stringify(comparableDecision(decision));
  return [
    `first difference: request ${requestId}, line ${line}`,
    `  recorded  ${shown(recorded)}`,
    `  repeated  ${shown(repeated)}`,
  ];
}

function toJson({ firstDifference, ...counts }: Repeated): string {
  const shown = (decision: DecisionDifference["recorded"]) =>
    decision === null ? null : comparableDecision(decision);
  const difference =
    firstDifference === null
      ? null
      : {
          line: firstDifference.line,
          requestId: firstDifference.requestId,
          recorded: shown(firstDifference.recorded),
          repeated: shown(firstDifference.repeated),
        };
  return JSON.stringify({
    schemaVersion: REPLAY_SCHEMA_VERSION,
    twofoldVersion: packageVersion(),
    ...counts,
    firstDifference: difference,
  });
}

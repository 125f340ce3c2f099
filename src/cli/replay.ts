import { resolve } from "node:path";
import type { Command } from "commander";
import { ConfigError } from "../protocol/config-error.ts";
import { comparableDecision } from "../protocol/dispatch-log.ts";
import { DispatchLogReader } from "../twin/replay/dispatch-log-reader.ts";
import {
  type DecisionDifference,
  type Repetition,
  repeatDecisions,
} from "../twin/replay/repeat-decisions.ts";
import { WorkloadError } from "../twin/workload/workload.ts";
import { CliError, type CliIo, EXIT, type ExitCode } from "./io.ts";
import { packageVersion } from "./package-root.ts";
import { askWhatIf, placementOf, renderWhatIf, type WhatIfOptions, whatIfJson } from "./what-if.ts";

const EXAMPLES = `
Examples:
  twofold replay log.jsonl                        every decision once more, compared bit for bit
  twofold replay log.jsonl --policy cache-aware   what if: the same arrivals in the twin with another policy
  twofold replay log.jsonl --policy priced --device h100-sxm --model llama-3.1-8b

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
    .option(
      "--policy <name>",
      "instead run the arrivals again in the twin, with this policy and with the recorded one",
    )
    .option(
      "--device <id>",
      "with --policy: price steps as this device does (default: as the recorded steps)",
    )
    .option("--model <id>", "with --device: the model that it runs")
    .option("--json", "print one JSON object instead of text")
    .addHelpText("after", EXAMPLES)
    .action((fileName: string, flags: Record<string, unknown>) => {
      const whatIf = whatIfOptions(flags);
      if (whatIf !== null) {
        const answer = located(() =>
          askWhatIf(resolve(io.cwd, fileName), fileName, { ...whatIf, folder: io.cwd }),
        );
        io.stdout.write(flags.json === true ? `${whatIfJson(answer)}\n` : renderWhatIf(answer));
        exit(EXIT.ok);
        return;
      }
      const repetition = located(() => repeat(resolve(io.cwd, fileName), fileName));
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

/** What is wrong with a record is wrong usage: nothing was compared. */
function located<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof WorkloadError) throw new CliError(EXIT.usage, error.message, { cause: error });
    throw error;
  }
}

function whatIfOptions(flags: Record<string, unknown>): Omit<WhatIfOptions, "folder"> | null {
  const text = (value: unknown) => (typeof value === "string" ? value : null);
  const policy = text(flags.policy);
  const device = text(flags.device);
  const model = text(flags.model);
  const needed = (origin: string, message: string) => new ConfigError([{ origin, message }]);
  if (policy === null && device !== null) throw needed("--device", "goes with --policy NAME");
  if (device === null && model !== null) throw needed("--model", "goes with --device ID");
  return policy === null ? null : { policy, device, model };
}

function repeat(path: string, fileName: string): Repeated {
  const log = new DispatchLogReader(path, fileName);
  try {
    const { policy, twofoldVersion } = log.header;
    const repetition = repeatDecisions(log, placementOf(policy.name, policy.options, `${fileName}:1`));
    return { ...repetition, policy: policy.name, recordedBy: twofoldVersion, end: log.end };
  } finally {
    log.close();
  }
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

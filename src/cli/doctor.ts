import type { Command } from "commander";
import { ConfigError } from "../protocol/config-error.ts";
import type { ServeConfig } from "../protocol/fleet-file.ts";
import { type Check, checkMachine, type Machine } from "./doctor-checks.ts";
import { type CliIo, EXIT, type ExitCode } from "./io.ts";
import { packageVersion } from "./package-root.ts";
import { loadServeConfig, SERVE_SETTINGS } from "./serve-settings.ts";
import { addSettings, readSettings } from "./settings.ts";

const EXAMPLES = `
Examples:
  twofold doctor                        checks this machine for plain twofold serve
  twofold doctor fleet.yaml --json      the same for a fleet file, for a script

Takes the flags of twofold serve. Exit code 1: at least one check failed.`;

/** Raised with every change to the output of `--json` that a reader of the older form would misread. */
const DOCTOR_SCHEMA_VERSION = 1;

/** Adds `twofold doctor`. */
export function addDoctor(program: Command, io: CliIo, exit: (code: ExitCode) => void): void {
  const command = program
    .command("doctor")
    .summary("checks this machine and the configuration")
    .description("Checks whether this machine can run a configuration, and says what to do where it cannot.")
    .argument("[fleet.yaml]", "fleet file to check");
  addSettings(command, SERVE_SETTINGS);
  command.option("--json", "print one JSON object instead of a table");
  command.addHelpText("after", EXAMPLES);
  command.action(async (file: string | undefined, flags: Record<string, unknown>) => {
    const { json, ...settings } = flags;
    // Wrong flags are wrong usage; what the file says, or what does not go together, is a finding.
    readSettings(SERVE_SETTINGS, settings, io.env);
    const { thisMachine } = await import("./machine.ts");
    const checks = await findProblems(() => loadServeConfig(file, settings, io), thisMachine);
    const hasFailed = checks.some((check) => check.status === "fail");
    io.stdout.write(json === true ? `${toJson(checks, thisMachine)}\n` : renderChecks(checks));
    exit(hasFailed ? EXIT.failure : EXIT.ok);
  });
}

async function findProblems(load: () => ServeConfig, machine: Machine): Promise<Check[]> {
  try {
    return await checkMachine(load(), machine);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map(({ origin, message }) => {
      const remedy = "correct it; the other checks need a configuration that can run";
      return { name: "configuration", status: "fail", finding: `${origin}: ${message}`, remedy };
    });
  }
}

function toJson(checks: readonly Check[], machine: Machine): string {
  return JSON.stringify({
    schemaVersion: DOCTOR_SCHEMA_VERSION,
    twofoldVersion: packageVersion(),
    nodeVersion: machine.nodeVersion,
    platform: machine.platform,
    isHealthy: checks.every((check) => check.status !== "fail"),
    checks,
  });
}

/** The findings as a table, with what to do below each that needs it. */
export function renderChecks(checks: readonly Check[]): string {
  const width = Math.max(...checks.map((check) => check.name.length));
  const lines = checks.flatMap(({ name, status, finding, remedy }) => {
    const line = `${status.padEnd(4)}  ${name.padEnd(width)}  ${finding}`;
    return remedy === "" ? [line] : [line, `${" ".repeat(6 + width)}  → ${remedy}`];
  });
  return `${lines.join("\n")}\n`;
}

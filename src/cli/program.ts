import { Command, CommanderError } from "commander";
import { ConfigError } from "../protocol/config-error.ts";
import { addBench } from "./bench.ts";
import { addCatalog } from "./catalog.ts";
import { addDoctor } from "./doctor.ts";
import { addExplain } from "./explain.ts";
import { CliError, type CliIo, EXIT, type ExitCode } from "./io.ts";
import { packageVersion } from "./package-root.ts";
import { addProfile } from "./profile.ts";
import { addReplay } from "./replay.ts";
import { addServe } from "./serve.ts";
import type { Product } from "./serving.ts";
import { addSimulate } from "./simulate.ts";
import { addValidate } from "./validate.ts";
import { addWorker } from "./worker.ts";

const EXAMPLES = `
Examples:
  twofold serve                                  built-in model on http://127.0.0.1:8080
  twofold bench http://127.0.0.1:8080 --rate 5 --requests 200 --isl 512 --osl 64
  twofold catalog h100-sxm
  twofold doctor

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.`;

/** Commander's codes for output that was asked for. */
const HELP_CODES: ReadonlySet<string> = new Set([
  "commander.helpDisplayed",
  "commander.help",
  "commander.version",
]);

/**
 * Runs one command line (`args` without node and script) and returns its exit code. Expected failures are printed to
 * stderr; nothing is thrown for them.
 */
export async function runCli(args: readonly string[], io: CliIo, product: Product): Promise<ExitCode> {
  let exitCode: ExitCode = EXIT.ok;
  const program = createProgram(io, product, (code) => {
    exitCode = code;
  });
  if (args.length === 0) {
    io.stderr.write(program.helpInformation());
    io.stderr.write(`${EXAMPLES}\n`);
    return EXIT.usage;
  }
  try {
    await program.parseAsync([...args], { from: "user" });
    return exitCode;
  } catch (error) {
    return reportError(error, io, args[0] ?? "");
  }
}

/** All verbs. `exit` is told the exit code of the one that ran. */
export function createProgram(io: CliIo, product: Product, exit: (code: ExitCode) => void): Command {
  const program = new Command("twofold")
    .description("Disaggregated LLM inference: prefill and decode apart, KV cache handed over.")
    .version(packageVersion(), "-V, --version", "print the version")
    .helpOption("-h, --help", "print help, with examples")
    .helpCommand(false)
    .addHelpText("after", EXAMPLES);
  addServe(program, io, product, exit);
  addWorker(program, io, product, exit);
  addBench(program, io, exit);
  addCatalog(program, io, exit);
  addSimulate(program, io, exit);
  addExplain(program, io, exit);
  addReplay(program, io, exit);
  addValidate(program, io, exit);
  addProfile(program, io, exit);
  addDoctor(program, io, exit);
  for (const command of [program, ...program.commands]) {
    command.exitOverride().configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      // Errors are printed once, by the caller, after they have been thrown.
      outputError: () => undefined,
      getOutHelpWidth: () => io.stdout.columns ?? 100,
      getOutHasColors: () => false,
    });
  }
  return program;
}

function reportError(error: unknown, io: CliIo, verb: string): ExitCode {
  if (error instanceof CommanderError) {
    if (HELP_CODES.has(error.code)) return EXIT.ok;
    const [first, ...rest] = error.message.replace(/^error: /, "").split("\n");
    const hint = rest.length === 0 ? "" : ` ${rest.join(" ")}`;
    const help =
      verb.startsWith("-") || verb === "" || error.code === "commander.unknownCommand" ? "" : `${verb} `;
    io.stderr.write(`twofold: ${first?.replace(/\.$/, "")}${hint}; see twofold ${help}--help\n`);
    return EXIT.usage;
  }
  if (error instanceof ConfigError) {
    for (const line of error.message.split("\n")) io.stderr.write(`twofold: ${line}\n`);
    return EXIT.usage;
  }
  if (error instanceof CliError) {
    io.stderr.write(`twofold: ${error.message}\n`);
    return error.exitCode;
  }
  if (isExpected(error)) {
    io.stderr.write(`twofold: ${error.message}\n`);
    return EXIT.failure;
  }
  io.stderr.write(
    `twofold: unexpected failure, please report it: ${error instanceof Error ? error.stack : String(error)}\n`,
  );
  return EXIT.failure;
}

/** Names of errors that mean a bug, whatever else they carry. */
const BUGS: ReadonlySet<string> = new Set([
  "TypeError",
  "RangeError",
  "ReferenceError",
  "SyntaxError",
  "AssertionError",
  "InvariantError",
]);

/**
 * Errors whose message is meant for the operator: those of a class of their own, such as `EngineError`, and those of the system,
 * which have a code. Anything else is a bug and shows its stack.
 */
function isExpected(error: unknown): error is Error {
  if (!(error instanceof Error) || BUGS.has(error.name)) return false;
  return error.name !== "Error" || ("code" in error && typeof error.code === "string");
}

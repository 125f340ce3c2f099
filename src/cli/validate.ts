import { existsSync } from "node:fs";
import { resolve } from "node:path";
import type { Command } from "commander";
import { ConfigError } from "../protocol/config-error.ts";
import { nearMiss } from "../protocol/near-miss.ts";
import { type CliIo, EXIT, type ExitCode } from "./io.ts";

const EXAMPLES = `
Examples:
  twofold validate kernels --data systems/
  twofold validate aiconfigurator --data silicon_sample.csv --json

Predicts measurements and prints the errors. Rows that coefficients were fitted on are left out, unless --fitted is given; rows that
cannot be predicted are listed with the reason. Exit code 1: no row could be predicted.`;

/** Adds `twofold validate`. */
export function addValidate(program: Command, io: CliIo, exit: (code: ExitCode) => void): void {
  program
    .command("validate")
    .summary("predictions against measurements of real hardware")
    .description("Compares what the perf model and the twin predict with a measured data set.")
    .argument("<name>", "the data set's kind, such as kernels or aiconfigurator")
    .requiredOption("--data <path>", "file or folder of the data set")
    .option("--fitted", "report rows that coefficients were fitted on as well")
    .option("--json", "print one JSON object instead of a table")
    .addHelpText("after", EXAMPLES)
    .action(async (name: string, flags: { data: string; fitted?: true; json?: true }) => {
      // Tables and coefficients are large: other verbs do not load them.
      const { VALIDATORS, validatorOf } = await import("../twin/validate/registry.ts");
      const { renderValidation } = await import("../twin/validate/report-table.ts");
      const validator = validatorOf(name);
      if (validator === null) {
        const names = VALIDATORS.map((entry) => entry.name);
        const close = nearMiss(name, names);
        const hint = close === null ? "" : `; did you mean ${close}?`;
        throw new ConfigError([
          { origin: name, message: `no such data set; allowed are ${names.join(", ")}${hint}` },
        ]);
      }
      if (!existsSync(resolve(io.cwd, flags.data)))
        throw new ConfigError([
          { origin: "--data", message: `${flags.data} does not exist; it has to be ${validator.data}` },
        ]);
      const report = await validator.run(resolve(io.cwd, flags.data), {
        includesFitted: flags.fitted === true,
      });
      const shown = { ...report, data: flags.data };
      io.stdout.write(flags.json === true ? `${JSON.stringify(shown)}\n` : renderValidation(shown));
      exit(Object.keys(report.metrics).length === 0 ? EXIT.failure : EXIT.ok);
    });
}

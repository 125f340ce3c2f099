import type { Command } from "commander";
import { formatAddress, isLoopback, parseAddress } from "../protocol/address.ts";
import type { ServeConfig } from "../protocol/fleet-file.ts";
import { FLEET_SECRET_ENV } from "../protocol/worker-config.ts";
import { CliError, type CliIo, EXIT, type ExitCode } from "./io.ts";
import { runUntilStopped } from "./run-until-stopped.ts";
import { loadServeConfig, SERVE_SETTINGS } from "./serve-settings.ts";
import type { Product, Serving } from "./serving.ts";
import { addSettings } from "./settings.ts";

const EXAMPLES = `
Examples:
  twofold serve                                       built-in model, 1 prefill and 1 decode worker
  twofold serve --model model.gguf --prefill 2 --decode 1 --threads 4
  twofold serve examples/laptop.yaml --port 0
  twofold serve --engine stub --stub-decode-ms 5      no model, modelled step times

A flag wins over its environment variable [in brackets], that over the file, that over the default.
--prefill, --decode and --both stand for all local workers of the file; remote ones stay.`;

/** Adds `twofold serve`. */
export function addServe(
  program: Command,
  io: CliIo,
  product: Product,
  exit: (code: ExitCode) => void,
): void {
  const command = program
    .command("serve")
    .summary("OpenAI-compatible server with prefill and decode apart")
    .description("Serves a model through the OpenAI API, with prefill and decode in different processes.")
    .argument("[fleet.yaml]", "fleet file; without one: the built-in model, 1 prefill and 1 decode worker");
  addSettings(command, SERVE_SETTINGS);
  command.addHelpText("after", EXAMPLES);
  command.action(async (file: string | undefined, flags: Record<string, unknown>) => {
    const config = loadServeConfig(file, flags, io);
    if (config.workers.some((entry) => "address" in entry) && (io.env[FLEET_SECRET_ENV] ?? "") === "") {
      const message = `workers on other machines need a shared secret: set ${FLEET_SECRET_ENV} to the same value on all of them`;
      throw new CliError(EXIT.usage, message);
    }
    exit(
      await runUntilStopped(
        io,
        () => product.startServing(config),
        (serving) => io.stdout.write(describeServing(config, serving)),
      ),
    );
  });
}

/** What runs where, the line with the URL, and a request to try. Plain text, the same on a terminal and in a log. */
function describeServing(config: ServeConfig, serving: Serving): string {
  const engine =
    config.engine === "stub" ? "stub engine, no model" : `${config.engine} engine, ${config.model.path}`;
  const width = Math.max(...serving.workers.map((worker) => worker.id.length));
  const workers = serving.workers.map(({ id, role, pid }) => {
    return `${id.padEnd(width)}  ${role.padEnd(7)}  ${pid === null ? "remote" : `pid ${pid}`}`;
  });
  const { contextTokens, kvTokensPerWorker, blockSizeTokens, chunkTokens, maxRunning } = config;
  const lines = [
    `model    ${serving.modelName} (${engine})`,
    `context  ${contextTokens} tokens per request; KV for ${kvTokensPerWorker} tokens per worker in blocks of ${blockSizeTokens}`,
    `policy   ${config.policy}; steps of up to ${chunkTokens} tokens, ${maxRunning} requests at once`,
    ...workers.map((line, index) => `${index === 0 ? "workers" : "       "}  ${line}`),
    `link     ${describeLink(config)}`,
    `Ready at ${serving.url}`,
    `Try: ${curlLine(config, serving)}`,
  ];
  return `${lines.join("\n")}\n`;
}

function describeLink(config: ServeConfig): string {
  const remote = config.workers.flatMap((entry) => ("address" in entry ? [parseAddress(entry.address)] : []));
  const local = "KV over unix sockets on this machine";
  if (remote.length === 0) return local;
  const addresses = remote.map(
    (address) => `${formatAddress(address)}${isLoopback(address) ? "" : " (network)"}`,
  );
  return remote.length === config.workers.length ? addresses.join(", ") : `${local}; ${addresses.join(", ")}`;
}

function curlLine(config: ServeConfig, serving: Serving): string {
  const messages = [{ role: "user", content: "What is a river?" }];
  const body = { model: serving.modelName, messages, max_tokens: 64 };
  // A quote inside single quotes of a POSIX shell: close, escaped quote, open again.
  const quoted = JSON.stringify(body).replaceAll("'", "'\\''");
  const key = config.gateway.keys.length === 0 ? "" : ` -H "authorization: Bearer $TWOFOLD_API_KEY"`;
  return `curl -s ${serving.url}/v1/chat/completions -H 'content-type: application/json'${key} -d '${quoted}'`;
}

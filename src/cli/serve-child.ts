import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { FleetFileValues, ServeConfig } from "../protocol/fleet-file.ts";
import { STEP_LOG_ENV } from "../protocol/step-log.ts";
import { CliError, EXIT } from "./io.ts";

/** The compiled entry of the command line, also when this file runs from source. */
const SCRIPT = fileURLToPath(
  new URL(import.meta.url.endsWith(".ts") ? "../../dist/cli/main.js" : "./main.js", import.meta.url),
);
/** Longest start of a server, model loading included. */
const MAX_START_MS = 120_000;
/** Output kept for the message when it does not start. */
const MAX_KEPT_OUTPUT = 16 * 1024;
/** How long a server may take to stop before it is killed. */
const MAX_STOP_MS = 10_000;

/** A server in a process of its own, as the user would run it. */
export interface ServeChild {
  readonly url: URL;
  stop(): Promise<void>;
}

/** The fleet file of a configuration, with other workers, on a free port and without keys. */
export function fleetValuesOf(config: ServeConfig, workers: FleetFileValues["workers"]): FleetFileValues {
  const { path, name } = config.model;
  return {
    model: { ...(path === null ? {} : { path }), ...(name === null ? {} : { name }) },
    engine: config.engine,
    contextTokens: config.contextTokens,
    kvTokensPerWorker: config.kvTokensPerWorker,
    blockSizeTokens: config.blockSizeTokens,
    chunkTokens: config.chunkTokens,
    policy: config.policy,
    maxRunning: config.maxRunning,
    maxWaiting: config.maxWaiting,
    prefixCacheTokens: config.prefixCacheTokens,
    threads: config.threads,
    workers,
    placement: config.placement,
    stub: config.stub,
  };
}

/**
 * Starts `twofold serve` with a fleet file in `folder`; resolves when it takes requests. With `stepLogs` its workers write step logs
 * into the same folder. Rejects with `CliError` and what the server said.
 */
export async function startServeChild(
  values: FleetFileValues,
  folder: string,
  options: { stepLogs: boolean; env: Readonly<Record<string, string | undefined>> },
): Promise<ServeChild> {
  const fleetFile = join(folder, "fleet.yaml");
  writeFileSync(fleetFile, `${JSON.stringify(values, null, 2)}\n`);
  // Settings of this command are not meant for the server: it has its file.
  const env = Object.fromEntries(
    Object.entries(options.env).filter(([name]) => !name.startsWith("TWOFOLD_")),
  );
  if (options.stepLogs) env[STEP_LOG_ENV] = folder;
  const args = [SCRIPT, "serve", fleetFile, "--port", "0", "--log-level", "error"];
  const child = spawn(process.execPath, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  const exited = new Promise<void>((resolve) => child.once("close", () => resolve()));
  let output = "";
  const url = await new Promise<string>((resolve, reject) => {
    const fail = (reason: string): void => {
      clearTimeout(timer);
      child.kill("SIGKILL");
      reject(new CliError(EXIT.failure, `the server to measure ${reason}: ${output.trim()}`));
    };
    const timer = setTimeout(() => fail(`was not ready after ${MAX_START_MS / 1000} s`), MAX_START_MS);
    child.once("error", (error) => fail(`could not be started (${error.message})`));
    child.once("exit", (code) => fail(`ended with code ${code}`));
    const read = (text: string): void => {
      if (output.length < MAX_KEPT_OUTPUT) output += text;
      const ready = /^Ready at (\S+)/m.exec(output)?.[1];
      if (ready === undefined) return;
      clearTimeout(timer);
      resolve(ready);
    };
    child.stdout.setEncoding("utf8").on("data", read);
    child.stderr.setEncoding("utf8").on("data", read);
  });
  return {
    url: new URL(url),
    async stop() {
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), MAX_STOP_MS);
      await exited;
      clearTimeout(timer);
    },
  };
}

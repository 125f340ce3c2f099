import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { monotonicClock } from "../bench/clock.ts";
import type { EngineLog } from "../bench/profile/engine-log.ts";
import type { FittedProfile } from "../bench/profile/fit-logs.ts";
import { EngineMeasuring, type MeasuredServer } from "../bench/profile/measure.ts";
import type { ServeConfig } from "../protocol/fleet-file.ts";
import { PROFILE_VERSION, type Profile } from "../protocol/profile-file.ts";
import { fleetValuesOf, type ServeChild, startServeChild } from "./serve-child.ts";

export interface ProfileRunOptions {
  readonly config: ServeConfig;
  readonly maxSeconds: number;
  /** Whether handoffs are measured too. */
  readonly withHandoff: boolean;
  readonly seed: number;
  readonly signal: AbortSignal;
  readonly env: Readonly<Record<string, string | undefined>>;
  onProgress?(state: { phase: string; round: number; seconds: number }): void;
}

/** Servers of one configuration that are being measured. Close it in any case. */
export class ProfileRun {
  readonly measuring: EngineMeasuring;
  readonly #options: ProfileRunOptions;
  readonly #servers: readonly ServeChild[];
  readonly #folder: string;
  readonly #loadBefore = loadavg()[0]!;

  private constructor(
    options: ProfileRunOptions,
    parts: { measuring: EngineMeasuring; servers: readonly ServeChild[]; folder: string },
  ) {
    this.#options = options;
    this.measuring = parts.measuring;
    this.#servers = parts.servers;
    this.#folder = parts.folder;
  }

  /** Starts the servers. Rejects with `CliError` when one does not start. */
  static async open(options: ProfileRunOptions): Promise<ProfileRun> {
    const folder = mkdtempSync(join(tmpdir(), "twofold-profile-"));
    const servers: ServeChild[] = [];
    const start = async (roles: ReadonlyArray<"prefill" | "decode" | "both">): Promise<MeasuredServer> => {
      const logFolder = join(folder, roles.join("-"));
      mkdirSync(logFolder);
      const values = fleetValuesOf(
        options.config,
        roles.map((role) => ({ role })),
      );
      const server = await startServeChild(values, logFolder, { stepLogs: true, env: options.env });
      servers.push(server);
      return { url: server.url, logFolder, workerIds: roles.map((role) => `${role}-1`) };
    };
    try {
      const unsplit = await start(["both"]);
      const split = options.withHandoff ? await start(["prefill", "decode"]) : null;
      const measuring = new EngineMeasuring({
        unsplit,
        split,
        limits: {
          contextTokens: await contextTokensOf(unsplit.url),
          maxRunning: options.config.maxRunning,
        },
        clock: monotonicClock,
        epochMs: performance.timeOrigin,
        signal: options.signal,
        seed: options.seed,
        maxSeconds: options.maxSeconds,
        ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
      });
      return new ProfileRun(options, { measuring, servers, folder });
    } catch (error) {
      for (const server of servers) await server.stop();
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  /** What was fitted, with what it was measured on. */
  toProfile(fitted: FittedProfile): Profile {
    const { config } = this.#options;
    const [log] = this.measuring.logs();
    const { worker } = log as EngineLog;
    return {
      profileVersion: PROFILE_VERSION,
      measuredAt: new Date().toISOString(),
      machine: {
        cpu: cpus()[0]?.model ?? "unknown",
        cores: cpus().length,
        platform: `${process.platform}-${process.arch}`,
        node: process.versions.node,
        loadAverage: [round(this.#loadBefore), round(loadavg()[0]!)],
      },
      engine: config.engine,
      model: { name: worker.modelName, id: worker.modelId },
      settings: {
        threads: config.threads,
        chunkTokens: config.chunkTokens,
        contextTokens: config.contextTokens,
        maxRunning: config.maxRunning,
        prefixCacheTokens: config.prefixCacheTokens,
      },
      kvCapacityTokens: worker.kvCapacityTokens,
      kvBytesPerToken: worker.kvBytesPerToken,
      ...rounded(fitted),
    };
  }

  async close(): Promise<void> {
    await this.measuring.close();
    for (const server of this.#servers) await server.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

async function contextTokensOf(url: URL): Promise<number> {
  const response = await fetch(new URL("/v1/models", url));
  const body: unknown = await response.json();
  const data: unknown = typeof body === "object" && body !== null ? Reflect.get(body, "data") : null;
  const tokens: unknown = Array.isArray(data) ? Reflect.get(data[0] ?? {}, "max_model_len") : null;
  if (typeof tokens === "number") return tokens;
  throw new Error("our own server does not say how long a request may be");
}

/** Four significant digits: more than any measurement has. */
function rounded<T>(value: T): T {
  if (typeof value === "number") return round(value) as T;
  if (Array.isArray(value)) return value.map(rounded) as T;
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, rounded(one)])) as T;
}

function round(value: number): number {
  return Number.isInteger(value) ? value : Number(value.toPrecision(4));
}

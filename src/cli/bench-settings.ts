import { z } from "zod";
import type { Arrivals } from "../bench/arrivals.ts";
import {
  type LoadOptions,
  MAX_DURATION_MS,
  MAX_IN_FLIGHT,
  MAX_RATE,
  MAX_REQUESTS,
} from "../bench/options.ts";
import { type LengthDistribution, parseLengths } from "../core/util/length-distribution.ts";
import { ConfigError, show } from "../protocol/config-error.ts";
import { WORKLOAD_FORMATS, type WorkloadFormat } from "../twin/workload/detect-format.ts";
import { readBenchWorkload } from "./bench-workload.ts";
import { type GivenValue, readSettings, type Setting } from "./settings.ts";

/** Text of a distribution of lengths, read. */
const lengthsSchema = z.string().transform((text, context): LengthDistribution => {
  const lengths = parseLengths(text);
  if (!("error" in lengths)) return lengths;
  context.addIssue({ code: "custom", message: lengths.error });
  return z.NEVER;
});

const boundMsSchema = z.number().positive().max(MAX_DURATION_MS);

function row(key: string, flag: string, schema: z.ZodType, help: string): Setting {
  const name = /--(?:no-)?([a-z0-9-]+)/.exec(flag)?.[1] ?? key;
  return { key, flag, env: `TWOFOLD_BENCH_${name.replaceAll("-", "_").toUpperCase()}`, schema, help };
}

/** What a run of the load generator can be told. */
export const BENCH_SETTINGS: readonly Setting[] = [
  row(
    "rate",
    "--rate <n>",
    z.number().positive().max(MAX_RATE),
    "open loop: requests per second, on average",
  ),
  row(
    "arrivals",
    "--arrivals <kind>",
    z.enum(["poisson", "uniform"]),
    "open loop: poisson or uniform (default: poisson)",
  ),
  row(
    "concurrency",
    "--concurrency <n>",
    z.int().min(1).max(MAX_IN_FLIGHT),
    "closed loop: requests in flight (instead of --rate)",
  ),
  row(
    "workload",
    "--workload <file>",
    z.string().min(1).max(4096),
    "replay a trace, or the workload section of a YAML file (instead of --rate)",
  ),
  row(
    "workloadFormat",
    "--workload-format <name>",
    z.enum(WORKLOAD_FORMATS),
    "format of the trace (default: told by its content)",
  ),
  row(
    "timeScale",
    "--time-scale <factor>",
    z.number().min(1e-6).max(1e6),
    "workload: factor on all its times; 0.5 is twice as fast (default: 1)",
  ),
  row(
    "requests",
    "--requests <n>",
    z.int().min(1).max(MAX_REQUESTS),
    "stop after this many (default: 100, or none with --duration or --workload)",
  ),
  row(
    "duration",
    "--duration <s>",
    z
      .number()
      .positive()
      .max(MAX_DURATION_MS / 1000),
    "stop sending after so many seconds",
  ),
  row(
    "isl",
    "--isl <lengths>",
    lengthsSchema,
    "prompt tokens: N, uniform:MIN:MAX, normal:MEAN:SD, lognormal:MEAN:SD, choice:A,B (default: 512)",
  ),
  row("osl", "--osl <lengths>", lengthsSchema, "output tokens, in the same forms (default: 64)"),
  row(
    "sharedPrefix",
    "--shared-prefix <share>",
    z.number().min(0).max(1),
    "leading share of the prompt that all have in common, 0 to 1 (default: 0)",
  ),
  row(
    "ignoreEos",
    "--no-ignore-eos",
    z.boolean(),
    "do not send ignore_eos and min_tokens; outputs may end early",
  ),
  row("temperature", "--temperature <t>", z.number().min(0).max(2), "sampling temperature (default: 0)"),
  row("seed", "--seed <n>", z.int(), "seed of arrivals, lengths and prompts (default: 1)"),
  row("warmup", "--warmup <n>", z.int().min(0).max(10_000), "requests before the measured ones (default: 4)"),
  row(
    "endpoint",
    "--endpoint <kind>",
    z.enum(["completions", "chat"]),
    "completions or chat (default: completions)",
  ),
  row(
    "model",
    "--model <name>",
    z.string().min(1).max(256),
    "model to ask for (default: the first that the server lists)",
  ),
  row(
    "maxInFlight",
    "--max-in-flight <n>",
    z.int().min(1).max(MAX_IN_FLIGHT),
    "open loop: arrivals beyond it are dropped and counted (default: 1000)",
  ),
  row(
    "timeout",
    "--timeout <s>",
    z
      .number()
      .positive()
      .max(MAX_DURATION_MS / 1000),
    "longest time of one request (default: 600)",
  ),
  row("sloTtftMs", "--slo-ttft-ms <ms>", boundMsSchema, "goodput: bound of the time to first token"),
  row(
    "sloItlMs",
    "--slo-itl-ms <ms>",
    boundMsSchema,
    "goodput: bound of a request's mean gap between tokens",
  ),
  row("sloE2eMs", "--slo-e2e-ms <ms>", boundMsSchema, "goodput: bound of the time to the last token"),
  {
    key: "apiKey",
    env: "TWOFOLD_API_KEY",
    schema: z
      .string()
      .max(4096)
      .regex(/^[\x21-\x7e]+$/, "is not printable ASCII"),
    help: "API key of the server",
  },
];

/** Puts flags, environment and defaults of a run together. Throws {@link ConfigError}. */
export function loadBenchOptions(
  url: string,
  flags: Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string | undefined>>,
): LoadOptions {
  const given = readSettings(BENCH_SETTINGS, flags, env);
  const read = <T>(key: string, fallback: T): T => (given.get(key)?.value as T | undefined) ?? fallback;
  const workload = given.get("workload");
  const arrivals = workload === undefined ? chooseArrivals(given) : chooseWorkload(workload, given);
  const durationSeconds = read<number | null>("duration", null);
  const isEnded = durationSeconds !== null || workload !== undefined;
  const maxInFlight = arrivals.kind === "concurrency" ? arrivals.numRequests : read("maxInFlight", 1000);
  return {
    url: parseServerUrl(url),
    endpoint: read<LoadOptions["endpoint"]>("endpoint", "completions"),
    model: read<string | null>("model", null),
    apiKey: read<string | null>("apiKey", null),
    arrivals,
    numRequests: read("requests", isEnded ? MAX_REQUESTS : 100),
    durationMs: durationSeconds === null ? null : durationSeconds * 1000,
    inputLengths: read<LengthDistribution>("isl", { kind: "fixed", tokens: 512 }),
    outputLengths: read<LengthDistribution>("osl", { kind: "fixed", tokens: 64 }),
    sharedPrefixShare: read("sharedPrefix", 0),
    ignoreEos: read("ignoreEos", true),
    temperature: read("temperature", 0),
    seed: read("seed", 1),
    numWarmupRequests: read("warmup", 4),
    maxInFlight,
    requestTimeoutMs: read("timeout", 600) * 1000,
    slo: {
      ttftMs: read<number | null>("sloTtftMs", null),
      itlMs: read<number | null>("sloItlMs", null),
      e2eMs: read<number | null>("sloE2eMs", null),
    },
  };
}

/** Settings that say what a workload says itself. */
const NOT_WITH_WORKLOAD = ["rate", "concurrency", "arrivals", "isl", "osl", "sharedPrefix"] as const;

function chooseWorkload(workload: GivenValue, given: ReadonlyMap<string, GivenValue>): Arrivals {
  for (const key of NOT_WITH_WORKLOAD) {
    const other = given.get(key);
    if (other === undefined) continue;
    const message = `a workload has its own arrivals and lengths; leave out ${other.origin}`;
    throw new ConfigError([{ origin: `${other.origin} and ${workload.origin}`, message }]);
  }
  return readBenchWorkload(workload.value as string, workload.origin, {
    format: (given.get("workloadFormat")?.value as WorkloadFormat | undefined) ?? null,
    timeScale: (given.get("timeScale")?.value as number | undefined) ?? 1,
    isEnded: given.has("requests") || given.has("duration"),
  });
}

function chooseArrivals(given: ReadonlyMap<string, GivenValue>): Arrivals {
  for (const key of ["workloadFormat", "timeScale"]) {
    const origin = given.get(key)?.origin;
    if (origin === undefined) continue;
    throw new ConfigError([{ origin, message: "is for a workload; give --workload FILE with it" }]);
  }
  const rate = given.get("rate");
  const concurrency = given.get("concurrency");
  const kind = given.get("arrivals");
  if (rate !== undefined && concurrency !== undefined) {
    const message = "an open loop has a rate, a closed loop has requests in flight; give one of them";
    throw new ConfigError([{ origin: `${rate.origin} and ${concurrency.origin}`, message }]);
  }
  if (concurrency !== undefined) {
    if (kind !== undefined) {
      const message = `a closed loop has no arrivals; leave out ${kind.origin}, or give --rate instead`;
      throw new ConfigError([{ origin: `${kind.origin} and ${concurrency.origin}`, message }]);
    }
    return { kind: "concurrency", numRequests: concurrency.value as number };
  }
  if (rate === undefined) {
    const message =
      "is missing; give --rate N for an open loop, --concurrency N for a closed one, or --workload FILE";
    throw new ConfigError([{ origin: "--rate", message }]);
  }
  const isUniform = kind?.value === "uniform";
  return { kind: isUniform ? "uniform" : "poisson", requestsPerSecond: rate.value as number };
}

/** The server of a URL, with or without a trailing `/v1`. */
export function parseServerUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  const isUsable =
    url !== null && (url.protocol === "http:" || url.protocol === "https:") && url.hostname !== "";
  if (!isUsable) {
    throw new ConfigError([
      { origin: "URL", message: `${show(text)} is not usable; expected http://HOST:PORT` },
    ]);
  }
  if (url.username !== "" || url.search !== "" || url.hash !== "") {
    const message = "must not hold a user, a query or a fragment; an API key goes into TWOFOLD_API_KEY";
    throw new ConfigError([{ origin: "URL", message }]);
  }
  url.pathname = url.pathname.replace(/\/+$/, "").replace(/\/v1$/, "");
  return url;
}

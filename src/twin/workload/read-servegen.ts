import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import {
  drawLength,
  empiricalLengths,
  type LengthDistribution,
} from "../../core/util/length-distribution.ts";
import type { RandomStream, Rng } from "../../core/util/rng.ts";
import { nextGamma, nextWeibull } from "../../core/util/variates.ts";
import { show } from "../../protocol/config-error.ts";
import { splitRow } from "./csv.ts";
import { LineReader, reasonOf } from "./line-reader.ts";
import { DEFAULT_KIND } from "./plain-request.ts";
import { TimeHeap } from "./time-heap.ts";
import { PulledSource } from "./trace-source.ts";
import { WorkloadError, type WorkloadRequest, type WorkloadSource } from "./workload.ts";

/** Most clients of a folder. */
const MAX_CLIENTS = 4096;

/** Most windows of a client: ten years of 600 s. */
const MAX_WINDOWS = 525_600;

/** Largest file of length distributions. */
const MAX_DATASET_BYTES = 64 * 1024 * 1024;

/** Fields of a row: window start (s), rate (1/s), CV, family, shape, scale. */
const NUM_TRACE_FIELDS = 6;

interface Window {
  readonly startMs: number;
  readonly requestsPerMs: number;
  readonly family: "Gamma" | "Weibull" | "";
  readonly shape: number;
}

interface Lengths {
  readonly startMs: number;
  readonly input: LengthDistribution;
  readonly output: LengthDistribution;
}

interface Client {
  readonly name: string;
  readonly windows: readonly Window[];
  readonly lengths: readonly Lengths[];
  readonly gaps: RandomStream;
  readonly draws: RandomStream;
  window: number;
  timeMs: number;
}

/** What part of the parameters is played. */
export interface ServeGenOptions {
  /** Start of the part, from the start of the parameters; arrivals count from it. Default: 0. */
  readonly fromMs?: number;
  /** Factor on every client's rate. Default: 1. */
  readonly rateScale?: number;
}

/**
 * Clients of ServeGen (Alibaba): `NAME-trace.csv` has rate, coefficient of variation and fitted gap distribution of each window of
 * 600 s, `NAME-dataset.json` the lengths. A client's arrivals are a renewal process with the fitted family and shape, run on a
 * clock that goes as fast as the window's rate, so that every window has its measured mean rate however bursty it is (the fitted
 * scale is not used: with it the rate of a tenth of the Weibull windows is too low by a factor of 1.8 or more). Lengths are drawn independently from the distributions of their
 * time. Clients are tenants. Throws {@link WorkloadError}.
 */
export function openServeGen(path: string, rng: Rng, options: ServeGenOptions = {}): WorkloadSource {
  const fromMs = options.fromMs ?? 0;
  const clients = clientNames(path).map((name) => readClient(path, name, rng, options.rateScale ?? 1));
  const next = new TimeHeap<Client>();
  for (const client of clients) {
    client.timeMs = fromMs;
    schedule(client, next);
  }
  let numMade = 0;
  const pull = (): WorkloadRequest | null => {
    if (next.size === 0) return null;
    const client = next.pop();
    const lengths = lengthsAt(client.lengths, client.timeMs);
    const request = {
      id: String(++numMade),
      arrivalMs: client.timeMs - fromMs,
      inputTokens: drawLength(lengths.input, client.draws),
      outputTokens: drawLength(lengths.output, client.draws),
      blocks: null,
      sessionId: null,
      tenant: client.name,
      priority: 0,
      kind: DEFAULT_KIND,
      encodeMs: 0,
      wishes: null,
    };
    schedule(client, next);
    return request;
  };
  return new PulledSource(pull);
}

/** Finds a client's next arrival: draws a gap of mean 1 and lets it pass at the rate of each window. */
function schedule(client: Client, heap: TimeHeap<Client>): void {
  let gap: number | null = null;
  for (; client.window < client.windows.length; client.window++) {
    const window = client.windows[client.window]!;
    const endMs = client.windows[client.window + 1]?.startMs ?? window.startMs + windowLengthMs(client);
    if (endMs <= client.timeMs) continue;
    if (window.requestsPerMs === 0) {
      client.timeMs = endMs;
      continue;
    }
    gap ??= unitGap(window, client.gaps);
    const startMs = Math.max(client.timeMs, window.startMs);
    const arrivalMs = startMs + gap / window.requestsPerMs;
    if (arrivalMs < endMs) {
      client.timeMs = arrivalMs;
      heap.push(arrivalMs, client);
      return;
    }
    gap -= (endMs - startMs) * window.requestsPerMs;
    client.timeMs = endMs;
  }
}

function windowLengthMs(client: Client): number {
  const [first, second] = client.windows;
  return second === undefined ? 600_000 : second.startMs - first!.startMs;
}

function unitGap({ family, shape }: Window, stream: RandomStream): number {
  if (family === "Gamma") return nextGamma(shape, stream);
  return family === "Weibull" ? nextWeibull(shape, stream) : stream.nextExponential(1);
}

/** The distributions that hold at a time: those of the last window with data, or of the first if none has begun. */
function lengthsAt(lengths: readonly Lengths[], timeMs: number): Lengths {
  let low = 0;
  let high = lengths.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if (lengths[middle]!.startMs <= timeMs) low = middle;
    else high = middle - 1;
  }
  return lengths[low]!;
}

function clientNames(path: string): string[] {
  let names: string[];
  try {
    names = readdirSync(path);
  } catch (error) {
    throw new WorkloadError(path, 0, `cannot be read: ${reasonOf(error)}`);
  }
  const clients = names
    .filter((name) => name.endsWith("-trace.csv"))
    .map((name) => name.slice(0, -"-trace.csv".length));
  if (clients.length === 0)
    throw new WorkloadError(path, 0, "holds no NAME-trace.csv; expected one per client");
  if (clients.length > MAX_CLIENTS)
    throw new WorkloadError(path, 0, `holds ${clients.length} clients; allowed: ${MAX_CLIENTS}`);
  return clients.sort();
}

function readClient(path: string, name: string, rng: Rng, rateScale: number): Client {
  return {
    name,
    windows: readWindows(join(path, `${name}-trace.csv`), rateScale),
    lengths: readLengths(join(path, `${name}-dataset.json`)),
    gaps: rng.stream(`servegen/${name}/gaps`),
    draws: rng.stream(`servegen/${name}/lengths`),
    window: 0,
    timeMs: 0,
  };
}

function readWindows(file: string, rateScale: number): Window[] {
  const lines = new LineReader(file);
  const windows: Window[] = [];
  try {
    while (lines.advanceToText()) {
      const fields = splitRow(lines.text());
      if (fields.length !== NUM_TRACE_FIELDS)
        throw lines.error(`has ${fields.length} fields; expected ${NUM_TRACE_FIELDS}`);
      if (windows.length === MAX_WINDOWS) throw lines.error(`is beyond ${MAX_WINDOWS} windows`);
      const [start, rate, , family = "", shape] = fields;
      const window = {
        startMs: numberOf(lines, "window start", start) * 1000,
        requestsPerMs: (numberOf(lines, "rate", rate) * rateScale) / 1000,
        family: familyOf(lines, family),
        shape: numberOf(lines, "shape", shape),
      };
      if (window.startMs <= (windows.at(-1)?.startMs ?? -1))
        throw lines.error("does not begin after the window before it; sort the file by time");
      if (window.family !== "" && window.shape === 0)
        throw lines.error("shape: 0 is not usable; allowed: above 0");
      windows.push(window);
    }
  } finally {
    lines.close();
  }
  if (windows.length === 0) throw new WorkloadError(file, 0, "holds no windows");
  return windows;
}

function familyOf(lines: LineReader, text: string): Window["family"] {
  if (text === "Gamma" || text === "Weibull" || text === "") return text;
  throw lines.error(`family: ${show(text)} is not allowed; allowed: Gamma, Weibull or nothing`);
}

function numberOf(lines: LineReader, name: string, text = ""): number {
  const value = text === "" ? Number.NaN : Number(text);
  if (value >= 0 && value < Number.MAX_SAFE_INTEGER) return value;
  throw lines.error(`${name}: ${show(text)} is not usable; allowed: numbers from 0 up`);
}

function readLengths(file: string): Lengths[] {
  let data: unknown;
  try {
    const { size } = statSync(file);
    if (size > MAX_DATASET_BYTES)
      throw new WorkloadError(file, 0, `has ${size} bytes; allowed: ${MAX_DATASET_BYTES}`);
    data = JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    if (error instanceof WorkloadError) throw error;
    throw new WorkloadError(file, 0, `cannot be read: ${reasonOf(error)}`);
  }
  if (typeof data !== "object" || data === null) throw new WorkloadError(file, 0, "is not an object");
  const lengths: Lengths[] = [];
  for (const [start, window] of Object.entries(data)) {
    const input = distributionOf(file, start, "input_tokens", window);
    const output = distributionOf(file, start, "output_tokens", window);
    if (input !== null && output !== null) lengths.push({ startMs: Number(start) * 1000, input, output });
  }
  if (lengths.length === 0) throw new WorkloadError(file, 0, "holds no lengths");
  if (lengths.some(({ startMs }) => !Number.isFinite(startMs)))
    throw new WorkloadError(file, 0, "has a window whose start is no number");
  return lengths.sort((one, other) => one.startMs - other.startMs);
}

/** A map of length to probability, written as text: `{34: 0.001, 35: 0.04}`. Null when it is empty; lengths of 0 are left out. */
function distributionOf(
  file: string,
  start: string,
  key: string,
  window: unknown,
): LengthDistribution | null {
  const text: unknown = typeof window === "object" && window !== null ? Reflect.get(window, key) : undefined;
  const where = `${start}.${key}`;
  if (typeof text !== "string") throw new WorkloadError(file, 0, `${where}: ${show(text)} is not text`);
  const values: number[] = [];
  const weights: number[] = [];
  const inner = text.trim().replace(/^\{|\}$/g, "");
  if (inner.trim() === "") return null;
  for (const part of inner.split(",")) {
    const match = /^\s*"?(\d+)(?:\.0)?"?\s*:\s*([\d.eE+-]+)\s*$/.exec(part);
    if (match === null)
      throw new WorkloadError(file, 0, `${where}: ${show(part)} is not LENGTH: PROBABILITY`);
    if (match[1] === "0") continue;
    values.push(Number(match[1]));
    weights.push(Number(match[2]));
  }
  if (values.length === 0) return null;
  const lengths = empiricalLengths(values, weights);
  if ("error" in lengths) throw new WorkloadError(file, 0, `${where}: ${lengths.error}`);
  return lengths;
}

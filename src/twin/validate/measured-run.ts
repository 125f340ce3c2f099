import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { z } from "zod";
import { readTextFile } from "../../catalog/read-text-file.ts";
import type { LinkSpec } from "../../core/perf/device-spec.ts";

/** One request of a recorded run, in seconds of the engine's clock. */
export interface MeasuredRequest {
  readonly id: string;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly queuedS: number;
  readonly firstTokenS: number;
  readonly lastTokenS: number;
}

/** A recorded run of vLLM with its settings. */
export interface MeasuredRun {
  /** Device and model by the folders that the run lies in. */
  readonly name: string;
  readonly hardware: string;
  readonly modelName: string;
  readonly tp: number;
  readonly dp: number;
  readonly maxRunning: number;
  readonly tokenBudget: number;
  /** KV blocks of one engine, as its log says; null: not recorded. */
  readonly numBlocks: number | null;
  readonly memoryUtilisation: number;
  /** Between devices, as the run's cluster file has it; null: there is none. */
  readonly link: LinkSpec | null;
  readonly requests: readonly MeasuredRequest[];
  /** Figures of another simulator by metric, such as `ttft_mean`. */
  readonly rivalMs: ReadonlyMap<string, number>;
}

const Meta = z.object({
  model: z.string(),
  engine_kwargs: z.object({
    tensor_parallel_size: z.number().int().min(1).max(1024),
    data_parallel_size: z.number().int().min(1).max(1024).default(1),
    max_num_seqs: z.number().int().min(1).max(1e6),
    max_num_batched_tokens: z.number().int().min(1).max(1e6),
  }),
  kv_cache: z
    .object({
      num_gpu_blocks: z.number().int().min(1).nullable(),
      block_size: z.literal(16),
      gpu_memory_utilization: z.number().positive().max(1),
    })
    .optional(),
});

const Cluster = z.object({
  link_bw: z.number().positive(),
  link_latency: z.number().min(0),
  nodes: z.array(
    z.object({
      instances: z.array(
        z.object({ hardware: z.string(), npu_mem: z.object({ mem_util: z.number().positive().max(1) }) }),
      ),
    }),
  ),
});

const RequestLine = z.object({
  request_id: z.string(),
  input_toks: z.number().int().min(1).max(1e7),
  output_toks: z.number().int().min(1).max(1e7),
  queued_ts: z.number(),
  first_token_ts: z.number(),
  last_token_ts: z.number(),
});

const DEFAULT_UTILISATION = 0.9;
const MAX_REQUESTS = 1_000_000;
const MAX_FILE_BYTES = 512 * 2 ** 20;

/** Reads a run from its folder (`config.json`, `vllm/meta.json`, `vllm/requests.jsonl`). Throws errors that name file and line or key. */
export async function readMeasuredRun(folder: string): Promise<MeasuredRun> {
  const metaPath = join(folder, "vllm", "meta.json");
  const meta = parse(metaPath, Meta, await readJson(metaPath));
  const clusterPath = join(folder, "config.json");
  const cluster = existsSync(clusterPath) ? parse(clusterPath, Cluster, await readJson(clusterPath)) : null;
  const instance = cluster?.nodes[0]?.instances[0];
  const { engine_kwargs: engine, kv_cache: kv } = meta;
  return {
    name: `${basename(dirname(folder))}/${basename(folder)}`,
    hardware: instance?.hardware ?? basename(dirname(folder)),
    modelName: meta.model,
    tp: engine.tensor_parallel_size,
    dp: engine.data_parallel_size,
    maxRunning: engine.max_num_seqs,
    tokenBudget: engine.max_num_batched_tokens,
    numBlocks: kv?.num_gpu_blocks ?? null,
    memoryUtilisation: kv?.gpu_memory_utilization ?? instance?.npu_mem.mem_util ?? DEFAULT_UTILISATION,
    // Their unit for bandwidth is GB/s, for latency ns.
    link:
      cluster === null
        ? null
        : { bytesPerSecond: cluster.link_bw * 1e9, latencyMs: cluster.link_latency * 1e-6 },
    requests: await readRequests(join(folder, "vllm", "requests.jsonl")),
    rivalMs: await readSummary(join(folder, "validation", "summary.txt")),
  };
}

async function readRequests(path: string): Promise<MeasuredRequest[]> {
  const requests: MeasuredRequest[] = [];
  const lines = readTextFile(path, MAX_FILE_BYTES, path).split("\n");
  for (const [index, line] of lines.entries()) {
    if (line.trim() === "") continue;
    if (requests.length === MAX_REQUESTS)
      throw new Error(`${path}:${index + 1}: more than ${MAX_REQUESTS} requests`);
    const request = parse(`${path}:${index + 1}`, RequestLine, parseJson(`${path}:${index + 1}`, line));
    if (!(request.queued_ts <= request.first_token_ts && request.first_token_ts <= request.last_token_ts))
      throw new Error(
        `${path}:${index + 1}: queued_ts, first_token_ts and last_token_ts must come in this order`,
      );
    requests.push({
      id: request.request_id,
      inputTokens: request.input_toks,
      outputTokens: request.output_toks,
      queuedS: request.queued_ts,
      firstTokenS: request.first_token_ts,
      lastTokenS: request.last_token_ts,
    });
  }
  if (requests.length === 0) throw new Error(`${path}: no requests`);
  return requests.sort((a, b) => a.queuedS - b.queuedS);
}

/** Another simulator's column of a table of lines like `TTFT Mean  65456.6  65820.2  +0.6%`. */
async function readSummary(path: string): Promise<Map<string, number>> {
  const figures = new Map<string, number>();
  if (!existsSync(path)) return figures;
  for (const line of readTextFile(path, MAX_FILE_BYTES, path).split("\n")) {
    const match = /^(TTFT|TPOT|Latency) (Mean|Median|P\d+)\s+[\d.]+\s+([\d.]+)/.exec(line);
    if (match !== null) figures.set(`${match[1]}_${match[2]}`.toLowerCase(), Number(match[3]));
  }
  return figures;
}

async function readJson(path: string): Promise<unknown> {
  return parseJson(path, readTextFile(path, MAX_FILE_BYTES, path));
}

function parseJson(place: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${place}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function parse<Schema extends z.ZodType>(place: string, schema: Schema, data: unknown): z.infer<Schema> {
  const parsed = schema.safeParse(data);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new Error(`${place}: ${issue.path.join(".") || "the value"}: ${issue.message}`);
}

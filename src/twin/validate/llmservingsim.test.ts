import { existsSync } from "node:fs";
import { mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeEach, describe, expect, it } from "vitest";
import { vllmOverheads } from "../../catalog/host-overheads.ts";
import { validateLlmservingsim } from "./llmservingsim.ts";

/** Measurements that are not part of this repository; without them the test on them is reported as skipped. */
const SHARED = fileURLToPath(new URL("../../../../shared/silicon/llmservingsim/", import.meta.url));

const ATTENTION_NODES = [16, 32, 64, 128, 256];

let root = "";
let run = "";
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "twofold-runs-"));
  run = join(root, "bench", "RTX4090", "Llama-3.1-8B");
  await mkdir(join(run, "vllm"), { recursive: true });
  await mkdir(join(run, "validation"), { recursive: true });
  await writeFile(
    join(run, "vllm", "meta.json"),
    JSON.stringify({
      model: "meta-llama/Llama-3.1-8B",
      engine_kwargs: {
        tensor_parallel_size: 1,
        data_parallel_size: 1,
        max_num_seqs: 8,
        max_num_batched_tokens: 128,
      },
      kv_cache: { num_gpu_blocks: 100, block_size: 16, gpu_memory_utilization: 0.9 },
    }),
  );
  await writeFile(
    join(run, "validation", "summary.txt"),
    "Metric vLLM Sim Diff%\nLatency Mean   100.0   110.0   +10.0%\n",
  );
});

async function requests(...lines: Record<string, unknown>[]): Promise<void> {
  await writeFile(
    join(run, "vllm", "requests.jsonl"),
    `${lines.map((line) => JSON.stringify(line)).join("\n")}\n`,
  );
}

function request(overrides: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    request_id: "r",
    input_toks: 64,
    output_toks: 5,
    queued_ts: 100,
    first_token_ts: 100.02,
    last_token_ts: 100.1,
    ...overrides,
  };
}

/** Steps of one layer that take a microsecond per token of a chunk, and nothing besides 32 layers of 100 µs. */
async function profile(): Promise<void> {
  const folder = join(root, "profiler", "perf", "RTX4090", "meta-llama", "Llama-3.1-8B", "bf16", "tp1");
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "dense.csv"), "layer,tokens,time_us\nqkv_proj,1,100\nqkv_proj,256,100\n");
  await writeFile(join(folder, "per_sequence.csv"), "layer,sequences,time_us\nlm_head,1,0\n");
  const rows = ["prefill_chunk,kv_prefill,n_decode,kv_decode,time_us"];
  for (const chunk of [0, ...ATTENTION_NODES])
    for (const context of chunk === 0 ? [0] : [0, ...ATTENTION_NODES])
      for (const decodes of [0, 1, 2])
        for (const kv of decodes === 0 ? [0] : ATTENTION_NODES)
          if (chunk + decodes > 0) rows.push(`${chunk},${context},${decodes},${kv},${chunk}`);
  await writeFile(join(folder, "attention.csv"), `${rows.join("\n")}\n`);
}

describe("validateLlmservingsim", () => {
  it("replays a run through the profile of its device and model", async () => {
    await requests(request());
    await profile();
    const report = await validateLlmservingsim(root);
    const { stepMs, sequenceMs, mixedLayerMs } = vllmOverheads({
      deviceId: "rtx-4090",
      model: { ffn: { kind: "dense" } } as never,
      isOffloading: false,
    });
    const decodeMs = 3.2 + stepMs + sequenceMs;
    const prefillMs = decodeMs + 32 * (0.064 + mixedLayerMs);
    expect(report.rows).toBe(15);
    const signed = (predicted: number, measured: number) =>
      Math.round((predicted / measured - 1) * 10_000) / 100;
    expect(report.metrics.ttft_mean!.meanSignedPct).toBeCloseTo(signed(prefillMs, 20), 1);
    expect(report.metrics.tpot_p99!.meanSignedPct).toBeCloseTo(signed(decodeMs, 20), 1);
    expect(report.metrics.latency_mean!.meanSignedPct).toBeCloseTo(signed(prefillMs + 4 * decodeMs, 100), 1);
    expect(report.rivals.llmservingsim!.latency_mean!.meanSignedPct).toBe(10);
  });

  it("uses fitted kernels where there is no profile, and says why it cannot predict", async () => {
    await requests(request());
    expect((await validateLlmservingsim(run)).metrics.latency_mean!.n).toBe(1);
    const meta = { tensor_parallel_size: 1, max_num_seqs: 8, max_num_batched_tokens: 128 };
    await writeFile(
      join(run, "vllm", "meta.json"),
      JSON.stringify({ model: "nobody/Nothing", engine_kwargs: meta }),
    );
    const report = await validateLlmservingsim(run);
    expect(report.metrics).toEqual({});
    expect(report.skipped[0]!.reason).toContain("nobody/Nothing");
  });

  it("names file, line and key of bad data", async () => {
    await requests(request(), request({ output_toks: -1 }));
    await expect(validateLlmservingsim(run)).rejects.toThrow(/requests\.jsonl:2: output_toks: /);
    await requests(request({ first_token_ts: 99 }));
    await expect(validateLlmservingsim(run)).rejects.toThrow(/requests\.jsonl:1: .* in this order/);
    await writeFile(join(run, "vllm", "requests.jsonl"), "{\n");
    await expect(validateLlmservingsim(run)).rejects.toThrow(/requests\.jsonl:1: /);
    await expect(validateLlmservingsim(join(root, "bench", "none").slice(0, -5))).rejects.toThrow();
  });

  // The measured runs are nobody's to redistribute: the test runs where they are.
  it.skipIf(!existsSync(SHARED))(
    "predicts the mean latency of a recorded run within a loose bound",
    { timeout: 60_000 },
    async () => {
      const report = await validateLlmservingsim(join(SHARED, "bench", "examples", "RTX4090"));
      expect(report.metrics.latency_mean!.medianAbsPct).toBeLessThan(6);
    },
  );
});

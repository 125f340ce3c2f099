import { z } from "zod";
import { readTextFile } from "../../catalog/read-text-file.ts";
import { DistservePerf } from "../../core/perf/paper/distserve.ts";
import { readCsv } from "../csv-file.ts";
import { WorkloadError } from "../workload/workload.ts";

const termsSchema = z.tuple([z.number(), z.number(), z.number()]);

const profileSchema = z.record(
  z.string(),
  z.record(
    z.string(),
    z.object({
      decoding_large_small_bs_threshold: z.int().min(1),
      prefill: termsSchema,
      decoding_smallbs: termsSchema,
      decoding_largebs: termsSchema,
    }),
  ),
);

/** Largest profile that is read. */
const MAX_PROFILE_BYTES = 64 * 2 ** 20;

/** Bytes of KV per token: keys and values of 16 bits. Layers times hidden size, from the OPT paper (Zhang et al., 2022). */
const KV_BYTES: Readonly<Record<string, number>> = {
  "facebook/opt-13b": 4 * 40 * 5120,
  "facebook/opt-66b": 4 * 64 * 9216,
  "facebook/opt-175b": 4 * 96 * 12_288,
};

/**
 * Makes perf models from the files of DistServe's simulator: `profiler-a100-80g.distserve.json` or `….vllm.json`, and
 * `max_num_tokens.csv` beside it. Throws {@link WorkloadError} or `CsvError` for files of another form.
 */
export class DistserveData {
  readonly #file: string;
  readonly #profiles: z.infer<typeof profileSchema>;
  readonly #kvTokens = new Map<string, number>();

  constructor(profileFile: string, kvFile: string) {
    this.#file = profileFile;
    let data: unknown;
    try {
      data = JSON.parse(readTextFile(profileFile, MAX_PROFILE_BYTES, profileFile));
    } catch (error) {
      if (error instanceof SyntaxError)
        throw new WorkloadError(profileFile, 1, `is not JSON: ${error.message}`);
      throw error;
    }
    const parsed = profileSchema.safeParse(data);
    if (!parsed.success) {
      const [issue] = parsed.error.issues;
      throw new WorkloadError(profileFile, 1, `${issue!.path.map(String).join(".")}: ${issue!.message}`);
    }
    this.#profiles = parsed.data;
    for (const row of readCsv(kvFile, ["model", "tp", "pp", "max_num_tokens"])) {
      const key = `${row.text("model")}/${row.count("tp", 1)}/${row.count("pp", 1)}`;
      this.#kvTokens.set(key, row.count("max_num_tokens", 1));
    }
  }

  /** Throws {@link WorkloadError} when the files do not have the model with that parallelism. */
  perf(model: string, tp: number, pp: number): DistservePerf {
    const profile = this.#profiles[model]?.[String(tp)];
    const kvCapacityTokens = this.#kvTokens.get(`${model}/${tp}/${pp}`);
    const kvBytesPerToken = KV_BYTES[model];
    if (profile === undefined || kvCapacityTokens === undefined || kvBytesPerToken === undefined)
      throw new WorkloadError(this.#file, 1, `has no ${model} with TP ${tp} and PP ${pp}`);
    const coefficients = {
      prefill: profile.prefill,
      decodeSmall: profile.decoding_smallbs,
      decodeLarge: profile.decoding_largebs,
      largeBatch: profile.decoding_large_small_bs_threshold,
    };
    return new DistservePerf({ coefficients, pp, kvCapacityTokens, kvBytesPerToken });
  }
}

import { z } from "zod";
import { OrcaPerf } from "../../core/perf/paper/orca.ts";
import type { PerfModel } from "../../core/perf/perf-model.ts";
import { CsvError } from "../csv-file.ts";
import { PartError, type PerfQuery } from "../parts.ts";
import { WorkloadError } from "../workload/workload.ts";
import { DistserveData } from "./distserve-data.ts";
import { readSplitwiseTable, type SplitwiseHardware } from "./splitwise-table.ts";

const pathSchema = z.string().min(1).max(4096);

/** `paper` sections of scenarios, by model. Paths are those of the working directory: the files are nobody's to ship. */
const paperSchema = z.discriminatedUnion("model", [
  /** `table`: the simulator's `perf_model.csv`. BLOOM-176B on machines of eight. */
  z.strictObject({ model: z.literal("splitwise"), table: pathSchema }),
  /** `profile` and `kv`: the simulator's JSON of coefficients and `max_num_tokens.csv`; `name` as they have it. */
  z.strictObject({ model: z.literal("distserve"), profile: pathSchema, kv: pathSchema, name: z.string() }),
  /** GPT-3 175B on sixteen A100; `fixedMs` per step. */
  z.strictObject({ model: z.literal("orca"), fixedMs: z.number().min(0).max(10_000).default(74.5) }),
]);

/** Names of the paper's machines by the accelerators of the catalogue. */
const SPLITWISE_HARDWARE: Readonly<Record<string, SplitwiseHardware>> = {
  "a100-80g-sxm": "a100-80gb",
  "h100-sxm": "h100-80gb",
};

/** The perf model of a paper for one pool. Throws {@link PartError} with the key that is wrong. */
export function paperPerf(section: NonNullable<PerfQuery["paper"]>, query: PerfQuery): PerfModel {
  const parsed = paperSchema.safeParse(section);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new PartError(issue!.message, ["paper", ...issue!.path.map(String)]);
  }
  try {
    return perfOf(parsed.data, query);
  } catch (error) {
    if (error instanceof WorkloadError || error instanceof CsvError)
      throw new PartError(error.message, ["paper"]);
    if (error instanceof Error && "code" in error && error.code === "ENOENT")
      throw new PartError(error.message, ["paper"]);
    throw error;
  }
}

function perfOf(section: z.infer<typeof paperSchema>, { device, parallelism }: PerfQuery): PerfModel {
  if (section.model === "orca") return new OrcaPerf(section.fixedMs);
  if (section.model === "distserve")
    return new DistserveData(section.profile, section.kv).perf(section.name, parallelism.tp, parallelism.pp);
  const hardware = SPLITWISE_HARDWARE[device.id];
  if (hardware === undefined || parallelism.tp !== 8)
    throw new PartError(
      `the paper has no ${device.id} with TP ${parallelism.tp}; allowed: ${Object.keys(SPLITWISE_HARDWARE).join(", ")} with TP 8`,
      ["device"],
    );
  return readSplitwiseTable(section.table, "bloom-176b").get(hardware)!;
}

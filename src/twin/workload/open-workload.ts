import { isAbsolute, join } from "node:path";
import { Rng } from "../../core/util/rng.ts";
import { wishesOfSection } from "../../protocol/workload-cache-schema.ts";
import type { ArrivalsSection, WorkloadSection } from "../../protocol/workload-schema.ts";
import { arrivalProcess } from "./arrival-process.ts";
import { detectFormat } from "./detect-format.ts";
import { generatePlain, generateSharedPrefix, generateVideo } from "./generate.ts";
import { generateAgents } from "./generate-agents.ts";
import { openAzure } from "./read-azure.ts";
import { openBurstGpt } from "./read-burstgpt.ts";
import { openJsonl } from "./read-jsonl.ts";
import { openLengths } from "./read-lengths.ts";
import { openMooncake } from "./read-mooncake.ts";
import { openQwen } from "./read-qwen.ts";
import { openServeGen } from "./read-servegen.ts";
import { openWeka } from "./read-weka.ts";
import type { SessionStarts } from "./session-source.ts";
import type { Told } from "./tell-sessions.ts";
import type { TraceOptions } from "./trace-source.ts";
import {
  LimitedSource,
  MergedSource,
  repeatSource,
  spreadBuckets,
  TenantSource,
  TimeScaledSource,
  WishingSource,
} from "./transforms.ts";
import type { Pace } from "./untimed.ts";
import { WorkloadError, type WorkloadSource } from "./workload.ts";

/** What a workload section needs from outside. */
export interface WorkloadEnvironment {
  /** Folder that relative paths count from. */
  readonly baseDir: string;
  /** Every draw comes from its streams whose names begin with `workload`, `servegen` or the name of a merged part. */
  readonly rng: Rng;
}

/**
 * Opens what a section describes. Its keys act in this order: reading or generating, `spread`, `repeat`, `timeScale`, `requests`
 * and `durationMs`, `tenants`, `cache`. Throws {@link WorkloadError} for bad files, also later while the source is read. Generators have no
 * end but `requests` and `durationMs`; see {@link isEndless}.
 */
export function openWorkload(section: WorkloadSection, environment: WorkloadEnvironment): WorkloadSource {
  let source = openKind(section, environment);
  if (section.timeScale !== 1) source = new TimeScaledSource(source, section.timeScale);
  const { requests, durationMs, tenants, cache } = section;
  if (requests !== undefined || durationMs !== undefined) {
    source = new LimitedSource(source, {
      ...(requests === undefined ? {} : { requests }),
      ...(durationMs === undefined ? {} : { durationMs }),
    });
  }
  if (tenants !== undefined)
    source = new TenantSource(source, tenants, environment.rng.stream("workload/tenants"));
  const wishes = cache === undefined ? {} : wishesOfSection(cache);
  return Object.keys(wishes).length === 0 ? source : new WishingSource(source, wishes);
}

/** Whether a section describes a workload that never ends by itself. */
export function isEndless(section: WorkloadSection): boolean {
  if (section.requests !== undefined || section.durationMs !== undefined) return false;
  switch (section.kind) {
    case "trace":
    case "sessions":
    case "servegen":
      return false;
    case "merge":
      return Object.values(section.parts).some(isEndless);
    case "lengths":
      return section.order === "random" && section.arrivals?.kind !== "stages";
    default:
      return section.arrivals?.kind !== "stages";
  }
}

function openKind(section: WorkloadSection, environment: WorkloadEnvironment): WorkloadSource {
  const { rng } = environment;
  switch (section.kind) {
    case "trace":
      return openTrace(section, environment);
    case "sessions":
      return openWeka(pathOf(section.path, environment), {
        starts: startsOf(section, rng),
        repeat: section.repeat,
        told: toldBy(section),
      });
    case "lengths": {
      const rows = section.order === "random" ? rng.stream("workload/rows") : null;
      return openLengths(pathOf(section.path, environment), paceOf(section, rng), rows);
    }
    case "servegen":
      return openServeGen(pathOf(section.path, environment), rng, section);
    case "requests":
      return generatePlain(section, paceOf(section, rng), rng);
    case "shared-prefix":
      return generateSharedPrefix(section, paceOf(section, rng), rng);
    case "agents":
      return generateAgents(
        { ...section, fanOut: section.fanOut ?? null },
        startsOf(section, rng),
        rng,
        toldBy(section),
      );
    case "video":
      return openVideo(section, rng);
    case "merge": {
      const parts = Object.entries(section.parts).map(([name, part]) => {
        // Two parts of one kind must not draw the same numbers.
        const seed = rng.stream(`${name}/seed`).nextUint32();
        return [name, openWorkload(part, { ...environment, rng: new Rng(seed) })] as const;
      });
      return new MergedSource(new Map(parts));
    }
  }
}

function openTrace(
  section: WorkloadSection & { kind: "trace" },
  environment: WorkloadEnvironment,
): WorkloadSource {
  const { zeroLengths, spread, repeat, repeatSharesBlocks } = section;
  const path = pathOf(section.path, environment);
  const open = readerOf(section.format === "auto" ? detectFormat(path) : section.format, path);
  const stream = spread?.gaps === "random" ? environment.rng.stream("workload/spread") : null;
  const openRound = (): WorkloadSource => {
    const source = open(path, zeroLengths === undefined ? {} : { zeroLengths });
    return spread === undefined ? source : spreadBuckets(source, spread.bucketMs, stream);
  };
  return repeat === 1 ? openRound() : repeatSource(openRound, repeat, repeatSharesBlocks);
}

function readerOf(format: string, path: string): (path: string, options: TraceOptions) => WorkloadSource {
  switch (format) {
    case "mooncake":
      return openMooncake;
    case "azure":
      return openAzure;
    case "burstgpt":
      return openBurstGpt;
    case "qwen":
      return openQwen;
    case "jsonl":
      return openJsonl;
    default: {
      const kind = format === "weka" ? "sessions" : format;
      throw new WorkloadError(path, 0, `is no trace with times; use kind: ${kind} for it`);
    }
  }
}

function openVideo(section: WorkloadSection & { kind: "video" }, rng: Rng): WorkloadSource {
  const { outputTokens, outputFrames, tokensPerOutputFrame } = section;
  const output =
    outputTokens !== undefined
      ? { tokens: outputTokens }
      : { frames: outputFrames!, tokensPerFrame: tokensPerOutputFrame };
  return generateVideo({ ...section, output }, paceOf(section, rng), rng);
}

/** What the turns of sessions say, as far as these know it. */
function toldBy({ cache }: WorkloadSection & { kind: "sessions" | "agents" }): Told {
  return { fanOut: cache?.fanOut === "told", nextTurn: cache?.nextTurnSeconds === "told" };
}

interface PaceKeys {
  readonly arrivals?: ArrivalsSection | undefined;
  readonly concurrency?: number | undefined;
  readonly thinkMs: number;
}

function paceOf({ arrivals, concurrency, thinkMs }: PaceKeys, rng: Rng): Pace {
  if (arrivals === undefined) return { concurrency: concurrency!, thinkMs };
  return { arrivals: arrivalProcess(arrivals, rng.stream("workload/arrivals")) };
}

interface StartKeys {
  readonly lanes?: number | undefined;
  readonly arrivals?: ArrivalsSection | undefined;
  readonly staggerMs: number;
  readonly gapMs: number;
}

function startsOf({ lanes, arrivals, staggerMs, gapMs }: StartKeys, rng: Rng): SessionStarts {
  if (arrivals === undefined) return { lanes: lanes!, staggerMs, gapMs };
  return { arrivals: arrivalProcess(arrivals, rng.stream("workload/arrivals")) };
}

function pathOf(path: string, { baseDir }: WorkloadEnvironment): string {
  return isAbsolute(path) ? path : join(baseDir, path);
}

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { emptyStepTime } from "../../core/perf/perf-model.ts";
import { ProfileModel } from "../../core/perf/profile-model.ts";
import { StepLoad } from "../../core/perf/step-load.ts";
import type { BenchClock } from "../clock.ts";
import type { ResponseTrace } from "../record.ts";
import { type EngineLog, readEngineLog } from "./engine-log.ts";
import { type FittedProfile, fitMeasurements } from "./fit-logs.ts";
import { type PlanLimits, splitRound, unsplitRound } from "./measuring-plan.ts";
import { PhaseDriver } from "./phase-driver.ts";

/** A running server whose workers write step logs. */
export interface MeasuredServer {
  readonly url: URL;
  /** Folder of the step logs, and the names of the workers. */
  readonly logFolder: string;
  readonly workerIds: readonly string[];
}

export interface MeasureOptions {
  /** One worker that prefills and decodes. */
  readonly unsplit: MeasuredServer;
  /** One worker for each, or null: handoffs are not measured. */
  readonly split: MeasuredServer | null;
  readonly limits: PlanLimits;
  readonly clock: BenchClock;
  /** Added to the clock's time gives milliseconds since the epoch, on which step logs are. */
  readonly epochMs: number;
  readonly signal: AbortSignal;
  readonly seed: number;
  /** Measuring ends after it, or earlier when another round changes nothing. */
  readonly maxSeconds: number;
  onProgress?(state: { phase: string; round: number; seconds: number }): void;
}

/** Length of a round on each server. */
const UNSPLIT_ROUND_SECONDS = 9;
const SPLIT_ROUND_SECONDS = 3;
/** Share of a round that warms caches, compiler and connections up. */
const WARM_UP_SHARE = 0.25;
/** Measuring ends when prices of typical steps have changed by less than this from one round to the next. */
const MAX_CHANGE = 0.03;
/** Rounds that are run in any case, time permitting. */
const MIN_ROUNDS = 2;

/** What has been measured so far; measuring may go on. */
export class EngineMeasuring {
  readonly #options: MeasureOptions;
  readonly #drivers = new Map<MeasuredServer, PhaseDriver>();
  readonly #lone: Array<{ trace: ResponseTrace; workerId: string }> = [];
  #fromMs = Number.NaN;

  constructor(options: MeasureOptions) {
    this.#options = options;
  }

  /** Rounds until nothing changes any more or time is up. Rejects with `BenchError` or `ProfileError`. */
  async run(): Promise<FittedProfile> {
    const { clock, maxSeconds, signal } = this.#options;
    const startMs = clock.nowMs();
    let last: FittedProfile | null = null;
    for (let round = 1; ; round++) {
      const leftSeconds = maxSeconds - (clock.nowMs() - startMs) / 1000;
      await this.round(round, Math.min(1, leftSeconds / (UNSPLIT_ROUND_SECONDS + SPLIT_ROUND_SECONDS)));
      const fitted = this.fit();
      const elapsedSeconds = (clock.nowMs() - startMs) / 1000;
      const isSettled = last !== null && round >= MIN_ROUNDS && changeOf(last, fitted) < MAX_CHANGE;
      if (isSettled || elapsedSeconds >= maxSeconds - 1 || signal.aborted) return fitted;
      last = fitted;
    }
  }

  /** One round on each server; `share` of its usual time. The first one begins with a warm-up, which is not counted. */
  async round(number: number, share = 1): Promise<void> {
    const { unsplit, split, limits } = this.#options;
    const rounds = [{ server: unsplit, phases: unsplitRound(limits, UNSPLIT_ROUND_SECONDS * share) }];
    if (split !== null)
      rounds.push({ server: split, phases: splitRound(limits, SPLIT_ROUND_SECONDS * share) });
    if (Number.isNaN(this.#fromMs)) {
      for (const { server, phases } of rounds) {
        for (const phase of phases)
          await this.#run(server, { ...phase, seconds: phase.seconds * WARM_UP_SHARE }, 0);
      }
      this.#fromMs = this.epochNowMs;
    }
    for (const { server, phases } of rounds) {
      for (const phase of phases) {
        const traces = await this.#run(server, phase, number);
        if (phase.isLone) {
          for (const trace of traces) this.#lone.push({ trace, workerId: server.workerIds[0]! });
        }
      }
    }
  }

  /** Now, as {@link fit} takes it. */
  get epochNowMs(): number {
    return this.#options.clock.nowMs() + this.#options.epochMs;
  }

  /** Fits what was measured after the warm-up, or after a later time. Throws `ProfileError` when it is too little. */
  fit(sinceMs = 0): FittedProfile {
    const lone = this.#lone.filter(({ trace }) => trace.sentMs >= sinceMs);
    return fitMeasurements({ logs: this.logs(sinceMs), lone });
  }

  /** Step logs of all workers, without the warm-up and what was before a time. */
  logs(sinceMs = 0): EngineLog[] {
    const { unsplit, split } = this.#options;
    return [unsplit, ...(split === null ? [] : [split])].flatMap(({ logFolder, workerIds }) =>
      workerIds.map((id) => {
        const path = join(logFolder, `${id}.jsonl`);
        return readEngineLog(readFileSync(path, "utf8"), path, Math.max(this.#fromMs, sinceMs));
      }),
    );
  }

  async close(): Promise<void> {
    for (const driver of this.#drivers.values()) await driver.close();
  }

  async #run(
    server: MeasuredServer,
    phase: ReturnType<typeof unsplitRound>[number],
    round: number,
  ): Promise<ResponseTrace[]> {
    const { clock, signal, seed, epochMs, onProgress } = this.#options;
    let driver = this.#drivers.get(server);
    if (driver === undefined) {
      driver = new PhaseDriver(server.url, { clock, signal, seed });
      this.#drivers.set(server, driver);
      await driver.open();
    }
    onProgress?.({ phase: phase.name, round, seconds: phase.seconds });
    const traces = await driver.run(phase);
    return traces.map((trace) => ({
      ...trace,
      sentMs: trace.sentMs + epochMs,
      endMs: trace.endMs + epochMs,
      contentTimesMs: trace.contentTimesMs.map((timeMs) => timeMs + epochMs),
    }));
  }
}

/** Largest relative change of the prices of typical steps. */
function changeOf(before: FittedProfile, after: FittedProfile): number {
  const [old, now] = [pricesOf(before), pricesOf(after)];
  return Math.max(...now.map((ms, index) => Math.abs(ms / old[index]! - 1)));
}

function pricesOf({ step, host, handoff, range }: FittedProfile): number[] {
  const model = new ProfileModel({ step, host, handoff, range, kvCapacityTokens: 0, kvBytesPerToken: 0 });
  const time = emptyStepTime();
  const load = new StepLoad();
  const { contextTokens, decodes, stepTokens } = range;
  const fills: Array<() => void> = [
    () => load.addDecode(contextTokens / 2),
    () => {
      for (let i = 0; i < decodes; i++) load.addDecode(contextTokens / 8);
    },
    () => load.addPrefill(0, stepTokens, true),
    () => load.addPrefill(contextTokens / 2, stepTokens / 2, true),
  ];
  return fills.map((fill) => {
    load.clear();
    fill();
    model.stepTime(load, time);
    return time.deviceMs;
  });
}

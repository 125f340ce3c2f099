import { ENGINE_CALIBRATIONS } from "../../core/perf/coefficients/engines.ts";
import { ROUTING_SKEW } from "../../core/perf/create-perf-model.ts";
import {
  type EngineCalibration,
  type EngineFit,
  PLAIN_KERNELS,
  type TtftWeights,
} from "../../core/perf/engine-calibration.ts";
import { StepCosts } from "../../core/perf/step-costs.ts";
import {
  aggregatedState,
  calibratedMs,
  disaggregatedState,
  type Loop,
  prefillTerms,
  type Terms,
} from "./closed-loop.ts";
import type { Pool, SiliconRow } from "./silicon-row.ts";

/** Most prefill tokens of one step, the default of the engines measured. */
const CHUNK_TOKENS = 8192;
/** Replicas that are remembered between rows. */
const MAX_CACHED_COSTS = 2000;

/** Parts of the mean time to the first token, in milliseconds, before the engine's weights. */
export interface TtftParts {
  readonly request: number;
  /** Thousands of input tokens. */
  readonly kiloTokens: number;
  readonly prefill: number;
  readonly step: number;
  /** Waiting behind other prefills in the steady state. */
  readonly queue: number;
  /** Half of the prefills that are sent at once at the start: they are a share of all requests. */
  readonly burst: number;
}

export interface Prediction {
  readonly tpotMs: number;
  readonly tpotTerms: Terms;
  readonly ttftMs: number;
  readonly ttftParts: TtftParts;
}

/** Name of a calibration: the engine and the generation of the device, such as `vllm/hopper`. */
export function calibrationKey(row: SiliconRow): string {
  return `${row.engine}/${row.device.denseFlops.fp4 === undefined ? "hopper" : "blackwell"}`;
}

/** The weights for the row's load generator, or else those for another. */
function ttftWeightsOf(fit: EngineFit | undefined, row: SiliconRow): TtftWeights | undefined {
  return fit?.ttft[row.loadGenerator] ?? Object.values(fit?.ttft ?? {})[0];
}

/** Predicts mean TPOT and TTFT of rows; replicas of equal shape share their costs. */
export class SiliconPredictor {
  readonly #costs = new Map<string, StepCosts>();

  /** `fit` in place of the stored one is for fitting. */
  predict(
    row: SiliconRow,
    fit: EngineFit | undefined = ENGINE_CALIBRATIONS[calibrationKey(row)],
  ): Prediction {
    const engine = fit?.calibration ?? PLAIN_KERNELS;
    const ttftWeights = ttftWeightsOf(fit, row) ?? PLAIN_TTFT;
    return row.prefill === null
      ? this.#aggregated(row, engine, ttftWeights)
      : this.#disaggregated(row, row.prefill, engine, ttftWeights);
  }

  #aggregated(row: SiliconRow, engine: EngineCalibration, weights: TtftWeights): Prediction {
    const loop = this.#loopOf(row, row.decode, engine, row.concurrency);
    const state = aggregatedState(loop);
    const perGroup = Math.max(1, row.concurrency / loop.dp);
    const lifeMs = row.outputTokens * state.tpotMs + state.prefillMs;
    const load = Math.min(MAX_LOAD, (perGroup * state.addedMs) / lifeMs);
    const ttftParts: TtftParts = {
      request: 1,
      kiloTokens: row.inputTokens / 1000,
      prefill: state.prefillMs,
      step: perGroup > 1 ? state.tpotMs : 0,
      queue: ((load / (1 - load)) * state.prefillMs) / 2,
      burst: ((perGroup - 1) / 2) * state.addedMs,
    };
    return { ...state, ttftParts, ttftMs: weighted(ttftParts, weights) };
  }

  #disaggregated(
    row: SiliconRow,
    prefill: Pool,
    engine: EngineCalibration,
    weights: TtftWeights,
  ): Prediction {
    const first = this.#loopOf(row, prefill, engine, 1);
    const prefillMs = calibratedMs(prefillTerms(first, 0), engine);
    const prefillsPerMs = (prefill.workers * first.dp) / prefillMs;
    const loop = this.#loopOf(row, row.decode, engine, row.concurrency / row.decode.workers);
    const state = disaggregatedState(loop, row.decode.workers, prefillsPerMs);
    const lifeMs = row.outputTokens * state.tpotMs + prefillMs;
    const load = row.concurrency / lifeMs / prefillsPerMs;
    const ttftParts: TtftParts = {
      request: 1,
      kiloTokens: row.inputTokens / 1000,
      prefill: prefillMs,
      step: state.tpotMs,
      // Demand beyond what prefill gives waits before it, by Little's law.
      queue:
        load < MAX_LOAD
          ? ((load / (1 - load)) * prefillMs) / 2
          : Math.max(0, row.concurrency / prefillsPerMs - lifeMs),
      burst: row.concurrency / prefillsPerMs / 2,
    };
    return { ...state, ttftParts, ttftMs: weighted(ttftParts, weights) };
  }

  #loopOf(row: SiliconRow, pool: Pool, calibration: EngineCalibration, concurrency: number): Loop {
    return {
      costs: this.#costsOf(row, pool),
      calibration,
      numLayers: row.model.numLayers,
      dp: pool.parallelism.dp,
      concurrency,
      inputTokens: row.inputTokens,
      outputTokens: row.outputTokens,
      chunkTokens: CHUNK_TOKENS,
      isMixed: row.engine !== "sglang",
    };
  }

  #costsOf(row: SiliconRow, pool: Pool): StepCosts {
    const key = JSON.stringify([row.device.id, row.model.name, pool.parallelism, row.formats]);
    let costs = this.#costs.get(key);
    if (costs === undefined) {
      const { device, model, formats } = row;
      costs = new StepCosts({
        device,
        model,
        formats,
        parallelism: pool.parallelism,
        routingSkew: ROUTING_SKEW,
      });
      if (this.#costs.size < MAX_CACHED_COSTS) this.#costs.set(key, costs);
    }
    return costs;
  }
}

/** Load of prefills above which a queue has no steady state. */
const MAX_LOAD = 0.95;

const PLAIN_TTFT: TtftWeights = { request: 0, kiloTokens: 0, prefill: 1, step: 1, queue: 1, burst: 0 };

function weighted(parts: TtftParts, weights: TtftWeights): number {
  let sum = 0;
  for (const name of Object.keys(parts) as Array<keyof TtftParts>) sum += parts[name] * weights[name];
  return sum;
}

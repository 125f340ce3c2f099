import type { OperatorClass } from "./layer-costs.ts";

/**
 * How an engine's steps differ from the sum of measured kernels: other kernels, overlap of some, gaps between others. Fitted to
 * end-to-end measurements, see `coefficients/engines.ts`.
 */
export interface EngineCalibration {
  /** Multiplies the device time of an operator class; absent: 1. */
  readonly factors: Readonly<Partial<Record<OperatorClass, number>>>;
  /** Milliseconds of every step that nothing hides. */
  readonly stepMs: number;
  /** Milliseconds per layer and step: gaps between kernels that grow with the depth. */
  readonly layerMs: number;
  /** Milliseconds per sequence in a step. */
  readonly sequenceMs: number;
}

/** Kernels as measured, back to back. */
export const PLAIN_KERNELS: EngineCalibration = { factors: {}, stepMs: 0, layerMs: 0, sequenceMs: 0 };

/** How much each part of a mean time to the first token counts; `request` and `kiloTokens` are milliseconds, the others factors. */
export type TtftWeights = Readonly<
  Record<"request" | "kiloTokens" | "prefill" | "step" | "queue" | "burst", number>
>;

/** A calibration as it is stored, with what it was fitted on. */
export interface EngineFit {
  readonly calibration: EngineCalibration;
  /** Weights of the parts of the mean time to the first token under a closed loop of clients, by load generator. */
  readonly ttft: Readonly<Record<string, TtftWeights>>;
  readonly rows: number;
}

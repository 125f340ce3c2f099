import type { EngineCalibration } from "../core/perf/engine-calibration.ts";
import type { EngineOverheads } from "../core/perf/engine-overheads.ts";
import type { ModelShape } from "../core/perf/model-shape.ts";
import { VLLM_FIT } from "./vllm-fit.ts";

/** A fitted figure with its standard error, in the unit of the last word of its name. */
export interface FittedTerm {
  readonly value: number;
  readonly error: number;
}

/** Terms of an engine around its kernels, see {@link EngineOverheads}, and what depends on device, model and options. */
export interface ServingFit {
  /** Engine and version that was measured. */
  readonly measuredWith: string;
  readonly terms: Readonly<Record<EngineTerm, FittedTerm>>;
  /** Relative host time of systems other than the one that the terms are for: another processor in front of the accelerators. */
  readonly hostFactors: Readonly<Record<string, FittedTerm>>;
  /** Tokens that clients count in an output when they tokenise its text again, per token generated, by catalogue id of the model. */
  readonly recountedTokens: Readonly<Record<string, FittedTerm>>;
  /** Experiments that the terms were fitted on. */
  readonly fittedOn: readonly string[];
}

export type EngineTerm =
  | "requestMs"
  | "stepMs"
  | "sequenceMs"
  | "vocabularyMs"
  | "contextSkew"
  | "collectiveFactor"
  | "mixedLayerMs"
  | "offloadRequestMs"
  | "warmUpMoeMs";

/** A deployment as far as its engine's overheads depend on it. */
export interface EngineCase {
  readonly deviceId: string;
  readonly model: ModelShape;
  /** Whether KV is copied to host memory as well. */
  readonly isOffloading: boolean;
}

/** What vLLM adds to its kernels. */
export function vllmOverheads(served: EngineCase, fit: ServingFit = VLLM_FIT): EngineOverheads {
  const { terms } = fit;
  const host = fit.hostFactors[served.deviceId]?.value ?? 1;
  return {
    requestMs: host * terms.requestMs.value + (served.isOffloading ? terms.offloadRequestMs.value : 0),
    outputMs: 0,
    stepMs: host * terms.stepMs.value,
    sequenceMs: host * terms.sequenceMs.value,
    prefillTokenMs: 0,
    mixedLayerMs: host * terms.mixedLayerMs.value,
    vocabularyMs: terms.vocabularyMs.value,
    contextSkew: terms.contextSkew.value,
  };
}

/** How vLLM's kernels differ from single kernels: all-reduces between kernels that do not end together wait for the last one. */
export function vllmCalibration(fit: ServingFit = VLLM_FIT): EngineCalibration {
  return { factors: { collective: fit.terms.collectiveFactor.value }, stepMs: 0, layerMs: 0, sequenceMs: 0 };
}

/** How long a fresh engine stops once while it compiles kernels for its first load. */
export function vllmWarmUpMs(model: ModelShape, fit: ServingFit = VLLM_FIT): number {
  return model.ffn.kind === "moe" ? fit.terms.warmUpMoeMs.value : 0;
}

/** What a client counts per generated token, by catalogue id of the model; 1 where nothing was measured. */
export function recountedPerToken(modelId: string, fit: ServingFit = VLLM_FIT): number {
  return fit.recountedTokens[modelId]?.value ?? 1;
}

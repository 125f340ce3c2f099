import type { DeviceSpec, Parallelism } from "./device-spec.ts";
import { efficienciesOf, type KernelTables } from "./efficiencies.ts";
import { type EngineCalibration, PLAIN_KERNELS } from "./engine-calibration.ts";
import { KernelTimes } from "./kernel-times.ts";
import { LayerCosts, type OperatorSink } from "./layer-costs.ts";
import type { ModelFormats } from "./model-bytes.ts";
import type { ModelShape } from "./model-shape.ts";
import type { Provenance } from "./operators/efficiency.ts";

export interface StepCostsOptions {
  readonly device: DeviceSpec;
  readonly model: ModelShape;
  readonly parallelism: Parallelism;
  readonly formats: ModelFormats;
  readonly routingSkew: number;
  readonly calibration?: EngineCalibration;
  readonly tables?: KernelTables;
}

/** The costs of a replica's layers as one engine runs them: measured or fitted kernels, times the engine's factors. */
export class StepCosts {
  readonly provenance: Provenance;
  /** Milliseconds of every step besides its kernels. */
  readonly fixedMs: number;
  readonly sequenceMs: number;
  readonly #layers: LayerCosts;
  readonly #factors: EngineCalibration["factors"];

  constructor(options: StepCostsOptions) {
    const { device, model, parallelism, formats, routingSkew, tables } = options;
    const calibration = options.calibration ?? PLAIN_KERNELS;
    const { rates, scaleUp, lookup } = efficienciesOf(device, tables);
    const kernels = new KernelTimes(rates, lookup);
    this.provenance = kernels.provenance;
    this.#layers = new LayerCosts(kernels, { ...device, scaleUp }, model, parallelism, formats, routingSkew);
    this.#factors = calibration.factors;
    this.fixedMs = calibration.stepMs + calibration.layerMs * model.numLayers;
    this.sequenceMs = calibration.sequenceMs;
  }

  /** All that depends on token counts alone, see {@link LayerCosts.addTokens}. */
  addTokens(groupTokens: number, allTokens: number, sink: OperatorSink): void {
    this.#layers.addTokens(groupTokens, allTokens, this.#scaled(sink));
  }

  addSamples(samples: number, sink: OperatorSink): void {
    this.#layers.addSamples(samples, this.#scaled(sink));
  }

  addPrefillAttention(sequences: number, tokens: number, context: number, sink: OperatorSink): void {
    this.#layers.addPrefillAttention(sequences, tokens, context, this.#scaled(sink));
  }

  addDecodeAttention(sequences: number, context: number, sink: OperatorSink): void {
    this.#layers.addDecodeAttention(sequences, context, this.#scaled(sink));
  }

  #scaled(sink: OperatorSink): OperatorSink {
    return (operator, ms) => sink(operator, ms * (this.#factors[operator] ?? 1));
  }
}

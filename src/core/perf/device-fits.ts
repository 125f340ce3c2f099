import type { LinkSpec } from "./device-spec.ts";
import type { StoredSurface } from "./operators/fitted-surface.ts";
import type { RooflineRates } from "./operators/roofline.ts";

/** Fitted efficiencies of one device. */
export interface DeviceFits {
  /** Catalogue id of the device that was measured. */
  readonly device: string;
  /** Rates that the rooflines were computed with. */
  readonly reference: RooflineRates & { readonly scaleUp: LinkSpec };
  /** Software that ran the kernels, such as `vllm 0.19.0`. */
  readonly measuredWith: string;
  /** By operator class and variant, such as `gemm/fp8-block`. */
  readonly surfaces: Readonly<Record<string, StoredSurface>>;
}

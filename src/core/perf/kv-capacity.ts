import type { PerfProblem } from "./deployment-check.ts";
import type { DeviceSpec, Parallelism } from "./device-spec.ts";
import {
  activationBytes,
  kvBytesPerTokenAndDevice,
  type ModelFormats,
  stateBytesPerSequence,
  weightBytesPerDevice,
} from "./model-bytes.ts";
import type { ModelShape } from "./model-shape.ts";

export interface KvCapacityOptions {
  readonly device: DeviceSpec;
  readonly model: ModelShape;
  readonly parallelism: Parallelism;
  readonly formats: ModelFormats;
  readonly tokenBudget: number;
  readonly maxRunning: number;
  readonly memoryUtilisation: number;
  readonly reserveBytes: number;
  readonly blockTokens: number;
}

/** Where one device's memory goes. */
export interface KvCapacity {
  /** Of all attention groups together, whole blocks. 0 when there is a problem. */
  readonly tokens: number;
  readonly weightBytes: number;
  readonly activationBytes: number;
  readonly stateBytes: number;
  readonly kvBytes: number;
  readonly problem: PerfProblem | null;
}

/** How many tokens' KV fit beside weights, activations, fixed states and the runtime. */
export function kvCapacity(options: KvCapacityOptions): KvCapacity {
  const { device, model, parallelism, formats, memoryUtilisation, blockTokens } = options;
  const groupRunning = Math.ceil(options.maxRunning / parallelism.dp);
  const weights = weightBytesPerDevice(model, parallelism, formats);
  const activations = activationBytes(model, parallelism, options.tokenBudget, groupRunning);
  const states = groupRunning * stateBytesPerSequence(model, parallelism, formats);
  const usable = device.memoryBytes * memoryUtilisation;
  const free = usable - weights - activations - states - options.reserveBytes;
  const perToken = kvBytesPerTokenAndDevice(model, parallelism, formats);
  // Without KV that grows there is room for whatever can run at once.
  const blocks =
    perToken === 0
      ? groupRunning * Math.ceil(model.maxContextTokens / blockTokens)
      : Math.floor(free / (perToken * blockTokens));
  const sizes = { weightBytes: weights, activationBytes: activations, stateBytes: states };
  if (free <= 0 || blocks < 1) {
    const gb = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;
    const { tp, pp, ep, dp } = parallelism;
    return {
      ...sizes,
      tokens: 0,
      kvBytes: 0,
      problem: {
        code: "memory",
        message:
          `${model.name} does not fit on ${device.id} with tp ${tp}, pp ${pp}, ep ${ep}, dp ${dp}: per device ${gb(weights)} of weights, ` +
          `${gb(activations + states)} of activations and states and ${gb(options.reserveBytes)} of runtime, but ${gb(usable)} usable`,
      },
    };
  }
  const groupTokens = blocks * blockTokens;
  return { ...sizes, tokens: groupTokens * parallelism.dp, kvBytes: groupTokens * perToken, problem: null };
}

import { COEFFICIENTS } from "../../core/perf/coefficients/index.ts";
import type { DeviceSpec } from "../../core/perf/device-spec.ts";

/** What distinguishes the systems of public measurements, from vendor data sheets: memory in GB, devices of one scale-up domain, NIC in GB/s. */
const SYSTEMS: Readonly<
  Record<string, { device: string; memoryGb: number; scaleUpDevices: number; nicGbPerSecond: number }>
> = {
  a100_sxm: { device: "a100-80g-sxm", memoryGb: 80, scaleUpDevices: 8, nicGbPerSecond: 25 },
  h100_sxm: { device: "h100-sxm", memoryGb: 80, scaleUpDevices: 8, nicGbPerSecond: 50 },
  h200_sxm: { device: "h200-sxm", memoryGb: 141, scaleUpDevices: 8, nicGbPerSecond: 50 },
  b200_sxm: { device: "b200-sxm", memoryGb: 180, scaleUpDevices: 8, nicGbPerSecond: 100 },
  b300_sxm: { device: "b300-sxm", memoryGb: 270, scaleUpDevices: 8, nicGbPerSecond: 100 },
  gb200: { device: "gb200", memoryGb: 186, scaleUpDevices: 72, nicGbPerSecond: 100 },
  gb300: { device: "gb300", memoryGb: 279, scaleUpDevices: 72, nicGbPerSecond: 100 },
  l40s: { device: "l40s", memoryGb: 48, scaleUpDevices: 8, nicGbPerSecond: 50 },
  rtx_pro_6000_server: { device: "rtx-pro-6000-bse", memoryGb: 96, scaleUpDevices: 8, nicGbPerSecond: 50 },
};

/** Rates of Blackwell Ultra where they differ from the measured Blackwell of the same form: FP4 alone. */
const FP4_OF_ULTRA: Readonly<Record<string, { base: string; fp4: number }>> = {
  "b300-sxm": { base: "b200-sxm", fp4: 14e15 },
  gb300: { base: "gb200", fp4: 15e15 },
};

const NIC_LATENCY_MS = 0.01;
const HOST_BYTES_PER_SECOND = 64e9;

/** The device of a system by the name that AIConfigurator gives it, or null when it is not known. */
export function deviceOfSystem(system: string): DeviceSpec | null {
  const entry = SYSTEMS[system];
  if (entry === undefined) return null;
  const ultra = FP4_OF_ULTRA[entry.device];
  const reference = COEFFICIENTS[ultra?.base ?? entry.device]?.reference;
  if (reference === undefined) return null;
  return {
    id: entry.device,
    denseFlops: ultra === undefined ? reference.denseFlops : { ...reference.denseFlops, fp4: ultra.fp4 },
    memoryBytes: entry.memoryGb * 1e9,
    memoryBytesPerSecond: reference.memoryBytesPerSecond,
    scaleUp: reference.scaleUp,
    scaleUpDevices: entry.scaleUpDevices,
    scaleOut: { bytesPerSecond: entry.nicGbPerSecond * 1e9, latencyMs: NIC_LATENCY_MS },
    host: { bytesPerSecond: HOST_BYTES_PER_SECOND, latencyMs: NIC_LATENCY_MS },
    attentionAcceleration: null,
  };
}

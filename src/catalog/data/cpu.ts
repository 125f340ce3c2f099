import type { AcceleratorEntry } from "../entry.ts";
import { derived, recalled, thirdParty, unknown, vendor } from "../figure.ts";

const CPU = { kind: "accelerator", processor: "cpu", links: {} } as const;

/** Host processors: what racks hold beside accelerators, and a class to compute on where its rate is known. */
export const CPUS: readonly AcceleratorEntry[] = [
  {
    ...CPU,
    vendor: "NVIDIA",
    id: "cpu-vera",
    name: "Vera CPU, 88 cores",
    status: "ramping",
    revision: "2026",
    memoryKind: "LPDDR5X SOCAMM",
    links: { host: "nvlink-c2c-vera" },
    figures: {
      "dense.bf16": unknown(),
      "memory.capacity": vendor(1536, "nv-vr-page", "up to 1.5 TB"),
      "memory.bandwidth": vendor(1200, "nv-vr-page"),
      "power.tdp": unknown(),
    },
  },
  {
    ...CPU,
    vendor: "NVIDIA",
    id: "cpu-grace",
    name: "Grace CPU, 72 cores",
    status: "shipping",
    revision: "2023",
    memoryKind: "LPDDR5X",
    links: { host: "nvlink-c2c-grace" },
    figures: {
      "dense.bf16": unknown(),
      "memory.capacity": thirdParty(480, "fibermall"),
      "memory.bandwidth": recalled(vendor(500, "nv-ds")),
      "power.tdp": recalled({ ...vendor(300, "memory"), confidence: "unknown" }),
    },
  },
  {
    ...CPU,
    vendor: "Intel",
    id: "cpu-x86-amx",
    name: "x86 server with matrix units (Granite Rapids, 128 cores)",
    status: "shipping",
    revision: "2024",
    memoryKind: "DDR5 or MRDIMM",
    links: { scaleOut: "nic-200g" },
    figures: {
      "dense.bf16": recalled(
        derived(400, "memory", "128 cores x 2,048 FLOP per cycle x 1.5 to 2 GHz: order of magnitude"),
      ),
      "dense.fp8": { ...derived(0, "memory", "no FP8 path"), isRecalled: true },
      "dense.fp4": { ...derived(0, "memory", "no FP4 path"), isRecalled: true },
      "memory.capacity": recalled(derived(1536, "memory", "twelve modules of 128 GB")),
      "memory.bandwidth": recalled(derived(840, "memory", "twelve MRDIMM-8800; 610 with DDR5-6400")),
      "scaleUp.devices": derived(1, "arithmetic", "one socket by itself"),
      "host.bandwidth": recalled(derived(840, "memory", "its own memory")),
      "host.latency": derived(0, "arithmetic", "its own memory"),
      "power.tdp": recalled({ ...vendor(500, "memory"), confidence: "unknown" }),
    },
  },
];

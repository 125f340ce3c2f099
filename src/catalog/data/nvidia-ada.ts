import type { AcceleratorEntry } from "../entry.ts";
import { between, derived, none, recalled, vendor } from "../figure.ts";
import { powerLikeH100 } from "./power.ts";

const NO_FP4 = none("nv-ds", "no FP4 tensor path");

const CARD = { kind: "accelerator", vendor: "NVIDIA", processor: "gpu", status: "shipping" } as const;

/** Ada, 2022. */
export const ADA: readonly AcceleratorEntry[] = [
  {
    ...CARD,
    id: "rtx-4090",
    name: "GeForce RTX 4090",
    aliases: ["RTX4090"],
    revision: "2022-10",
    memoryKind: "GDDR6X",
    formFactor: "PCIe triple slot",
    links: { scaleUp: "pcie4-x16", scaleOut: "nic-200g", host: "pcie4-x16" },
    figures: {
      "dense.bf16": recalled(vendor(165.2, "nv-ds", "with FP32 accumulation")),
      "dense.fp8": recalled(vendor(330.3, "nv-ds", "with FP32 accumulation; 660.6 with FP16")),
      "dense.int8": recalled(vendor(660.6, "nv-ds")),
      "dense.fp4": NO_FP4,
      "sparse.bf16": recalled(vendor(330.4, "nv-ds")),
      "sparse.fp8": recalled(vendor(660.6, "nv-ds")),
      "memory.capacity": recalled(vendor(24, "nv-ds")),
      "memory.bandwidth": recalled(vendor(1008, "nv-ds")),
      "scaleUp.devices": derived(8, "memory", "usual server; no NVLink"),
      "power.tdp": recalled(vendor(450, "nv-ds")),
      ...powerLikeH100(450, 25, 1008),
    },
  },
  {
    ...CARD,
    id: "l4",
    name: "L4",
    revision: "2023-03",
    memoryKind: "GDDR6",
    formFactor: "PCIe single slot",
    links: { scaleUp: "pcie4-x16", scaleOut: "nic-200g", host: "pcie4-x16" },
    figures: {
      "dense.bf16": vendor(121, "aic"),
      "dense.fp8": vendor(242, "aic"),
      "dense.int8": vendor(242, "aic"),
      "dense.fp4": NO_FP4,
      "sparse.bf16": vendor(242, "aic"),
      "sparse.fp8": vendor(485, "aic"),
      "memory.capacity": vendor(24, "aic"),
      "memory.bandwidth": vendor(300, "aic"),
      "scaleUp.devices": vendor(8, "aic"),
      "power.tdp": vendor(72, "aic"),
      ...powerLikeH100(72, 25, 300),
    },
  },
  {
    ...CARD,
    id: "l40s",
    name: "L40S",
    revision: "2023-08",
    memoryKind: "GDDR6",
    formFactor: "PCIe dual slot",
    links: { scaleUp: "pcie4-x16", scaleOut: "nic-400g", host: "pcie4-x16" },
    figures: {
      "dense.bf16": vendor(362, "aic"),
      "dense.fp8": vendor(733, "aic"),
      "dense.int8": vendor(733, "aic"),
      "dense.fp4": NO_FP4,
      "memory.capacity": vendor(48, "aic"),
      "memory.bandwidth": vendor(864, "aic"),
      "scaleUp.devices": vendor(8, "aic", "PCIe; the card has no NVLink"),
      "power.tdp": vendor(350, "aic"),
      ...powerLikeH100(350, 50, 864),
      "price.purchase": recalled(between(7000, 10000, "unknown", "memory")),
      "video.encoders": recalled(vendor(3, "nv-ds")),
      "video.decoders": recalled(vendor(3, "nv-ds")),
    },
  },
];

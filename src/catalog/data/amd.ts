import type { AcceleratorEntry } from "../entry.ts";
import { derived, none, recalled, vendor } from "../figure.ts";
import { powerLikeH100 } from "./power.ts";

const INSTINCT = { kind: "accelerator", vendor: "AMD", processor: "gpu", status: "shipping" } as const;

const NIC = derived(50, "memory", "usual server: one 400 Gb/s NIC per GPU");
const HOST = recalled(vendor(64, "amd-ds", "PCIe 5.0 x16"));

/** Instinct accelerators. */
export const AMD: readonly AcceleratorEntry[] = [
  {
    ...INSTINCT,
    id: "mi300x",
    name: "Instinct MI300X",
    revision: "2023-12",
    memoryKind: "HBM3",
    formFactor: "OAM",
    links: { scaleUp: "infinity-fabric-3", scaleOut: "nic-400g", host: "pcie5-x16" },
    figures: {
      "dense.bf16": vendor(1307, "amd-ds"),
      "dense.fp8": vendor(2615, "amd-ds"),
      "dense.fp4": none("amd-ds", "no FP4 path"),
      "memory.capacity": vendor(192, "amd-ds"),
      "memory.bandwidth": vendor(5300, "amd-ds"),
      "scaleUp.devices": vendor(8, "amd-ds"),
      "scaleOut.bandwidth": NIC,
      "host.bandwidth": HOST,
      "power.tdp": vendor(750, "amd-ds"),
      ...powerLikeH100(750, 50, 5300),
      "video.encoders": recalled(vendor(0, "memory")),
    },
  },
  {
    ...INSTINCT,
    id: "mi355x",
    name: "Instinct MI355X",
    revision: "2025-06",
    memoryKind: "HBM3E",
    formFactor: "OAM, liquid",
    links: { scaleUp: "infinity-fabric-4", scaleOut: "nic-400g", host: "pcie5-x16" },
    figures: {
      "dense.bf16": recalled(vendor(2516, "amd-ds")),
      "dense.fp8": vendor(5033, "amd-ds"),
      "dense.fp4": recalled(vendor(10066, "amd-ds")),
      "memory.capacity": vendor(288, "amd-ds"),
      "memory.bandwidth": vendor(8000, "amd-ds"),
      "scaleUp.devices": vendor(8, "amd-ds"),
      "scaleOut.bandwidth": NIC,
      "host.bandwidth": HOST,
      "power.tdp": vendor(1400, "amd-ds", "the air-cooled MI350X has 1,000 W"),
      ...powerLikeH100(1400, 50, 8000),
    },
    contradictions: [
      {
        topic: "5 PFLOPS of FP8",
        figure: "dense.fp8",
        finding: "one page calls them sparse; coverage of ISSCC says dense",
        sources: ["amd-ds"],
      },
    ],
  },
];

import type { AcceleratorEntry } from "../entry.ts";
import { between, derived, none, recalled, thirdParty, vendor } from "../figure.ts";
import { powerLikeH100, transferPower } from "./power.ts";

const HOPPER = { kind: "accelerator", vendor: "NVIDIA", processor: "gpu", status: "shipping" } as const;

const NO_FP4 = none("nv-ds", "no FP4 tensor path");

/** Rates of the full Hopper chip, which all its SXM parts but H20 share. */
const RATES = {
  "dense.bf16": vendor(989, "aic"),
  "dense.fp8": vendor(1979, ["aic", "step3"]),
  "dense.fp4": NO_FP4,
  "sparse.bf16": recalled(vendor(1979, "nv-ds")),
  "sparse.fp8": recalled(vendor(3958, "nv-ds")),
};

const VIDEO = {
  "video.encoders": recalled(vendor(0, "nv-ds")),
  "video.decoders": recalled(vendor(7, "nv-ds")),
};

const LINKS = { scaleUp: "nvlink4", scaleOut: "nic-400g", host: "pcie5-x16" } as const;

/** Hopper, 2022. */
export const HOPPER_PARTS: readonly AcceleratorEntry[] = [
  {
    ...HOPPER,
    id: "h100-sxm",
    name: "H100 SXM5",
    family: "h100",
    aliases: ["h100_sxm", "H100-80GB", "h100-sxm5"],
    revision: "2022-03",
    memoryKind: "HBM3",
    formFactor: "SXM5 (HGX, DGX)",
    links: LINKS,
    figures: {
      ...RATES,
      "memory.capacity": vendor(80, "aic"),
      "memory.bandwidth": vendor(3350, "aic"),
      "scaleUp.devices": vendor(8, "aic"),
      "power.tdp": vendor(700, "aic"),
      "power.idle": vendor(75, "splitwise-sim"),
      "power.prefill": vendor(700, "splitwise-sim"),
      "power.decode": vendor(380, "splitwise-sim", "a cap at 70 % costs decode no latency (Splitwise)"),
      "power.transfer": transferPower(75, 380, 50, 3350),
      "price.hour": thirdParty(2.95, ["mercatus", "aimultiple"], {
        range: [1.99, 5],
        note: "median of the market",
      }),
      "price.purchase": recalled(between(25000, 40000, "unknown", "memory")),
      ...VIDEO,
    },
  },
  {
    ...HOPPER,
    id: "h100-pcie",
    name: "H100 PCIe",
    family: "h100",
    aliases: ["h100_pcie"],
    revision: "2022-03",
    memoryKind: "HBM2e",
    formFactor: "PCIe dual slot",
    links: { scaleUp: "pcie5-x16", scaleOut: "nic-400g", host: "pcie5-x16" },
    figures: {
      "dense.bf16": vendor(756.5, "aic"),
      "dense.fp8": vendor(1513, "aic"),
      "dense.int8": vendor(1513, "aic"),
      "dense.fp4": NO_FP4,
      "sparse.bf16": vendor(1513, "aic"),
      "sparse.fp8": vendor(3026, "aic"),
      "memory.capacity": vendor(80, "aic"),
      "memory.bandwidth": vendor(2000, "aic"),
      "scaleUp.devices": vendor(8, "aic", "PCIe, without NVLink bridges"),
      "power.tdp": vendor(350, "aic"),
      ...powerLikeH100(350, 50, 2000),
    },
  },
  {
    ...HOPPER,
    id: "h800-sxm",
    name: "H800 SXM",
    aliases: ["h800", "h800_sxm"],
    revision: "2023",
    memoryKind: "HBM3",
    formFactor: "SXM5",
    links: { ...LINKS, scaleUp: "nvlink4-export" },
    figures: {
      ...RATES,
      "dense.bf16": thirdParty(989, "megascale"),
      "memory.capacity": thirdParty(80, "megascale"),
      "memory.bandwidth": thirdParty(3350, "megascale"),
      "scaleUp.devices": vendor(8, "aic"),
      "power.tdp": vendor(700, "aic"),
      ...powerLikeH100(700, 50, 3350),
      "price.hour": thirdParty(2, "step3", "the paper's assumption, 2025"),
      ...VIDEO,
    },
    notes: ["Export variant of H100: slower NVLink and FP64, otherwise the same chip."],
  },
  {
    ...HOPPER,
    id: "h200-sxm",
    name: "H200 SXM",
    aliases: ["h200", "h200_sxm"],
    revision: "2023-11",
    memoryKind: "HBM3e",
    formFactor: "SXM5",
    links: LINKS,
    figures: {
      ...RATES,
      "memory.capacity": vendor(141, "aic", "decimal; the source stores 141 GiB"),
      "memory.bandwidth": vendor(4800, "aic"),
      "scaleUp.devices": vendor(8, "aic"),
      "power.tdp": vendor(700, "aic"),
      ...powerLikeH100(700, 50, 4800),
      "price.hour": between(2.5, 7, "third-party", "mercatus"),
      "price.purchase": recalled(between(25000, 40000, "unknown", "memory")),
      ...VIDEO,
    },
  },
  {
    ...HOPPER,
    id: "h20-sxm",
    name: "H20",
    aliases: ["h20", "h20_sxm"],
    revision: "2023-11",
    memoryKind: "HBM3",
    formFactor: "SXM5",
    links: LINKS,
    figures: {
      "dense.bf16": thirdParty(148, ["megascale", "aic"]),
      "dense.fp8": thirdParty(296, "step3", "AIConfigurator's file has 294"),
      "dense.fp4": NO_FP4,
      "memory.capacity": thirdParty(96, "megascale"),
      "memory.bandwidth": thirdParty(4000, "megascale", "the paper's table prints 4,096"),
      "scaleUp.devices": vendor(8, "aic"),
      "scaleOut.bandwidth": derived(
        50,
        "arithmetic",
        "a 400 Gb/s NIC per GPU, as for H100; see contradictions",
      ),
      "power.tdp": recalled(vendor(400, "memory")),
      ...powerLikeH100(400, 50, 4000),
      "price.hour": thirdParty(0.8, "step3", "the paper's assumption, 2025"),
      ...VIDEO,
    },
    contradictions: [
      {
        topic: "design power",
        figure: "power.tdp",
        finding:
          "MegaScale-Infer prints 500 W and AIConfigurator's file 700 W; the remembered data sheet says 400 W",
        sources: ["megascale", "aic", "memory"],
      },
      {
        topic: "scale-out",
        figure: "scaleOut.bandwidth",
        finding: "AIConfigurator's file gives 25 GB/s per GPU; the other Hopper files give 50 GB/s",
        sources: ["aic"],
      },
      {
        topic: "memory",
        figure: "memory.capacity",
        finding:
          "AIConfigurator's file has the 141 GB of a later variant and a comment of 80; the 2023 part has 96 GB",
        sources: ["aic", "megascale"],
      },
    ],
  },
];

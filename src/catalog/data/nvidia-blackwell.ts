import type { AcceleratorEntry } from "../entry.ts";
import { between, derived, recalled, thirdParty, vendor } from "../figure.ts";
import { powerLikeH100 } from "./power.ts";

const BLACKWELL = { kind: "accelerator", vendor: "NVIDIA", processor: "gpu", status: "shipping" } as const;

/** Attention rates relative to GB300. Blackwell Ultra doubles the exponent rate of Blackwell. */
const ATTENTION_OF_BLACKWELL = derived(0.5, "nv-bu-blog", "Blackwell Ultra doubles the attention rate");

const FOUR_OR_EIGHT_HUNDRED = vendor(50, "aic", {
  range: [50, 100],
  note: "400 Gb/s NIC per GPU; 100 GB/s with 800 Gb/s NICs",
});

/** Blackwell and Blackwell Ultra, 2024 and 2025. */
export const BLACKWELL_PARTS: readonly AcceleratorEntry[] = [
  {
    ...BLACKWELL,
    id: "b200-sxm",
    name: "B200 (HGX)",
    aliases: ["b200", "b200_sxm"],
    revision: "2024-03",
    memoryKind: "HBM3e",
    formFactor: "SXM6 (HGX), air or liquid",
    links: { scaleUp: "nvlink5", scaleOut: "nic-400g", host: "pcie5-x16" },
    figures: {
      "dense.bf16": vendor(2250, "aic"),
      "dense.fp8": vendor(4500, "aic"),
      "dense.fp4": vendor(9000, "aic"),
      "sparse.bf16": recalled(vendor(4500, "nv-ds")),
      "sparse.fp8": recalled(vendor(9000, "nv-ds")),
      "sparse.fp4": recalled(vendor(18000, "nv-ds")),
      "memory.capacity": vendor(180, "aic", "decimal; the source stores 180 GiB"),
      "memory.bandwidth": vendor(7700, "aic", { range: [7700, 8000], note: "8 TB/s on other sheets" }),
      "scaleUp.devices": vendor(8, "aic"),
      "scaleOut.bandwidth": FOUR_OR_EIGHT_HUNDRED,
      "power.tdp": vendor(1000, "aic"),
      ...powerLikeH100(1000, 50, 7700),
      "price.purchase": thirdParty(35000, "ms-bom"),
      "attention.acceleration": ATTENTION_OF_BLACKWELL,
      "video.encoders": recalled(vendor(0, "nv-ds")),
      "video.decoders": recalled(vendor(7, "nv-ds")),
    },
  },
  {
    ...BLACKWELL,
    id: "gb200",
    name: "GB200, per GPU of an NVL72",
    revision: "2024-03",
    memoryKind: "HBM3e",
    formFactor: "superchip in a 1U liquid tray",
    links: { scaleUp: "nvlink5", scaleOut: "nic-400g", host: "nvlink-c2c-grace" },
    figures: {
      "dense.bf16": vendor(2500, "aic"),
      "dense.fp8": vendor(5000, "aic"),
      "dense.fp4": vendor(10000, "aic"),
      "sparse.fp4": recalled(vendor(20000, "nv-ds")),
      "memory.capacity": vendor(186, "aic", "192 GB on the package; 189,471 MiB (199 GB) seen by the driver"),
      "memory.bandwidth": vendor(8000, "aic"),
      "scaleUp.devices": vendor(72, "aic"),
      "scaleOut.bandwidth": FOUR_OR_EIGHT_HUNDRED,
      "power.tdp": vendor(1200, "aic"),
      ...powerLikeH100(1200, 50, 8000),
      "price.purchase": derived(52083, "ms-bom", {
        range: [48611, 55556],
        note: "rack price of 3.5 to 4 M$ over 72; CPUs, switches and cabinet included",
      }),
      "attention.acceleration": ATTENTION_OF_BLACKWELL,
    },
    contradictions: [
      {
        topic: "memory",
        figure: "memory.capacity",
        finding:
          "186 GB on the sheet, 192 GB on the package, and 189,471 MiB, which is 198.7 GB, from the driver: some of them mean GiB",
        sources: ["aic"],
      },
    ],
  },
  {
    ...BLACKWELL,
    id: "b300-sxm",
    name: "B300 (HGX)",
    aliases: ["b300", "b300_sxm"],
    revision: "2025-10",
    memoryKind: "HBM3e",
    formFactor: "HGX, air cooled",
    links: { scaleUp: "nvlink5", scaleOut: "nic-800g", host: "pcie6-x16" },
    figures: {
      "dense.bf16": vendor(2250, "aic"),
      "dense.fp8": vendor(4500, ["aic", "nv-bu-datasheet"]),
      "dense.fp4": vendor(14000, ["aic", "nv-bu-datasheet"]),
      "sparse.fp8": vendor(9000, "nv-bu-datasheet"),
      "sparse.fp4": vendor(18000, "nv-bu-datasheet"),
      "memory.capacity": vendor(270, "nv-bu-datasheet", "288 GB on the full chip; depends on the product"),
      "memory.bandwidth": vendor(7700, "nv-bu-datasheet"),
      "scaleUp.devices": vendor(8, "aic"),
      "power.tdp": vendor(1100, "nv-bu-datasheet"),
      ...powerLikeH100(1100, 100, 7700),
      "price.purchase": derived(40625, "dgx-price-page", {
        range: [37500, 43750],
        note: "price of a DGX with eight (300 to 350 k$) over eight; the rest of the system included",
      }),
      "attention.acceleration": derived(1, "arithmetic", "same chip as GB300"),
    },
  },
  {
    ...BLACKWELL,
    id: "gb300",
    name: "GB300, per GPU of an NVL72",
    revision: "2025-10",
    memoryKind: "HBM3e",
    formFactor: "superchip in a 1U liquid tray",
    links: { scaleUp: "nvlink5", scaleOut: "nic-800g", host: "nvlink-c2c-grace" },
    figures: {
      "dense.bf16": vendor(2500, "aic"),
      "dense.fp8": vendor(5000, "aic"),
      "dense.fp4": vendor(15000, ["aic", "nv-gb300-page"]),
      "sparse.fp4": vendor(20000, "nv-bu-datasheet"),
      "memory.capacity": vendor(279, "nv-bu-datasheet", "288 GB headline; 284,208 MiB seen by the driver"),
      "memory.bandwidth": vendor(8000, "nv-bu-datasheet"),
      "scaleUp.devices": vendor(72, "aic"),
      "power.tdp": vendor(1400, "nv-bu-datasheet"),
      ...powerLikeH100(1400, 100, 8000),
      "price.purchase": derived(48611, "awesomeagents", {
        range: [41667, 55556],
        note: "rack price of 3 to 4 M$ over 72; CPUs, switches and cabinet included",
      }),
      "attention.acceleration": vendor(1, "nv-bu-blog", "the reference; twice Blackwell"),
    },
  },
  {
    ...BLACKWELL,
    id: "rtx-pro-6000-bse",
    name: "RTX PRO 6000 Blackwell Server Edition",
    aliases: ["rtx-pro-6000", "RTXPRO6000", "rtx_pro_6000_server"],
    revision: "2025-03",
    memoryKind: "GDDR7",
    formFactor: "PCIe dual slot",
    links: { scaleUp: "pcie5-x16", scaleOut: "nic-400g", host: "pcie5-x16" },
    figures: {
      "dense.bf16": derived(468, "aic", "scaled to 2,430 MHz"),
      "dense.fp8": derived(936, "aic", "scaled to 2,430 MHz"),
      "dense.fp4": derived(1871, "aic", "scaled to 2,430 MHz; the vendor's 4 PFLOPS is sparse"),
      "sparse.fp4": recalled(vendor(4000, "nv-ds")),
      "memory.capacity": vendor(96, "aic"),
      "memory.bandwidth": vendor(1792, "aic", "512 bit x 28 Gb/s"),
      "scaleUp.devices": vendor(8, "aic", "PCIe; the card has no NVLink"),
      "power.tdp": vendor(600, "aic"),
      ...powerLikeH100(600, 50, 1792),
      "price.purchase": recalled(between(8000, 10000, "unknown", "memory")),
      "video.encoders": vendor(4, "nv-ds"),
      "video.decoders": vendor(4, "nv-ds"),
    },
  },
];

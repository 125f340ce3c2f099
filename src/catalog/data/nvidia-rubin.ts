import type { AcceleratorEntry, HistoryEvent } from "../entry.ts";
import { between, derived, thirdParty, unknown, vendor } from "../figure.ts";
import { powerLikeH100 } from "./power.ts";

const RUBIN = { kind: "accelerator", vendor: "NVIDIA", processor: "gpu" } as const;

const RUBIN_POWER = {
  "power.tdp": between(
    1800,
    2300,
    "third-party",
    "rubin-power-notes",
    "not published by the vendor; two power profiles in the press",
  ),
  ...powerLikeH100(2050, 200, 22000),
};

const CPX_HISTORY: readonly HistoryEvent[] = [
  { date: "2025-09-09", event: "announced for the end of 2026", source: "nv-cpx-blog" },
  { date: "2026-03-16", event: "absent from the keynote and the roadmap of GTC 2026", source: "toms-cpx" },
  {
    date: "2026-03",
    event: "Ian Buck: not in the Rubin generation, perhaps with Feynman in 2028",
    source: "computerbase-buck",
  },
  {
    date: "2026-09-01",
    event: "analyst survey: restarted with another design, production in the first quarter of 2027",
    source: "cpx-survey",
  },
];

const CPX_2025 = {
  ...RUBIN,
  family: "rubin-cpx",
  memoryKind: "GDDR7",
  formFactor: "module of two CPX, two ConnectX-9, one 1.6 Tb/s port and an SSD; eight CPX per tray",
  links: { scaleUp: "pcie6-x16", scaleOut: "nic-800g", host: "pcie6-x16" },
  history: CPX_HISTORY,
} as const;

const CPX_2025_FIGURES = {
  "dense.bf16": unknown(),
  "dense.fp8": unknown(),
  "dense.fp4": thirdParty(20000, "sa-cpx", "sparse to dense 3:2 as on Rubin"),
  "sparse.fp4": vendor(30000, ["nv-cpx-blog", "sa-cpx"], "printed without saying that it is sparse"),
  "memory.capacity": vendor(128, "nv-cpx-blog"),
  "memory.bandwidth": thirdParty(2000, "sa-cpx", "512 bit x 32 Gb/s is 2,048"),
  "scaleUp.devices": derived(8, "sa-cpx", "CPX of one tray, through the PCIe switch in ConnectX-9"),
  "scaleUp.bandwidth": thirdParty(128, "sa-cpx", "no NVLink; PCIe 6.0 x16 through ConnectX-9"),
  "scaleOut.bandwidth": derived(100, "sa-cpx", "one 800 Gb/s NIC per CPX, at most"),
  "power.tdp": thirdParty(800, "sa-cpx", { range: [800, 880], note: "880 W with memory" }),
  ...powerLikeH100(800, 100, 2000),
  "price.purchase": derived(13750, ["sa-cpx", "ms-bom"], "a quarter of Rubin's 55 k$, as its cost to build"),
  "attention.acceleration": vendor(
    3,
    "nv-cpx-blog",
    "against GB300 NVL72; kernel and precision are not said",
  ),
  "video.encoders": thirdParty(4, "cpx-table-ja"),
  "video.decoders": thirdParty(4, "cpx-table-ja"),
} as const;

/** Rubin and Rubin CPX. Specifications moved; each state is an entry of its own. */
export const RUBIN_PARTS: readonly AcceleratorEntry[] = [
  {
    ...RUBIN,
    id: "rubin-r200",
    name: "Rubin (VR200, one package of two dies), 2026",
    family: "rubin",
    status: "ramping in the second half of 2026, specification preliminary",
    revision: "2026",
    memoryKind: "HBM4",
    formFactor: "superchip in a 1U liquid tray",
    links: { scaleUp: "nvlink6", scaleOut: "nic-2x800g", host: "nvlink-c2c-vera" },
    figures: {
      "dense.bf16": vendor(4000, "nv-vr-page"),
      "dense.fp8": vendor(17500, "nv-vr-page", "footnoted as dense"),
      "dense.fp4": vendor(35000, "nv-vr-page", "NVFP4 for training, footnoted as dense"),
      "sparse.fp4": vendor(
        50000,
        "nv-vr-page",
        "NVFP4 for inference, not footnoted as dense: conditional, 1.43 x dense",
      ),
      "memory.capacity": vendor(288, "nv-vr-page"),
      "memory.bandwidth": vendor(22000, "nv-vr-page"),
      "scaleUp.devices": vendor(72, "nv-vr-page"),
      ...RUBIN_POWER,
      "price.purchase": thirdParty(55000, "ms-bom", "the package alone; 7.8 M$ per rack is 108 k$ for each"),
      "attention.acceleration": unknown("not published separately"),
    },
    contradictions: [
      {
        topic: "dense FP4",
        figure: "dense.fp4",
        finding: "35 PFLOPS by the vendor in 2026, 33.3 in analysts' tables of 2025; one page prints 25",
        sources: ["nv-vr-page", "sa-cpx"],
      },
      {
        topic: "memory bandwidth",
        figure: "memory.bandwidth",
        finding: "13 TB/s in March 2025, 20.5 in September 2025, 22 in 2026",
        sources: ["nv-vr-page", "sa-cpx"],
      },
      {
        topic: "144 Rubin GPUs",
        finding:
          "NVL144 of 2025 counts dies; it is NVL72 of 2026, 72 packages. Rubin Ultra uses the name NVL144 again",
        sources: ["nv-ocp-blog"],
      },
    ],
  },
  {
    ...RUBIN,
    id: "rubin-r200-2025",
    name: "Rubin (VR200, one package), as of September 2025",
    family: "rubin",
    status: "superseded by rubin-r200",
    revision: "2025-09",
    memoryKind: "HBM4",
    links: { scaleUp: "nvlink6", scaleOut: "nic-2x800g", host: "nvlink-c2c-vera" },
    figures: {
      "dense.bf16": unknown(),
      "dense.fp8": unknown(),
      "dense.fp4": thirdParty(33300, "sa-cpx"),
      "sparse.fp4": vendor(50000, "nv-cpx-blog", "2 x 25 PFLOPS per die"),
      "memory.capacity": vendor(288, "nv-cpx-blog"),
      "memory.bandwidth": thirdParty(20500, "sa-cpx"),
      "scaleUp.devices": vendor(72, "nv-cpx-blog", "printed as 144, counting dies"),
      ...RUBIN_POWER,
      "attention.acceleration": unknown("not published separately"),
    },
  },
  {
    ...CPX_2025,
    id: "rubin-cpx-2025",
    name: "Rubin CPX, as announced in September 2025",
    status: "announced 2025-09, absent from the roadmap of 2026-03",
    revision: "2025-09-09",
    figures: CPX_2025_FIGURES,
    contradictions: [
      {
        topic: "status",
        finding: "announced in 2025-09, dropped in 2026-03, reported restarted with HBM4 in 2026-09",
        sources: ["nv-cpx-blog", "toms-cpx", "cpx-survey"],
      },
      {
        topic: "design power",
        figure: "power.tdp",
        finding: "800 W for the chip and 880 W with memory in one analysis; a card wiki guesses 500 W",
        sources: ["sa-cpx"],
      },
    ],
  },
  {
    ...CPX_2025,
    id: "rubin-cpx-2025-newsletter",
    name: "Rubin CPX of 2025 with a newsletter's FP8 and BF16 rates",
    status: "announced 2025-09; rates guessed by a third party",
    revision: "2025-09",
    figures: {
      ...CPX_2025_FIGURES,
      "sparse.fp8": thirdParty(15000, "six-rack-units", "a guess, half of FP4"),
      "sparse.bf16": thirdParty(7500, "six-rack-units", "a guess, a quarter of FP4"),
    },
    notes: ["The dense FP8 and BF16 rates stay unknown: they do not follow from the sparse ones."],
  },
  {
    ...RUBIN,
    id: "rubin-cpx-2027-rumour",
    name: "Rubin CPX, restarted design",
    family: "rubin-cpx",
    status: "analysts' rumour, not confirmed",
    revision: "2026-09-01",
    memoryKind: "HBM4",
    formFactor: "eight per tray, 64 per rack module, up to 256 per rack",
    links: { scaleOut: "nic-800g", host: "pcie6-x16" },
    history: CPX_HISTORY,
    figures: {
      "dense.bf16": unknown(),
      "dense.fp8": unknown(),
      "dense.fp4": unknown("said to be near a Rubin package"),
      "memory.capacity": thirdParty(168, "cpx-survey"),
      "memory.bandwidth": unknown(),
      "scaleUp.devices": thirdParty(8, "cpx-survey", "NVLink inside the tray"),
      "scaleUp.bandwidth": derived(500, "cpx-survey", {
        range: [500, 1500],
        note: "1 to 1.5 TB/s, direction not said; the value reads it as 1 TB/s both ways",
      }),
      "scaleUp.latency": derived(10, "aic", "as NVLink of other generations"),
      "power.tdp": thirdParty(2300, "cpx-survey"),
      "power.idle": unknown(),
      "power.prefill": unknown(),
      "power.decode": unknown(),
      "power.transfer": unknown(),
      "attention.acceleration": unknown(),
    },
  },
];

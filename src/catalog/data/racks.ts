import type { RackEntry } from "../entry.ts";
import { between, derived, thirdParty, unknown, vendor } from "../figure.ts";

const SHIPPING = { kind: "rack", vendor: "NVIDIA", status: "shipping", numRacks: 1 } as const;

/** 10.2 kW of a DGX H100 less eight times 700 W. */
const SERVER_OVERHEAD_KW = 4.6;

function serverPower(acceleratorsKw: number) {
  return derived(
    Math.round((acceleratorsKw + SERVER_OVERHEAD_KW) * 100) / 100,
    ["splitwise-sim", "arithmetic"],
    "eight accelerators at design power + the 4.6 kW that a DGX H100 takes beside them; an assumption",
  );
}

/** Servers with eight accelerators, and rack-scale systems. */
export const RACKS: readonly RackEntry[] = [
  {
    ...SHIPPING,
    id: "dgx-a100",
    name: "DGX A100",
    revision: "2020-11",
    parts: { "a100-80g-sxm": 8 },
    figures: { "power.rack": vendor(6.5, "splitwise-sim") },
  },
  {
    ...SHIPPING,
    id: "dgx-h100",
    name: "DGX H100",
    revision: "2022-03",
    parts: { "h100-sxm": 8 },
    figures: {
      "power.rack": vendor(10.2, "splitwise-sim", "7.14 kW with the GPUs of decode capped at 70 %"),
    },
  },
  {
    ...SHIPPING,
    id: "hgx-h800",
    name: "Server with eight H800",
    revision: "2023",
    parts: { "h800-sxm": 8 },
    figures: { "power.rack": serverPower(5.6) },
  },
  {
    ...SHIPPING,
    id: "hgx-h20",
    name: "Server with eight H20",
    revision: "2023-11",
    parts: { "h20-sxm": 8 },
    figures: { "power.rack": serverPower(3.2) },
  },
  {
    ...SHIPPING,
    id: "hgx-h200",
    name: "Server with eight H200",
    revision: "2023-11",
    parts: { "h200-sxm": 8 },
    figures: { "power.rack": serverPower(5.6) },
  },
  {
    ...SHIPPING,
    id: "rtx-pro-6000-server",
    name: "Server with eight RTX PRO 6000",
    revision: "2025-03",
    parts: { "rtx-pro-6000-bse": 8 },
    figures: { "power.rack": serverPower(4.8) },
  },
  {
    ...SHIPPING,
    id: "dgx-b300",
    name: "DGX B300",
    revision: "2025-10",
    parts: { "b300-sxm": 8 },
    figures: {
      "power.rack": serverPower(8.8),
      "price.purchase": between(300_000, 350_000, "third-party", "dgx-price-page"),
    },
  },
  {
    ...SHIPPING,
    id: "gb200-nvl72",
    name: "GB200 NVL72",
    revision: "2024-03",
    parts: { gb200: 72, "cpu-grace": 36 },
    figures: {
      "power.rack": between(120, 132, "third-party", ["awesomeagents", "fibermall"]),
      "compute.fp4Sparse": vendor(1440, "awesomeagents"),
      "compute.fp4Dense": derived(720, "arithmetic", "72 x 10"),
      "memory.capacity": vendor(13.4, "awesomeagents"),
      "scaleUp.bandwidth": vendor(130, "awesomeagents"),
      "price.purchase": between(3_500_000, 4_000_000, "third-party", "ms-bom", "2 to 3 M$ elsewhere"),
    },
    notes: ["18 compute trays of 4 GPUs and 2 Grace, 9 switch trays."],
  },
  {
    ...SHIPPING,
    id: "gb300-nvl72",
    name: "GB300 NVL72",
    revision: "2025-10",
    parts: { gb300: 72, "cpu-grace": 36 },
    figures: {
      "power.rack": vendor(142, "nv-nvl72-ra", "maximum load; eight shelves of 33 kW are installed"),
      "compute.fp4Sparse": vendor(1440, "nv-gb300-page"),
      "compute.fp4Dense": vendor(1080, "nv-gb300-page"),
      "memory.capacity": vendor(20, "nv-gb300-page"),
      "memory.bandwidth": vendor(576, "nv-gb300-page"),
      "scaleUp.bandwidth": vendor(130, "nv-gb300-page"),
      "scaleOut.bandwidth": derived(14.4, "nv-nvl72-ra", "four ConnectX-8 of 800 Gb/s per tray"),
      "price.purchase": between(3_000_000, 4_000_000, "third-party", "awesomeagents"),
    },
    notes: ["18 compute trays of 4 GPUs, 2 Grace, 4 ConnectX-8 and a BlueField-3; 9 switch trays."],
  },
  {
    kind: "rack",
    vendor: "NVIDIA",
    numRacks: 1,
    status: "ramping in the second half of 2026, specification preliminary",
    id: "vr-nvl72",
    name: "Vera Rubin NVL72",
    aliases: ["vr200-nvl144", "vera-rubin-nvl144"],
    revision: "2026",
    parts: { "rubin-r200": 72, "cpu-vera": 36 },
    figures: {
      "power.rack": between(190, 230, "third-party", "vr-drills", "not published by the vendor"),
      "compute.fp4Sparse": vendor(3600, "nv-vr-page", "NVFP4 for inference"),
      "compute.fp4Dense": derived(2520, "arithmetic", "72 x 35"),
      "compute.fp8Dense": derived(1260, "arithmetic", "72 x 17.5"),
      "memory.capacity": vendor(20.7, "nv-vr-page"),
      "memory.bandwidth": vendor(1580, "nv-vr-page", "printed as 1.6 PB/s"),
      "memory.cpu": vendor(54, "nv-vr-page"),
      "memory.fast": vendor(75, "nv-vr-page"),
      "scaleUp.bandwidth": vendor(260, "nv-vr-page"),
      "scaleOut.bandwidth": derived(28.8, "nv-dgx-vr-page", "144 ConnectX-9 of 800 Gb/s"),
      "price.purchase": thirdParty(7_800_000, "ms-bom"),
    },
    contradictions: [
      {
        topic: "rack power",
        figure: "power.rack",
        finding: "190 to 230 kW in some notes, 120 to 130 kW in others",
        sources: ["vr-drills"],
      },
    ],
    notes: [
      "18 compute trays of 4 Rubin packages, 2 Vera, 8 ConnectX-9 and a BlueField-4; 9 switch trays.",
      "Called NVL144 in 2025, counting dies.",
    ],
  },
  {
    kind: "rack",
    vendor: "NVIDIA",
    numRacks: 1,
    status: "announced 2025-09; its CPX is absent from the roadmap of 2026-03",
    id: "vr-nvl144-cpx",
    name: "Vera Rubin NVL144 CPX, as announced in September 2025",
    revision: "2025-09-09",
    parts: { "rubin-cpx-2025": 144, "rubin-r200-2025": 72, "cpu-vera": 36 },
    figures: {
      "power.rack": thirdParty(370, "sa-cpx"),
      "compute.fp4Sparse": vendor(8000, "nv-cpx-blog"),
      "compute.fp4Dense": derived(5278, "arithmetic", {
        range: [5278, 5400],
        note: "144 x 20 + 72 x 33.3 or 35",
      }),
      "memory.bandwidth": vendor(1700, "nv-cpx-blog"),
      "memory.fast": vendor(100, "nv-cpx-blog"),
      "scaleOut.bandwidth": derived(28.8, "sa-cpx", "144 ConnectX-9 of 800 Gb/s, eight per tray"),
      "price.purchase": unknown(),
    },
    contradictions: [
      {
        topic: "NICs",
        figure: "scaleOut.bandwidth",
        finding:
          "the eight NICs of a tray serve its eight CPX and its four Rubin packages; the parts' own figures count them twice",
        sources: ["sa-cpx", "arithmetic"],
        recomputed: [57.6, 57.6],
      },
      {
        topic: "8 EFLOPS",
        figure: "compute.fp4Sparse",
        finding: "144 x 30 + 72 x 50 PFLOPS are 7,920, sparse",
        sources: ["nv-cpx-blog", "arithmetic"],
        recomputed: [7920, 7920],
      },
      {
        topic: "7.5 times GB300 NVL72",
        finding:
          "sparse 7,920 over dense 1,080 is 7.3; sparse over sparse is 5.5, dense over dense 4.9 to 5.0",
        sources: ["nv-cpx-blog", "nv-gb300-page", "arithmetic"],
      },
      {
        topic: "100 TB of fast memory",
        figure: "memory.fast",
        finding: "18.4 TB GDDR7 + 20.7 HBM4 + 54 LPDDR5X of the CPUs are 93 to 94.5",
        sources: ["nv-cpx-blog", "arithmetic"],
        recomputed: [93, 94.6],
      },
      {
        topic: "1.7 PB/s",
        figure: "memory.bandwidth",
        finding:
          "1.76 with 20.5 TB/s per Rubin, 1.87 with 22; the CPU memory is not in it, though its capacity is in the 100 TB",
        sources: ["nv-cpx-blog", "sa-cpx", "arithmetic"],
        recomputed: [1760, 1875],
      },
      {
        topic: "rack power",
        figure: "power.rack",
        finding: "370 kW by an analyst, 160 kW assumed elsewhere; Rubin rack of 190 + 144 x 0.88 is 317",
        sources: ["sa-cpx", "arithmetic"],
      },
    ],
    notes: [
      "Per tray 4 Rubin packages, 2 Vera, 8 CPX and 8 ConnectX-9, which are also the PCIe switches of the CPX.",
    ],
  },
  {
    kind: "rack",
    vendor: "NVIDIA",
    numRacks: 2,
    status: "announced 2025-09; its CPX is absent from the roadmap of 2026-03",
    id: "vr-cpx-dual-rack",
    name: "Vera Rubin rack beside a rack of CPX",
    revision: "2025-09",
    parts: { "rubin-cpx-2025": 144, "rubin-r200-2025": 72, "cpu-vera": 72 },
    figures: {
      "power.rack": thirdParty(380, "six-rack-units", "190 kW for each of the two racks"),
      "price.purchase": unknown(),
    },
    notes: [
      "The CPX rack has 18 trays of 8 CPX with CPUs and NICs of its own and no NVLink switches: KV crosses the scale-out network.",
      "The number of its CPUs is not published; the entry assumes as many as in the Rubin rack.",
    ],
  },
  {
    kind: "rack",
    vendor: "NVIDIA and Groq",
    numRacks: 1,
    status: "announced 2026-03, shipping in the second half of 2026",
    id: "groq3-lpx",
    name: "Groq 3 LPX",
    revision: "2026-03-16",
    parts: { "groq3-lp30": 256 },
    figures: {
      "power.rack": unknown("no public figure; any check of tokens per MW needs an assumption"),
      "compute.fp8Dense": vendor(315, "nv-lpx-blog"),
      "memory.capacity": vendor(0.128, "nv-lpx-blog"),
      "memory.bandwidth": vendor(40000, "nv-lpx-blog"),
      "memory.cpu": vendor(12, "nv-lpx-page", "DDR5 of trays: 32 x (256 + 128) GB is 12.3"),
      "scaleUp.bandwidth": vendor(640, "nv-lpx-blog", "both directions at line rate"),
      "price.purchase": unknown(),
    },
    contradictions: [
      {
        topic: "315 PFLOPS",
        figure: "compute.fp8Dense",
        finding: "32 trays x 9.6 are 307.2; 256 x 1.23 are 314.9",
        sources: ["nv-lpx-blog", "arithmetic"],
        recomputed: [307, 315],
      },
      {
        topic: "40 PB/s",
        figure: "memory.bandwidth",
        finding: "256 x 150 TB/s are 38.4",
        sources: ["nv-lpx-blog", "arithmetic"],
        recomputed: [38400, 38400],
      },
      {
        topic: "trays",
        finding: "vendor: 32 trays of 8; analyst of the production version: 16 trays of 16",
        sources: ["nv-lpx-blog", "sa-gtc26"],
      },
    ],
  },
];

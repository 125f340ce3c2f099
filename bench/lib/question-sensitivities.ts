/** One changed assumption: overrides of the scenario, as `--set` takes them. */
export interface Sensitivity {
  readonly name: string;
  readonly overrides: readonly string[];
  /** Default: the two best fleets. */
  readonly fleets?: readonly string[];
  /** Fleets whose roles and chunks are searched anew; the others keep those of the scenario. */
  readonly searched?: readonly string[];
  /** Requests per second where the search starts. */
  readonly guess?: number;
}

const PARTS = ["p128k", "p256k", "p512k", "p1m"] as const;

/** Only prompts of one class: the rates of the others are next to nothing. */
function onlyClass(kept: (typeof PARTS)[number]): string[] {
  return PARTS.map((part) => `workload.parts.${part}.arrivals.requestsPerSecond=${part === kept ? 1 : 1e-9}`);
}

/** Every prompt and output of the same length, with bounds of its own. */
function oneLength(input: number, output: string, ttftMs: number): string[] {
  return [
    ...onlyClass("p128k"),
    `workload.parts.p128k.inputTokens=${input}`,
    `workload.parts.p128k.outputTokens=${output}`,
    `slo.p128k.ttftMs=${ttftMs}`,
  ];
}

const BOUNDS_MS = { p128k: 34_700, p256k: 54_300, p512k: 93_600, p1m: 172_300 } as const;
const POOLS = {
  "rubin-together": 1,
  "rubin-split": 2,
  "cpx-rack": 2,
  "cpx-rack-mixed": 3,
  "gb300-split": 2,
} as const;

/** Attention in BF16 everywhere, and twice the time for the first token: no part is fast enough for the base bounds. */
const BF16 = [
  ...Object.entries(POOLS).flatMap(([fleet, count]) =>
    Array.from({ length: count }, (_, i) => `fleets.${fleet}.workers[${i}].precision.attention=bf16`),
  ),
  ...PARTS.map((part) => `slo.${part}.ttftMs=${2 * BOUNDS_MS[part]}`),
];

/** A figure of the parts of a device in the compared fleets, in place of the catalogue's or the scenario's. */
function figureOf(device: "cpx" | "rubin", figure: string, value: number): string[] {
  const pools: Readonly<Record<typeof device, readonly (readonly [fleet: string, pool: number])[]>> = {
    cpx: [
      ["cpx-rack", 0],
      ["cpx-rack-mixed", 0],
    ],
    rubin: [
      ["rubin-together", 0],
      ["rubin-split", 0],
      ["rubin-split", 1],
      ["cpx-rack", 1],
      ["cpx-rack-mixed", 1],
      ["cpx-rack-mixed", 2],
    ],
  };
  return pools[device].map(
    ([fleet, pool]) => `fleets.${fleet}.workers[${pool}].overrides={ ${figure}: ${value} }`,
  );
}

const RACKS = ["cpx-rack", "cpx-rack-mixed"];
const RUBINS = ["rubin-together", "rubin-split", "cpx-rack-mixed"];

/** The most telling first: whoever has no patience sees those. */
export const SENSITIVITIES: readonly Sensitivity[] = [
  { name: "nothing", overrides: [], fleets: [...RUBINS, "cpx-rack", "gb300-split"] },
  { name: "attention in BF16", overrides: BF16, fleets: [...RUBINS, "cpx-rack", "gb300-split"] },
  {
    name: "attention in BF16 and CPX 2.29 PF",
    overrides: [...BF16, "assumptions[1].value=2290"],
    fleets: RACKS,
  },
  {
    name: "CPX softmax x1",
    overrides: figureOf("cpx", "attention.acceleration", 1),
    fleets: ["cpx-rack-mixed"],
  },
  { name: "CPX FP8 5 PF", overrides: ["assumptions[0].value=5000"], fleets: ["cpx-rack-mixed"] },
  { name: "Rubin softmax x1", overrides: ["assumptions[2].value=1"] },
  { name: "Rubin softmax x3", overrides: ["assumptions[2].value=3"] },
  {
    name: "no gap over 500 ms",
    overrides: PARTS.map((part) => `slo.${part}.maxGapMs=500`),
    fleets: ["rubin-together"],
    searched: ["rubin-together"],
    guess: 0.4,
  },
  { name: "prompts of 1 M only", overrides: onlyClass("p1m"), guess: 0.35 },
  {
    name: "prompts of 128 k only",
    overrides: onlyClass("p128k"),
    fleets: RUBINS,
    searched: RUBINS,
    guess: 10,
  },
  {
    name: "128 k in and 4000 out",
    overrides: oneLength(131_072, "4000", 34_700),
    fleets: RUBINS,
    searched: RUBINS,
    guess: 6,
  },
  { name: "grouped queries", overrides: ["model={ file: qwen3-235b-1m.json }"], fleets: RUBINS },
  {
    name: "sparse FP4",
    overrides: [...figureOf("cpx", "dense.fp4", 30_000), ...figureOf("rubin", "dense.fp4", 50_000)],
  },
  {
    name: "KV by 25 Gb/s per CPX",
    overrides: ["fleets.cpx-dual-rack.network.groups.cpx.nic={ bytesPerSecond: 3.125e9, latencyMs: 0.03 }"],
    fleets: ["cpx-dual-rack"],
  },
];

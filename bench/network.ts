/**
 * CPU time that the twin's network takes per transfer (a start, its last byte, its end) with 1,000 workers, for networks whose
 * transfers depend on each other more and more: not at all, through NICs, and all of them through oversubscribed uplinks.
 */
import { Rng } from "../src/core/util/rng.ts";
import { networkSchema } from "../src/protocol/network-schema.ts";
import { buildNetwork } from "../src/twin/network/build-network.ts";
import { median, report } from "./lib/report.ts";

const WORKERS = 1000;
const SEED = 11;
const ROUNDS = 3;
const TRANSFERS = 4_000;

/** One prompt of about 4,000 tokens of a 70B model with grouped-query attention. */
const MEAN_BYTES = 1.3e9;

const LINK = { latencyMs: 0.01 };
const DEVICE = {
  scaleUp: { bytesPerSecond: 450e9, ...LINK },
  scaleUpDevices: 8,
  host: { bytesPerSecond: 64e9, ...LINK },
  scaleOut: { bytesPerSecond: 50e9, ...LINK },
};

const CASES = [
  {
    name: "uncontended",
    section: { preset: "uncontended", pair: { bytesPerSecond: 50e9, latencyMs: 0.01 } },
  },
  { name: "non-blocking", section: { preset: "dgx-cluster", devicesPerNode: 1, nodesPerRack: 32 } },
  {
    name: "racks 2:1",
    section: { preset: "dgx-cluster", devicesPerNode: 1, nodesPerRack: 32, rackOversubscription: 2 },
  },
  {
    name: "rows 32:1",
    section: { preset: "dgx-cluster", devicesPerNode: 1, nodesPerRack: 32, rowOversubscription: 32 },
  },
] as const;

/** Runs random transfers of which about `concurrent` are under way; returns CPU microseconds per transfer and the mean number. */
function run(section: unknown, concurrent: number): { usPerTransfer: number; meanFlows: number } {
  const workers = Array.from({ length: WORKERS }, (_, i) => ({ name: `w${i}`, group: "gpu", numDevices: 1 }));
  const groups = [{ name: "gpu", device: DEVICE }];
  const { network } = buildNetwork({ network: networkSchema.parse(section), groups, workers });
  const random = new Rng(SEED).stream("transfers");
  let flows = 0;
  let nowMs = 0;
  const before = process.cpuUsage();
  const takeEnded = (): void => {
    nowMs = network.nextEndMs;
    while (network.takeEnded(nowMs) !== null);
  };
  for (let i = 0; i < TRANSFERS; i++) {
    // A closed loop keeps the number of transfers steady however much they slow each other down.
    while (network.numFlows >= concurrent) takeEnded();
    const from = random.nextBelow(WORKERS / 2);
    const to = WORKERS / 2 + random.nextBelow(WORKERS / 2);
    network.start(`w${from}`, `w${to}`, Math.ceil(random.nextExponential(MEAN_BYTES)), nowMs);
    flows += network.numFlows;
  }
  while (network.numFlows > 0) takeEnded();
  const { user, system } = process.cpuUsage(before);
  return { usPerTransfer: (user + system) / TRANSFERS, meanFlows: flows / TRANSFERS };
}

// The first run compiles; it is not counted.
for (const { section } of CASES) run(section, 100);

const rows: Array<Record<string, string | number>> = [];
for (const concurrent of [100, 300, 1000]) {
  for (const { name, section } of CASES) {
    const rounds = Array.from({ length: ROUNDS }, () => run(section, concurrent));
    const times = rounds.map(({ usPerTransfer }) => usPerTransfer);
    rows.push({
      network: name,
      transfers: concurrent,
      usPerTransfer: median(times),
      least: Math.min(...times),
      most: Math.max(...times),
    });
  }
}
report({
  title: `Network of ${WORKERS} workers: CPU µs per transfer, by transfers under way`,
  rows,
  result: { workers: WORKERS, transfersPerRound: TRANSFERS, rows },
});

import type { Assumption } from "../world/assumption.ts";
import { FairShareNetwork } from "./fair-share-network.ts";
import { resolveNetwork } from "./presets.ts";
import { Topology, type TopologyInput } from "./topology.ts";
import { UncontendedLayout } from "./uncontended-layout.ts";

/** A network, ready to carry the KV of a fleet. */
export interface BuiltNetwork {
  readonly network: FairShareNetwork;
  /** Null with the preset `uncontended`, where workers are nowhere. */
  readonly topology: Topology | null;
  /** Every figure that it rests on. */
  readonly assumptions: readonly Assumption[];
}

/** Builds what a scenario's `network` section describes. Endpoints have the workers' names. Throws ConfigError. */
export function buildNetwork(input: TopologyInput): BuiltNetwork {
  if (input.network.preset !== "uncontended") {
    const topology = new Topology(input);
    return { network: new FairShareNetwork(topology), topology, assumptions: topology.assumptions };
  }
  const { pair } = resolveNetwork(input.network);
  const names = input.workers.map(({ name }) => name);
  const source = "network section, preset uncontended";
  return {
    network: new FairShareNetwork(new UncontendedLayout(names, pair)),
    topology: null,
    assumptions: [
      { name: "bandwidth of every transfer", value: pair.bytesPerSecond, unit: "bytes/s", source },
      { name: "latency of every transfer", value: pair.latencyMs, unit: "ms", source },
    ],
  };
}

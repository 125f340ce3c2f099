import type { NetworkGroup, NetworkLink, NetworkSection } from "../../protocol/network-schema.ts";

/** A `network` section with every choice made, apart from what devices decide. */
export interface ResolvedNetwork {
  readonly preset: NetworkSection["preset"];
  readonly racksPerRow: number;
  readonly maxNodes: number;
  readonly rackOversubscription: number;
  readonly rowOversubscription: number;
  readonly hopLatencyMs: number;
  readonly pair: NetworkLink;
  readonly tiers: NetworkSection["tiers"];
  /** Groups that the section says something about. */
  readonly groupNames: readonly string[];
  /** The settings of one kind of device. */
  group(name: string): NetworkGroup & { readonly devicesPerNode: number; readonly nodesPerRack: number };
}

/**
 * Half of the 5 µs that NVIDIA's estimator (AIConfigurator, unofficial) adds between racks: the way to another rack crosses two
 * more switches.
 */
const HOP_LATENCY_MS = 0.0025;

/** One-way time over Ethernet and TCP inside a cluster. An assumption; at 25 Gb/s the bytes of a prompt take a thousand times as long. */
const ETHERNET_LATENCY_MS = 0.03;

/** DistServe's cluster: 25 Gb/s between nodes (OSDI 2024, section 6.1). */
const ETHERNET_25G: NetworkLink = { bytesPerSecond: 25e9 / 8, latencyMs: ETHERNET_LATENCY_MS };

/** What the released Splitwise simulator gives each transfer: its 200, read as GB/s. The paper's A100 machines have 200 Gb/s. */
const SPLITWISE_PAIR: NetworkLink = { bytesPerSecond: 200e9, latencyMs: 0 };

type Preset = Omit<Partial<NetworkSection>, "preset" | "groups" | "tiers">;

/** DGX: 8 devices, 4 nodes in a rack (DGX SuperPOD's H100 design). GB300 and Vera Rubin NVL72: 18 trays of 4. */
const PRESETS: Readonly<Record<NetworkSection["preset"], Preset>> = {
  "single-node": { devicesPerNode: 8, nodesPerRack: 1, maxNodes: 1, nicOnHostLink: true },
  nvl72: { devicesPerNode: 4, nodesPerRack: 18, scaleUpAcrossNodes: true, nicOnHostLink: false },
  "dgx-cluster": { devicesPerNode: 8, nodesPerRack: 4, nicOnHostLink: true },
  "ethernet-25g": { devicesPerNode: 8, nodesPerRack: 4, nodeNic: ETHERNET_25G, nicOnHostLink: true },
  uncontended: { pair: SPLITWISE_PAIR },
};

/** Most racks in a row when the scenario does not say. */
const RACKS_PER_ROW = 16;

/** Joins a section with its preset. Of the two, the section wins; what it says of one group wins over both. */
export function resolveNetwork(section: NetworkSection): ResolvedNetwork {
  const preset = PRESETS[section.preset];
  return {
    preset: section.preset,
    racksPerRow: section.racksPerRow ?? preset.racksPerRow ?? RACKS_PER_ROW,
    maxNodes: section.maxNodes ?? preset.maxNodes ?? Number.POSITIVE_INFINITY,
    rackOversubscription: section.rackOversubscription ?? 1,
    rowOversubscription: section.rowOversubscription ?? 1,
    hopLatencyMs: section.hopLatencyMs ?? HOP_LATENCY_MS,
    pair: section.pair ?? SPLITWISE_PAIR,
    tiers: section.tiers,
    groupNames: Object.keys(section.groups),
    group(name) {
      const own = Object.hasOwn(section.groups, name) ? section.groups[name] : undefined;
      const merged = mergeGroup(mergeGroup(preset, section), own ?? {});
      return {
        ...merged,
        devicesPerNode: merged.devicesPerNode ?? 8,
        nodesPerRack: merged.nodesPerRack ?? 4,
      };
    },
  };
}

/** `over` where it says something. Naming one sort of NIC takes back the other. */
function mergeGroup(under: NetworkGroup, over: NetworkGroup): NetworkGroup {
  const nics = over.nic === undefined && over.nodeNic === undefined ? under : over;
  return {
    devicesPerNode: over.devicesPerNode ?? under.devicesPerNode,
    nodesPerRack: over.nodesPerRack ?? under.nodesPerRack,
    scaleUpDevices: over.scaleUpDevices ?? under.scaleUpDevices,
    scaleUpAcrossNodes: over.scaleUpAcrossNodes ?? under.scaleUpAcrossNodes,
    nic: nics.nic,
    nodeNic: nics.nodeNic,
    nicOnHostLink: over.nicOnHostLink ?? under.nicOnHostLink,
    insideNodesOf: over.insideNodesOf ?? under.insideNodesOf,
  };
}

import type { DeviceSpec } from "../../core/perf/device-spec.ts";
import { ConfigError } from "../../protocol/config-error.ts";
import type { NetworkLink } from "../../protocol/network-schema.ts";
import type { ResolvedNetwork } from "./presets.ts";

/** The links of one kind of device. */
export type DeviceLinks = Pick<DeviceSpec, "scaleUp" | "scaleUpDevices" | "scaleOut" | "host">;

/** Devices of one kind; a scenario usually names the group as the catalogue names the device. */
export interface TopologyGroup {
  readonly name: string;
  readonly device: DeviceLinks;
}

/** One worker: a set of devices that sit together. */
export interface TopologyWorker {
  /** The endpoint's name. */
  readonly name: string;
  readonly group: string;
  readonly numDevices: number;
}

/** A group with everything decided. */
export interface BuiltGroup {
  readonly name: string;
  readonly device: DeviceLinks;
  readonly devicesPerNode: number;
  readonly nodesPerRack: number;
  /** Devices of a scale-up domain; 1: no link but PCIe. */
  readonly domainDevices: number;
  /** Per device, or for the whole node when `isNicPerNode`. */
  readonly nic: NetworkLink;
  readonly isNicPerNode: boolean;
  readonly nicOnHostLink: boolean;
  readonly insideNodesOf: string | null;
}

/** Where a worker is. Nodes, racks and domains are numbered over the whole fleet. */
export interface WorkerPlace {
  readonly worker: TopologyWorker;
  readonly group: BuiltGroup;
  readonly firstNode: number;
  readonly lastNode: number;
  /** Scale-up domain, or -1 for a worker that spans several or has none. */
  readonly domain: number;
  readonly rack: number;
}

/** The whole fleet, placed. */
export interface FleetPlacement {
  readonly places: readonly WorkerPlace[];
  readonly numRacks: number;
  readonly numNodes: number;
  /** Bandwidth of all NICs of each rack, its empty places included. */
  readonly rackNicBytesPerSecond: readonly number[];
}

function refuse(key: string, message: string): never {
  throw new ConfigError([{ origin: key, message }]);
}

/**
 * A scale-up link no faster than the link to the host is that link: PCIe. It is then not counted twice, so that transfers between
 * devices and to the host meet on it.
 */
function domainDevices(device: DeviceLinks, settings: ReturnType<ResolvedNetwork["group"]>): number {
  if (device.scaleUp.bytesPerSecond <= device.host.bytesPerSecond) return 1;
  if (settings.scaleUpDevices !== undefined) return settings.scaleUpDevices;
  if (settings.scaleUpAcrossNodes === true) return device.scaleUpDevices;
  return Math.min(device.scaleUpDevices, settings.devicesPerNode);
}

/** Joins a group's device with the scenario's settings. Throws ConfigError. */
function buildGroup(group: TopologyGroup, network: ResolvedNetwork): BuiltGroup {
  const settings = network.group(group.name);
  const { devicesPerNode } = settings;
  const numDomain = domainDevices(group.device, settings);
  if (numDomain % devicesPerNode !== 0 && devicesPerNode % numDomain !== 0) {
    refuse(
      `network: group ${group.name}`,
      `a scale-up domain of ${numDomain} devices and nodes of ${devicesPerNode} do not fit together; set scaleUpDevices to a divisor or a multiple of devicesPerNode`,
    );
  }
  return {
    name: group.name,
    device: group.device,
    devicesPerNode,
    nodesPerRack: settings.nodesPerRack,
    domainDevices: numDomain,
    nic: settings.nodeNic ?? settings.nic ?? group.device.scaleOut,
    isNicPerNode: settings.nodeNic !== undefined,
    nicOnHostLink: settings.nicOnHostLink ?? true,
    insideNodesOf: settings.insideNodesOf ?? null,
  };
}

/** First device of a worker that begins at `next` or later and does not lie across a border that it need not cross. */
function alignedStart(next: number, numDevices: number, units: readonly number[]): number {
  let start = next;
  for (const unit of units) {
    const isAcross = Math.floor(start / unit) !== Math.floor((start + numDevices - 1) / unit);
    if (isAcross) start = Math.ceil(start / unit) * unit;
  }
  return start;
}

/** Gives the workers of each group consecutive devices, in their order. Returns the first device of each worker. */
function packDevices(
  workers: readonly TopologyWorker[],
  groups: ReadonlyMap<string, BuiltGroup>,
): { first: number[]; numNodes: Map<string, number> } {
  const next = new Map<string, number>();
  const numNodes = new Map<string, number>();
  const names = new Set<string>();
  const first = workers.map(({ name, group: groupName, numDevices }) => {
    if (names.has(name)) refuse(`worker ${name}`, "another worker has the same name");
    names.add(name);
    const group = groups.get(groupName);
    if (group === undefined)
      refuse(`worker ${name}`, `no group ${groupName}; there are ${[...groups.keys()].join(", ")}`);
    if (!Number.isInteger(numDevices) || numDevices < 1)
      refuse(`worker ${name}`, `${numDevices} is not a number of devices`);
    // From small to large: aligning to the larger unit keeps the smaller ones aligned, as one divides the other.
    const units = [group.domainDevices, group.devicesPerNode].sort((a, b) => a - b);
    const start = alignedStart(next.get(groupName) ?? 0, numDevices, units);
    next.set(groupName, start + numDevices);
    numNodes.set(groupName, Math.ceil((start + numDevices) / group.devicesPerNode));
    return start;
  });
  return { first, numNodes };
}

/** The group whose nodes a group sits in. Throws ConfigError. */
function ownerOf(group: BuiltGroup, groups: ReadonlyMap<string, BuiltGroup>): BuiltGroup {
  if (group.insideNodesOf === null) return group;
  const owner = groups.get(group.insideNodesOf);
  if (owner === undefined || owner === group || owner.insideNodesOf !== null) {
    refuse(
      `network: group ${group.name}`,
      `insideNodesOf ${group.insideNodesOf} is not a group with nodes of its own; there are ${[...groups.keys()].join(", ")}`,
    );
  }
  return owner;
}

/** NIC bandwidth that a group puts into each rack of its owner. */
function rackNic(group: BuiltGroup, owner: BuiltGroup): number {
  const perNode = group.isNicPerNode ? 1 : group.devicesPerNode;
  return owner.nodesPerRack * perNode * group.nic.bytesPerSecond;
}

/**
 * Places all workers: every group fills nodes and racks of its own in the order of its workers, or sits in the nodes of another
 * group. A worker that fits into a node, or into a scale-up domain, never lies across two. Throws ConfigError.
 */
export function placeWorkers(
  network: ResolvedNetwork,
  topologyGroups: readonly TopologyGroup[],
  workers: readonly TopologyWorker[],
): FleetPlacement {
  const groups = new Map(topologyGroups.map((group) => [group.name, buildGroup(group, network)]));
  for (const name of network.groupNames) {
    if (!groups.has(name)) {
      refuse(`network.groups.${name}`, `no such group; there are ${[...groups.keys()].join(", ")}`);
    }
  }
  const { first, numNodes } = packDevices(workers, groups);
  const firstNode = new Map<string, number>();
  const firstRack = new Map<string, number>();
  const rackNicBytesPerSecond: number[] = [];
  let nodes = 0;
  for (const owner of groups.values()) {
    if (ownerOf(owner, groups) !== owner) continue;
    const inside = [...groups.values()].filter((group) => ownerOf(group, groups) === owner);
    const count = Math.max(...inside.map(({ name }) => numNodes.get(name) ?? 0));
    const perRack = inside.reduce((sum, group) => sum + rackNic(group, owner), 0);
    for (const { name } of inside) {
      firstNode.set(name, nodes);
      firstRack.set(name, rackNicBytesPerSecond.length);
    }
    nodes += count;
    for (let i = 0; i < Math.ceil(count / owner.nodesPerRack); i++) rackNicBytesPerSecond.push(perRack);
  }
  if (nodes > network.maxNodes) {
    refuse("network: maxNodes", `the workers need ${nodes} nodes, and there are ${network.maxNodes}`);
  }
  const domainNames = new Map<string, number>();
  const places = workers.map((worker, i): WorkerPlace => {
    const group = groups.get(worker.group)!;
    const start = first[i]!;
    const end = start + worker.numDevices - 1;
    const localNode = Math.floor(start / group.devicesPerNode);
    const localDomain = Math.floor(start / group.domainDevices);
    const isInOne = group.domainDevices > 1 && localDomain === Math.floor(end / group.domainDevices);
    const domainName = `${group.name}/${localDomain}`;
    if (isInOne && !domainNames.has(domainName)) domainNames.set(domainName, domainNames.size);
    return {
      worker,
      group,
      firstNode: firstNode.get(group.name)! + localNode,
      lastNode: firstNode.get(group.name)! + Math.floor(end / group.devicesPerNode),
      domain: isInOne ? domainNames.get(domainName)! : -1,
      rack: firstRack.get(group.name)! + Math.floor(localNode / ownerOf(group, groups).nodesPerRack),
    };
  });
  return { places, numRacks: rackNicBytesPerSecond.length, numNodes: nodes, rackNicBytesPerSecond };
}

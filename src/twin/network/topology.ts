import type { NetworkSection, NetworkTier } from "../../protocol/network-schema.ts";
import type { Assumption } from "../world/assumption.ts";
import { TIER_KINDS, type TierKind, TierStore, tierEndpoint } from "../world/tiers.ts";
import {
  placeWorkers,
  type TopologyGroup,
  type TopologyWorker,
  type WorkerPlace,
} from "./device-placement.ts";
import type { NetworkLayout, NetworkPath, NetworkResource } from "./layout.ts";
import { type ResolvedNetwork, resolveNetwork } from "./presets.ts";
import { type Duplex, NO_DUPLEX, NO_RESOURCE, ResourceBuilder } from "./resource-builder.ts";
import { networkAssumptions } from "./topology-assumptions.ts";

/** Switches on the way beyond the first: to another rack over a spine, and to another row over a core. */
const RACK_HOPS = 2;
const ROW_HOPS = 4;

/** What a topology is built from. */
export interface TopologyInput {
  /** The scenario's section, as its schema gives it. */
  readonly network: NetworkSection;
  readonly groups: readonly TopologyGroup[];
  readonly workers: readonly TopologyWorker[];
}

/** A worker's place and its links, with the bandwidth of all its devices together. */
interface WorkerLinks {
  readonly place: WorkerPlace;
  readonly row: number;
  readonly scaleUp: Duplex;
  readonly host: Duplex;
  readonly nic: Duplex;
}

/** A worker itself (`tier` null), or a tier as that worker reaches it. */
interface Endpoint {
  readonly worker: number;
  readonly tier: TierKind | null;
  /** `out` reads, `in` writes. */
  readonly store: Duplex;
  readonly storeLatencyMs: number;
}

/**
 * The network of a placed fleet. Which way a flow takes depends on where its ends are, in this order:
 *
 * ```
 *   one scale-up domain   scale-up out, in                          NVLink, within a node or a rack
 *   one node              host link out, in                         PCIe, or C2C on one side
 *   one rack              NIC out, in                               the host link too where the NIC hangs on it
 *   one row               NIC out, rack up, rack down, NIC in
 *   anywhere              NIC out, rack up, row up, row down, rack down, NIC in
 * ```
 *
 * Tiers lie at the end of such a way: host memory and disk behind the host link of the node's workers, the remote store
 * beyond the rows. Throws ConfigError when the workers do not fit.
 */
export class Topology implements NetworkLayout {
  readonly resources: readonly NetworkResource[];
  readonly endpoints: readonly string[];
  /** Every figure that the paths rest on. */
  readonly assumptions: readonly Assumption[];
  readonly numRacks: number;
  readonly numNodes: number;
  readonly #network: ResolvedNetwork;
  readonly #workers: readonly WorkerLinks[];
  readonly #ends: readonly Endpoint[];
  readonly #rackUplinks: readonly Duplex[];
  readonly #rowUplinks: readonly Duplex[];
  /** By tier endpoint. */
  readonly #stores = new Map<string, TierStore>();
  readonly #storesByName = new Map<string, TierStore>();

  constructor(input: TopologyInput) {
    const network = resolveNetwork(input.network);
    const placement = placeWorkers(network, input.groups, input.workers);
    const builder = new ResourceBuilder();
    this.#network = network;
    this.numRacks = placement.numRacks;
    this.numNodes = placement.numNodes;
    this.#workers = placement.places.map((place) => workerLinks(place, network, builder));
    this.#rackUplinks = placement.rackNicBytesPerSecond.map((nics, rack) =>
      uplink(builder, `rack-${rack}`, nics, network.rackOversubscription),
    );
    const numRows = Math.ceil(placement.numRacks / network.racksPerRow);
    this.#rowUplinks = Array.from({ length: numRows }, (_, row) => {
      const racks = placement.rackNicBytesPerSecond.slice(row * network.racksPerRow);
      const nics = racks.slice(0, network.racksPerRow).reduce((sum, rack) => sum + rack, 0);
      return uplink(builder, `row-${row}`, nics, network.rowOversubscription);
    });
    const names: string[] = [];
    const ends: Endpoint[] = [];
    for (const [index, { place }] of this.#workers.entries()) {
      names.push(place.worker.name);
      ends.push({ worker: index, tier: null, store: NO_DUPLEX, storeLatencyMs: 0 });
      for (const kind of TIER_KINDS) {
        const tier = network.tiers[kind];
        if (tier === undefined) continue;
        names.push(tierEndpoint(place.worker.name, kind));
        const store = this.#addStore(builder, place, kind, tier);
        ends.push({ worker: index, tier: kind, store, storeLatencyMs: tier.latencyMs });
      }
    }
    this.endpoints = names;
    this.#ends = ends;
    this.resources = builder.resources;
    const groups = new Map(placement.places.map(({ group }) => [group.name, group]));
    this.assumptions = networkAssumptions(network, [...groups.values()]);
  }

  /** The store behind a tier endpoint of a worker, or undefined. Workers of one node share its stores. */
  storeOf(worker: string, kind: TierKind): TierStore | undefined {
    return this.#stores.get(tierEndpoint(worker, kind));
  }

  fillPath(from: number, to: number, out: NetworkPath): void {
    const source = this.#ends[from]!;
    const target = this.#ends[to]!;
    out.numResources = 0;
    out.latencyMs = 0;
    out.capBytesPerSecond = Number.POSITIVE_INFINITY;
    const isSame =
      source.tier === target.tier &&
      (source.tier === null ? source.worker === target.worker : source.store.out === target.store.out);
    if (isSame) return;
    push(out, source.store.out);
    const a = this.#workers[source.worker]!;
    const b = this.#workers[target.worker]!;
    if (source.tier === "remote" || target.tier === "remote") this.#fillRemote(source, target, out);
    else if (source.worker === target.worker || isOneNode(a, b)) fillInNode(source, target, a, b, out);
    else if (source.tier === null && target.tier === null && isOneDomain(a, b)) fillScaleUp(a, b, out);
    else this.#fillScaleOut(source, target, out);
    push(out, target.store.in);
    out.latencyMs += source.storeLatencyMs + target.storeLatencyMs;
  }

  resourcesOf(endpoint: number): readonly number[] {
    const { worker, tier, store } = this.#ends[endpoint]!;
    const { scaleUp, host, nic } = this.#workers[worker]!;
    const links = tier === null ? [scaleUp, host, nic] : [store];
    return links.flatMap((link) => [link.out, link.in]).filter((resource) => resource !== NO_RESOURCE);
  }

  #fillScaleOut(source: Endpoint, target: Endpoint, out: NetworkPath): void {
    const a = this.#workers[source.worker]!;
    const b = this.#workers[target.worker]!;
    if (source.tier === null && a.place.group.nicOnHostLink) push(out, a.host.out);
    push(out, a.nic.out);
    out.latencyMs = Math.max(a.place.group.nic.latencyMs, b.place.group.nic.latencyMs);
    if (a.place.rack !== b.place.rack) {
      const isOneRow = a.row === b.row;
      push(out, this.#rackUplinks[a.place.rack]!.out);
      if (!isOneRow) {
        push(out, this.#rowUplinks[a.row]!.out);
        push(out, this.#rowUplinks[b.row]!.in);
      }
      push(out, this.#rackUplinks[b.place.rack]!.in);
      out.latencyMs += (isOneRow ? RACK_HOPS : ROW_HOPS) * this.#network.hopLatencyMs;
    }
    push(out, b.nic.in);
    if (target.tier === null && b.place.group.nicOnHostLink) push(out, b.host.in);
  }

  /** Between the remote store and a worker, or a tier of its node. */
  #fillRemote(source: Endpoint, target: Endpoint, out: NetworkPath): void {
    const near = source.tier === "remote" ? target : source;
    const { place, row, nic, host } = this.#workers[near.worker]!;
    const usesHostLink = near.tier === null && place.group.nicOnHostLink;
    if (near === source) {
      if (usesHostLink) push(out, host.out);
      push(out, nic.out);
      push(out, this.#rackUplinks[place.rack]!.out);
      push(out, this.#rowUplinks[row]!.out);
    } else {
      push(out, this.#rowUplinks[row]!.in);
      push(out, this.#rackUplinks[place.rack]!.in);
      push(out, nic.in);
      if (usesHostLink) push(out, host.in);
    }
    out.latencyMs = place.group.nic.latencyMs + RACK_HOPS * this.#network.hopLatencyMs;
  }

  /** Adds a worker's tier; the store itself is made once for all that share it. */
  #addStore(builder: ResourceBuilder, place: WorkerPlace, kind: TierKind, tier: NetworkTier): Duplex {
    const numNodes = kind === "remote" ? 1 : place.lastNode - place.firstNode + 1;
    // A worker over several nodes has their memory and disks as one store, and shares it with nobody.
    const where = numNodes > 1 ? place.worker.name : `node-${place.firstNode}`;
    const name = kind === "remote" ? kind : `${where}/${kind}`;
    let store = this.#storesByName.get(name);
    if (store === undefined) {
      store = new TierStore(name, kind, tier.capacityBytes * numNodes);
      this.#storesByName.set(name, store);
    }
    this.#stores.set(tierEndpoint(place.worker.name, kind), store);
    return builder.shared(name, () => ({
      out: builder.add(`${name}/read`, tier.readBytesPerSecond * numNodes),
      in: builder.add(`${name}/write`, tier.writeBytesPerSecond * numNodes),
    }));
  }
}

function push(path: NetworkPath, resource: number): void {
  if (resource !== NO_RESOURCE) path.resources[path.numResources++] = resource;
}

function isOneDomain(a: WorkerLinks, b: WorkerLinks): boolean {
  return a.place.domain >= 0 && a.place.domain === b.place.domain;
}

/** Workers that share at least one node: a worker over several trays shares each of them. */
function isOneNode(a: WorkerLinks, b: WorkerLinks): boolean {
  return a.place.firstNode <= b.place.lastNode && b.place.firstNode <= a.place.lastNode;
}

function fillScaleUp(a: WorkerLinks, b: WorkerLinks, out: NetworkPath): void {
  push(out, a.scaleUp.out);
  push(out, b.scaleUp.in);
  out.latencyMs = a.place.group.device.scaleUp.latencyMs;
}

/** Between two ends in one node, or one worker and its tiers: scale-up between accelerators that have it, else host links. */
function fillInNode(
  source: Endpoint,
  target: Endpoint,
  a: WorkerLinks,
  b: WorkerLinks,
  out: NetworkPath,
): void {
  if (source.tier === null && target.tier === null && isOneDomain(a, b)) {
    fillScaleUp(a, b, out);
    return;
  }
  if (source.tier === null) {
    push(out, a.host.out);
    out.latencyMs = a.place.group.device.host.latencyMs;
  }
  if (target.tier === null) {
    push(out, b.host.in);
    out.latencyMs = Math.max(out.latencyMs, b.place.group.device.host.latencyMs);
  }
}

/** A fabric that is not oversubscribed limits nobody beyond the NICs, and needs no resource. */
function uplink(
  builder: ResourceBuilder,
  name: string,
  nicBytesPerSecond: number,
  oversubscription: number,
): Duplex {
  if (oversubscription <= 1) return NO_DUPLEX;
  return builder.duplex(`${name}/uplink`, nicBytesPerSecond / oversubscription);
}

function workerLinks(place: WorkerPlace, network: ResolvedNetwork, builder: ResourceBuilder): WorkerLinks {
  const { worker, group, firstNode, lastNode } = place;
  const { device, nic } = group;
  const numNodes = lastNode - firstNode + 1;
  const scaleUp =
    group.domainDevices > 1
      ? builder.duplex(`${worker.name}/scale-up`, worker.numDevices * device.scaleUp.bytesPerSecond)
      : NO_DUPLEX;
  const host = builder.duplex(`${worker.name}/host-link`, worker.numDevices * device.host.bytesPerSecond);
  const ownNic = (): Duplex => {
    const numNics = group.isNicPerNode ? numNodes : worker.numDevices;
    return builder.duplex(`${worker.name}/nic`, numNics * nic.bytesPerSecond);
  };
  const nodeNic = `node-${firstNode}/nic`;
  const isShared = group.isNicPerNode && numNodes === 1;
  return {
    place,
    row: Math.floor(place.rack / network.racksPerRow),
    scaleUp,
    host,
    nic: isShared ? builder.shared(nodeNic, () => builder.duplex(nodeNic, nic.bytesPerSecond)) : ownNic(),
  };
}

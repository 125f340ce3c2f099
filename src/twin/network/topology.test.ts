import { describe, expect, it } from "vitest";
import { networkSchema } from "../../protocol/network-schema.ts";
import { tierEndpoint } from "../world/tiers.ts";
import { buildNetwork } from "./build-network.ts";
import type { DeviceLinks, TopologyGroup, TopologyWorker } from "./device-placement.ts";
import { emptyPath } from "./layout.ts";
import { Topology } from "./topology.ts";

const GB = 1e9;

function device(scaleUp: number, scaleUpDevices: number, host: number, nic: number): DeviceLinks {
  return {
    scaleUp: { bytesPerSecond: scaleUp * GB, latencyMs: 0.002 },
    scaleUpDevices,
    host: { bytesPerSecond: host * GB, latencyMs: 0.004 },
    scaleOut: { bytesPerSecond: nic * GB, latencyMs: 0.01 },
  };
}

const H100: TopologyGroup = { name: "h100", device: device(450, 8, 64, 50) };
const A100: TopologyGroup = { name: "a100", device: device(300, 8, 32, 25) };
const L40S: TopologyGroup = { name: "l40s", device: device(32, 8, 32, 25) };
const GB300: TopologyGroup = { name: "gb300", device: device(900, 72, 450, 100) };
const RUBIN: TopologyGroup = { name: "rubin", device: device(1800, 72, 900, 200) };
const CPX: TopologyGroup = { name: "cpx", device: device(128, 1, 128, 100) };

function workers(prefix: string, group: TopologyGroup, count: number, numDevices: number): TopologyWorker[] {
  return Array.from({ length: count }, (_, i) => ({ name: `${prefix}${i}`, group: group.name, numDevices }));
}

function build(
  section: unknown,
  groups: readonly TopologyGroup[],
  list: readonly TopologyWorker[],
): Topology {
  return new Topology({ network: networkSchema.parse(section), groups, workers: list });
}

/** The path in words: the resources' names with their bandwidth in GB/s, and the latency. */
function way(topology: Topology, from: string, to: string): { by: string[]; latencyMs: number } {
  const path = emptyPath();
  topology.fillPath(topology.endpoints.indexOf(from), topology.endpoints.indexOf(to), path);
  const by = [...path.resources.subarray(0, path.numResources)].map((index) => {
    const { name, bytesPerSecond } = topology.resources[index]!;
    return `${name} ${bytesPerSecond / GB}`;
  });
  return { by, latencyMs: path.latencyMs };
}

describe("Topology", () => {
  it("joins workers of one node by NVLink, with the bandwidth of all their devices", () => {
    const topology = build({ preset: "single-node" }, [H100], workers("w", H100, 2, 4));
    expect(way(topology, "w0", "w1")).toEqual({
      by: ["w0/scale-up/out 1800", "w1/scale-up/in 1800"],
      latencyMs: 0.002,
    });
    expect(way(topology, "w0", "w0")).toEqual({ by: [], latencyMs: 0 });
  });

  it("uses PCIe in a node whose devices have no faster link", () => {
    const topology = build({ preset: "single-node" }, [L40S], workers("w", L40S, 2, 2));
    expect(way(topology, "w1", "w0")).toEqual({
      by: ["w1/host-link/out 64", "w0/host-link/in 64"],
      latencyMs: 0.004,
    });
  });

  it("crosses both NICs between nodes of a rack: a worker on 8 devices has 8 of them, behind their PCIe links", () => {
    const topology = build({ preset: "dgx-cluster" }, [H100], workers("w", H100, 2, 8));
    expect(way(topology, "w0", "w1")).toEqual({
      by: ["w0/host-link/out 512", "w0/nic/out 400", "w1/nic/in 400", "w1/host-link/in 512"],
      latencyMs: 0.01,
    });
  });

  it("crosses uplinks to another rack and row, with the latency of their switches, if they are oversubscribed", () => {
    const section = {
      preset: "dgx-cluster",
      nodesPerRack: 1,
      racksPerRow: 2,
      rackOversubscription: 2,
      rowOversubscription: 4,
      nicOnHostLink: false,
    };
    const topology = build(section, [H100], workers("w", H100, 4, 8));
    expect(topology.numRacks).toBe(4);
    const toRack = way(topology, "w0", "w1");
    expect(toRack.by).toEqual([
      "w0/nic/out 400",
      "rack-0/uplink/out 200",
      "rack-1/uplink/in 200",
      "w1/nic/in 400",
    ]);
    expect(toRack.latencyMs).toBeCloseTo(0.01 + 2 * 0.0025, 12);
    const toRow = way(topology, "w1", "w2");
    expect(toRow.by).toEqual([
      "w1/nic/out 400",
      "rack-1/uplink/out 200",
      "row-0/uplink/out 200",
      "row-1/uplink/in 200",
      "rack-2/uplink/in 200",
      "w2/nic/in 400",
    ]);
    expect(toRow.latencyMs).toBeCloseTo(0.01 + 4 * 0.0025, 12);
  });

  it("leaves a non-blocking fabric out of the path and keeps its latency", () => {
    const topology = build({ nodesPerRack: 1, nicOnHostLink: false }, [H100], workers("w", H100, 2, 8));
    const { by, latencyMs } = way(topology, "w0", "w1");
    expect(by).toEqual(["w0/nic/out 400", "w1/nic/in 400"]);
    expect(latencyMs).toBeCloseTo(0.015, 12);
  });

  it("spans a scale-up domain over the trays of a rack, and leaves it by the NICs", () => {
    const list = [...workers("p", GB300, 4, 4), ...workers("d", GB300, 2, 56)];
    const topology = build({ preset: "nvl72" }, [GB300], list);
    expect(way(topology, "p0", "d0").by).toEqual(["p0/scale-up/out 3600", "d0/scale-up/in 50400"]);
    expect(way(topology, "p0", "d1").by).toEqual(["p0/nic/out 400", "d1/nic/in 5600"]);
    expect(topology.numRacks).toBe(2);
  });

  it("never lays a worker across nodes or domains that it fits into", () => {
    const topology = build({ preset: "dgx-cluster" }, [H100], workers("w", H100, 3, 5));
    // Three of five devices need three nodes of eight.
    expect(topology.numNodes).toBe(3);
    expect(way(topology, "w0", "w1").by[1]).toBe("w0/nic/out 250");
  });

  it("keeps a domain inside its node where nothing says otherwise", () => {
    const topology = build({ devicesPerNode: 4 }, [A100], workers("w", A100, 2, 4));
    expect(way(topology, "w0", "w1").by).toContain("w0/nic/out 100");
  });

  it("lets the workers of a node share its one NIC when the NIC is the node's", () => {
    const topology = build({ preset: "ethernet-25g" }, [A100], workers("w", A100, 4, 4));
    expect(way(topology, "w0", "w2").by).toEqual([
      "w0/host-link/out 128",
      "node-0/nic/out 3.125",
      "node-1/nic/in 3.125",
      "w2/host-link/in 128",
    ]);
    expect(way(topology, "w1", "w3").by[1]).toBe("node-0/nic/out 3.125");
    expect(way(topology, "w0", "w1").by[0]).toBe("w0/scale-up/out 1200");
  });

  it("puts kinds of devices into racks of their own", () => {
    const section = { preset: "dgx-cluster", rackOversubscription: 2 };
    const list = [...workers("p", H100, 1, 8), ...workers("d", A100, 1, 8)];
    const { by } = way(build(section, [H100, A100], list), "p0", "d0");
    expect(by).toContain("rack-0/uplink/out 800");
    expect(by).toContain("rack-1/uplink/in 400");
  });

  it("moves KV from a CPX by PCIe inside the tray, and by RDMA from another tray or a rack of its own", () => {
    const list = [...workers("cpx", CPX, 2, 8), ...workers("rubin", RUBIN, 2, 4)];
    const tray = { preset: "nvl72", groups: { cpx: { devicesPerNode: 8, insideNodesOf: "rubin" } } };
    const inTray = build(tray, [RUBIN, CPX], list);
    expect(inTray.numRacks).toBe(1);
    expect(way(inTray, "cpx0", "rubin0").by).toEqual(["cpx0/host-link/out 1024", "rubin0/host-link/in 3600"]);
    expect(way(inTray, "cpx0", "rubin1").by).toEqual(["cpx0/nic/out 800", "rubin1/nic/in 800"]);
    const dual = { preset: "nvl72", groups: { cpx: { devicesPerNode: 8, nicOnHostLink: true } } };
    const dualRack = build(dual, [RUBIN, CPX], list);
    expect(dualRack.numRacks).toBe(2);
    expect(way(dualRack, "cpx0", "rubin0")).toEqual({
      by: ["cpx0/host-link/out 1024", "cpx0/nic/out 800", "rubin0/nic/in 800"],
      latencyMs: 0.015,
    });
  });

  it("says what does not fit and what there is", () => {
    const list = workers("w", H100, 2, 8);
    expect(() => build({ preset: "single-node" }, [H100], list)).toThrow("need 2 nodes, and there are 1");
    expect(() => build({}, [A100], list)).toThrow("worker w0: no group h100; there are a100");
    expect(() => build({ insideNodesOf: "b200" }, [H100], list)).toThrow(/insideNodesOf b200 is not a group/);
    expect(() => build({ scaleUpDevices: 12 }, [H100], list)).toThrow(/do not fit together/);
    expect(() => build({}, [H100], workers("w", H100, 1, 0))).toThrow("0 is not a number of devices");
    expect(() => build({ groups: { h200: {} } }, [H100], list)).toThrow(
      "network.groups.h200: no such group; there are h100",
    );
    expect(() => build({}, [H100], [...list, ...list])).toThrow("another worker has the same name");
  });

  it("returns every figure that it rests on", () => {
    const { assumptions } = build({ preset: "ethernet-25g" }, [A100], workers("w", A100, 1, 1));
    expect(assumptions).toContainEqual({
      name: "a100: NIC",
      value: 3.125e9,
      unit: "bytes/s per node",
      source: "network section, preset ethernet-25g",
    });
    expect(assumptions).toContainEqual({
      name: "a100: host link",
      value: 32e9,
      unit: "bytes/s per device",
      source: "device of a100",
    });
  });
});

describe("tiers of a topology", () => {
  const tiers = {
    host: {
      capacityBytes: 2e12,
      readBytesPerSecond: 300 * GB,
      writeBytesPerSecond: 200 * GB,
      latencyMs: 0.001,
    },
    disk: { capacityBytes: 30e12, readBytesPerSecond: 50 * GB, writeBytesPerSecond: 20 * GB, latencyMs: 0.1 },
    remote: { capacityBytes: 1e15, readBytesPerSecond: 100 * GB, writeBytesPerSecond: 80 * GB, latencyMs: 1 },
  };
  const list = workers("w", H100, 4, 4);
  const topology = build({ preset: "dgx-cluster", tiers, rackOversubscription: 2 }, [H100], list);

  it("are reached by the host link in the node, and by the NICs from elsewhere", () => {
    expect(way(topology, "w0", "w0/host")).toEqual({
      by: ["w0/host-link/out 256", "node-0/host/write 200"],
      latencyMs: 0.005,
    });
    expect(way(topology, "w1/host", "w0").by).toEqual(["node-0/host/read 300", "w0/host-link/in 256"]);
    expect(way(topology, "w0/host", "w1/disk").by).toEqual(["node-0/host/read 300", "node-0/disk/write 20"]);
    expect(way(topology, "w0/host", "w2").by).toEqual([
      "node-0/host/read 300",
      "w0/nic/out 200",
      "w2/nic/in 200",
      "w2/host-link/in 256",
    ]);
    const remote = way(topology, "w3/remote", "w3");
    expect(remote.by).toEqual([
      "remote/read 100",
      "rack-0/uplink/in 800",
      "w3/nic/in 200",
      "w3/host-link/in 256",
    ]);
    expect(remote.latencyMs).toBeCloseTo(1 + 0.01 + 0.005, 12);
  });

  it("are shared by the workers of a node, and the remote one by all", () => {
    const host = topology.storeOf("w0", "host")!;
    expect(host.capacityBytes).toBe(2e12);
    expect(topology.storeOf("w1", "host")).toBe(host);
    expect(topology.storeOf("w2", "host")).not.toBe(host);
    expect(topology.storeOf("w3", "remote")).toBe(topology.storeOf("w0", "remote"));
    expect(way(topology, "w0/remote", "w3/remote").by).toEqual([]);
    expect(build({}, [H100], list).storeOf("w0", "host")).toBeUndefined();
  });

  it("slow down KV that leaves by the same PCIe link, and are slowed down by it", () => {
    const { network } = buildNetwork({
      network: networkSchema.parse({ preset: "single-node", tiers }),
      groups: [L40S],
      workers: workers("w", L40S, 2, 1),
    });
    const handoff = network.start("w0", "w1", 32e6, 0);
    const alone = network.bytesPerSecondOf(handoff);
    const offload = network.start("w0", tierEndpoint("w0", "host"), 32e6, 0);
    expect(alone).toBe(32 * GB);
    expect(network.bytesPerSecondOf(handoff)).toBe(16 * GB);
    expect(network.bytesPerSecondOf(offload)).toBe(16 * GB);
    const onboard = network.start(tierEndpoint("w0", "host"), "w0", 32e6, 0);
    expect(network.bytesPerSecondOf(onboard)).toBe(32 * GB);
  });
});

describe("an uncontended network", () => {
  it("gives every transfer the same, whatever else is under way", () => {
    const { network, topology } = buildNetwork({
      network: networkSchema.parse({
        preset: "uncontended",
        pair: { bytesPerSecond: 200 * GB, latencyMs: 0.5 },
      }),
      groups: [],
      workers: workers("w", H100, 2, 8),
    });
    expect(topology).toBeNull();
    const flows = [1, 2, 3].map(() => network.start("w0", "w1", 2e9, 0));
    expect(flows.map((flow) => network.bytesPerSecondOf(flow))).toEqual([200 * GB, 200 * GB, 200 * GB]);
    expect(network.latencyMs("w0", "w1")).toBe(0.5);
    network.takeEnded(10);
    expect(network.nextEndMs).toBe(10.5);
  });
});

import type { Assumption } from "../world/assumption.ts";
import { TIER_KINDS } from "../world/tiers.ts";
import type { BuiltGroup } from "./device-placement.ts";
import type { ResolvedNetwork } from "./presets.ts";

/** Every figure that the paths of a topology rest on. */
export function networkAssumptions(network: ResolvedNetwork, groups: readonly BuiltGroup[]): Assumption[] {
  const source = `network section, preset ${network.preset}`;
  const list: Assumption[] = [
    { name: "rack oversubscription", value: network.rackOversubscription, unit: "", source },
    { name: "row oversubscription", value: network.rowOversubscription, unit: "", source },
    { name: "latency of each further switch", value: network.hopLatencyMs, unit: "ms", source },
  ];
  for (const { name, device, domainDevices, nic, isNicPerNode, devicesPerNode, nodesPerRack } of groups) {
    const ofDevice = `device of ${name}`;
    const nicSource = nic === device.scaleOut ? ofDevice : source;
    list.push(
      { name: `${name}: devices per node`, value: devicesPerNode, unit: "", source },
      { name: `${name}: nodes per rack`, value: nodesPerRack, unit: "", source },
      { name: `${name}: devices per scale-up domain`, value: domainDevices, unit: "", source },
      {
        name: `${name}: host link`,
        value: device.host.bytesPerSecond,
        unit: "bytes/s per device",
        source: ofDevice,
      },
      {
        name: `${name}: NIC`,
        value: nic.bytesPerSecond,
        unit: `bytes/s per ${isNicPerNode ? "node" : "device"}`,
        source: nicSource,
      },
      { name: `${name}: latency of the NICs`, value: nic.latencyMs, unit: "ms", source: nicSource },
    );
    if (domainDevices === 1) continue;
    const { bytesPerSecond, latencyMs } = device.scaleUp;
    list.push(
      { name: `${name}: scale-up link`, value: bytesPerSecond, unit: "bytes/s per device", source: ofDevice },
      { name: `${name}: latency of the scale-up link`, value: latencyMs, unit: "ms", source: ofDevice },
    );
  }
  for (const kind of TIER_KINDS) {
    const tier = network.tiers[kind];
    if (tier === undefined) continue;
    list.push(
      { name: `${kind} tier: capacity`, value: tier.capacityBytes, unit: "bytes", source },
      { name: `${kind} tier: read`, value: tier.readBytesPerSecond, unit: "bytes/s", source },
      { name: `${kind} tier: write`, value: tier.writeBytesPerSecond, unit: "bytes/s", source },
      { name: `${kind} tier: latency`, value: tier.latencyMs, unit: "ms", source },
    );
  }
  return list;
}

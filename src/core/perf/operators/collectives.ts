import type { LinkSpec } from "../device-spec.ts";

/** Collective operations between the devices of a replica. */
export type Collective = "all-reduce" | "all-gather" | "reduce-scatter" | "all-to-all";

/** Share of a link's rate that large messages reach, typically. */
const LINK_SHARE = 0.75;
/** Kernel launch and synchronisation of a collective inside a recorded graph. */
const COLLECTIVE_FLOOR_MS = 0.004;
const HOP_MS = 0.0005;

/**
 * Roofline of a collective over `devices` on one kind of link: what every device has to send, at the link's rate, and a floor.
 * `bytes` is the whole message: the vector that is reduced, what a device holds after gathering, or what a device sends to all
 * others together.
 */
export function collectiveRooflineMs(
  link: LinkSpec,
  collective: Collective,
  devices: number,
  bytes: number,
): number {
  const share = (devices - 1) / devices;
  const sent = (collective === "all-reduce" ? 2 : 1) * share * bytes;
  return COLLECTIVE_FLOOR_MS + HOP_MS * (devices - 1) + (sent * 1e3) / (link.bytesPerSecond * LINK_SHARE);
}

/** Coordinates: log2 of the bytes, of the devices. */
export function collectiveCoordinates(out: Float64Array, devices: number, bytes: number): void {
  out[0] = Math.log2(bytes);
  out[1] = Math.log2(devices);
}

/** A flow over the network that has been started. */
export type FlowId = number;

/**
 * Shared links, as the driver sees them. A path is a list of resources (a NIC's sending side, a switch, a PCIe slot), each
 * with a bandwidth that flows share fairly (max-min); a flow's rate changes whenever another begins or ends.
 */
export interface Network {
  /** Starts moving `bytes` between two endpoints. The flow ends some time after `nowMs`, its path's latency included. */
  start(from: string, to: string, bytes: number, nowMs: number): FlowId;
  /** Stops a flow; it never ends. */
  cancel(flow: FlowId, nowMs: number): void;
  /**
   * When to ask next: never later than the next flow's end if nothing changes; infinite when none will end. At some of these
   * times no flow ends (a last byte leaves and makes room for others): `takeEnded` gives null, and a later time stands here.
   */
  readonly nextEndMs: number;
  /** Takes out one flow that has ended by `nowMs`, or null. Ties are resolved in order of start. */
  takeEnded(nowMs: number): FlowId | null;
  /** One-way time of a message without payload between two endpoints. */
  latencyMs(from: string, to: string): number;
  /** Multiplies the bandwidth of an endpoint's resources: a slow link (below 1) or its repair (1). */
  scale(endpoint: string, factor: number, nowMs: number): void;
}

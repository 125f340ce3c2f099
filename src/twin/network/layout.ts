/** Most resources that one path crosses: two tiers, and host link, NIC, rack and row on either side. */
export const MAX_PATH_RESOURCES = 10;

/** Something that flows share: one direction of a NIC, of a PCIe slot, of a rack's uplink. */
export interface NetworkResource {
  /** For reports, such as `prefill-0/nic/out`. */
  readonly name: string;
  /** Finite. What never limits anything (a non-blocking switch) is left out of the layout. */
  readonly bytesPerSecond: number;
}

/** The way from one endpoint to another. One instance is filled again for every question. */
export interface NetworkPath {
  /** Indexes of the resources; only the first `numResources` count, and no resource comes twice. */
  readonly resources: Int32Array;
  numResources: number;
  /** From the moment at which the last byte leaves until it has arrived. */
  latencyMs: number;
  /** What one flow can reach on its own; infinite when only the resources limit it. */
  capBytesPerSecond: number;
}

/** Resources, endpoints and paths: what a network is made of. It never changes. */
export interface NetworkLayout {
  readonly resources: readonly NetworkResource[];
  /** Names of all endpoints, by index. */
  readonly endpoints: readonly string[];
  fillPath(from: number, to: number, out: NetworkPath): void;
  /** Resources that are slow when the endpoint's link is. */
  resourcesOf(endpoint: number): readonly number[];
}

export function emptyPath(): NetworkPath {
  return {
    resources: new Int32Array(MAX_PATH_RESOURCES),
    numResources: 0,
    latencyMs: 0,
    capBytesPerSecond: Number.POSITIVE_INFINITY,
  };
}

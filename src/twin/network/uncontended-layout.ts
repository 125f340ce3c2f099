import type { NetworkLink } from "../../protocol/network-schema.ts";
import type { NetworkLayout, NetworkPath } from "./layout.ts";

/** Endpoints that meet nowhere: every transfer gets the same bandwidth, whatever else is under way, as in Splitwise's simulator. */
export class UncontendedLayout implements NetworkLayout {
  readonly resources = [];
  readonly endpoints: readonly string[];
  readonly #pair: NetworkLink;

  constructor(endpoints: readonly string[], pair: NetworkLink) {
    this.endpoints = endpoints;
    this.#pair = pair;
  }

  fillPath(from: number, to: number, out: NetworkPath): void {
    const isSame = from === to;
    out.numResources = 0;
    out.latencyMs = isSame ? 0 : this.#pair.latencyMs;
    out.capBytesPerSecond = isSame ? Number.POSITIVE_INFINITY : this.#pair.bytesPerSecond;
  }

  resourcesOf(): readonly number[] {
    return [];
  }
}

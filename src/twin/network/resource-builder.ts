import type { NetworkResource } from "./layout.ts";

/** No resource: nothing on the path limits a flow there. */
export const NO_RESOURCE = -1;

/** Both directions of a link, as indexes of resources. */
export interface Duplex {
  readonly out: number;
  readonly in: number;
}

export const NO_DUPLEX: Duplex = { out: NO_RESOURCE, in: NO_RESOURCE };

/** Collects resources and gives each its index. */
export class ResourceBuilder {
  readonly resources: NetworkResource[] = [];
  readonly #shared = new Map<string, Duplex>();

  add(name: string, bytesPerSecond: number): number {
    return this.resources.push({ name, bytesPerSecond }) - 1;
  }

  /** A link with the same bandwidth in both directions. */
  duplex(name: string, bytesPerSecond: number): Duplex {
    return { out: this.add(`${name}/out`, bytesPerSecond), in: this.add(`${name}/in`, bytesPerSecond) };
  }

  /** The resource pair of that name, made by `make` when it is asked for first. */
  shared(name: string, make: () => Duplex): Duplex {
    let pair = this.#shared.get(name);
    if (pair === undefined) {
      pair = make();
      this.#shared.set(name, pair);
    }
    return pair;
  }
}

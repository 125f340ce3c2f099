import type { Segment } from "../../core/kv/tiers/segment.ts";
import type { ReadOutcome, TierStore } from "./tier-store.ts";

/** KV in the memory of the worker's process. Its bound is kept by who decides what goes in. */
export class HostStore implements TierStore {
  readonly tier = "host";
  readonly #payloads = new Map<number, Uint8Array>();

  async write(segment: Segment, payload: Uint8Array): Promise<number> {
    this.#payloads.set(segment.id, payload);
    return payload.length;
  }

  async read(segment: Segment): Promise<ReadOutcome> {
    return this.#payloads.get(segment.id) ?? "bad";
  }

  delete(segment: Segment): void {
    this.#payloads.delete(segment.id);
  }

  async close(): Promise<void> {
    this.#payloads.clear();
  }
}

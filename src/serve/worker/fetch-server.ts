import type { HandoffId, HandoffMessage } from "../../core/handoff/messages.ts";
import type { KvRange } from "../../core/kv/kv-ops.ts";
import type { WorkerId } from "../../core/request.ts";
import { EngineError } from "../engine/engine.ts";
import { piecesOf } from "./kv-pieces.ts";

/** Fetches of other workers that are answered at a time; further ones get nothing, and compute. */
const MAX_SERVED_FETCHES = 16;

export interface FetchServerPorts {
  readonly bytesPerToken: number;
  exportKv(range: KvRange): Promise<Uint8Array>;
  deliver(peer: WorkerId, message: HandoffMessage): Promise<void>;
  exported(): void;
  fatal(error: unknown): void;
}

/** Sends other workers what this one has cached of a prompt. */
export class FetchServer {
  readonly #ports: FetchServerPorts;
  #numServed = 0;

  constructor(ports: FetchServerPorts) {
    this.#ports = ports;
  }

  /** All exports are queued before this returns: what is done next to the cells comes after them. */
  serve(peer: WorkerId, id: HandoffId, ranges: readonly KvRange[]): void {
    const { bytesPerToken, exportKv } = this.#ports;
    const isBusy = this.#numServed >= MAX_SERVED_FETCHES;
    const exports = (isBusy ? [] : ranges)
      .flatMap((range) => piecesOf(range, bytesPerToken))
      .map(({ slot, start, end }) => ({ start, end, exported: exportKv({ slot, start, end }) }));
    for (const { exported } of exports) exported.catch(() => {});
    this.#numServed++;
    this.#sendAll(peer, id, exports).then(
      () => this.#numServed--,
      (error: unknown) => {
        this.#numServed--;
        // A link that is gone is told to the worker by itself.
        if (error instanceof EngineError) this.#ports.fatal(error);
      },
    );
  }

  async #sendAll(
    peer: WorkerId,
    id: HandoffId,
    exports: ReadonlyArray<{ start: number; end: number; exported: Promise<Uint8Array> }>,
  ): Promise<void> {
    for (const { start, end, exported } of exports) {
      const payload = await exported;
      this.#ports.exported();
      await this.#ports.deliver(peer, { kind: "fetched", ...id, start, end, payload });
    }
    await this.#ports.deliver(peer, { kind: "fetch-end", ...id });
  }
}

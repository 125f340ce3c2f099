import type { HandoffId, HandoffMessage } from "../../core/handoff/messages.ts";
import type { KvRange } from "../../core/kv/kv-ops.ts";
import type { WorkerId } from "../../core/request.ts";
import { EngineError } from "../engine/engine.ts";
import { piecesOf } from "./kv-pieces.ts";

/** Fetches of other workers that are answered at a time; further ones get nothing, and compute. */
const MAX_SERVED_FETCHES = 16;
/** KV of all answers under way, which is in memory until its link has taken it; what is more is left out, and computed there. */
const MAX_SERVED_BYTES = 512 * 1024 * 1024;

export interface FetchServerPorts {
  readonly bytesPerToken: number;
  readonly blockSizeTokens: number;
  exportKv(range: KvRange): Promise<Uint8Array>;
  deliver(peer: WorkerId, message: HandoffMessage): Promise<void>;
  exported(): void;
  fatal(error: unknown): void;
}

/** A part of an answer, whose export is with the engine. */
interface Piece {
  readonly start: number;
  readonly end: number;
  readonly exported: Promise<Uint8Array>;
}

/** Sends other workers what this one has cached of a prompt. */
export class FetchServer {
  readonly #ports: FetchServerPorts;
  #numServed = 0;
  #servedBytes = 0;

  constructor(ports: FetchServerPorts) {
    this.#ports = ports;
  }

  /** All exports are queued before this returns: what is done next to the cells comes after them. */
  serve(peer: WorkerId, id: HandoffId, ranges: readonly KvRange[]): void {
    const { bytesPerToken, exportKv } = this.#ports;
    const isBusy = this.#numServed >= MAX_SERVED_FETCHES;
    const pieces: Piece[] = [];
    let bytes = 0;
    for (const { slot, start, end } of isBusy
      ? []
      : ranges.flatMap((range) => piecesOf(range, this.#ports))) {
      const pieceBytes = (end - start) * bytesPerToken;
      if (this.#servedBytes + pieceBytes > MAX_SERVED_BYTES) break;
      this.#servedBytes += pieceBytes;
      bytes += pieceBytes;
      const exported = exportKv({ slot, start, end });
      exported.catch(() => {});
      pieces.push({ start, end, exported });
    }
    this.#numServed++;
    void this.#answer(peer, id, pieces).finally(() => {
      this.#numServed--;
      this.#servedBytes -= bytes;
    });
  }

  async #answer(peer: WorkerId, id: HandoffId, pieces: readonly Piece[]): Promise<void> {
    try {
      for (const { start, end, exported } of pieces) {
        const payload = await exported;
        this.#ports.exported();
        await this.#ports.deliver(peer, { kind: "fetched", ...id, start, end, payload });
      }
    } catch (error) {
      if (error instanceof EngineError) return this.#ports.fatal(error);
    }
    // Also when the link had no room for a piece: otherwise the other worker would wait for it until its time is over. A link that
    // is gone is told to both workers by itself.
    await this.#ports.deliver(peer, { kind: "fetch-end", ...id }).catch(() => {});
  }
}

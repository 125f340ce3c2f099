import type { HandoffId, HandoffMessage } from "../../core/handoff/messages.ts";
import type { KvRange } from "../../core/kv/kv-ops.ts";
import type { TierPiece } from "../../core/kv/tiers/segment.ts";
import type { ServedPart, TierEffect } from "../../core/kv/tiers/tier-effects.ts";
import type { WorkerId } from "../../core/request.ts";
import { EngineError, type KvPositions } from "../engine/engine.ts";
import { piecesOf } from "./kv-pieces.ts";

/** An answer ends after so long: by then the worker that asked computes what has not come. */
export const ANSWER_TIMEOUT_MS = 10_000;

export interface FetchServerPorts {
  readonly bytesPerToken: number;
  readonly blockSizeTokens: number;
  nowMs(): number;
  exportKv(range: KvRange): Promise<Uint8Array>;
  /** The part of a lower tier's piece that covers these positions: `bad` when it is gone or damaged, `busy` when it can't be read now. */
  readTier(piece: TierPiece, positions: KvPositions): Promise<Uint8Array | "bad" | "busy">;
  deliver(peer: WorkerId, message: HandoffMessage): Promise<void>;
  exported(): void;
  /** An answer is over; `bad` is the piece that was gone or damaged, if one was. */
  answered(answer: number, bad: TierPiece | null): void;
  fatal(error: unknown): void;
}

type Part = KvPositions & {
  /** Null: it comes from the engine. */
  readonly piece: TierPiece | null;
  read(): Promise<Uint8Array | "bad" | "busy">;
};

/** Sends other workers what this one has of a prompt, in its engine and in lower tiers. */
export class FetchServer {
  readonly #ports: FetchServerPorts;

  constructor(ports: FetchServerPorts) {
    this.#ports = ports;
  }

  /**
   * All exports are queued before this returns: what is done next to the cells comes after them. Lower tiers are read one piece ahead of the
   * link, as they are: what verifies there is sent without the engine's help.
   */
  serve({ peer, id, answer, parts }: Extract<TierEffect, { kind: "serve-kv" }>): void {
    const ready = parts.flatMap((part) => this.#partsOf(part));
    void this.#answer(peer, id, ready).then((bad) => {
      if (parts.length > 0) this.#ports.answered(answer, bad);
    });
  }

  #partsOf(part: ServedPart): Part[] {
    const { start, end } = part;
    if (part.kind === "tier") {
      const { piece } = part;
      return [{ start, end, piece, read: () => this.#ports.readTier(piece, { start, end }) }];
    }
    return piecesOf(part, this.#ports).map((range) => {
      const exported = this.#ports.exportKv(range);
      exported.then(
        () => this.#ports.exported(),
        () => {},
      );
      return { start: range.start, end: range.end, piece: null, read: () => exported };
    });
  }

  /** Resolves with a piece that was gone or damaged, if there was one: the answer ends there. */
  async #answer(peer: WorkerId, id: HandoffId, parts: readonly Part[]): Promise<TierPiece | null> {
    const deadlineMs = this.#ports.nowMs() + ANSWER_TIMEOUT_MS;
    let bad: TierPiece | null = null;
    try {
      let ahead = parts[0]?.read();
      for (let i = 0; i < parts.length && this.#ports.nowMs() < deadlineMs; i++) {
        const { start, end, piece } = parts[i]!;
        const payload = await ahead!;
        if (typeof payload === "string") {
          if (payload === "bad") bad = piece;
          break;
        }
        ahead = parts[i + 1]?.read();
        // Nobody may be left to wait for it.
        ahead?.catch(() => {});
        await this.#ports.deliver(peer, { kind: "fetched", ...id, start, end, payload });
      }
    } catch (error) {
      if (error instanceof EngineError) {
        this.#ports.fatal(error);
        return bad;
      }
    }
    // Also when the link had no room for a piece: otherwise the other worker would wait for it until its time is over. A link that
    // is gone is told to both workers by itself.
    await this.#ports.deliver(peer, { kind: "fetch-end", ...id }).catch(() => {});
    return bad;
  }
}

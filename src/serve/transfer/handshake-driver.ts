import type { Socket } from "node:net";
import type { Handshake, HandshakeProgress, HandshakeRefusal, HandshakeSession } from "./handshake.ts";
import type { Timers } from "./timers.ts";

/** Connecting and shaking hands together may take this long. */
export const HANDSHAKE_TIMEOUT_MS = 5000;

export type HandshakeOutcome =
  | { readonly kind: "authenticated"; readonly session: HandshakeSession }
  | { readonly kind: "accepted"; readonly session: HandshakeSession; readonly rest: Buffer }
  | { readonly kind: "refused"; readonly reason: HandshakeRefusal }
  /** The connection could not be made, broke, or took too long. */
  | { readonly kind: "broken"; readonly isTimeout: boolean; readonly message: string };

/**
 * Runs a handshake over a socket that is connecting or connected and calls `onOutcome` exactly once. The socket is
 * paused afterwards and belongs to the caller again; unless the outcome is good it has been told to close.
 */
export function driveHandshake(options: {
  readonly socket: Socket;
  readonly handshake: Handshake;
  readonly timers: Timers;
  readonly timeoutMs: number;
  readonly onOutcome: (outcome: HandshakeOutcome) => void;
}): void {
  const { socket, handshake, timers, timeoutMs, onOutcome } = options;

  const timer = timers.after(timeoutMs, () => {
    settle({ kind: "broken", isTimeout: true, message: `no link after ${timeoutMs} ms` });
  });
  const onData = (chunk: Buffer) => {
    const progress = handshake.receive(chunk);
    for (const message of progress.send) socket.write(message);
    const outcome = outcomeOf(progress);
    if (outcome !== null) settle(outcome);
  };
  const onError = (error: Error) => settle({ kind: "broken", isTimeout: false, message: error.message });
  const onClose = () => {
    settle({
      kind: "broken",
      isTimeout: false,
      message: "the peer closed the connection during the handshake",
    });
  };
  const settle = (outcome: HandshakeOutcome) => {
    timer.cancel();
    socket.off("data", onData).off("error", onError).off("close", onClose);
    socket.pause();
    if (outcome.kind === "broken" || outcome.kind === "refused") {
      // What goes wrong with a connection that has been given up is of no interest.
      socket.on("error", () => undefined);
      if (outcome.kind === "refused") socket.destroySoon();
      else socket.destroy();
    }
    onOutcome(outcome);
  };

  socket.on("data", onData).on("error", onError).on("close", onClose);
  for (const message of handshake.start()) socket.write(message);
}

function outcomeOf(progress: HandshakeProgress): HandshakeOutcome | null {
  switch (progress.kind) {
    case "pending":
      return null;
    case "failed":
      return { kind: "refused", reason: progress.reason };
    case "authenticated":
      return { kind: "authenticated", session: progress.session };
    case "accepted":
      return { kind: "accepted", session: progress.session, rest: progress.rest };
  }
}

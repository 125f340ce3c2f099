import { EventEmitter } from "node:events";
import type { Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { ManualTimers } from "../../../test/support/link-timers.ts";
import type { HandoffMessage } from "../../core/handoff/messages.ts";
import { FrameEncoder } from "../../protocol/kv-frame.ts";
import type { HandshakeSession } from "./handshake.ts";
import { KV_LINK_LIMITS, KvLink } from "./kv-link.ts";

const KEY = Buffer.alloc(32, 3);

const kv = (epoch: number): HandoffMessage => ({
  ...{ kind: "kv", requestId: "r", epoch, start: 0, end: 16 },
  payload: Buffer.alloc(1000),
});

describe("KvLink", () => {
  it("times each message from its first byte to its last, whatever else its chunks hold and however long the link rests", () => {
    const timers = new ManualTimers();
    const socket = Object.assign(new EventEmitter(), {
      writableLength: 0,
      resume() {},
      destroy() {},
      cork() {},
      uncork() {},
      write() {},
    });
    const session = { peer: { workerId: "p" }, linkId: "l", sendKey: KEY, receiveKey: KEY };
    const took: Array<[epoch: number, ms: number]> = [];
    const link = new KvLink({
      socket: socket as unknown as Socket,
      session: session as unknown as HandshakeSession,
      limits: KV_LINK_LIMITS,
      timers,
      onMessage: ({ epoch }, ms) => took.push([epoch, ms]),
      onLost: (reason) => {
        throw new Error(reason);
      },
    });
    const encoder = new FrameEncoder(KEY);
    const bytes = Buffer.concat([0, 1, 2, 3].flatMap((epoch) => [...encoder.encode(kv(epoch))]));
    const size = bytes.length / 4;
    link.start(Buffer.alloc(0));
    let at = 0;
    const arrive = (until: number): void => {
      socket.emit("data", bytes.subarray(at, until));
      at = until;
    };
    timers.advance(100);
    arrive(10);
    timers.advance(7);
    arrive(size);
    // Nothing is on the way.
    timers.advance(500);
    arrive(size + 400);
    timers.advance(20);
    arrive(2 * size + 400);
    timers.advance(30);
    arrive(4 * size);
    expect(took).toEqual([
      [0, 7],
      [1, 20],
      [2, 30],
      [3, 0],
    ]);
  });
});

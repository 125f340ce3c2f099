import { describe, expect, it } from "vitest";
import { makeSequence, tokenRange } from "../../../test/support/make.ts";
import type { Sequence } from "../sequence.ts";
import type { HandoffMessage } from "./messages.ts";
import { HandoffReceiver, type ReceiverEffect } from "./receiver.ts";
import { HandoffSender, type HandoffTimeouts, type SenderEffect } from "./sender.ts";

const TIMEOUTS: HandoffTimeouts = { grantMs: 100, ackMs: 200, reserveMs: 300, frameMs: 400 };
const ID = { requestId: "request", epoch: 3 };
const FIRST = { token: 42 };

function makeSender(): { sender: HandoffSender; sequence: Sequence; compute(to: number): void } {
  const sequence = makeSequence({ prompt: tokenRange(0, 10), epoch: 3, stopsAfterPrefill: true });
  const sender = new HandoffSender({ sequence, peer: "d", timeouts: TIMEOUTS });
  return {
    sender,
    sequence,
    compute(to) {
      sequence.numComputedTokens = to;
    },
  };
}

function makeReceiver(): { receiver: HandoffReceiver; sequence: Sequence } {
  const sequence = makeSequence({ prompt: tokenRange(0, 10), epoch: 3 });
  return { receiver: new HandoffReceiver({ sequence, peer: "p", timeouts: TIMEOUTS, nowMs: 0 }), sequence };
}

/** A receiver that has been granted room, with the first `cached` positions at hand already. */
function makeGranted(cached = 0): { receiver: HandoffReceiver; sequence: Sequence } {
  const { receiver, sequence } = makeReceiver();
  receiver.onReserve(10);
  sequence.numComputedTokens = cached;
  receiver.onRoom(0);
  return { receiver, sequence };
}

function sent(effects: ReadonlyArray<SenderEffect | ReceiverEffect>): HandoffMessage[] {
  return effects.flatMap((effect) => (effect.kind === "send" ? [effect.message] : []));
}

describe("HandoffSender", () => {
  it("reserves, pushes each computed range once, commits after the last push, and ends with the ack", () => {
    const { sender, compute } = makeSender();
    expect(sent(sender.start(0))).toEqual([{ ...ID, kind: "reserve", numTokens: 10 }]);
    expect(sender.onGrant(0, 0)).toEqual([{ kind: "start" }]);
    compute(6);
    expect(sender.onComputed(null, 1)).toEqual([{ kind: "push", start: 0, end: 6 }]);
    expect(sender.onPushed(true, 2)).toEqual([]);
    compute(10);
    expect(sender.onComputed(FIRST, 3)).toEqual([{ kind: "push", start: 6, end: 10 }]);
    expect(sent(sender.onPushed(true, 4))).toEqual([
      { ...ID, kind: "commit", numTokens: 10, firstToken: FIRST },
    ]);
    expect(sender.onAck()).toEqual([{ kind: "end", failure: null }]);
  });

  it("asks for room with the first token when it computes first, and then pushes everything at once", () => {
    const sequence = makeSequence({ prompt: tokenRange(0, 10), epoch: 3, stopsAfterPrefill: true });
    const sender = new HandoffSender({ sequence, peer: "d", timeouts: TIMEOUTS, order: "compute-first" });
    expect(sender.start(0)).toEqual([{ kind: "start" }]);
    expect(sender.deadlineMs).toBe(Number.POSITIVE_INFINITY);
    sequence.numComputedTokens = 6;
    expect(sender.onComputed(null, 5)).toEqual([]);
    sequence.numComputedTokens = 10;
    expect(sent(sender.onComputed(FIRST, 7))).toEqual([{ ...ID, kind: "reserve", numTokens: 10 }]);
    expect(sender.deadlineMs).toBe(107);
    expect(sender.onGrant(2, 9)).toEqual([{ kind: "push", start: 2, end: 10 }]);
    expect(sent(sender.onPushed(true, 11))).toEqual([
      { ...ID, kind: "commit", numTokens: 10, firstToken: FIRST },
    ]);
  });

  it("does not push what the decode worker has cached", () => {
    const { sender, compute } = makeSender();
    sender.start(0);
    sender.onGrant(8, 0);
    compute(6);
    expect(sender.onComputed(null, 1)).toEqual([]);
    compute(10);
    expect(sender.onComputed(FIRST, 2)).toEqual([{ kind: "push", start: 8, end: 10 }]);
  });

  it("commits at once when everything is cached on the other side", () => {
    const { sender, compute } = makeSender();
    sender.start(0);
    sender.onGrant(10, 0);
    compute(10);
    expect(sent(sender.onComputed(FIRST, 1))).toEqual([
      { ...ID, kind: "commit", numTokens: 10, firstToken: FIRST },
    ]);
  });

  it("does not push again what it computes again after a preemption", () => {
    const { sender, compute } = makeSender();
    sender.start(0);
    sender.onGrant(0, 0);
    compute(8);
    sender.onComputed(null, 1);
    compute(4);
    expect(sender.onComputed(null, 2)).toEqual([]);
    compute(9);
    expect(sender.onComputed(null, 3)).toEqual([{ kind: "push", start: 8, end: 9 }]);
  });

  it("gives up when the grant or the ack does not come in time, and tells the peer", () => {
    const waiting = makeSender().sender;
    waiting.start(0);
    expect(waiting.onDeadline(99)).toEqual([]);
    expect(waiting.onDeadline(100)).toEqual([
      { kind: "send", message: { ...ID, kind: "abort", reason: "no_space" } },
      { kind: "end", failure: "no_space" },
    ]);
    const { sender, compute } = makeSender();
    sender.start(0);
    sender.onGrant(0, 0);
    expect(sender.deadlineMs).toBe(Number.POSITIVE_INFINITY);
    compute(10);
    sender.onComputed(FIRST, 50);
    sender.onPushed(true, 60);
    expect(sender.deadlineMs).toBe(260);
    expect(sender.onDeadline(260).at(-1)).toEqual({ kind: "end", failure: "timeout" });
  });

  it("refuses a grant that names more cached tokens than there are", () => {
    const { sender } = makeSender();
    sender.start(0);
    expect(sender.onGrant(11, 0).at(-1)).toEqual({ kind: "end", failure: "verification" });
  });

  it("ends once: whatever comes after the end has no effect", () => {
    const { sender, compute } = makeSender();
    sender.start(0);
    sender.onGrant(0, 0);
    compute(10);
    sender.onComputed(FIRST, 1);
    expect(sender.fail("cancelled", false)).toEqual([{ kind: "end", failure: "cancelled" }]);
    expect([
      ...sender.onPushed(true, 2),
      ...sender.onAck(),
      ...sender.onGrant(0, 0),
      ...sender.fail("timeout", true),
      ...sender.onDeadline(1e9),
    ]).toEqual([]);
  });
});

describe("HandoffReceiver", () => {
  it("installs frames in order and activates when commit and last install are both there", () => {
    const { receiver, sequence } = makeGranted();
    expect(receiver.onKv(0, 6, "a", 1)).toEqual([{ kind: "install", start: 0, end: 6, payload: "a" }]);
    expect(receiver.onKv(6, 10, "b", 2)).toEqual([{ kind: "install", start: 6, end: 10, payload: "b" }]);
    receiver.onInstalled(6, true);
    expect(receiver.onCommit(10, FIRST)).toEqual([]);
    expect(sequence.numComputedTokens).toBe(6);
    expect(receiver.onInstalled(10, true)).toEqual([
      { kind: "send", message: { ...ID, kind: "ack" } },
      { kind: "activate", firstToken: FIRST },
    ]);
  });

  it("grants with what is cached and then wants only the rest", () => {
    const { receiver, sequence } = makeReceiver();
    receiver.onReserve(10);
    sequence.numComputedTokens = 8;
    expect(sent(receiver.onRoom(0))).toEqual([{ ...ID, kind: "grant", cachedTokens: 8 }]);
    expect(receiver.onKv(8, 10, "rest", 1)).toHaveLength(1);
  });

  it.each([
    ["a gap", 1, 5],
    ["an overlap", -1, 4],
    ["an empty range", 0, 0],
    ["positions beyond the prompt", 0, 11],
  ])("refuses %s", (_, start, end) => {
    const { receiver } = makeGranted();
    expect(receiver.onKv(start, end, "x", 1)).toEqual([
      { kind: "send", message: { ...ID, kind: "nack", reason: "verification" } },
      { kind: "end", failure: "verification" },
    ]);
  });

  it("refuses a repeated frame", () => {
    const { receiver } = makeGranted();
    receiver.onKv(0, 6, "a", 1);
    expect(receiver.onKv(0, 6, "a", 2).at(-1)).toEqual({ kind: "end", failure: "verification" });
  });

  it("refuses a commit before everything has arrived, and KV that the engine does not take", () => {
    const early = makeGranted().receiver;
    early.onKv(0, 6, "a", 1);
    expect(early.onCommit(10, FIRST).at(-1)).toEqual({ kind: "end", failure: "verification" });
    const { receiver } = makeGranted();
    receiver.onKv(0, 10, "bad", 1);
    expect(receiver.onInstalled(10, false).at(-1)).toEqual({ kind: "end", failure: "verification" });
  });

  it("refuses a reserve for another number of tokens than the gateway's request has", () => {
    const { receiver } = makeReceiver();
    expect(receiver.onReserve(9).at(-1)).toEqual({ kind: "end", failure: "verification" });
  });

  it("renews its lease with every frame, and lets it run out in silence", () => {
    const { receiver } = makeGranted();
    expect(receiver.deadlineMs).toBe(400);
    receiver.onKv(0, 6, "a", 300);
    expect(receiver.onDeadline(699)).toEqual([]);
    expect(receiver.onDeadline(700).at(-1)).toEqual({ kind: "end", failure: "timeout" });
  });

  it("stops waiting for a reserve that never comes", () => {
    const { receiver } = makeReceiver();
    expect(receiver.onDeadline(300).at(-1)).toEqual({ kind: "end", failure: "timeout" });
  });

  it("ignores what arrives after the end, installs in flight included", () => {
    const { receiver, sequence } = makeGranted();
    receiver.onKv(0, 6, "a", 1);
    receiver.fail("cancelled", false);
    expect([
      ...receiver.onInstalled(6, true),
      ...receiver.onKv(6, 10, "b", 2),
      ...receiver.onCommit(10, FIRST),
    ]).toEqual([]);
    expect(sequence.numComputedTokens).toBe(0);
  });
});

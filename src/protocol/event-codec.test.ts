import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeEvent, EventCodecError, encodeEvent } from "./event-codec.ts";
import type { WorkerEvent, WorkerLoad } from "./worker-rpc.ts";

const LOAD: WorkerLoad = {
  numRunning: 1,
  numWaiting: 2,
  uncomputedTokens: 3,
  kvBlocksUsed: 4,
  kvBlocksCached: 5,
  kvBlocksTotal: 6,
  numSteps: 7,
  numPreemptions: 0,
  prefixTokensHit: 16,
  prefixTokensQueried: 32,
  handoffs: { done: 3, timeout: 1 },
  handoffBytes: 785_000,
  tiers: { disk: { blocks: 3, bytes: 40_000, hits: 2, misses: 9, evictions: 1, bad: 0, dropped: 4 } },
  prefetch: {
    ...{ expected: 5, came: 3, pending: 1, begun: 4, stopped: 1 },
    bytes: {
      host: { started: 9, used: 4, wasted: 5, gone: 2 },
      device: { started: 0, used: 0, wasted: 0, gone: 0 },
    },
  },
  rssBytes: 1e9,
};

const requestId = fc.stringMatching(/^[A-Za-z0-9._:-]{1,128}$/);
const uint32 = fc.nat(2 ** 32 - 1);
const token = fc.nat(2 ** 31 - 1);
const logprob = fc.oneof(
  fc.double({ max: 0, noNaN: true }).map((x) => x + 0),
  fc.constant(Number.NEGATIVE_INFINITY),
);
const logprobs = fc.record({ logprob, top: fc.array(fc.tuple(token, logprob), { maxLength: 20 }) });
const sampled = fc.oneof(fc.record({ token }), fc.record({ token, logprobs }));
const tokenEvent = fc.record({ requestId, epoch: uint32, index: uint32, sampled });

describe("event lines", () => {
  it("give back any token events, with and without log probabilities", () => {
    fc.assert(
      fc.property(fc.array(tokenEvent, { maxLength: 70 }), (tokens) => {
        const line = encodeEvent({ kind: "tokens", tokens });
        expect(line).not.toContain("\n");
        expect(decodeEvent(line)).toEqual({ kind: "tokens", tokens });
      }),
    );
  });

  it.each<WorkerEvent>([
    { kind: "finish", requestId: "r", epoch: 1, reason: "stop", numOutputTokens: 12 },
    { kind: "cached", requestId: "r", epoch: 1, numTokens: 48 },
    { kind: "error", requestId: "r", epoch: 1, code: "worker_lost", message: "line one\nline two ä" },
    { kind: "load", load: LOAD },
  ])("give back a $kind event on one line", (event) => {
    expect(encodeEvent(event)).not.toContain("\n");
    expect(decodeEvent(encodeEvent(event))).toEqual(event);
  });

  it.each([
    "",
    "{",
    "null",
    "7",
    "[]",
    '["x"]',
    '["t","r",0,0]',
    '["t",7,0,0,1,0]',
    '["t","r",-1,0,1,0]',
    '["t","r",0,0.5,1,0]',
    '["t","r",0,0,-1,0]',
    '["t","r",0,0,4294967295,0]',
    '["t","r",0,0,1,[]]',
    '["t","r",0,0,1,["x"]]',
    '["t","r",0,0,1,[-1,2]]',
    '["t","r",0,0,1,[-1,-2,-3]]',
    `["t","r",0,0,1,[0${",1,0".repeat(21)}]]`,
    '{"kind":"tokens","tokens":[]}',
    '{"kind":"finish","requestId":"r","epoch":1,"reason":"bored","numOutputTokens":1}',
    '{"kind":"error","requestId":"r","epoch":1,"code":"no_such_code","message":""}',
    '{"kind":"load","load":{}}',
  ])("are refused when they say %j", (line) => {
    expect(() => decodeEvent(line)).toThrow(EventCodecError);
  });

  it("are refused with other counters than the protocol's", () => {
    const line = (load: object) => JSON.stringify({ kind: "load", load });
    expect(() => decodeEvent(line({ ...LOAD, numSteps: -1 }))).toThrow("numSteps");
    expect(() => decodeEvent(line({ ...LOAD, extra: 1 }))).toThrow("extra");
    const labels = Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`label${i}`, 1]));
    expect(() => decodeEvent(line({ ...LOAD, handoffs: labels }))).toThrow("too many labels");
  });
});

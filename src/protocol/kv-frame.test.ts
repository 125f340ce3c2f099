import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MAX_FETCH_BLOCKS } from "../core/kv/tiers/onboarder.ts";
import { HASH_WORDS } from "../core/tokens/block-hash.ts";
import {
  FRAME_HEADER_BYTES,
  FRAME_KINDS,
  FrameEncoder,
  FrameError,
  type LinkFrame,
  MAX_CONTROL_PAYLOAD_BYTES,
  MAX_FRAME_PAYLOAD_BYTES,
} from "./kv-frame.ts";
import { FrameDecoder } from "./kv-frame-decoder.ts";

const KEY = Buffer.alloc(32, 7);

const uint32 = fc.nat(2 ** 32 - 1);
const token = fc.nat(2 ** 31 - 1);
const logprob = fc
  .oneof(fc.double({ max: 0, noNaN: true }), fc.constant(Number.NEGATIVE_INFINITY))
  .map((value) => value + 0);
const logprobs = fc.record({ logprob, top: fc.array(fc.tuple(token, logprob), { maxLength: 20 }) });
const id = { requestId: fc.stringMatching(/^[A-Za-z0-9._:-]{1,128}$/), epoch: uint32 };
const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const count = fc.integer({ min: 1, max: 2 ** 31 - 1 });
const reason = fc.constantFrom(
  "no_space",
  "verification",
  "timeout",
  "peer_lost",
  "cancelled",
  "unknown_request",
);

function as<const K extends LinkFrame["kind"]>(kind: K) {
  return { kind: fc.constant(kind) };
}

const frameArbitrary: fc.Arbitrary<LinkFrame> = fc.oneof(
  fc.record({ ...as("reserve"), ...id, numTokens: count }),
  fc.record({ ...as("grant"), ...id, cachedTokens: count }),
  fc.record({ ...as("refuse"), ...id, reason }),
  fc
    .record({
      kind: fc.constantFrom("kv" as const, "fetched" as const),
      ...id,
      range: fc.uniqueArray(uint32, { minLength: 2, maxLength: 2 }),
      payload: fc.uint8Array({ maxLength: 300 }),
    })
    .map(({ range, payload, ...rest }) => ({
      ...rest,
      start: Math.min(...range),
      end: Math.max(...range),
      payload: Buffer.from(payload),
    })),
  fc.record({
    ...as("commit"),
    ...id,
    numTokens: count,
    firstToken: fc.oneof(fc.record({ token }), fc.record({ token, logprobs })),
  }),
  fc.record({
    ...as("fetch"),
    ...id,
    firstBlock: count,
    hashes: fc
      .array(fc.tuple(word, word, word, word), { minLength: 1, maxLength: 256 })
      .map((hashes) => Int32Array.from(hashes.flat())),
  }),
  fc.record({ ...as("fetch-end"), ...id }),
  fc.record({ ...as("ack"), ...id }),
  fc.record({ ...as("nack"), ...id, reason }),
  fc.record({ ...as("abort"), ...id, reason }),
  fc.record(as("ping")),
);

function encodeAll(frames: readonly LinkFrame[], key: Uint8Array = KEY): Buffer {
  const encoder = new FrameEncoder(key);
  return Buffer.concat(frames.flatMap((frame) => encoder.encode(frame)));
}

/** Decodes to the end or to the first error, and returns both. */
function decodeAll(
  chunks: Iterable<Uint8Array>,
  key: Uint8Array = KEY,
): { frames: LinkFrame[]; error: unknown } {
  const decoder = new FrameDecoder(key);
  const frames: LinkFrame[] = [];
  try {
    for (const chunk of chunks) decoder.push(chunk, (frame) => frames.push(frame));
    decoder.end();
  } catch (error) {
    return { frames, error };
  }
  return { frames, error: null };
}

function codeOf(error: unknown): string {
  expect(error).toBeInstanceOf(FrameError);
  return (error as FrameError).code;
}

const KV: LinkFrame = {
  kind: "kv",
  requestId: "r1",
  epoch: 3,
  start: 16,
  end: 32,
  payload: Buffer.from("some KV"),
};
const ACK: LinkFrame = { kind: "ack", requestId: "r1", epoch: 3 };

describe("KV frames", () => {
  it("carry the largest fetch that a worker may send, and no larger one", () => {
    const fetchOf = (numBlocks: number): LinkFrame => ({
      kind: "fetch",
      requestId: "r".repeat(128),
      epoch: 2 ** 32 - 1,
      firstBlock: 2 ** 31 - 1,
      // Words of all bits: nothing about them is short.
      hashes: new Int32Array(numBlocks * HASH_WORDS).map((_, i) => Math.imul(i + 1, 0x9e3779b1)),
    });
    const largest = fetchOf(MAX_FETCH_BLOCKS);
    expect(decodeAll([encodeAll([largest])])).toEqual({ frames: [largest], error: null });
    const { frames, error } = decodeAll([encodeAll([fetchOf(MAX_FETCH_BLOCKS + 1)])]);
    expect([frames, codeOf(error)]).toEqual([[], "bad_payload"]);
  });

  it("give back any messages, whatever the chunk borders", () => {
    fc.assert(
      fc.property(
        fc.array(frameArbitrary, { maxLength: 6 }),
        fc.array(fc.integer({ min: 1, max: 90 })),
        (frames, cuts) => {
          const bytes = encodeAll(frames);
          const chunks: Uint8Array[] = [];
          let offset = 0;
          for (const cut of cuts) {
            chunks.push(bytes.subarray(offset, offset + cut));
            offset += cut;
          }
          chunks.push(bytes.subarray(offset));
          expect(decodeAll(chunks)).toEqual({ frames, error: null });
        },
      ),
    );
  });

  it("survive delivery byte by byte", () => {
    const bytes = encodeAll([KV, ACK, { kind: "ping" }, KV]);
    const chunks = Array.from(bytes, (byte) => Uint8Array.of(byte));
    expect(decodeAll(chunks)).toEqual({ frames: [KV, ACK, { kind: "ping" }, KV], error: null });
  });

  it("with a flipped bit give a typed error after an unharmed prefix, never a wrong message", () => {
    fc.assert(
      fc.property(fc.array(frameArbitrary, { minLength: 1, maxLength: 4 }), fc.nat(), (frames, at) => {
        const bytes = encodeAll(frames);
        const bit = at % (bytes.length * 8);
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        const result = decodeAll([bytes]);
        expect(result.frames.length).toBeLessThan(frames.length);
        expect(result.frames).toEqual(frames.slice(0, result.frames.length));
        expect(codeOf(result.error)).toMatch(/^(bad_|too_large|truncated)/);
      }),
      { numRuns: 500 },
    );
  });

  it("with each single bit of a frame flipped fail to verify", () => {
    const bytes = encodeAll([KV]);
    const codes = new Set<string>();
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      const { frames, error } = decodeAll([flipped]);
      expect(frames).toEqual([]);
      codes.add(codeOf(error));
    }
    expect([...codes].sort()).toEqual([
      "bad_checksum",
      "bad_header",
      "bad_mac",
      "bad_magic",
      "bad_version",
      "too_large",
      "truncated",
    ]);
  });

  it("cannot be repeated, reordered or left out", () => {
    const encoder = new FrameEncoder(KEY);
    const [first, second] = [Buffer.concat(encoder.encode(KV)), Buffer.concat(encoder.encode(ACK))];
    for (const stream of [[first, first], [second, first], [second]]) {
      expect(codeOf(decodeAll(stream).error)).toBe("out_of_sequence");
    }
  });

  it("of another key are refused, and any bytes are never a message", () => {
    expect(codeOf(decodeAll([encodeAll([KV])], randomBytes(32)).error)).toBe("bad_mac");
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), (bytes) => {
        const result = decodeAll([bytes]);
        expect(result.frames).toEqual([]);
        expect(result.error).toBeInstanceOf(FrameError);
      }),
    );
  });

  it("above the size limits are refused before anything is allocated or sent", () => {
    const bytes = encodeAll([KV]);
    bytes.writeUInt32LE(MAX_FRAME_PAYLOAD_BYTES + 1, 20);
    expect(codeOf(decodeAll([bytes.subarray(0, FRAME_HEADER_BYTES)]).error)).toBe("too_large");
    const control = encodeAll([ACK]);
    control.writeUInt32LE(MAX_CONTROL_PAYLOAD_BYTES + 1, 20);
    expect(codeOf(decodeAll([control.subarray(0, FRAME_HEADER_BYTES)]).error)).toBe("too_large");
    const huge: LinkFrame = { ...KV, payload: new Uint8Array(MAX_FRAME_PAYLOAD_BYTES + 1) };
    expect(() => encodeAll([huge])).toThrow("exceeds the limit");
  });

  it("keep the decoder in error: nothing after a bad frame is delivered", () => {
    const decoder = new FrameDecoder(KEY);
    const frames: LinkFrame[] = [];
    expect(() => decoder.push(Buffer.alloc(FRAME_HEADER_BYTES), (frame) => frames.push(frame))).toThrow(
      FrameError,
    );
    expect(() => decoder.push(encodeAll([KV]), (frame) => frames.push(frame))).toThrow("not a KV frame");
    expect(frames).toEqual([]);
  });

  it("refuse a message with a field that does not fit, and the sequence goes on unharmed", () => {
    const encoder = new FrameEncoder(KEY);
    const bad: LinkFrame[] = [
      { ...KV, start: 32, end: 32 },
      { ...KV, end: 2 ** 32 },
      { ...KV, epoch: -1 },
      { ...KV, requestId: "" },
      { ...KV, requestId: "ä" },
      { ...KV, requestId: "x".repeat(129) },
      { ...KV, payload: 785_000 },
    ];
    for (const message of bad) expect(() => encoder.encode(message)).toThrow(FrameError);
    expect(decodeAll(encoder.encode(KV))).toEqual({ frames: [KV], error: null });
  });

  it("hand the payload on without copying it", () => {
    const payload = new Uint8Array(1000);
    const pieces = new FrameEncoder(KEY).encode({ ...KV, payload });
    expect(pieces).toHaveLength(3);
    expect(pieces[1]).toBe(payload);
  });

  it("have a different code for every kind", () => {
    expect(new Set(Object.values(FRAME_KINDS)).size).toBe(Object.keys(FRAME_KINDS).length);
  });
});

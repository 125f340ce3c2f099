import { createHmac } from "node:crypto";
import { crc32 } from "node:zlib";
import type { HandoffMessage } from "../core/handoff/messages.ts";
import { encodeControlPayload } from "./kv-frame-control.ts";
import { REQUEST_ID_PATTERN } from "./request-codec.ts";

/**
 * Wire format of the links between workers, all integers little-endian:
 *
 * ```
 *   offset  bytes
 *        0      4  magic "2FKV"
 *        4      1  version
 *        5      1  kind (FRAME_KINDS)
 *        6      2  flags, none defined: 0
 *        8      4  epoch
 *       12      4  start   positions [start, end) of a kv or fetched frame, otherwise 0
 *       16      4  end
 *       20      4  payload length
 *       24      8  sequence number: counts the frames of this connection and direction from 0
 *       32      4  CRC-32 of the payload
 *       36      1  request id length (0 for a ping)
 *       37      3  reserved: 0
 *       40      n  request id, ASCII
 *     40+n      m  payload: KV bytes, or JSON for everything else
 *   40+n+m     16  HMAC-SHA256 over all of the above, truncated
 * ```
 *
 * Each connection has one MAC key per direction, so a frame cannot be replayed on another connection or reflected to
 * its sender, and the sequence number forbids repetition and reordering within one.
 */
export const FRAME_VERSION = 1;

/** The four bytes "2FKV". */
export const FRAME_MAGIC = 0x56_4b_46_32;

export const FRAME_HEADER_BYTES = 40;

/** HMAC-SHA256 cut to its first half: 128 bits, as RFC 2104 section 5 allows. */
export const FRAME_MAC_BYTES = 16;

/** Most payload bytes of a kv frame; a decoder allocates no more for one frame. */
export const MAX_FRAME_PAYLOAD_BYTES = 64 * 1024 * 1024;

/** Most payload bytes of any other frame. A first token with 20 alternatives needs about 1 kB. */
export const MAX_CONTROL_PAYLOAD_BYTES = 128 * 1024;

export const FRAME_KINDS = {
  reserve: 1,
  grant: 2,
  refuse: 3,
  kv: 4,
  commit: 5,
  ack: 6,
  nack: 7,
  abort: 8,
  fetch: 9,
  fetched: 10,
  "fetch-end": 11,
  ping: 16,
} as const;

/** What travels in a frame: a message of a handoff (its KV as bytes), or the link's own sign of life. */
export type LinkFrame = HandoffMessage | { readonly kind: "ping" };

/** Why bytes are not a frame, or a message cannot become one. */
export type FrameErrorCode =
  | "bad_magic"
  | "bad_version"
  | "bad_header"
  | "too_large"
  | "bad_checksum"
  | "bad_mac"
  | "out_of_sequence"
  | "bad_payload"
  | "truncated"
  /** The sender's own mistake: the message has a field that does not fit the format. */
  | "bad_message";

/** A frame that does not verify. A connection that meets one is beyond repair and must be closed. */
export class FrameError extends Error {
  override name = "FrameError";
  readonly code: FrameErrorCode;

  constructor(code: FrameErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Writes the frames of one direction of one connection, in the order in which they must be sent. */
export class FrameEncoder {
  readonly #key: Uint8Array;
  #sequence = 0;

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  /**
   * The frame's bytes in pieces, to be written one after the other. A kv payload is one of the pieces, not a copy:
   * it must not change before it has been sent. Throws {@link FrameError} (`bad_message`, `too_large`) and then
   * takes no sequence number.
   */
  encode(frame: LinkFrame): readonly Uint8Array[] {
    const isKv = carriesKv(frame);
    const payload = isKv ? kvPayloadOf(frame.payload) : encodeControlPayload(frame);
    checkPayloadSize(isKv, payload.length);
    const id = "requestId" in frame ? frame.requestId : "";
    if ("requestId" in frame && !REQUEST_ID_PATTERN.test(id)) {
      throw new FrameError("bad_message", "a request id must be 1 to 128 of A-Z a-z 0-9 . _ : -");
    }
    const start = isKv ? uint32(frame.start, "start") : 0;
    const end = isKv ? uint32(frame.end, "end") : 0;
    if (isKv && start >= end) throw new FrameError("bad_message", `kv range [${start}, ${end}) is empty`);

    const head = Buffer.allocUnsafe(FRAME_HEADER_BYTES + id.length);
    head.writeUInt32LE(FRAME_MAGIC, 0);
    head.writeUInt8(FRAME_VERSION, 4);
    head.writeUInt8(FRAME_KINDS[frame.kind], 5);
    head.writeUInt16LE(0, 6);
    head.writeUInt32LE("epoch" in frame ? uint32(frame.epoch, "epoch") : 0, 8);
    head.writeUInt32LE(start, 12);
    head.writeUInt32LE(end, 16);
    head.writeUInt32LE(payload.length, 20);
    head.writeBigUInt64LE(BigInt(this.#sequence), 24);
    head.writeUInt32LE(crc32(payload), 32);
    head.writeUInt32LE(id.length, 36);
    head.write(id, FRAME_HEADER_BYTES, "latin1");
    const mac = createHmac("sha256", this.#key)
      .update(head)
      .update(payload)
      .digest()
      .subarray(0, FRAME_MAC_BYTES);
    this.#sequence++;
    return isKv ? [head, payload, mac] : [Buffer.concat([head, payload, mac])];
  }
}

/** Whether a frame's payload is KV and not JSON. */
export function carriesKv<T extends { readonly kind: LinkFrame["kind"] }>(
  frame: T,
): frame is Extract<T, { readonly kind: "kv" | "fetched" }> {
  return frame.kind === "kv" || frame.kind === "fetched";
}

/** Refuses payload lengths above the limit of their kind. Shared by both directions. */
export function checkPayloadSize(isKv: boolean, payloadBytes: number): void {
  const limit = isKv ? MAX_FRAME_PAYLOAD_BYTES : MAX_CONTROL_PAYLOAD_BYTES;
  if (payloadBytes > limit) {
    throw new FrameError("too_large", `payload of ${payloadBytes} bytes exceeds the limit of ${limit} bytes`);
  }
}

function kvPayloadOf(payload: unknown): Uint8Array {
  if (!(payload instanceof Uint8Array))
    throw new FrameError("bad_message", "a kv payload must be a Uint8Array");
  return payload;
}

function uint32(value: number, name: string): number {
  if (value >>> 0 !== value)
    throw new FrameError("bad_message", `${name} ${value} is not an unsigned 32-bit integer`);
  return value;
}

import { createHmac, type Hmac, timingSafeEqual } from "node:crypto";
import { crc32 } from "node:zlib";
import {
  carriesKv,
  checkPayloadSize,
  FRAME_HEADER_BYTES,
  FRAME_KINDS,
  FRAME_MAC_BYTES,
  FRAME_MAGIC,
  FRAME_VERSION,
  FrameError,
  type LinkFrame,
} from "./kv-frame.ts";
import { decodeControlPayload } from "./kv-frame-control.ts";
import { MAX_REQUEST_ID_BYTES, REQUEST_ID_PATTERN } from "./request-codec.ts";

const KIND_OF_CODE = new Map<number, LinkFrame["kind"]>(
  Object.entries(FRAME_KINDS).map(([kind, code]) => [code, kind as LinkFrame["kind"]]),
);

/** Parts of a frame, in the order in which they arrive. */
type Part = "header" | "id" | "payload" | "mac";

/**
 * Reads the frames of one direction of one connection from chunks with arbitrary borders.
 *
 * A frame's payload is allocated once, after its length has been checked, and copied once; checksum and MAC run along
 * with the copy, while the bytes are in the processor's cache. Nothing of a frame is handed out before its MAC has
 * been verified. After an error the decoder stays in error: nothing that follows can be trusted.
 */
export class FrameDecoder {
  readonly #key: Uint8Array;
  readonly #head = Buffer.alloc(FRAME_HEADER_BYTES + MAX_REQUEST_ID_BYTES);
  readonly #mac = Buffer.alloc(FRAME_MAC_BYTES);
  #part: Part = "header";
  #target: Buffer = this.#head;
  #filled = 0;
  #wanted = FRAME_HEADER_BYTES;
  #payload: Buffer = Buffer.alloc(0);
  #crc = 0;
  #hmac: Hmac | null = null;
  #sequence = 0n;
  #error: FrameError | null = null;

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  /** Whether a frame has begun and is not complete. */
  get isWithinFrame(): boolean {
    return this.#part !== "header" || this.#filled > 0;
  }

  /**
   * Takes the next bytes and calls `onFrame` for every frame that they complete. The payload of a kv frame belongs to
   * the receiver. Throws {@link FrameError}; frames before the bad one have been delivered by then.
   */
  push(chunk: Uint8Array, onFrame: (frame: LinkFrame) => void): void {
    if (this.#error !== null) throw this.#error;
    try {
      let offset = 0;
      while (offset < chunk.length) {
        const piece = chunk.subarray(offset, offset + this.#wanted - this.#filled);
        this.#target.set(piece, this.#filled);
        this.#filled += piece.length;
        offset += piece.length;
        if (this.#part === "payload") {
          this.#crc = crc32(piece, this.#crc);
          this.#hmac?.update(piece);
        }
        // A part may be empty, and is then complete before it has begun.
        while (this.#filled === this.#wanted) this.#advance(onFrame);
      }
    } catch (error) {
      if (error instanceof FrameError) this.#error = error;
      throw error;
    }
  }

  /** Says that no more bytes come. Throws {@link FrameError} (`truncated`) in the middle of a frame. */
  end(): void {
    if (this.#error !== null) throw this.#error;
    if (!this.isWithinFrame) return;
    this.#error = new FrameError("truncated", "the stream ended in the middle of a frame");
    throw this.#error;
  }

  #advance(onFrame: (frame: LinkFrame) => void): void {
    switch (this.#part) {
      case "header":
        checkHeader(this.#head);
        this.#part = "id";
        this.#wanted = FRAME_HEADER_BYTES + this.#head.readUInt32LE(36);
        return;
      case "id":
        this.#startPayload();
        return;
      case "payload":
        this.#part = "mac";
        this.#fill(this.#mac, FRAME_MAC_BYTES);
        return;
      case "mac": {
        const frame = this.#finish();
        this.#part = "header";
        this.#fill(this.#head, FRAME_HEADER_BYTES);
        onFrame(frame);
      }
    }
  }

  #fill(target: Buffer, wanted: number): void {
    this.#target = target;
    this.#filled = 0;
    this.#wanted = wanted;
  }

  #startPayload(): void {
    const payloadBytes = this.#head.readUInt32LE(20);
    this.#crc = 0;
    this.#hmac = createHmac("sha256", this.#key).update(this.#head.subarray(0, this.#wanted));
    // Outside the shared pool, so that the payload does not keep other buffers alive nor they it.
    this.#payload = Buffer.allocUnsafeSlow(payloadBytes);
    this.#part = "payload";
    this.#fill(this.#payload, payloadBytes);
  }

  /** Verifies the frame that is complete and turns it into a message. */
  #finish(): LinkFrame {
    const head = this.#head;
    const payload = this.#payload;
    this.#payload = Buffer.alloc(0);
    if (this.#crc !== head.readUInt32LE(32)) {
      throw new FrameError("bad_checksum", "the payload does not match its checksum");
    }
    const mac = this.#hmac?.digest().subarray(0, FRAME_MAC_BYTES);
    if (mac === undefined || !timingSafeEqual(mac, this.#mac)) {
      throw new FrameError("bad_mac", "the frame was not written by the peer of this connection");
    }
    const sequence = head.readBigUInt64LE(24);
    if (sequence !== this.#sequence) {
      throw new FrameError("out_of_sequence", `frame ${sequence} arrived where ${this.#sequence} was due`);
    }
    this.#sequence++;
    return toMessage(head, payload);
  }
}

function checkHeader(head: Buffer): void {
  if (head.readUInt32LE(0) !== FRAME_MAGIC) throw new FrameError("bad_magic", "the bytes are not a KV frame");
  const version = head.readUInt8(4);
  if (version !== FRAME_VERSION) {
    throw new FrameError("bad_version", `frame format ${version}, this process speaks ${FRAME_VERSION}`);
  }
  const kind = KIND_OF_CODE.get(head.readUInt8(5));
  if (kind === undefined) throw new FrameError("bad_header", `frame kind ${head.readUInt8(5)} is unknown`);
  if (head.readUInt16LE(6) !== 0)
    throw new FrameError("bad_header", "a flag is set that this version does not know");
  const isKv = carriesKv({ kind });
  const start = head.readUInt32LE(12);
  const end = head.readUInt32LE(16);
  if (isKv ? start >= end : start !== 0 || end !== 0) {
    throw new FrameError("bad_header", `range [${start}, ${end}) does not fit a frame of kind ${kind}`);
  }
  const idBytes = head.readUInt32LE(36);
  const hasId = kind !== "ping";
  if (hasId ? idBytes < 1 || idBytes > MAX_REQUEST_ID_BYTES : idBytes !== 0) {
    throw new FrameError("bad_header", `request id of ${idBytes} bytes does not fit a frame of kind ${kind}`);
  }
  checkPayloadSize(isKv, head.readUInt32LE(20));
}

function toMessage(head: Buffer, payload: Buffer): LinkFrame {
  const kind = KIND_OF_CODE.get(head.readUInt8(5));
  const idEnd = FRAME_HEADER_BYTES + head.readUInt32LE(36);
  const requestId = head.toString("latin1", FRAME_HEADER_BYTES, idEnd);
  const epoch = head.readUInt32LE(8);
  if (kind === undefined || (requestId !== "" && !REQUEST_ID_PATTERN.test(requestId))) {
    throw new FrameError("bad_header", "the request id has characters that are not allowed");
  }
  if (kind === "kv" || kind === "fetched") {
    return { kind, requestId, epoch, start: head.readUInt32LE(12), end: head.readUInt32LE(16), payload };
  }
  try {
    return decodeControlPayload(kind, { requestId, epoch }, payload);
  } catch (error) {
    throw new FrameError("bad_payload", `the payload of a ${kind} frame is not valid`, { cause: error });
  }
}

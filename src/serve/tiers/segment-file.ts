import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import type { Segment } from "../../core/kv/tiers/segment.ts";
import { HASH_WORDS } from "../../core/tokens/block-hash.ts";

/**
 * One segment as a file. Integers are little-endian.
 *
 * ```
 *   u32 magic, u32 version, u32 first block, u32 blocks, u32 has a parent, u32 bytes of payload
 *   32 bytes fingerprint of model, KV type and block size
 *   32 bytes SHA-256 of the payload
 *   16 bytes hash of the parent, zeros without one; 16 bytes per block: its hash
 *   32 bytes HMAC-SHA256 of everything above
 *   payload
 * ```
 *
 * The MAC covers the payload through its checksum, so a header can be believed without reading the rest.
 */
const MAGIC = 0x564b4654;
const VERSION = 1;
const FIXED_BYTES = 24;
const DIGEST_BYTES = 32;
const HASH_BYTES = HASH_WORDS * 4;
/** More blocks than any segment has. */
const MAX_BLOCKS = 1024;

/** Enough for any header. */
export const MAX_HEADER_BYTES = headerBytes(MAX_BLOCKS);

/** What every file of a worker has in common. */
export interface FileIdentity {
  /** Names what KV must agree in to be loaded. */
  readonly fingerprint: Buffer;
  /** Key of the MAC. */
  readonly key: Buffer;
}

/** Why a file is not used. */
export type BadFile = "foreign" | "corrupt";

export interface ParsedHeader {
  readonly firstBlock: number;
  readonly hashes: Int32Array;
  readonly parent: Int32Array | null;
  readonly headerBytes: number;
  readonly payloadBytes: number;
  readonly payloadDigest: Buffer;
}

export function fingerprintOf(facts: {
  readonly modelId: string;
  readonly kvType: string;
  readonly blockSizeTokens: number;
}): Buffer {
  const { modelId, kvType, blockSizeTokens } = facts;
  return createHash("sha256")
    .update(JSON.stringify([modelId, kvType, blockSizeTokens]))
    .digest();
}

function headerBytes(numBlocks: number): number {
  return FIXED_BYTES + 2 * DIGEST_BYTES + (numBlocks + 1) * HASH_BYTES + DIGEST_BYTES;
}

/** The bytes in front of the payload. */
export function encodeHeader(segment: Segment, payload: Uint8Array, identity: FileIdentity): Buffer {
  const numBlocks = segment.hashes.length / HASH_WORDS;
  const header = Buffer.alloc(headerBytes(numBlocks));
  const numbers = [MAGIC, VERSION, segment.firstBlock, numBlocks, segment.parent === null ? 0 : 1];
  [...numbers, payload.length].forEach((number, i) => {
    header.writeUInt32LE(number, 4 * i);
  });
  let at = FIXED_BYTES;
  at += identity.fingerprint.copy(header, at);
  at += createHash("sha256").update(payload).digest().copy(header, at);
  for (const word of segment.parent ?? new Int32Array(HASH_WORDS)) at = header.writeInt32LE(word, at);
  for (const word of segment.hashes) at = header.writeInt32LE(word, at);
  macOf(header.subarray(0, at), identity).copy(header, at);
  return header;
}

/** Reads the beginning of a file of `fileBytes` bytes. Every byte of a file that passes has been written by a holder of the key. */
export function parseHeader(
  bytes: Buffer,
  fileBytes: number,
  identity: FileIdentity,
): ParsedHeader | BadFile {
  if (bytes.length < FIXED_BYTES + DIGEST_BYTES) return "corrupt";
  const [magic, version, firstBlock, numBlocks, hasParent, payloadBytes] = [0, 1, 2, 3, 4, 5].map((i) =>
    bytes.readUInt32LE(4 * i),
  ) as [number, number, number, number, number, number];
  const fingerprint = bytes.subarray(FIXED_BYTES, FIXED_BYTES + DIGEST_BYTES);
  if (magic !== MAGIC || version !== VERSION || !fingerprint.equals(identity.fingerprint)) return "foreign";
  if (numBlocks < 1 || numBlocks > MAX_BLOCKS) return "corrupt";
  const length = headerBytes(numBlocks);
  if (bytes.length < length || fileBytes !== length + payloadBytes) return "corrupt";
  const macAt = length - DIGEST_BYTES;
  if (!timingSafeEqual(bytes.subarray(macAt, length), macOf(bytes.subarray(0, macAt), identity)))
    return "corrupt";
  const digestAt = FIXED_BYTES + DIGEST_BYTES;
  const hashesAt = digestAt + DIGEST_BYTES;
  return {
    firstBlock,
    parent: hasParent === 1 ? wordsAt(bytes, hashesAt, 1) : null,
    hashes: wordsAt(bytes, hashesAt + HASH_BYTES, numBlocks),
    headerBytes: length,
    payloadBytes,
    payloadDigest: Buffer.from(bytes.subarray(digestAt, hashesAt)),
  };
}

/** The payload of a whole file that has to hold this segment, or null. */
export function readPayload(bytes: Buffer, segment: Segment, identity: FileIdentity): Uint8Array | null {
  const header = parseHeader(bytes, bytes.length, identity);
  if (typeof header === "string" || header.firstBlock !== segment.firstBlock) return null;
  const isEqual =
    header.hashes.length === segment.hashes.length &&
    header.hashes.every((word, i) => word === segment.hashes[i]);
  const payload = bytes.subarray(header.headerBytes);
  if (!isEqual || !createHash("sha256").update(payload).digest().equals(header.payloadDigest)) return null;
  return payload;
}

function macOf(header: Buffer, identity: FileIdentity): Buffer {
  return createHmac("sha256", identity.key).update(header).digest();
}

function wordsAt(bytes: Buffer, at: number, numHashes: number): Int32Array {
  return Int32Array.from({ length: numHashes * HASH_WORDS }, (_, i) => bytes.readInt32LE(at + 4 * i));
}

import { z } from "zod";
import type { HandoffId, HandoffMessage } from "../core/handoff/messages.ts";
import { MAX_FETCH_BLOCKS } from "../core/kv/tiers/onboarder.ts";
import type { SampledToken } from "../core/scheduler/step-plan.ts";
import { HASH_WORDS } from "../core/tokens/block-hash.ts";
import { decodeLogprobs, encodeLogprobs, MAX_TOP_LOGPROBS } from "./event-codec.ts";
import type { LinkFrame } from "./kv-frame.ts";
import { tokenSchema } from "./request-codec.ts";

/** Every kind of frame whose payload is JSON or empty. */
export type ControlKind = Exclude<LinkFrame["kind"], "kv" | "fetched">;

const NOTHING = new Uint8Array(0);

/** The JSON payload of a control frame: the fields that have no place in the header. */
export function encodeControlPayload(frame: Exclude<LinkFrame, { kind: "kv" | "fetched" }>): Uint8Array {
  switch (frame.kind) {
    case "reserve":
      return json({ numTokens: frame.numTokens });
    case "grant":
      return json({ cachedTokens: frame.cachedTokens });
    case "refuse":
    case "nack":
    case "abort":
      return json({ reason: frame.reason });
    case "commit": {
      const { token, logprobs } = frame.firstToken;
      const flat = logprobs === undefined ? {} : { logprobs: encodeLogprobs(logprobs) };
      return json({ numTokens: frame.numTokens, token, ...flat });
    }
    case "fetch":
      return json({ firstBlock: frame.firstBlock, hashes: encodeHashes(frame.hashes) });
    case "fetch-end":
    case "ack":
    case "ping":
      return NOTHING;
  }
}

/** Reads the payload of a control frame. Throws (`SyntaxError`, `ZodError`, `EventCodecError`) when it is not valid. */
export function decodeControlPayload(kind: ControlKind, id: HandoffId, payload: Buffer): LinkFrame {
  switch (kind) {
    case "ping":
      return nothing(payload, { kind });
    case "ack":
    case "fetch-end":
      return nothing(payload, { kind, ...id });
    case "fetch":
      return decodeFetch(id, parse(payload));
    case "reserve":
      return { kind, ...id, ...reserveSchema.parse(parse(payload)) };
    case "grant":
      return { kind, ...id, ...grantSchema.parse(parse(payload)) };
    case "refuse":
    case "nack":
    case "abort":
      return { kind, ...id, ...reasonSchema.parse(parse(payload)) };
    case "commit":
      return decodeCommit(id, parse(payload));
  }
}

const positionsSchema = z
  .number()
  .int()
  .min(0)
  .max(2 ** 31 - 1);
const reserveSchema = z.strictObject({ numTokens: positionsSchema.min(1) });
const grantSchema = z.strictObject({ cachedTokens: positionsSchema });
const reasonSchema = z.strictObject({
  reason: z.enum(["no_space", "verification", "timeout", "peer_lost", "cancelled", "unknown_request"]),
});
const commitSchema = z.strictObject({
  numTokens: positionsSchema.min(1),
  token: tokenSchema,
  logprobs: z
    .array(z.number().nullable())
    .max(1 + 2 * MAX_TOP_LOGPROBS)
    .optional(),
});

const HASH_BYTES = 4 * HASH_WORDS;

const fetchSchema = z.strictObject({
  firstBlock: positionsSchema,
  hashes: z.base64().max(Math.ceil((MAX_FETCH_BLOCKS * HASH_BYTES) / 3) * 4),
});

function encodeHashes(hashes: Int32Array): string {
  return Buffer.from(hashes.buffer, hashes.byteOffset, hashes.byteLength).toString("base64");
}

function decodeFetch(id: HandoffId, value: unknown): HandoffMessage {
  const { firstBlock, hashes } = fetchSchema.parse(value);
  const bytes = Buffer.from(hashes, "base64");
  if (bytes.length === 0 || bytes.length % HASH_BYTES !== 0) throw new SyntaxError("a block hash is cut off");
  // A copy of its own: the words have to be aligned.
  const words = new Int32Array(new Uint8Array(bytes).buffer);
  return { kind: "fetch", ...id, firstBlock, hashes: words };
}

function decodeCommit(id: HandoffId, value: unknown): HandoffMessage {
  const { numTokens, token, logprobs } = commitSchema.parse(value);
  const firstToken: SampledToken =
    logprobs === undefined ? { token } : { token, logprobs: decodeLogprobs(logprobs) };
  return { kind: "commit", ...id, numTokens, firstToken };
}

function json(value: object): Uint8Array {
  return Buffer.from(JSON.stringify(value), "latin1");
}

function parse(payload: Buffer): unknown {
  return JSON.parse(payload.toString("latin1"));
}

function nothing<T>(payload: Buffer, frame: T): T {
  if (payload.length > 0) throw new SyntaxError("this kind of frame has no payload");
  return frame;
}

import { createHash, createHmac, hkdfSync, randomBytes, timingSafeEqual } from "node:crypto";
import { z } from "zod";
import type { WorkerId } from "../../core/request.ts";
import { workerIdSchema } from "../../protocol/request-codec.ts";

/** What two workers must agree on before KV may pass between them, and the name of the one who says so. */
export interface LinkIdentity {
  readonly workerId: WorkerId;
  readonly modelId: string;
  readonly tokenizerId: string;
  readonly kvType: string;
  readonly blockSizeTokens: number;
  readonly protocolVersion: number;
}

/** Most bytes of one handshake message. An unauthenticated peer can make us hold no more than two of these. */
export const MAX_HANDSHAKE_MESSAGE_BYTES = 4096;

/** A fleet secret below 128 bits can be guessed offline from one recorded handshake. */
export const MIN_SECRET_BYTES = 16;

const NONCE_BYTES = 32;
const KEY_BYTES = 32;
const LENGTH_BYTES = 4;
const MAX_NAME_LENGTH = 512;
const MAX_REASON_LENGTH = 1024;

export type HandshakeSide = "initiator" | "acceptor";

/** Keys and names that a finished handshake leaves behind. */
export interface HandshakeSession {
  readonly peer: LinkIdentity;
  /** Names this connection; both sides compute the same one. */
  readonly linkId: string;
  /** The last link with us whose end the peer had noticed when it began this handshake. */
  readonly peerLastLinkId: string | null;
  readonly sendKey: Buffer;
  readonly receiveKey: Buffer;
}

/** What the caller of a handshake does next. `send` goes out first, whatever the kind. */
export type HandshakeProgress =
  | { readonly kind: "pending"; readonly send: readonly Buffer[] }
  /** Acceptor only: the peer is who it says it is and fits; now call `accept` or `refuse`. */
  | { readonly kind: "authenticated"; readonly send: readonly Buffer[]; readonly session: HandshakeSession }
  /** Initiator only: the link stands. `rest` are bytes of frames that came with the last message. */
  | {
      readonly kind: "accepted";
      readonly send: readonly Buffer[];
      readonly session: HandshakeSession;
      readonly rest: Buffer;
    }
  | { readonly kind: "failed"; readonly send: readonly Buffer[]; readonly reason: HandshakeRefusal };

const REFUSAL_CODES = ["malformed", "version", "authentication", "mismatch", "busy", "full"] as const;

export interface HandshakeRefusal {
  /**
   * `busy`: another connection between the same two workers stands or is being made, and will serve.
   * `full`: the acceptor has as many peers as it may have.
   */
  readonly code: (typeof REFUSAL_CODES)[number];
  readonly message: string;
}

export interface HandshakeOptions {
  readonly side: HandshakeSide;
  readonly identity: LinkIdentity;
  readonly secret: Uint8Array;
  /** Initiator: the worker that should answer. */
  readonly expectedWorkerId?: WorkerId;
  /** Initiator: the last link with that worker, if there was one. */
  readonly lastLinkId?: string | null;
}

/**
 * Mutual challenge and response over a shared secret, without any input or output of its own:
 *
 * ```
 *   initiator                                      acceptor
 *   hello: identity, nonce, expected worker ─────▶
 *                                           ◀───── hello: identity, nonce
 *                                           ◀───── proof: HMAC(secret, "acceptor", both hellos)
 *   proof: HMAC(secret, "initiator", both hellos) ▶
 *                                           ◀───── accept, or refuse: why
 * ```
 *
 * Each message is a 32-bit little-endian length and that many bytes of JSON. The proofs cover both hellos byte for
 * byte, so nonces and identities cannot be exchanged under way; their labels differ, so a proof cannot be reflected.
 * Session keys come from HKDF-SHA256 (RFC 5869) over the secret, salted with the hash of both hellos, one key per
 * direction. Whoever does not know the secret learns only that authentication failed. There is no forward secrecy and
 * no encryption: the links are for one machine or an isolated network.
 */
export class Handshake {
  readonly #options: HandshakeOptions;
  readonly #ownHello: Buffer;
  #received = Buffer.alloc(0);
  #peerHello: Hello | null = null;
  #session: HandshakeSession | null = null;
  #transcript = Buffer.alloc(0);
  #isProven = false;

  constructor(options: HandshakeOptions) {
    this.#options = options;
    this.#ownHello = encode({
      kind: "hello",
      ...options.identity,
      nonce: randomBytes(NONCE_BYTES).toString("base64"),
      expectedWorkerId: options.expectedWorkerId ?? null,
      lastLinkId: options.lastLinkId ?? null,
    });
  }

  /** What to send before anything has come. */
  start(): readonly Buffer[] {
    return this.#options.side === "initiator" ? [this.#ownHello] : [];
  }

  /** The name of the connection once the peer has proven itself, else null. */
  get linkId(): string | null {
    return this.#isProven ? (this.#session?.linkId ?? null) : null;
  }

  /** Takes the next bytes from the peer. After `authenticated`, `accepted` or `failed` there is nothing more to take. */
  receive(chunk: Buffer): HandshakeProgress {
    this.#received = Buffer.concat([this.#received, chunk]);
    const send: Buffer[] = [];
    for (;;) {
      const message = this.#nextMessage();
      if (message === null) return { kind: "pending", send };
      if (message === "malformed")
        return failed(send, "malformed", "the peer does not speak the link handshake");
      const progress = this.#handle(message.value, message.bytes, send);
      if (progress !== null) return progress;
    }
  }

  /** Acceptor, after `authenticated`: the message that lets the peer begin to send frames. */
  accept(): Buffer {
    return encode({ kind: "accept" });
  }

  /** The message that tells the peer why there will be no link. */
  refuse(reason: HandshakeRefusal): Buffer {
    return encode({ kind: "refuse", code: reason.code, message: reason.message.slice(0, MAX_REASON_LENGTH) });
  }

  #nextMessage(): { value: Message; bytes: Buffer } | "malformed" | null {
    if (this.#received.length < LENGTH_BYTES) return null;
    const length = this.#received.readUInt32LE(0);
    if (length > MAX_HANDSHAKE_MESSAGE_BYTES) return "malformed";
    if (this.#received.length < LENGTH_BYTES + length) return null;
    const bytes = this.#received.subarray(0, LENGTH_BYTES + length);
    this.#received = this.#received.subarray(LENGTH_BYTES + length);
    const value = parseMessage(bytes.toString("utf8", LENGTH_BYTES));
    return value === null ? "malformed" : { value, bytes };
  }

  #handle(message: Message, bytes: Buffer, send: Buffer[]): HandshakeProgress | null {
    if (message.kind === "refuse") {
      return { kind: "failed", send, reason: { code: message.code, message: printable(message.message) } };
    }
    if (message.kind === "hello" && this.#peerHello === null) return this.#onHello(message, bytes, send);
    if (message.kind === "proof" && !this.#isProven) return this.#onProof(message.proof, send);
    const isInitiator = this.#options.side === "initiator";
    if (message.kind === "accept" && isInitiator && this.#isProven && this.#session !== null) {
      return { kind: "accepted", send, session: this.#session, rest: this.#received };
    }
    return failed(send, "malformed", `the peer sent ${message.kind} out of turn`);
  }

  #onHello(hello: Hello, bytes: Buffer, send: Buffer[]): HandshakeProgress | null {
    const { side, identity, secret } = this.#options;
    const isInitiator = side === "initiator";
    this.#peerHello = hello;
    if (hello.protocolVersion !== identity.protocolVersion) {
      const reason = {
        code: "version",
        message: differs("protocol version", "protocolVersion", identity, hello),
      } as const;
      if (!isInitiator) send.push(this.refuse(reason));
      return { kind: "failed", send, reason };
    }
    const hellos = isInitiator ? [this.#ownHello, bytes] : [bytes, this.#ownHello];
    this.#transcript = createHash("sha256").update(Buffer.concat(hellos)).digest();
    const outward = deriveKey(secret, this.#transcript, "initiator to acceptor");
    const inward = deriveKey(secret, this.#transcript, "acceptor to initiator");
    this.#session = {
      peer: identityOf(hello),
      linkId: this.#transcript.toString("hex", 0, 16),
      peerLastLinkId: hello.lastLinkId,
      sendKey: isInitiator ? outward : inward,
      receiveKey: isInitiator ? inward : outward,
    };
    if (!isInitiator) send.push(this.#ownHello, this.#proof("acceptor"));
    return null;
  }

  #onProof(proof: string, send: Buffer[]): HandshakeProgress | null {
    const { side, identity, expectedWorkerId } = this.#options;
    const isInitiator = side === "initiator";
    const hello = this.#peerHello;
    const session = this.#session;
    if (hello === null || session === null)
      return failed(send, "malformed", "the peer sent proof out of turn");
    // Compared as text: the decoder of base64 reads several texts as the same bytes.
    const expected = Buffer.from(
      proofOf(this.#options.secret, isInitiator ? "acceptor" : "initiator", this.#transcript),
    );
    const given = Buffer.from(proof);
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
      const reason = { code: "authentication", message: "authentication failed" } as const;
      send.push(this.refuse(reason));
      return { kind: "failed", send, reason };
    }
    this.#isProven = true;
    // The acceptor learns of a mismatch by itself once it knows who speaks, so the initiator proves itself in any case.
    if (isInitiator) send.push(this.#proof("initiator"));
    const wanted = isInitiator ? expectedWorkerId : (hello.expectedWorkerId ?? undefined);
    const answering = isInitiator ? hello.workerId : identity.workerId;
    const message =
      mismatch(identity, hello) ??
      (wanted !== undefined && wanted !== answering
        ? `the link was meant for worker ${wanted}, but worker ${answering} answers there`
        : null);
    if (message !== null) {
      const reason = { code: "mismatch", message } as const;
      if (!isInitiator) send.push(this.refuse(reason));
      return { kind: "failed", send, reason };
    }
    if (isInitiator) return null;
    // An honest initiator waits for the answer before it sends frames.
    if (this.#received.length > 0) return failed(send, "malformed", "the peer sent more than its proof");
    return { kind: "authenticated", send, session };
  }

  #proof(side: HandshakeSide): Buffer {
    return encode({ kind: "proof", proof: proofOf(this.#options.secret, side, this.#transcript) });
  }
}

/** Which of the facts differ, with both values, or null. The sides are named, as both of them read the same text. */
export function mismatch(own: LinkIdentity, peer: LinkIdentity): string | null {
  if (own.workerId === peer.workerId)
    return `both sides are called worker ${own.workerId}; worker ids must be unique`;
  const differences: string[] = [];
  if (own.modelId !== peer.modelId) differences.push(differs("model", "modelId", own, peer));
  if (own.tokenizerId !== peer.tokenizerId) differences.push(differs("tokenizer", "tokenizerId", own, peer));
  if (own.kvType !== peer.kvType) differences.push(differs("KV type", "kvType", own, peer));
  if (own.blockSizeTokens !== peer.blockSizeTokens) {
    differences.push(differs("block size in tokens", "blockSizeTokens", own, peer));
  }
  return differences.length === 0 ? null : differences.join("; ");
}

function differs(what: string, field: keyof LinkIdentity, own: LinkIdentity, peer: LinkIdentity): string {
  const side = (identity: LinkIdentity) =>
    `worker ${identity.workerId} has ${printable(String(identity[field]))}`;
  return `different ${what}: ${side(own)}, ${side(peer)}`;
}

function proofOf(secret: Uint8Array, side: HandshakeSide, transcript: Buffer): string {
  return createHmac("sha256", secret)
    .update(`twofold link 1 proof ${side}\0`)
    .update(transcript)
    .digest("base64");
}

function deriveKey(secret: Uint8Array, transcript: Buffer, direction: string): Buffer {
  return Buffer.from(hkdfSync("sha256", secret, transcript, `twofold link 1 key ${direction}`, KEY_BYTES));
}

function failed(send: readonly Buffer[], code: HandshakeRefusal["code"], message: string): HandshakeProgress {
  return { kind: "failed", send, reason: { code, message } };
}

function identityOf(hello: Hello): LinkIdentity {
  const { workerId, modelId, tokenizerId, kvType, blockSizeTokens, protocolVersion } = hello;
  return { workerId, modelId, tokenizerId, kvType, blockSizeTokens, protocolVersion };
}

/** Text from outside, fit for a log line. */
function printable(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, "?").slice(0, MAX_REASON_LENGTH);
}

const nameSchema = z.string().max(MAX_NAME_LENGTH);
const base64Schema = (bytes: number) => z.string().length(4 * Math.ceil(bytes / 3));
const helloSchema = z.object({
  kind: z.literal("hello"),
  workerId: workerIdSchema,
  modelId: nameSchema,
  tokenizerId: nameSchema,
  kvType: nameSchema,
  blockSizeTokens: z.number(),
  protocolVersion: z.number(),
  nonce: base64Schema(NONCE_BYTES),
  expectedWorkerId: workerIdSchema.nullable(),
  lastLinkId: z.string().length(32).nullable(),
});
type Hello = z.infer<typeof helloSchema>;

const messageSchema = z.discriminatedUnion("kind", [
  helloSchema,
  z.object({ kind: z.literal("proof"), proof: base64Schema(32) }),
  z.object({ kind: z.literal("accept") }),
  z.object({
    kind: z.literal("refuse"),
    code: z.enum(REFUSAL_CODES),
    message: z.string().max(MAX_REASON_LENGTH),
  }),
]);
type Message = z.infer<typeof messageSchema>;

function parseMessage(text: string): Message | null {
  try {
    return messageSchema.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}

function encode(message: Message): Buffer {
  const text = Buffer.from(JSON.stringify(message));
  const head = Buffer.alloc(LENGTH_BYTES);
  head.writeUInt32LE(text.length);
  return Buffer.concat([head, text]);
}

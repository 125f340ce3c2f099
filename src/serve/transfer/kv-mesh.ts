import { connect, createServer, type Server, type Socket } from "node:net";
import type { HandoffMessage } from "../../core/handoff/messages.ts";
import type { WorkerId } from "../../core/request.ts";
import { type Address, formatAddress, parseAddress } from "../../protocol/address.ts";
import {
  Handshake,
  type HandshakeRefusal,
  type HandshakeSession,
  type LinkIdentity,
  MIN_SECRET_BYTES,
} from "./handshake.ts";
import { driveHandshake, HANDSHAKE_TIMEOUT_MS, type HandshakeOutcome } from "./handshake-driver.ts";
import { KV_LINK_LIMITS, KvLink, KvLinkError, type KvLinkLimits } from "./kv-link.ts";
import { checkPlaintext, listenOn } from "./listen.ts";
import { SYSTEM_TIMERS, type Timers } from "./timers.ts";

/** Limits of a mesh, on top of those of its links. */
export interface KvMeshLimits extends KvLinkLimits {
  readonly maxPeers: number;
  /** Connections that have not authenticated yet; more are closed unread. */
  readonly maxPendingHandshakes: number;
  readonly handshakeTimeoutMs: number;
}

export const KV_MESH_LIMITS: KvMeshLimits = {
  ...KV_LINK_LIMITS,
  maxPeers: 1024,
  maxPendingHandshakes: 64,
  handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS,
};

/** TCP asks a silent peer's kernel after this time; the link's own silence limit is shorter and decides. */
const TCP_KEEPALIVE_DELAY_MS = 10_000;

export interface KvMeshOptions {
  readonly identity: LinkIdentity;
  /** The fleet's secret, at least {@link MIN_SECRET_BYTES} bytes. Whoever knows it is a worker of the fleet. */
  readonly secret: Uint8Array;
  /** Called for each message, in order per peer. A throw drops the link. */
  /** `ms`: from the arrival of the message's first byte to that of its last. */
  readonly onMessage: (peer: WorkerId, message: HandoffMessage, ms: number) => void;
  /** A link that stood is gone. Not called for links that this side closes. */
  readonly onPeerLost: (peer: WorkerId, reason: string) => void;
  /** Somebody connected and was not let in. For the log; strangers decide how often. */
  readonly onRefused?: (reason: string) => void;
  readonly limits?: Partial<KvMeshLimits>;
  readonly timers?: Timers;
  /** Permits TCP beyond this machine, where everybody on the way can read the KV. */
  readonly allowPlaintext?: boolean;
}

/** Links to any number of workers. */
export interface KvMesh {
  /** Accepts links on an address; resolves with the actual one. Call it at most once. */
  listen(address: string): Promise<string>;
  /**
   * Makes sure that there is a link to a worker. Idempotent, also while it is under way or the peer connects to us.
   * Rejects with {@link KvLinkError} (`unreachable`, `timeout`, `refused`, `closed`) or `AddressError`.
   */
  connect(workerId: WorkerId, address: string): Promise<void>;
  /** See {@link KvLink.send}. */
  send(peer: WorkerId, message: HandoffMessage): Promise<void>;
  isConnected(peer: WorkerId): boolean;
  /** Lets queued messages leave, then closes every link and stops listening. Idempotent. */
  close(): Promise<void>;
}

/** See {@link KvMesh}. Throws when the secret is too short. */
export function createKvMesh(options: KvMeshOptions): KvMesh {
  return new Mesh(options);
}

/** An own attempt to reach a worker. It may also end well by the worker's reaching us. */
interface Dial {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: KvLinkError) => void;
  /** Null once the attempt has been told that the peer's own connection will serve, and waits for it. */
  socket: Socket | null;
  patience: { cancel(): void } | null;
}

/**
 * Two workers share one connection for both directions: the side that answers a handoff does not know the other's
 * address, and with a single connection there is no question which of two carries the next message, so order holds.
 *
 * When both dial at the same time, the dial of the worker with the smaller id wins: that side refuses the other as
 * `busy`, the other accepts and gives up its own dial. When one side has lost the connection and the other has not
 * noticed yet, the new dial names the lost link, which tells it from a crossing one, and replaces it.
 */
class Mesh implements KvMesh {
  readonly #options: KvMeshOptions;
  readonly #limits: KvMeshLimits;
  readonly #timers: Timers;
  readonly #links = new Map<WorkerId, KvLink>();
  readonly #dials = new Map<WorkerId, Dial>();
  /** Accepted connections whose handshake is under way. */
  readonly #strangers = new Set<Socket>();
  /** The last link with a worker whose end we know of, oldest worker first. */
  readonly #lastLinkIds = new Map<WorkerId, string>();
  #server: Server | null = null;
  #closing: Promise<void> | null = null;

  constructor(options: KvMeshOptions) {
    if (options.secret.byteLength < MIN_SECRET_BYTES) {
      throw new RangeError(`the fleet secret must have at least ${MIN_SECRET_BYTES} bytes`);
    }
    this.#options = options;
    this.#limits = { ...KV_MESH_LIMITS, ...options.limits };
    this.#timers = options.timers ?? SYSTEM_TIMERS;
  }

  async listen(address: string): Promise<string> {
    if (this.#closing !== null) throw closedError();
    const server = createServer({ noDelay: true, keepAlive: true }, (socket) => this.#onStranger(socket));
    this.#server = server;
    const actual = await listenOn(server, parseAddress(address), {
      allowPlaintext: this.#options.allowPlaintext ?? false,
    });
    // Without a listener, a failing accept (no file descriptors left, for instance) would end the process.
    server.on("error", (error) => this.#options.onRefused?.(`cannot accept a connection: ${error.message}`));
    return formatAddress(actual);
  }

  async connect(workerId: WorkerId, address: string): Promise<void> {
    if (this.#closing !== null) throw closedError();
    if (this.#links.has(workerId)) return;
    const underWay = this.#dials.get(workerId);
    if (underWay !== undefined) return underWay.promise;
    if (workerId === this.#options.identity.workerId) {
      throw new KvLinkError("refused", `worker ${workerId} needs no link to itself`);
    }
    if (this.#links.size + this.#dials.size >= this.#limits.maxPeers) {
      throw new KvLinkError(
        "refused",
        `this worker has ${this.#limits.maxPeers} peers, the most it may have`,
      );
    }
    const target = parseAddress(address);
    checkPlaintext(target, this.#options.allowPlaintext ?? false);
    return this.#dial(workerId, target);
  }

  async send(peer: WorkerId, message: HandoffMessage): Promise<void> {
    const link = this.#links.get(peer);
    if (link === undefined) throw new KvLinkError("peer_lost", `there is no link to worker ${peer}`);
    return link.send(message);
  }

  isConnected(peer: WorkerId): boolean {
    return this.#links.has(peer);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const server = this.#server;
    const stopped =
      server === null ? undefined : new Promise<void>((resolve) => void server.close(() => resolve()));
    for (const socket of this.#strangers) socket.destroy();
    for (const workerId of [...this.#dials.keys()]) this.#settleDial(workerId, closedError());
    const links = [...this.#links.values()];
    this.#links.clear();
    await Promise.all(links.map((link) => link.close()));
    await stopped;
  }

  #dial(workerId: WorkerId, target: Address): Promise<void> {
    const socket = connect({
      ...(target.kind === "unix" ? { path: target.path } : { host: target.host, port: target.port }),
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: TCP_KEEPALIVE_DELAY_MS,
    });
    const { promise, resolve, reject } = deferred();
    const dial: Dial = { promise, resolve, reject, socket, patience: null };
    this.#dials.set(workerId, dial);
    const handshake = new Handshake({
      side: "initiator",
      identity: this.#options.identity,
      secret: this.#options.secret,
      expectedWorkerId: workerId,
      lastLinkId: this.#lastLinkIds.get(workerId) ?? null,
    });
    driveHandshake({
      socket,
      handshake,
      timers: this.#timers,
      timeoutMs: this.#limits.handshakeTimeoutMs,
      onOutcome: (outcome) => {
        if (outcome.kind !== "accepted" && handshake.linkId !== null)
          this.#rememberEnd(workerId, handshake.linkId);
        if (this.#dials.get(workerId) !== dial) socket.destroy();
        else this.#onDialed(workerId, dial, outcome, formatAddress(target));
      },
    });
    return promise;
  }

  #onDialed(workerId: WorkerId, dial: Dial, outcome: HandshakeOutcome, address: string): void {
    if (outcome.kind === "accepted" && dial.socket !== null) {
      this.#establish(dial.socket, outcome.session, outcome.rest);
      return;
    }
    dial.socket = null;
    if (outcome.kind === "refused" && outcome.reason.code === "busy") {
      // The peer's own connection to us is under way, or has arrived in the meantime and ended this dial already.
      dial.patience = this.#timers.after(this.#limits.handshakeTimeoutMs, () => {
        this.#settleDial(
          workerId,
          new KvLinkError("timeout", `worker ${workerId} was to connect by itself and did not`),
        );
      });
      return;
    }
    this.#settleDial(workerId, dialError(workerId, address, outcome));
  }

  /** Ends a dial: well without an error, or with one. */
  #settleDial(workerId: WorkerId, error?: KvLinkError): void {
    const dial = this.#dials.get(workerId);
    if (dial === undefined) return;
    this.#dials.delete(workerId);
    dial.patience?.cancel();
    if (error === undefined) {
      dial.resolve();
      return;
    }
    dial.reject(error);
    dial.socket?.destroy();
  }

  #onStranger(socket: Socket): void {
    if (this.#closing !== null || this.#strangers.size >= this.#limits.maxPendingHandshakes) {
      socket.destroy();
      this.#options.onRefused?.("too many connections are waiting to authenticate");
      return;
    }
    socket.setKeepAlive(true, TCP_KEEPALIVE_DELAY_MS);
    this.#strangers.add(socket);
    const { identity, secret } = this.#options;
    const handshake = new Handshake({ side: "acceptor", identity, secret });
    driveHandshake({
      socket,
      handshake,
      timers: this.#timers,
      timeoutMs: this.#limits.handshakeTimeoutMs,
      onOutcome: (outcome) => {
        this.#strangers.delete(socket);
        if (outcome.kind === "authenticated") this.#admit(socket, handshake, outcome.session);
        else if (outcome.kind === "refused") this.#options.onRefused?.(outcome.reason.message);
        else if (outcome.kind === "broken") this.#options.onRefused?.(outcome.message);
      },
    });
  }

  /** Lets a peer in that has proven who it is, or tells it why not. */
  #admit(socket: Socket, handshake: Handshake, session: HandshakeSession): void {
    const reason = this.#reasonAgainst(session);
    if (reason !== null) {
      socket.on("error", () => undefined);
      socket.write(handshake.refuse(reason));
      socket.destroySoon();
      return;
    }
    this.#links.get(session.peer.workerId)?.drop("the peer lost the connection and made a new one");
    socket.write(handshake.accept());
    this.#establish(socket, session, Buffer.alloc(0));
  }

  #reasonAgainst(session: HandshakeSession): HandshakeRefusal | null {
    const peer = session.peer.workerId;
    const own = this.#options.identity.workerId;
    if (this.#closing !== null) return { code: "full", message: `worker ${own} is shutting down` };
    const link = this.#links.get(peer);
    if (link !== undefined) {
      return link.linkId === session.peerLastLinkId
        ? null
        : { code: "busy", message: `workers ${own} and ${peer} are connected already` };
    }
    if (this.#links.size >= this.#limits.maxPeers) {
      return {
        code: "full",
        message: `worker ${own} has ${this.#limits.maxPeers} peers, the most it may have`,
      };
    }
    const isCrossing = this.#dials.get(peer)?.socket != null && own < peer;
    return isCrossing ? { code: "busy", message: `worker ${own} is connecting to ${peer} itself` } : null;
  }

  #establish(socket: Socket, session: HandshakeSession, rest: Buffer): void {
    const peer = session.peer.workerId;
    const link = new KvLink({
      socket,
      session,
      limits: this.#limits,
      timers: this.#timers,
      onMessage: (message, ms) => this.#options.onMessage(peer, message, ms),
      onLost: (reason) => this.#onLost(link, reason),
    });
    this.#links.set(peer, link);
    const dial = this.#dials.get(peer);
    if (dial !== undefined && dial.socket !== socket) dial.socket?.destroy();
    this.#settleDial(peer);
    link.start(rest);
  }

  #onLost(link: KvLink, reason: string): void {
    this.#rememberEnd(link.peer, link.linkId);
    if (this.#links.get(link.peer) !== link) return;
    this.#links.delete(link.peer);
    this.#options.onPeerLost(link.peer, reason);
  }

  #rememberEnd(workerId: WorkerId, linkId: string): void {
    this.#lastLinkIds.delete(workerId);
    this.#lastLinkIds.set(workerId, linkId);
    if (this.#lastLinkIds.size <= this.#limits.maxPeers) return;
    for (const oldest of this.#lastLinkIds.keys()) {
      this.#lastLinkIds.delete(oldest);
      break;
    }
  }
}

function dialError(workerId: WorkerId, address: string, outcome: HandshakeOutcome): KvLinkError {
  const where = `link to worker ${workerId} at ${address}`;
  if (outcome.kind === "refused")
    return new KvLinkError("refused", `${where} refused: ${outcome.reason.message}`);
  if (outcome.kind !== "broken")
    return new KvLinkError("refused", `${where}: the handshake ended out of turn`);
  return new KvLinkError(outcome.isTimeout ? "timeout" : "unreachable", `${where}: ${outcome.message}`);
}

function closedError(): KvLinkError {
  return new KvLinkError("closed", "the mesh has been closed");
}

function deferred(): { promise: Promise<void>; resolve: () => void; reject: (error: KvLinkError) => void } {
  let resolve: () => void = () => undefined;
  let reject: (error: KvLinkError) => void = () => undefined;
  const promise = new Promise<void>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}

import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PROTOCOL_VERSION } from "../../src/protocol/worker-rpc.ts";
import type { LinkIdentity } from "../../src/serve/transfer/handshake.ts";

export const TEST_SECRET = Buffer.alloc(32, 0x5e);

export function makeIdentity(overrides: Partial<LinkIdentity> = {}): LinkIdentity {
  return {
    workerId: "a",
    modelId: "model-1",
    tokenizerId: "tokenizer-1",
    kvType: "q8_0+fa",
    blockSizeTokens: 16,
    protocolVersion: PROTOCOL_VERSION,
    ...overrides,
  };
}

/** A private temporary folder (mode 0700) and its removal. */
export function temporaryFolder(): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), "twofold-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** Collects what callbacks report and lets a test wait for it. */
export class Recorder<T> {
  readonly items: T[] = [];
  readonly #waiting = new Set<() => void>();

  readonly add = (item: T): void => {
    this.items.push(item);
    for (const check of [...this.#waiting]) check();
  };

  /** Resolves once at least `count` items have been added. */
  async atLeast(count: number): Promise<readonly T[]> {
    await this.until(() => this.items.length >= count);
    return this.items;
  }

  /** Resolves once the predicate holds; it is asked again after each item. */
  until(predicate: (items: readonly T[]) => boolean): Promise<void> {
    return new Promise((resolve) => {
      const check = () => {
        if (!predicate(this.items)) return;
        this.#waiting.delete(check);
        resolve();
      };
      this.#waiting.add(check);
      check();
    });
  }
}

/** A TCP relay that can stop forwarding without closing anything: a partitioned network. */
export class Relay {
  /** One entry per chunk that passed towards the server. */
  readonly forward = new Recorder<number>();
  /** One entry per chunk that passed towards the client. */
  readonly backward = new Recorder<number>();
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #isFrozen = false;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async to(port: number): Promise<Relay> {
    const server = createServer();
    const relay = new Relay(server);
    server.on("connection", (client) => relay.#join(client, connect(port, "127.0.0.1")));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return relay;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  freeze(): void {
    this.#isFrozen = true;
    for (const socket of this.#sockets) socket.pause();
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }

  #join(client: Socket, upstream: Socket): void {
    this.#pipe(client, upstream, this.forward);
    this.#pipe(upstream, client, this.backward);
  }

  #pipe(from: Socket, to: Socket, record: Recorder<number>): void {
    this.#sockets.add(from);
    from.on("data", (chunk) => {
      if (this.#isFrozen) return;
      to.write(chunk);
      record.add(chunk.length);
    });
    from.on("error", () => to.destroy());
    from.on("close", () => to.destroy());
  }
}

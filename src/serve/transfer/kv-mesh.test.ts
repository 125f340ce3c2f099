import { once } from "node:events";
import { chmodSync, existsSync, renameSync, statSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect as connectSocket, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  makeIdentity,
  Recorder,
  Relay,
  TEST_SECRET,
  temporaryFolder,
} from "../../../test/support/link-support.ts";
import { ManualTimers } from "../../../test/support/link-timers.ts";
import type { HandoffMessage } from "../../core/handoff/messages.ts";
import { FrameEncoder } from "../../protocol/kv-frame.ts";
import { Handshake, type HandshakeSession } from "./handshake.ts";
import { driveHandshake } from "./handshake-driver.ts";
import { createKvMesh, type KvMesh, type KvMeshOptions } from "./kv-mesh.ts";
import { SYSTEM_TIMERS } from "./timers.ts";

interface Received {
  readonly peer: string;
  readonly message: HandoffMessage;
}

interface Node {
  readonly mesh: KvMesh;
  readonly received: Recorder<Received>;
  readonly lost: Recorder<string>;
  readonly refused: Recorder<string>;
}

let folder: ReturnType<typeof temporaryFolder>;
let cleanups: Array<() => unknown>;

beforeEach(() => {
  folder = temporaryFolder();
  cleanups = [];
});

afterEach(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
  folder.remove();
});

function makeNode(workerId: string, overrides: Partial<KvMeshOptions> = {}): Node {
  const received = new Recorder<Received>();
  const lost = new Recorder<string>();
  const refused = new Recorder<string>();
  const mesh = createKvMesh({
    identity: makeIdentity({ workerId }),
    secret: TEST_SECRET,
    onMessage: (peer, message) => received.add({ peer, message }),
    onPeerLost: (peer, reason) => lost.add(`${peer}: ${reason}`),
    onRefused: refused.add,
    ...overrides,
  });
  cleanups.push(() => mesh.close());
  return { mesh, received, lost, refused };
}

const unix = (name: string) => `unix:${join(folder.path, name)}`;
const ack = (epoch: number): HandoffMessage => ({ kind: "ack", requestId: "r", epoch });
const kv = (bytes: number, fill = 0): HandoffMessage => ({
  kind: "kv",
  requestId: "r",
  epoch: 1,
  start: 0,
  end: 16,
  payload: Buffer.alloc(bytes, fill),
});

/** An acceptor that shakes hands as worker `b` and then leaves the socket to the test. */
async function rawAcceptor(): Promise<{
  address: string;
  peer: Promise<{ socket: Socket; session: HandshakeSession }>;
}> {
  const server: Server = createServer();
  cleanups.push(() => server.close());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const peer = new Promise<{ socket: Socket; session: HandshakeSession }>((resolve) => {
    server.on("connection", (socket) => {
      cleanups.push(() => socket.destroy());
      const handshake = new Handshake({
        side: "acceptor",
        identity: makeIdentity({ workerId: "b" }),
        secret: TEST_SECRET,
      });
      driveHandshake({
        socket,
        handshake,
        timers: SYSTEM_TIMERS,
        timeoutMs: 5000,
        onOutcome: (outcome) => {
          if (outcome.kind !== "authenticated") return;
          socket.on("error", () => undefined);
          socket.write(handshake.accept());
          resolve({ socket, session: outcome.session });
        },
      });
    });
  });
  return { address: `tcp:127.0.0.1:${(server.address() as AddressInfo).port}`, peer };
}

describe("KvMesh", () => {
  it("carries messages both ways over one connection, in order, with their bytes intact", async () => {
    const [a, b] = [makeNode("a"), makeNode("b")];
    await a.mesh.connect("b", await b.mesh.listen(unix("b.sock")));
    const sent = [ack(1), kv(3, 9), ack(2), kv(785_000, 7), ack(3)];
    await Promise.all(sent.map((message) => a.mesh.send("b", message)));
    const messages = (await b.received.atLeast(5)).map((item) => item.message);
    expect(messages.filter((_, i) => i !== 3)).toEqual(sent.filter((_, i) => i !== 3));
    const large = messages[3];
    if (large?.kind !== "kv" || !(large.payload instanceof Uint8Array)) expect.unreachable();
    expect(Buffer.alloc(785_000, 7).equals(large.payload)).toBe(true);
    await b.mesh.send("a", ack(4));
    expect(await a.received.atLeast(1)).toEqual([{ peer: "b", message: ack(4) }]);
  });

  it("works over TCP on loopback with a port that the system chose", async () => {
    const [a, b] = [makeNode("a"), makeNode("b")];
    const address = await b.mesh.listen("tcp:127.0.0.1:0");
    expect(address).toMatch(/^tcp:127\.0\.0\.1:[1-9]\d*$/);
    await a.mesh.connect("b", address);
    await a.mesh.send("b", ack(1));
    await b.received.atLeast(1);
    expect(a.mesh.isConnected("b") && b.mesh.isConnected("a")).toBe(true);
  });

  it("makes one link out of any number of connects, concurrent, later and from both sides", async () => {
    for (let round = 0; round < 30; round++) {
      const [a, b] = [makeNode(`a${round}`), makeNode(`b${round}`)];
      const [atA, atB] = await Promise.all([
        a.mesh.listen(unix(`a${round}`)),
        b.mesh.listen(unix(`b${round}`)),
      ]);
      await Promise.all([
        a.mesh.connect(`b${round}`, atB),
        b.mesh.connect(`a${round}`, atA),
        a.mesh.connect(`b${round}`, atB),
        b.mesh.connect(`a${round}`, atA),
      ]);
      await a.mesh.connect(`b${round}`, atB);
      const sent = Array.from({ length: 20 }, (_, i) => ack(i));
      await Promise.all(sent.flatMap((m) => [a.mesh.send(`b${round}`, m), b.mesh.send(`a${round}`, m)]));
      await Promise.all([a.received.atLeast(20), b.received.atLeast(20)]);
      expect(a.received.items.map((item) => item.message)).toEqual(sent);
      expect(b.received.items.map((item) => item.message)).toEqual(sent);
      expect([...a.lost.items, ...b.lost.items]).toEqual([]);
      await Promise.all([a.mesh.close(), b.mesh.close()]);
    }
  });

  it("tells both sides which fact differs and lets neither send", async () => {
    const [a, b] = [
      makeNode("a"),
      makeNode("b", { identity: makeIdentity({ workerId: "b", kvType: "f16" }) }),
    ];
    const address = await b.mesh.listen(unix("b.sock"));
    await expect(a.mesh.connect("b", address)).rejects.toThrow(
      "different KV type: worker a has q8_0+fa, worker b has f16",
    );
    expect((await b.refused.atLeast(1))[0]).toContain("worker b has f16, worker a has q8_0+fa");
    await expect(a.mesh.send("b", ack(1))).rejects.toMatchObject({ code: "peer_lost" });
  });

  it("refuses another secret, another worker than meant, and itself", async () => {
    const [a, b] = [makeNode("a"), makeNode("b", { secret: Buffer.alloc(32, 1) })];
    const address = await b.mesh.listen(unix("b.sock"));
    await expect(a.mesh.connect("b", address)).rejects.toThrow("authentication failed");
    expect(await b.refused.atLeast(1)).toEqual(["authentication failed"]);
    const c = makeNode("c");
    await expect(a.mesh.connect("d", await c.mesh.listen(unix("c.sock")))).rejects.toThrow(
      "meant for worker d",
    );
    await expect(a.mesh.connect("a", address)).rejects.toThrow("needs no link to itself");
    expect(() =>
      createKvMesh({ identity: makeIdentity(), secret: Buffer.alloc(15), onMessage() {}, onPeerLost() {} }),
    ).toThrow("at least 16 bytes");
  });

  it("says when nobody is there, and can connect once somebody is", async () => {
    const [a, b] = [makeNode("a"), makeNode("b")];
    await expect(a.mesh.connect("b", unix("b.sock"))).rejects.toMatchObject({ code: "unreachable" });
    await a.mesh.connect("b", await b.mesh.listen(unix("b.sock")));
    expect(a.mesh.isConnected("b")).toBe(true);
  });

  it("refuses plaintext beyond this machine unless it is allowed", async () => {
    const a = makeNode("a");
    await expect(a.mesh.listen("tcp:0.0.0.0:0")).rejects.toThrow("not encrypted");
    await expect(a.mesh.connect("b", "tcp:192.0.2.1:9")).rejects.toThrow("not encrypted");
    const open = makeNode("open", { allowPlaintext: true });
    expect(await open.mesh.listen("tcp:0.0.0.0:0")).toMatch(/^tcp:0\.0\.0\.0:\d+$/);
  });

  it("reports a closed peer once, rejects what follows, and links again afterwards", async () => {
    const [a, b] = [makeNode("a"), makeNode("b")];
    await a.mesh.connect("b", await b.mesh.listen(unix("b.sock")));
    await b.mesh.close();
    expect(await a.lost.atLeast(1)).toEqual(["b: the peer closed the connection"]);
    expect(a.mesh.isConnected("b")).toBe(false);
    await expect(a.mesh.send("b", ack(1))).rejects.toMatchObject({ code: "peer_lost" });
    expect(b.lost.items).toEqual([]);
    const again = makeNode("b");
    await a.mesh.connect("b", await again.mesh.listen(unix("b.sock")));
    await again.mesh.send("a", ack(2));
    expect(await a.received.atLeast(1)).toEqual([{ peer: "b", message: ack(2) }]);
  });

  it("lets queued messages leave before it closes", async () => {
    const [a, b] = [makeNode("a"), makeNode("b")];
    await a.mesh.connect("b", await b.mesh.listen(unix("b.sock")));
    const sends = Array.from({ length: 8 }, () => a.mesh.send("b", kv(785_000)));
    const settled = Promise.allSettled(sends);
    await a.mesh.close();
    await b.received.atLeast(8);
    await settled;
  });

  it("gives up on a peer that hangs during the handshake", async () => {
    const server = createServer((socket) => cleanups.push(() => socket.destroy()));
    cleanups.push(() => server.close());
    server.listen(join(folder.path, "mute.sock"));
    await once(server, "listening");
    const timers = new ManualTimers();
    const a = makeNode("a", { timers });
    const connecting = a.mesh.connect("b", unix("mute.sock"));
    await once(server, "connection");
    timers.advance(5000);
    await expect(connecting).rejects.toMatchObject({ code: "timeout" });
    expect(timers.size).toBe(0);
  });

  it("gives up on strangers that say nothing, and bounds how many may wait", async () => {
    const timers = new ManualTimers();
    const b = makeNode("b", { timers, limits: { maxPendingHandshakes: 2 } });
    await b.mesh.listen(unix("b.sock"));
    const strangers: Socket[] = [];
    for (let i = 0; i < 3; i++) {
      const socket = connectSocket(join(folder.path, "b.sock"));
      socket.on("error", () => undefined).resume();
      strangers.push(socket);
      await once(socket, "connect");
    }
    expect(await b.refused.atLeast(1)).toEqual(["too many connections are waiting to authenticate"]);
    const closed = Promise.all(strangers.map((socket) => socket.destroyed || once(socket, "close")));
    timers.advance(5000);
    await closed;
    expect(b.refused.items.slice(1)).toEqual(["no link after 5000 ms", "no link after 5000 ms"]);
  });

  it("drops a link on the first frame that does not verify, and delivers nothing from it", async () => {
    const acceptor = await rawAcceptor();
    const a = makeNode("a");
    await a.mesh.connect("b", acceptor.address);
    const { socket, session } = await acceptor.peer;
    const good = Buffer.concat(new FrameEncoder(session.sendKey).encode(ack(1)));
    socket.write(Buffer.concat([good, good]));
    expect(await a.lost.atLeast(1)).toEqual(["b: frame 0 arrived where 1 was due"]);
    expect(a.received.items).toEqual([{ peer: "b", message: ack(1) }]);
  });

  it("waits for a slow peer, bounds what it queues for it, and goes on when the peer reads", async () => {
    const acceptor = await rawAcceptor();
    const a = makeNode("a", { limits: { maxQueuedBytes: 10_000_000 } });
    await a.mesh.connect("b", acceptor.address);
    const { socket } = await acceptor.peer;
    const outcomes = new Recorder<string>();
    let accepted = 0;
    let isFull = false;
    for (let i = 0; i < 100 && !isFull; i++) {
      const sending = a.mesh.send("b", kv(785_000));
      sending.then(
        () => outcomes.add("sent"),
        (error: { code: string }) => outcomes.add(error.code),
      );
      // The refusal of a full queue comes in the same turn.
      await new Promise(setImmediate);
      isFull = outcomes.items.includes("queue_full");
      if (!isFull) accepted++;
    }
    expect(isFull).toBe(true);
    expect(outcomes.items.filter((outcome) => outcome === "sent").length).toBeLessThan(accepted);
    socket.resume();
    await outcomes.until((items) => items.filter((outcome) => outcome === "sent").length === accepted);
    expect(a.lost.items).toEqual([]);
  });

  it("rejects sends that wait when the peer goes", async () => {
    const acceptor = await rawAcceptor();
    const a = makeNode("a");
    await a.mesh.connect("b", acceptor.address);
    const { socket } = await acceptor.peer;
    const sends = Promise.allSettled(Array.from({ length: 10 }, () => a.mesh.send("b", kv(4_000_000))));
    socket.destroy();
    const results = await sends;
    expect(results.at(-1)).toMatchObject({ status: "rejected", reason: { code: "peer_lost" } });
    expect(a.lost.items).toHaveLength(1);
  });

  it("drops the link when the receiver of a message throws", async () => {
    const b = makeNode("b", {
      onMessage: () => {
        throw new Error("no such request");
      },
    });
    const a = makeNode("a");
    await a.mesh.connect("b", await b.mesh.listen(unix("b.sock")));
    await a.mesh.send("b", ack(1));
    expect(await b.lost.atLeast(1)).toEqual(["a: no such request"]);
    expect(await a.lost.atLeast(1)).toEqual(["b: the peer closed the connection"]);
  });

  it("notices a partition by silence, on both sides, and not while signs of life arrive", async () => {
    const timers = { a: new ManualTimers(), b: new ManualTimers() };
    const [a, b] = [makeNode("a", { timers: timers.a }), makeNode("b", { timers: timers.b })];
    const address = await b.mesh.listen("tcp:127.0.0.1:0");
    const relay = await Relay.to(Number(address.split(":")[2]));
    cleanups.push(() => relay.close());
    await a.mesh.connect("b", `tcp:127.0.0.1:${relay.port}`);
    for (let second = 0; second < 12; second++) {
      // Every ping has passed the relay, and a message behind it has arrived, before the clocks move on.
      await Promise.all([a.mesh.send("b", ack(second)), b.mesh.send("a", ack(second))]);
      await Promise.all([a.received.atLeast(second + 1), b.received.atLeast(second + 1)]);
      timers.a.advance(1000);
      timers.b.advance(1000);
    }
    expect([...a.lost.items, ...b.lost.items]).toEqual([]);
    relay.freeze();
    for (let second = 0; second < 7; second++) {
      timers.a.advance(1000);
      timers.b.advance(1000);
    }
    expect(a.lost.items).toEqual([expect.stringContaining("b: the peer has been silent for 6000 ms")]);
    expect(b.lost.items).toEqual([expect.stringContaining("a: the peer has been silent for 6000 ms")]);
    expect([timers.a.size, timers.b.size]).toEqual([0, 0]);
  });

  it("keeps an idle link alive by pings alone", async () => {
    const timers = { a: new ManualTimers(), b: new ManualTimers() };
    const [a, b] = [makeNode("a", { timers: timers.a }), makeNode("b", { timers: timers.b })];
    const address = await b.mesh.listen("tcp:127.0.0.1:0");
    const relay = await Relay.to(Number(address.split(":")[2]));
    cleanups.push(() => relay.close());
    await a.mesh.connect("b", `tcp:127.0.0.1:${relay.port}`);
    await b.mesh.send("a", ack(0));
    await a.received.atLeast(1);
    for (let second = 0; second < 20; second++) {
      const pings = relay.backward.items.length;
      timers.b.advance(1000);
      await relay.backward.atLeast(pings + 1);
      // A round trip through the same connection proves that the ping before it has been read.
      if (second % 4 === 3) {
        await a.mesh.send("b", ack(second));
        await b.received.atLeast((second + 1) / 4);
        timers.a.advance(4000);
      }
    }
    expect([...a.lost.items, ...b.lost.items]).toEqual([]);
  });

  it("replaces a link whose end only the peer has noticed", async () => {
    const timers = new ManualTimers();
    const [a, b] = [makeNode("a", { timers }), makeNode("b")];
    const address = await b.mesh.listen("tcp:127.0.0.1:0");
    const relay = await Relay.to(Number(address.split(":")[2]));
    cleanups.push(() => relay.close());
    await a.mesh.connect("b", `tcp:127.0.0.1:${relay.port}`);
    await b.mesh.send("a", ack(0));
    await a.received.atLeast(1);
    relay.freeze();
    timers.advance(6000);
    expect(a.lost.items).toHaveLength(1);
    expect(b.mesh.isConnected("a")).toBe(true);
    await a.mesh.connect("b", address);
    expect(b.lost.items).toEqual(["a: the peer lost the connection and made a new one"]);
    await a.mesh.send("b", ack(5));
    expect(await b.received.atLeast(1)).toEqual([{ peer: "a", message: ack(5) }]);
  });

  it("bounds the number of peers on both sides", async () => {
    const b = makeNode("b", { limits: { maxPeers: 1 } });
    const address = await b.mesh.listen(unix("b.sock"));
    const [a, c] = [makeNode("a"), makeNode("c")];
    await a.mesh.connect("b", address);
    await expect(c.mesh.connect("b", address)).rejects.toThrow("worker b has 1 peers, the most it may have");
    await expect(b.mesh.connect("c", await c.mesh.listen(unix("c.sock")))).rejects.toThrow("has 1 peers");
  });

  it("refuses everything after close, also what was under way", async () => {
    const [a, b] = [makeNode("a"), makeNode("b")];
    const address = await b.mesh.listen(unix("b.sock"));
    const connecting = a.mesh.connect("b", address);
    const outcome = expect(connecting).rejects.toMatchObject({ code: "closed" });
    await a.mesh.close();
    await outcome;
    await expect(a.mesh.connect("b", address)).rejects.toMatchObject({ code: "closed" });
    await expect(a.mesh.listen(unix("a.sock"))).rejects.toMatchObject({ code: "closed" });
  });
});

describe("listening on a unix socket", () => {
  it("gives the socket mode 0600 in a folder of mode 0700, and removes it at the end", async () => {
    const b = makeNode("b");
    await b.mesh.listen(unix("inner/b.sock"));
    expect(statSync(join(folder.path, "inner")).mode & 0o777).toBe(0o700);
    expect(statSync(join(folder.path, "inner", "b.sock")).mode & 0o777).toBe(0o600);
    await b.mesh.close();
    expect(existsSync(join(folder.path, "inner", "b.sock"))).toBe(false);
  });

  it("refuses a folder that others can enter", async () => {
    chmodSync(folder.path, 0o755);
    await expect(makeNode("b").mesh.listen(unix("b.sock"))).rejects.toThrow("has mode 0755");
  });

  it("replaces a socket file that nobody listens on, and no other", async () => {
    const path = join(folder.path, "b.sock");
    // Node removes the file of a server that it closes, so the stale one is a renamed one of a server gone since.
    const stale = createServer();
    stale.listen(`${path}.old`);
    await once(stale, "listening");
    renameSync(`${path}.old`, path);
    await expect(makeNode("x").mesh.listen(unix("b.sock"))).rejects.toThrow("another process listens");
    stale.close();
    await once(stale, "close");
    expect(existsSync(path)).toBe(true);
    await makeNode("b").mesh.listen(unix("b.sock"));
    writeFileSync(join(folder.path, "file"), "precious");
    await expect(makeNode("c").mesh.listen(unix("file"))).rejects.toThrow("is not a socket");
    expect(existsSync(join(folder.path, "file"))).toBe(true);
  });
});

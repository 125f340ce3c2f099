import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { makeIdentity, TEST_SECRET } from "../../../test/support/link-support.ts";
import { PROTOCOL_VERSION } from "../../protocol/worker-rpc.ts";
import {
  Handshake,
  type HandshakeOptions,
  type HandshakeProgress,
  MAX_HANDSHAKE_MESSAGE_BYTES,
} from "./handshake.ts";

type Overrides = Partial<Omit<HandshakeOptions, "side">>;

function makePair(initiator: Overrides = {}, acceptor: Overrides = {}) {
  return {
    initiator: new Handshake({
      side: "initiator",
      identity: makeIdentity(),
      secret: TEST_SECRET,
      expectedWorkerId: "b",
      ...initiator,
    }),
    acceptor: new Handshake({
      side: "acceptor",
      identity: makeIdentity({ workerId: "b" }),
      secret: TEST_SECRET,
      ...acceptor,
    }),
  };
}

/** Lets the two talk until both have come to an end; `tamper` sees every message on its way. */
function run(
  pair: ReturnType<typeof makePair>,
  tamper: (bytes: Buffer, index: number) => Buffer = (bytes) => bytes,
) {
  let index = 0;
  const ends: { initiator: HandshakeProgress | null; acceptor: HandshakeProgress | null } = {
    initiator: null,
    acceptor: null,
  };
  const queue: Array<{ to: "initiator" | "acceptor"; bytes: Buffer }> = [];
  const post = (to: "initiator" | "acceptor", messages: readonly Buffer[]) => {
    for (const bytes of messages) queue.push({ to, bytes: tamper(Buffer.from(bytes), index++) });
  };
  post("acceptor", pair.initiator.start());
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const { to, bytes } = next;
    if (ends[to] !== null) continue;
    const progress = pair[to].receive(bytes);
    const other = to === "acceptor" ? "initiator" : "acceptor";
    post(other, progress.send);
    if (progress.kind !== "pending") ends[to] = progress;
    if (progress.kind === "authenticated") post(other, [pair.acceptor.accept()]);
  }
  return ends;
}

describe("handshake", () => {
  it("gives both sides the same link, each other's identity and crosswise equal keys", () => {
    const { initiator, acceptor } = run(makePair({ lastLinkId: "0".repeat(32) }));
    if (initiator?.kind !== "accepted" || acceptor?.kind !== "authenticated") expect.unreachable();
    expect(initiator.session.linkId).toBe(acceptor.session.linkId);
    expect(initiator.session.peer).toEqual(makeIdentity({ workerId: "b" }));
    expect(acceptor.session.peer).toEqual(makeIdentity());
    expect(acceptor.session.peerLastLinkId).toBe("0".repeat(32));
    expect(initiator.session.sendKey).toEqual(acceptor.session.receiveKey);
    expect(initiator.session.receiveKey).toEqual(acceptor.session.sendKey);
    expect(initiator.session.sendKey).not.toEqual(initiator.session.receiveKey);
  });

  it("gives every connection other keys", () => {
    const [first, second] = [run(makePair()), run(makePair())];
    if (first.initiator?.kind !== "accepted" || second.initiator?.kind !== "accepted") expect.unreachable();
    expect(first.initiator.session.sendKey).not.toEqual(second.initiator.session.sendKey);
    expect(first.initiator.session.linkId).not.toBe(second.initiator.session.linkId);
  });

  it("works when every byte arrives alone, and keeps the bytes that follow", () => {
    const { initiator, acceptor } = makePair();
    const feed = (to: Handshake, bytes: Buffer) => {
      const progresses = Array.from(bytes, (byte) => to.receive(Buffer.of(byte)));
      return {
        sent: Buffer.concat(progresses.flatMap((progress) => progress.send)),
        last: progresses.at(-1),
      };
    };
    const hello = feed(acceptor, Buffer.concat(initiator.start()));
    const proof = feed(initiator, hello.sent);
    expect(feed(acceptor, proof.sent).last?.kind).toBe("authenticated");
    const end = initiator.receive(Buffer.concat([acceptor.accept(), Buffer.from("frames")]));
    expect(end).toMatchObject({ kind: "accepted", rest: Buffer.from("frames") });
  });

  it.each([
    ["modelId", "model-2", "model", "model-1"],
    ["tokenizerId", "tokenizer-2", "tokenizer", "tokenizer-1"],
    ["kvType", "f16", "KV type", "q8_0+fa"],
    ["blockSizeTokens", 32, "block size", "16"],
    ["protocolVersion", 99, "protocol version", PROTOCOL_VERSION],
  ] as const)(
    "refuses a peer with another %s and tells both sides both values",
    (field, theirs, name, ours) => {
      const { initiator, acceptor } = run(
        makePair({}, { identity: makeIdentity({ workerId: "b", [field]: theirs }) }),
      );
      for (const end of [initiator, acceptor]) {
        if (end?.kind !== "failed") expect.unreachable();
        expect(end.reason.code).toBe(field === "protocolVersion" ? "version" : "mismatch");
        expect(end.reason.message).toContain(`different ${name}`);
        expect(end.reason.message).toContain(`worker a has ${ours}`);
        expect(end.reason.message).toContain(`worker b has ${theirs}`);
      }
    },
  );

  it("refuses another secret on both sides without saying what differs", () => {
    const { initiator, acceptor } = run(
      makePair({}, { secret: Buffer.alloc(32, 1), identity: makeIdentity({ workerId: "b", modelId: "x" }) }),
    );
    const refusal = { kind: "failed", reason: { code: "authentication", message: "authentication failed" } };
    expect(initiator).toMatchObject(refusal);
    expect(acceptor).toMatchObject(refusal);
  });

  it("refuses another worker than the one that was meant, and one of the same name", () => {
    const other = run(makePair({ expectedWorkerId: "c" }));
    expect(other.initiator).toMatchObject({
      kind: "failed",
      reason: { message: expect.stringContaining("meant for worker c, but worker b") },
    });
    expect(other.acceptor).toMatchObject({
      kind: "failed",
      reason: { message: expect.stringContaining("meant for worker c, but worker b") },
    });
    const same = run(makePair({ identity: makeIdentity({ workerId: "b" }) }));
    expect(same.initiator).toMatchObject({
      kind: "failed",
      reason: { message: expect.stringContaining("must be unique") },
    });
  });

  it("never ends well with a flipped bit, except in the unauthenticated last word", () => {
    fc.assert(
      fc.property(fc.nat(3), fc.nat(), (victim, at) => {
        const { initiator, acceptor } = run(makePair(), (bytes, index) => {
          if (index !== victim) return bytes;
          const bit = at % (bytes.length * 8);
          bytes[bit >> 3]! ^= 1 << (bit & 7);
          return bytes;
        });
        expect(acceptor?.kind).not.toBe("authenticated");
        expect(initiator?.kind).not.toBe("accepted");
      }),
      { numRuns: 300 },
    );
  });

  it("cannot be passed by sending back what the other side said", () => {
    const { acceptor } = makePair();
    const mirror = new Handshake({
      side: "initiator",
      identity: makeIdentity(),
      secret: Buffer.alloc(32),
      expectedWorkerId: "b",
    });
    const answer = acceptor.receive(Buffer.concat(mirror.start()));
    const reflected = answer.send[1];
    if (reflected === undefined) expect.unreachable();
    expect(acceptor.receive(reflected)).toMatchObject({ kind: "failed", reason: { code: "authentication" } });
  });

  it("gives up on oversized, malformed and untimely messages", () => {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(MAX_HANDSHAKE_MESSAGE_BYTES + 1);
    const message = (value: unknown) => {
      const text = Buffer.from(JSON.stringify(value));
      const head = Buffer.alloc(4);
      head.writeUInt32LE(text.length);
      return Buffer.concat([head, text]);
    };
    const hostile = [
      length,
      Buffer.from("GET / HTTP/1.1\r\n\r\n"),
      message("hello"),
      message({ kind: "hello" }),
      message({ kind: "accept" }),
      message({ kind: "proof", proof: "A".repeat(44) }),
    ];
    for (const bytes of hostile) {
      expect(makePair().acceptor.receive(bytes)).toMatchObject({
        kind: "failed",
        reason: { code: "malformed" },
      });
    }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        expect(makePair().acceptor.receive(Buffer.from(bytes)).kind).not.toBe("authenticated");
      }),
    );
  });

  it("strips what could forge a log line from a peer's words", () => {
    const { initiator, acceptor } = makePair();
    const refusal = acceptor.refuse({ code: "full", message: "no\nroom\u001b[31m" });
    expect(initiator.receive(refusal)).toMatchObject({ kind: "failed", reason: { message: "no?room?[31m" } });
  });
});

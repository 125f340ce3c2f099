import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MAX_BATCH_BLOCKS } from "../core/kv/kv-event-log.ts";
import type { KvEvent } from "../core/kv/kv-events.ts";
import { HASH_WORDS } from "../core/tokens/block-hash.ts";
import { decodeEvent, EventCodecError, encodeEvent, MAX_EVENT_LINE_BYTES } from "./event-codec.ts";
import type { WorkerEvent } from "./worker-rpc.ts";

const tier = fc.constantFrom("device" as const, "host" as const, "disk" as const);
const words = (minBlocks: number, maxBlocks: number) =>
  fc
    .array(fc.tuple(fc.integer(), fc.integer(), fc.integer(), fc.integer()), {
      minLength: minBlocks,
      maxLength: maxBlocks,
    })
    .map((blocks) => Int32Array.from(blocks.flat()));
const kvEvent: fc.Arbitrary<KvEvent> = fc.oneof(
  fc.record({
    kind: fc.constant("stored" as const),
    tier,
    parent: fc.option(words(1, 1), { nil: null }),
    hashes: words(0, 7),
  }),
  fc.record({ kind: fc.constant("removed" as const), tier, hashes: words(0, 7) }),
  fc.record({ kind: fc.constant("cleared" as const), tier }),
);
const amount = fc.double({ min: 0, noNaN: true, noDefaultInfinity: true });

describe("reports on the event stream", () => {
  it("give back any batch of KV events, on one line", () => {
    fc.assert(
      fc.property(
        fc.nat(),
        fc.boolean(),
        fc.array(kvEvent, { maxLength: 8 }),
        (sequence, isSnapshot, events) => {
          const event: WorkerEvent = { kind: "kv", batch: { sequence, isSnapshot, events } };
          const line = encodeEvent(event);
          expect(line).not.toContain("\n");
          expect(decodeEvent(line)).toEqual(event);
        },
      ),
    );
  });

  it("give back hashes that are a part of a longer array", () => {
    const chain = Int32Array.from({ length: 3 * HASH_WORDS }, (_, i) => -i);
    const hashes = chain.subarray(HASH_WORDS);
    const events = [{ kind: "removed", tier: "device", hashes }] as const;
    const line = encodeEvent({ kind: "kv", batch: { sequence: 1, isSnapshot: false, events } });
    expect(decodeEvent(line)).toMatchObject({ batch: { events: [{ hashes: chain.slice(HASH_WORDS) }] } });
  });

  it("give back steps and transfers", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(), amount, fc.nat(), fc.nat(), amount), { maxLength: 20 }),
        (steps) => {
          const event: WorkerEvent = {
            kind: "steps",
            steps: steps.map(([numPrefillTokens, prefillAttention, numDecodes, decodeContextTokens, ms]) => ({
              numPrefillTokens,
              prefillAttention: prefillAttention + 0,
              numDecodes,
              decodeContextTokens,
              ms: ms + 0,
            })),
          };
          expect(decodeEvent(encodeEvent(event))).toEqual(event);
        },
      ),
    );
    const transfer: WorkerEvent = { kind: "transfer", to: "d1", bytes: 12, ms: 0.5 };
    expect(decodeEvent(encodeEvent(transfer))).toEqual(transfer);
  });

  it("fit the longest line, also a batch in which no block follows another", () => {
    const hash = new Int32Array(HASH_WORDS);
    const events = Array.from({ length: MAX_BATCH_BLOCKS }, (): KvEvent => {
      return { kind: "stored", tier: "device", parent: hash, hashes: hash };
    });
    const line = encodeEvent({ kind: "kv", batch: { sequence: 2 ** 40, isSnapshot: false, events } });
    expect(line.length).toBeLessThan(MAX_EVENT_LINE_BYTES);
    expect(decodeEvent(line)).toMatchObject({ kind: "kv" });
  });

  const hash = "AAAAAAAAAAAAAAAAAAAAAA==";
  it.each([
    '{"kind":"kv"}',
    '{"kind":"kv","sequence":-1,"isSnapshot":false,"events":[]}',
    '{"kind":"kv","sequence":1,"isSnapshot":false,"events":[["x","device"]]}',
    '{"kind":"kv","sequence":1,"isSnapshot":false,"events":[["c","tape"]]}',
    '{"kind":"kv","sequence":1,"isSnapshot":false,"events":[["c","device",1]]}',
    `{"kind":"kv","sequence":1,"isSnapshot":false,"events":[["r","device","${hash.slice(4)}"]]}`,
    `{"kind":"kv","sequence":1,"isSnapshot":false,"events":[["r","device","!${hash.slice(1)}"]]}`,
    `{"kind":"kv","sequence":1,"isSnapshot":false,"events":[["s","device","","${hash}"]]}`,
    `{"kind":"kv","sequence":1,"isSnapshot":false,"events":[["s","device","${hash}"]]}`,
    '{"kind":"steps","steps":[[1,2,3,4]]}',
    '{"kind":"steps","steps":[[1,2,3,4,-5]]}',
    '{"kind":"transfer","to":"a b","bytes":1,"ms":1}',
  ])("are refused when they say %s", (line) => {
    expect(() => decodeEvent(line)).toThrow(EventCodecError);
  });

  it("are refused with more blocks than a batch may have", () => {
    const hashes = new Int32Array((MAX_BATCH_BLOCKS / 2 + 1) * HASH_WORDS);
    const events = [1, 2].map((): KvEvent => ({ kind: "removed", tier: "disk", hashes }));
    const line = encodeEvent({ kind: "kv", batch: { sequence: 1, isSnapshot: false, events } });
    expect(() => decodeEvent(line)).toThrow("too many blocks");
  });
});

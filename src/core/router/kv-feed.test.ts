import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { KvFeed, RESYNC_RETRY_MS } from "./kv-feed.ts";

function batch(sequence: number, isSnapshot = false) {
  return { sequence, isSnapshot, events: [] };
}

describe("KvFeed", () => {
  it("lets batches through in order, from number 1 or from a snapshot", () => {
    const feed = new KvFeed();
    feed.add("a");
    feed.add("b");
    expect(feed.receive("a", batch(1), 0)).toBe("pass");
    expect(feed.receive("a", batch(2), 0)).toBe("pass");
    expect(feed.receive("b", batch(7, true), 0)).toBe("pass");
    expect(feed.receive("b", batch(8), 0)).toBe("pass");
    expect(feed.counts).toEqual({ numBatches: 4, numDropped: 0, numGaps: 0, numResyncs: 0 });
  });

  it("asks once for a snapshot when a batch is missing, and drops what comes before it", () => {
    const feed = new KvFeed();
    feed.add("a");
    feed.receive("a", batch(1), 0);
    expect(feed.receive("a", batch(3), 10)).toBe("resync");
    expect(feed.receive("a", batch(4), 20)).toBe("drop");
    expect(feed.receive("a", batch(5, true), 30)).toBe("pass");
    expect(feed.receive("a", batch(6), 40)).toBe("pass");
    expect(feed.counts).toEqual({ numBatches: 3, numDropped: 2, numGaps: 1, numResyncs: 1 });
  });

  it("asks again when the snapshot does not come", () => {
    const feed = new KvFeed();
    feed.add("a");
    expect(feed.receive("a", batch(2), 0)).toBe("resync");
    expect(feed.receive("a", batch(3), RESYNC_RETRY_MS - 1)).toBe("drop");
    expect(feed.receive("a", batch(4), RESYNC_RETRY_MS)).toBe("resync");
    expect(feed.receive("a", batch(5), RESYNC_RETRY_MS + 1)).toBe("drop");
    expect(feed.counts).toMatchObject({ numGaps: 1, numResyncs: 2 });
  });

  it("drops what comes of a worker that is not here, and expects number 1 of one that comes back", () => {
    const feed = new KvFeed();
    expect(feed.receive("a", batch(1, true), 0)).toBe("drop");
    feed.add("a");
    feed.receive("a", batch(1), 0);
    feed.remove("a");
    expect(feed.receive("a", batch(2), 0)).toBe("drop");
    feed.add("a");
    expect(feed.receive("a", batch(1), 0)).toBe("pass");
    expect(feed.counts.numDropped).toBe(2);
  });

  it("passes only batches that follow each other, whatever is lost, and recovers with every snapshot", () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ isLost: fc.boolean(), isSnapshot: fc.integer({ max: 5, min: 0 }) }), {
          maxLength: 60,
        }),
        (sent) => {
          const feed = new KvFeed();
          feed.add("a");
          const passed: number[] = [];
          const snapshots = new Set<number>();
          sent.forEach(({ isLost, isSnapshot }, i) => {
            if (isLost) return;
            const whole = isSnapshot === 0;
            const outcome = feed.receive("a", batch(i + 1, whole), i);
            if (outcome === "pass") passed.push(i + 1);
            if (!whole) return;
            expect(outcome).toBe("pass");
            snapshots.add(i + 1);
          });
          passed.forEach((sequence, at) => {
            const follows = sequence === (at === 0 ? 1 : passed[at - 1]! + 1);
            expect(follows || snapshots.has(sequence)).toBe(true);
          });
          feed.checkInvariants((id) => id === "a");
        },
      ),
    );
  });
});

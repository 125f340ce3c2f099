import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { makeRequest } from "../../../test/support/make.ts";
import type { Request } from "../request.ts";
import { HASH_WORDS } from "../tokens/block-hash.ts";
import { SessionBook } from "./session-book.ts";

/** A request whose prompt is a conversation's first `numBlocks` blocks. */
function turn(id: string, conversation: number, numBlocks: number, fields: Partial<Request> = {}): Request {
  const knownBlockHashes = new Int32Array(numBlocks * HASH_WORDS);
  for (let i = 0; i < knownBlockHashes.length; i++) knownBlockHashes[i] = conversation * 1_000_003 + i + 1;
  return { ...makeRequest({ id }), knownBlockHashes, ...fields };
}

/** Plays turns that each last 100 ms and come `gapMs` after the one before; returns what was said after the last one. */
function play(book: SessionBook, conversation: number, gapsMs: readonly number[], startMs = 0) {
  let nowMs = startMs;
  let expectation = null;
  [0, ...gapsMs].forEach((gapMs, i) => {
    nowMs += gapMs;
    const request = turn(`${conversation}/${i}/${startMs}`, conversation, 4 + 3 * i);
    book.arrived(request, nowMs);
    nowMs += 100;
    expectation = book.ended(request, nowMs);
    book.checkInvariants();
  });
  return expectation as ReturnType<SessionBook["ended"]>;
}

describe("SessionBook", () => {
  it("expects nobody before anybody has come back", () => {
    expect(play(new SessionBook(), 1, [])).toBeNull();
  });

  it("expects a conversation that came back after a gap after the like, and names its chain", () => {
    const expectation = play(new SessionBook(), 1, [2000, 2100, 1900]);
    expect(expectation!.earlyMs).toBeGreaterThan(1400);
    expect(expectation!.earlyMs).toBeLessThan(2200);
    expect(expectation!.lateMs).toBeGreaterThan(2000);
    expect(expectation!.lateMs).toBeLessThan(3000);
    expect(expectation!.probability).toBeGreaterThan(0.7);
    expect(expectation!.numBlocks).toBe(13);
    expect([...expectation!.lastHash]).toEqual([...turn("", 1, 13).knownBlockHashes!].slice(-HASH_WORDS));
  });

  it("knows a conversation's own pace from the fleet's", () => {
    const book = new SessionBook();
    for (let i = 10; i < 60; i++) play(book, i, [500, 500], i);
    const expectation = play(
      book,
      1,
      Array.from({ length: 8 }, () => 60_000),
      1000,
    );
    expect(expectation!.lateMs).toBeGreaterThan(50_000);
    // One that is new goes by the others.
    expect(play(book, 2, [500], 5000)!.lateMs).toBeLessThan(1000);
  });

  it("is not bent by a single gap, however long", () => {
    const book = new SessionBook();
    for (let i = 10; i < 60; i++) play(book, i, [500, 500], i);
    const expectation = play(book, 1, [500, 500, 500, 500, 500, 36 * 3_600_000, 500, 500], 1000);
    expect(expectation!.earlyMs).toBeLessThan(700);
    expect(expectation!.lateMs).toBeLessThan(700);
  });

  it("learns that most conversations have one turn", () => {
    const book = new SessionBook();
    play(book, 1, [500]);
    let last = null;
    for (let i = 10; i < 200; i++) last = play(book, i, [], i * 60_000);
    expect(last!.probability).toBeLessThan(0.1);
    // One that has come back often is expected all the same.
    expect(play(book, 2, [500, 500, 500], 1e9)!.probability).toBeGreaterThan(0.6);
  });

  it("takes a client's word", () => {
    const book = new SessionBook();
    const request = turn("a", 1, 4, { nextTurnMs: 3000 });
    book.arrived(request, 0);
    expect(book.ended(request, 100)).toMatchObject({ earlyMs: 3000, lateMs: 9000, probability: 1 });
  });

  it("does not wait for one of which its client says that nobody comes back, nor counts it as lost", () => {
    const expectations = ["default", "none"].map((keep) => {
      const book = new SessionBook();
      for (let i = 10; i < 30; i++) play(book, i, [500, 500], 10_000 * i);
      for (let i = 100; i < 200; i++) {
        const retention = { keep, ttlMs: null } as Request["retention"];
        const request = turn(`last/${i}`, i, 4, retention === undefined ? {} : { retention });
        book.arrived(request, 400_000);
        const expectation = book.ended(request, 400_100);
        if (keep === "none") expect(expectation).toBeNull();
        else expect(expectation).not.toBeNull();
      }
      return play(book, 2, [], 20_000_000);
    });
    const [silent, told] = expectations;
    expect(silent?.probability ?? 0).toBeLessThan(0.75);
    expect(told!.probability).toBeGreaterThan(0.9);
  });

  it("waits for the last choice of a turn, and takes a branch for another conversation", () => {
    const book = new SessionBook();
    play(book, 1, [500, 500]);
    const choices = ["a", "b"].map((id) => turn(id, 1, 13));
    const branch = turn("c", 1, 20);
    for (const request of [...choices, branch]) book.arrived(request, 2000);
    expect(book.ended(choices[0]!, 2500)).toBeNull();
    // The gaps are those of the fleet: its own are none.
    expect(book.ended(branch, 2500)!.numBlocks).toBe(20);
    expect(book.ended(choices[1]!, 2600)!.numBlocks).toBe(13);
    book.checkInvariants();
  });

  it("leaves out what has no block of its own", () => {
    const book = new SessionBook();
    book.arrived(turn("a", 1, 0), 0);
    book.arrived(turn("b", 1, 4, { publicBlocks: 4 }), 0);
    book.arrived(makeRequest({ id: "c" }), 0);
    expect(book.numSessions).toBe(0);
    expect(book.ended(makeRequest({ id: "c" }), 1)).toBeNull();
  });

  it("keeps its books whatever comes in whatever order", () => {
    const events = fc.array(
      fc.record({
        conversation: fc.integer({ min: 0, max: 3 }),
        numBlocks: fc.integer({ min: 1, max: 12 }),
        waitMs: fc.integer({ min: 0, max: 40_000 }),
        ends: fc.integer({ min: 0, max: 5 }),
      }),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(events, (steps) => {
        const book = new SessionBook();
        const running: Request[] = [];
        let nowMs = 0;
        steps.forEach(({ conversation, numBlocks, waitMs, ends }, i) => {
          nowMs += waitMs;
          const request = turn(`r${i}`, conversation, numBlocks);
          book.arrived(request, nowMs);
          running.push(request);
          const over = running.splice(0, ends);
          for (const { earlyMs, lateMs, probability } of over.flatMap(
            (each) => book.ended(each, nowMs) ?? [],
          )) {
            expect(earlyMs).toBeGreaterThan(0);
            expect(lateMs).toBeGreaterThanOrEqual(earlyMs);
            expect(probability).toBeGreaterThan(0);
            expect(probability).toBeLessThanOrEqual(1);
          }
          book.checkInvariants();
        });
      }),
    );
  });
});

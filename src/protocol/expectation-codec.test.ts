import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { announcedReturn } from "../core/sessions/return-estimate.ts";
import type { TurnExpectation } from "../core/sessions/turn-expectation.ts";
import { HASH_WORDS } from "../core/tokens/block-hash.ts";
import { decodeExpectation, encodeExpectation } from "./expectation-codec.ts";
import { MAX_RETENTION_MS } from "./request-codec.ts";

function throughJson(expectation: TurnExpectation): TurnExpectation {
  return decodeExpectation(JSON.parse(encodeExpectation(expectation).toString()));
}

const EXPECTATION: TurnExpectation = {
  lastHash: Int32Array.from({ length: HASH_WORDS }, (_, i) => i - 2),
  numBlocks: 3,
  ...announcedReturn(4000),
  owner: { cacheSalt: "a tenant", cacheShare: 0.25, publicBlocks: 2 },
};

describe("expectations of turns", () => {
  it("reach a worker as they were, up to the longest gap that a client may announce", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer(), { minLength: HASH_WORDS, maxLength: HASH_WORDS }),
        fc.oneof(fc.double({ min: 0, max: MAX_RETENTION_MS, noNaN: true }), fc.constant(MAX_RETENTION_MS)),
        (words, nextTurnMs) => {
          const owner = { cacheSalt: "s" };
          const lastHash = Int32Array.from(words);
          const expectation = { ...EXPECTATION, ...announcedReturn(nextTurnMs), lastHash, owner };
          // JSON has no negative zero.
          expect(throughJson(expectation)).toEqual({ ...expectation, earlyMs: expectation.earlyMs + 0 });
        },
      ),
    );
    expect(throughJson(EXPECTATION)).toEqual(EXPECTATION);
  });

  it.each([
    ["lastHash", [1, 2]],
    ["lastHash", [1, 2, 3, 2 ** 31]],
    ["numBlocks", 0],
    ["lateMs", -1],
    ["probability", 2],
    ["owner", { cacheSalt: 1 }],
  ])("are refused by the name of the field: %s as %j", (field, value) => {
    const body = { ...JSON.parse(encodeExpectation(EXPECTATION).toString()), [field]: value };
    expect(() => decodeExpectation(body)).toThrow(
      expect.objectContaining({ code: "invalid_value", param: expect.stringMatching(`^${field}`) }),
    );
  });
});

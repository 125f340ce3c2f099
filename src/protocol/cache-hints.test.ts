import fc from "fast-check";
import { expect, test } from "vitest";
import { z } from "zod";
import { cacheFieldsOf, cacheHintFields, cacheWishesOf } from "./cache-hints.ts";

const seconds = fc.integer({ min: 1, max: 1_000_000 });

test("wishes that are sent are the wishes that the server makes of them", () => {
  const bodySchema = z.object(cacheHintFields);
  const wishes = fc.record(
    {
      retention: fc.record({
        keep: fc.constantFrom("none" as const, "default" as const, "long" as const),
        ttlMs: fc.option(seconds.map((each) => each * 1000)),
      }),
      expectedFanOut: fc.integer({ min: 1, max: 4096 }),
      nextTurnMs: fc.integer({ min: 0, max: 1_000_000 }),
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(wishes, (wished) => {
      const sent: unknown = JSON.parse(JSON.stringify(cacheFieldsOf(wished)));
      const { nextTurnMs, ...others } = cacheWishesOf(bodySchema.parse(sent));
      const { nextTurnMs: wishedMs, ...wishedOthers } = wished;
      expect(others).toEqual(wishedOthers);
      // Seconds on the wire.
      if (wishedMs === undefined) expect(nextTurnMs).toBeUndefined();
      else expect(nextTurnMs).toBeCloseTo(wishedMs, 6);
    }),
  );
});

import { expect, test } from "vitest";
import { workloadRequest } from "../../../test/support/twin.ts";
import { RequestMaker } from "./twin-request.ts";

test("a request wishes what its workload says, and nothing else", () => {
  const maker = new RequestMaker({
    blockTokens: 16,
    outputBound: 100,
    hashesPrompts: true,
    keepsGaps: false,
  });
  const wishes = { retention: { keep: "long", ttlMs: null }, expectedFanOut: 3, nextTurnMs: 70 } as const;
  expect(maker.make(workloadRequest({ wishes }))).toMatchObject(wishes);
  const silent = maker.make(workloadRequest());
  for (const field of Object.keys(wishes)) expect(silent).not.toHaveProperty(field);
});

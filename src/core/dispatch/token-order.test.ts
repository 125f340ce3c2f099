import fc from "fast-check";
import { expect, test } from "vitest";
import { makeRequest, tokenRange } from "../../../test/support/make.ts";
import { workerFacts } from "../../../test/support/placement.ts";
import { createLoadPlacement } from "../router/placement.ts";
import type { RequestEvent } from "../worker-effects.ts";
import { Dispatcher } from "./dispatcher.ts";

const LENGTH = 40;

/** Reports of an output's tokens: [from, to) of it, in one event or token by token. */
const reports = fc.array(
  fc.record({ from: fc.nat(LENGTH - 1), count: fc.integer({ min: 1, max: 12 }), isRun: fc.boolean() }),
  { maxLength: 30 },
);

/** A dispatcher over one worker, to which request "r" has gone. */
function withRequest({ maxAttempts }: { maxAttempts: number }): Dispatcher {
  const placement = createLoadPlacement({ localPrefillBelowTokens: 0 });
  const dispatcher = new Dispatcher({ placement, maxRequests: 1, maxWaitMs: 1, maxAttempts });
  dispatcher.workerReady(workerFacts({ id: "w" }), 0);
  dispatcher.submit(makeRequest({ id: "r", maxOutputTokens: LENGTH }), 0);
  return dispatcher;
}

test("tokens are passed on once and in order, whatever is reported when and how often", () => {
  fc.assert(
    fc.property(reports, (list) => {
      const dispatcher = withRequest({ maxAttempts: 1 });
      const passedOn: number[] = [];
      const take = (): void => {
        for (const effect of dispatcher.takeEffects()) {
          if (effect.kind === "tokens") passedOn.push(...effect.tokens.map(({ token }) => token));
        }
      };
      const known = new Set<number>();
      const everything = { from: 0, count: LENGTH, isRun: true };
      for (const { from, count, isRun } of [...list, everything]) {
        const tokens = tokenRange(from, Math.min(count, LENGTH - from));
        const of = { requestId: "r", epoch: 1 };
        const events: RequestEvent[] = isRun
          ? [{ kind: "run", ...of, index: from, tokens: tokens.map((token) => ({ token })) }]
          : tokens.map((token) => ({ kind: "token", ...of, index: token, sampled: { token } }));
        dispatcher.workerEvents("w", events, 0);
        dispatcher.checkInvariants();
        take();
        for (const token of tokens) known.add(token);
        let numFirst = 0;
        while (known.has(numFirst)) numFirst++;
        expect(passedOn).toEqual(tokenRange(0, numFirst));
      }
    }),
  );
});

/** What comes of batches of reports, when a failure may be followed by one more attempt. */
function fail(...batches: RequestEvent[][]): { kinds: string[]; tokens: number[] } {
  const dispatcher = withRequest({ maxAttempts: 2 });
  dispatcher.takeEffects();
  for (const events of batches) {
    dispatcher.workerEvents("w", events, 0);
    dispatcher.checkInvariants();
  }
  const effects = dispatcher.takeEffects();
  return {
    kinds: effects.map(({ kind }) => kind),
    tokens: effects.flatMap((effect) =>
      effect.kind === "tokens" ? effect.tokens.map(({ token }) => token) : [],
    ),
  };
}

const attempt = { requestId: "r", epoch: 1 };
const token = (index: number): RequestEvent => ({
  kind: "token",
  ...attempt,
  index,
  sampled: { token: index },
});
const failed: RequestEvent = { kind: "failed", ...attempt, reason: "no_space" };

test("a failure that comes with the first tokens is followed by another attempt, from the first token", () => {
  const { kinds, tokens } = fail([token(0), token(1), failed]);
  expect(tokens).toEqual([]);
  expect(kinds).toEqual(["cancel", "placed", "submit"]);
});

test("tokens that come with a failure are passed on when others have been", () => {
  const { kinds, tokens } = fail([token(0)], [token(1), failed]);
  expect(tokens).toEqual([0, 1]);
  expect(kinds.at(-1)).toBe("error");
});

test("a failure after the last token changes nothing", () => {
  const finish: RequestEvent = { kind: "finish", ...attempt, reason: "length", numOutputTokens: 2 };
  const { kinds, tokens } = fail([token(0)], [token(1), finish, failed]);
  expect(tokens).toEqual([0, 1]);
  expect(kinds.at(-1)).toBe("finish");
});

test("output beyond what the request may have is dropped, and fails the attempt", () => {
  const run = (index: number, count: number): RequestEvent => {
    const tokens = tokenRange(index, count).map((token) => ({ token }));
    return { kind: "run", ...attempt, index, tokens };
  };
  expect(fail([run(0, LENGTH + 1)])).toEqual({ kinds: ["cancel", "placed", "submit"], tokens: [] });
  expect(fail([token(1_000_000)])).toEqual({ kinds: ["cancel", "placed", "submit"], tokens: [] });
  const { kinds, tokens } = fail([token(0)], [run(1, LENGTH)]);
  expect(tokens).toEqual(tokenRange(0, LENGTH));
  expect(kinds.at(-1)).toBe("error");
});

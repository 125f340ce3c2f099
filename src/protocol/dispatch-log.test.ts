import { expect, test } from "vitest";
import { decodeLogLine, encodeLogLine, MAX_KEPT_CANDIDATES } from "./dispatch-log.ts";

test("a decision in a log names the winner and the cheapest others, and no more of them are read", () => {
  const candidates = Array.from({ length: 500 }, (_, i) => {
    const cost = i === 0 ? 1000 : 500 - i;
    return { prefillWorker: `p${i}`, decodeWorker: "d", fetch: null, terms: { all: cost }, cost };
  });
  const decision = { prefillWorker: "p0", decodeWorker: "d", reason: "cheapest" as const, candidates };
  const line = encodeLogLine({ kind: "decision", requestId: "r", decision });
  const read = decodeLogLine(line);
  if (read.kind !== "decision") throw new Error("it is read as something else");
  expect(read.decision.candidates).toHaveLength(MAX_KEPT_CANDIDATES);
  expect(read.decision.candidates!.slice(0, 3).map(({ cost }) => cost)).toEqual([1000, 1, 2]);
  const tooMany = JSON.stringify({ kind: "decision", requestId: "r", decision });
  expect(() => decodeLogLine(tooMany)).toThrow("is no entry of a record");
});

import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { DispatchLogReader } from "../replay/dispatch-log-reader.ts";
import { DispatchLogFile } from "./dispatch-log-file.ts";

const folder = mkdtempSync(join(tmpdir(), "twofold-record-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const HEADER = {
  twofoldVersion: "0.0.0",
  world: "twin",
  policy: { name: "load", options: {} },
  dispatcher: { maxRequests: 10, maxWaitMs: 1000, maxAttempts: 3 },
  blockSizeTokens: 16,
} as const;

/** What is read of a record of so many entries. */
function recorded(numEntries: number, maxBytes?: number) {
  const path = join(folder, "record.jsonl");
  const file = new DispatchLogFile(path, HEADER, maxBytes);
  for (let i = 0; i < numEntries; i++) file.add({ kind: "queue", worker: "w", numQueued: i });
  file.close();
  const reader = new DispatchLogReader(path);
  const entries = [...reader.entries()];
  reader.close();
  return { entries, end: reader.end, size: statSync(path).size };
}

it("holds every entry in order", () => {
  const { entries, end } = recorded(1000);
  expect(entries).toHaveLength(1000);
  expect(entries[999]).toMatchObject({ kind: "queue", worker: "w", numQueued: 999 });
  expect(end).toBe("stopped");
});

it("stops at its bound, and says so", () => {
  const MAX_BYTES = 4000;
  const { entries, end, size } = recorded(1000, MAX_BYTES);
  expect(end).toBe("full");
  expect(entries.length).toBeGreaterThan(10);
  expect(entries.at(-1)).toMatchObject({ numQueued: entries.length - 1 });
  expect(size).toBeLessThan(MAX_BYTES + 200);
});

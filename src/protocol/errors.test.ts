import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { ERRORS } from "./errors.ts";

test("the reference documents every error with its status, type and retry advice, and no other", async () => {
  const reference = await readFile(new URL("../../docs/reference/errors.md", import.meta.url), "utf8");
  const rows = [
    ...reference.matchAll(/^\| `(\w+)` \| (\d+) \| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$/gm),
  ];
  const documented = rows.map(
    ([, code, status, type, retry]) => `${code} ${status} ${type} ${retry?.trim()}`,
  );
  const expected = Object.entries(ERRORS).map(([code, entry]) => {
    const spec: { status: number; type: string; shouldRetry?: boolean; retryAfterSeconds?: number } = entry;
    const advice =
      spec.retryAfterSeconds !== undefined
        ? `after ${spec.retryAfterSeconds} s`
        : spec.shouldRetry === undefined
          ? "–"
          : spec.shouldRetry
            ? "yes"
            : "no";
    return `${code} ${spec.status} ${spec.type} ${advice}`;
  });
  expect(documented).toEqual(expected);
  for (const [, , , , , cause, remedy] of rows) {
    expect(cause?.trim().length).toBeGreaterThan(10);
    expect(remedy?.trim().length).toBeGreaterThan(10);
  }
});

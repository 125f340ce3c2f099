import { truncateSync } from "node:fs";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { TempFiles } from "../../../test/support/temp-files.ts";
import { LineReader, MAX_LINE_BYTES } from "./line-reader.ts";

const files = new TempFiles();
afterAll(() => files.remove());

function linesOf(path: string): string[] {
  const lines = new LineReader(path);
  const texts: string[] = [];
  while (lines.advance()) {
    texts.push(lines.text());
    expect(lines.line).toBe(texts.length);
  }
  return texts;
}

describe("lines of a file", () => {
  it("come as they were written, whatever their length", () => {
    const line = fc.oneof(
      fc.string({ unit: fc.constantFrom("a", "ü", "€", " "), maxLength: 20 }),
      fc.integer({ min: 100_000, max: 700_000 }).map((length) => "x".repeat(length)),
    );
    fc.assert(
      fc.property(fc.array(line, { minLength: 1, maxLength: 8 }), fc.boolean(), (texts, endsWithNewline) => {
        const path = files.write("lines", texts.join("\n") + (endsWithNewline ? "\n" : ""));
        const isLastEmpty = texts.at(-1) === "" && !endsWithNewline;
        expect(linesOf(path)).toEqual(isLastEmpty ? texts.slice(0, -1) : texts);
      }),
      { numRuns: 30 },
    );
  });

  it("may be blank, end with a carriage return, and begin with a byte-order mark", () => {
    const lines = new LineReader(files.write("odd", "\uFEFFa\r\n\r\n  \nb"));
    const texts: [number, string][] = [];
    while (lines.advanceToText()) texts.push([lines.line, lines.text()]);
    expect(texts).toEqual([
      [1, "a"],
      [4, "b"],
    ]);
  });

  it("are refused beyond their limit, with their number", () => {
    const path = files.write("huge", "first\n");
    truncateSync(path, MAX_LINE_BYTES + 1024 * 1024);
    expect(() => linesOf(path)).toThrow(`${path}:2: is longer than ${MAX_LINE_BYTES} bytes`);
  });
});

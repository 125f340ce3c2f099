import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { OutputLines } from "./output-lines.ts";

function linesOf(chunks: readonly string[], maxLineLength: number): string[] {
  const lines: string[] = [];
  const output = new OutputLines(maxLineLength, (line) => lines.push(line));
  for (const chunk of chunks) output.push(chunk);
  output.end();
  return lines;
}

describe("OutputLines", () => {
  it("gives back any lines, whatever the chunk borders", () => {
    const line = fc.string({ maxLength: 20 }).filter((text) => !/[\r\n]/.test(text));
    fc.assert(
      fc.property(fc.array(line), fc.integer({ min: 1, max: 7 }), (lines, size) => {
        const text = lines.map((each) => `${each}\n`).join("");
        const chunks = text.match(new RegExp(`[^]{1,${size}}`, "g")) ?? [];
        expect(linesOf(chunks, 100)).toEqual(lines);
      }),
    );
  });

  it("cuts long lines and counts what it dropped", () => {
    expect(linesOf(["abc", "defgh", "ij\nnext\n"], 4)).toEqual(["abcd … (6 characters more)", "next"]);
  });

  it("takes an unfinished last line and strips carriage returns", () => {
    expect(linesOf(["one\r\ntwo"], 100)).toEqual(["one", "two"]);
  });
});

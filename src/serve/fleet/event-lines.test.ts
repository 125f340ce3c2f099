import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EventLines } from "./event-lines.ts";

describe("EventLines", () => {
  it("gives back any lines, whatever the chunk borders", () => {
    // Characters of one to four bytes, so that borders fall inside them.
    const line = fc.string({ minLength: 1, maxLength: 30, unit: fc.constantFrom("a", "\r", "ä", "€", "😀") });
    fc.assert(
      fc.property(fc.array(line), fc.array(fc.integer({ min: 1, max: 40 })), (lines, cuts) => {
        const bytes = Buffer.from(lines.map((text) => `${text}\n`).join(""));
        const splitter = new EventLines(1000);
        const found: string[] = [];
        let offset = 0;
        for (const cut of [...cuts, bytes.length]) {
          found.push(...splitter.push(bytes.subarray(offset, offset + cut)));
          offset += cut;
        }
        expect(found).toEqual(lines);
      }),
    );
  });

  it("refuses a line beyond its limit before it has ended", () => {
    const lines = new EventLines(10);
    expect(lines.push(Buffer.from("0123456789\n012345"))).toEqual(["0123456789"]);
    expect(() => lines.push(Buffer.from("67890"))).toThrow("a line exceeds 10 bytes");
  });
});

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ServingError } from "../../protocol/errors.ts";
import { nestsDeeperThan, parseJsonBody } from "./json-body.ts";

function depthOf(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depthOf));
}

function codeOf(bytes: Buffer): { code: string; message: string } {
  try {
    parseJsonBody(bytes, 64);
  } catch (error) {
    if (error instanceof ServingError) return { code: error.code, message: error.message };
    throw error;
  }
  throw new Error("the body was accepted");
}

describe("nestsDeeperThan", () => {
  test("agrees with the depth of the parsed value, whatever strings hold", () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 6 }), fc.integer({ min: 0, max: 8 }), (json, limit) => {
        expect(nestsDeeperThan(Buffer.from(json), limit)).toBe(depthOf(JSON.parse(json)) > limit);
      }),
      { numRuns: 1000 },
    );
  });

  test("finds the end of long strings, whatever backslashes they hold", () => {
    const text = fc.array(fc.constantFrom("\\", '"', "[", "a".repeat(31), "a".repeat(40)), { maxLength: 20 });
    fc.assert(
      fc.property(fc.array(text, { maxLength: 4 }), (texts) => {
        const json = JSON.stringify(texts.map((parts) => parts.join("")));
        expect(nestsDeeperThan(Buffer.from(json), 1)).toBe(false);
        expect(
          nestsDeeperThan(Buffer.from(`[${json.slice(0, -1)}${texts.length > 0 ? "," : ""}[]]]`), 2),
        ).toBe(true);
      }),
    );
  });

  test("brackets and escaped quotes inside strings do not count", () => {
    expect(nestsDeeperThan(Buffer.from('["[[[\\"[[[\\\\"]'), 1)).toBe(false);
    expect(nestsDeeperThan(Buffer.from('["unclosed [[['), 1)).toBe(false);
  });
});

describe("parseJsonBody", () => {
  test("gives the value that the bytes spell", () => {
    expect(parseJsonBody(Buffer.from('{"a":["ü🙂"]}'), 64)).toEqual({ a: ["ü🙂"] });
  });

  test("ten thousand levels are refused before the parser sees them", () => {
    const deep = Buffer.from(`${"[".repeat(10_000)}${"]".repeat(10_000)}`);
    expect(codeOf(deep).code).toBe("nesting_too_deep");
  });

  test("exactly the limit is accepted", () => {
    expect(parseJsonBody(Buffer.from(`${"[".repeat(64)}${"]".repeat(64)}`), 64)).toHaveLength(1);
    expect(codeOf(Buffer.from(`${"[".repeat(65)}${"]".repeat(65)}`)).code).toBe("nesting_too_deep");
  });

  test("bytes that are no UTF-8 are refused", () => {
    expect(codeOf(Buffer.from([0x22, 0xff, 0x22]))).toMatchObject({ code: "invalid_json" });
  });

  test("an error does not quote the body", () => {
    const { code, message } = codeOf(Buffer.from('{"prompt":"my secret" x}'));
    expect(code).toBe("invalid_json");
    expect(message).not.toContain("secret");
  });

  test("an empty body is refused with advice", () => {
    expect(codeOf(Buffer.alloc(0))).toEqual({
      code: "invalid_json",
      message: "The request body is empty; send a JSON object.",
    });
  });
});

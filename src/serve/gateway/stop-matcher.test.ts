import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { StopMatcher, StopPatterns } from "./stop-matcher.ts";

/** The naive way: look at every prefix of the text for one that ends with a stop string. */
function oracle(text: string, stops: readonly string[]): { shown: string; isMatched: boolean } {
  for (let end = 1; end <= text.length; end++) {
    const hits = stops.filter((stop) => text.slice(0, end).endsWith(stop));
    if (hits.length > 0)
      return { shown: text.slice(0, end - Math.max(...hits.map((hit) => hit.length))), isMatched: true };
  }
  return { shown: text, isMatched: false };
}

/** How much of the text so far could still turn out to begin a stop string. */
function heldBack(text: string, stops: readonly string[]): number {
  for (let start = 0; start < text.length; start++)
    if (stops.some((stop) => stop.startsWith(text.slice(start)))) return text.length - start;
  return 0;
}

/** Few letters make many near misses. */
const word = (minLength: number, maxLength: number) =>
  fc.string({ unit: fc.constantFrom("a", "b", "🙂"), minLength, maxLength });
const stops = fc.array(word(1, 5), { minLength: 1, maxLength: 4 });
const pieces = fc.array(word(0, 4), { maxLength: 12 });

function run(parts: readonly string[], patterns: readonly string[]) {
  const matcher = new StopMatcher(new StopPatterns(patterns));
  let shown = "";
  for (const part of parts) {
    shown += matcher.push(part);
    if (matcher.isMatched) return { shown, isMatched: true };
  }
  return { shown: shown + matcher.flush(), isMatched: false };
}

describe("StopMatcher", () => {
  test("finds what a search over the whole text finds, however it is cut", () => {
    fc.assert(
      fc.property(pieces, stops, (parts, patterns) => {
        expect(run(parts, patterns)).toEqual(oracle(parts.join(""), patterns));
      }),
      { numRuns: 3000 },
    );
  });

  test("holds back exactly what may still begin a stop string", () => {
    fc.assert(
      fc.property(pieces, stops, (parts, patterns) => {
        const matcher = new StopMatcher(new StopPatterns(patterns));
        let text = "";
        let shown = "";
        for (const part of parts) {
          text += part;
          shown += matcher.push(part);
          if (matcher.isMatched) return;
          expect(text.length - shown.length).toBe(heldBack(text, patterns));
          expect(shown).not.toMatch(/\p{Surrogate}/u);
        }
      }),
      { numRuns: 3000 },
    );
  });

  test("releases held text as soon as it cannot match any more", () => {
    const matcher = new StopMatcher(new StopPatterns(["</end>"]));
    expect(["a</", "en", "x", "</end"].map((part) => matcher.push(part))).toEqual(["a", "", "</enx", ""]);
    expect(matcher.push(">b")).toBe("");
    expect(matcher.isMatched).toBe(true);
  });

  test("of two that end together the longer one cuts", () => {
    expect(run(["xxabc"], ["c", "abc"])).toEqual({ shown: "xx", isMatched: true });
  });
});

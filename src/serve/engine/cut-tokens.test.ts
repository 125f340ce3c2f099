import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { cutEnds, cutTokens, type SpecialToken, splitAtCuts } from "./cut-tokens.ts";

/** Special tokens found as llama.cpp finds them: the longest first, each from left to right; other characters stay characters. */
function partition(text: string, specials: readonly SpecialToken[]): Array<string | number> {
  let parts: Array<string | number> = [text];
  for (const { text: special, id } of [...specials].sort((a, b) => b.text.length - a.text.length)) {
    parts = parts.flatMap((part) => {
      if (typeof part === "number" || special === "") return [part];
      return part.split(special).flatMap((piece, i) => (i === 0 ? [piece] : [id, piece]));
    });
  }
  return parts.filter((part) => part !== "");
}

const shortText = fc.string({ unit: fc.constantFrom("<", "|", ">", "a"), maxLength: 5 });
const vocabulary = fc
  .uniqueArray(shortText, { minLength: 1, maxLength: 5 })
  .map((texts) => texts.map((text, i): SpecialToken => ({ id: i, text, isStripping: i === 4 })));

describe("cut tokens", () => {
  it("part a text so that the tokens of the parts are those of the whole", () => {
    let numCuts = 0;
    fc.assert(
      fc.property(vocabulary, fc.array(fc.nat(9)), shortText, (specials, choices, filler) => {
        const cuts = cutTokens(specials, new Set(specials.map(({ id }) => id)));
        const text = choices.map((choice) => specials[choice]?.text ?? filler).join("");
        const parts = splitAtCuts(
          text,
          cuts.map((cut) => cut.text),
        );
        numCuts += parts.length - 1;
        expect(parts.join("")).toBe(text);
        expect(parts.flatMap((part) => partition(part, specials))).toEqual(partition(text, specials));
        for (const cut of cuts) {
          const numFound = partition(text, specials).filter((token) => token === cut.id).length;
          expect(numFound).toBe(text.split(cut.text).length - 1);
        }
      }),
      { numRuns: 2000 },
    );
    expect(numCuts).toBeGreaterThan(50);
  });

  it("are those that nothing overlaps and that leave white space alone", () => {
    const special = (id: number, text: string, isStripping = false): SpecialToken => ({
      id,
      text,
      isStripping,
    });
    const specials = [
      special(0, "<|end|>"),
      special(1, "<|stop|>"),
      special(2, "<|stop|>\n"),
      special(3, "<|strip|>", true),
      special(4, "</s>"),
      special(5, "x</"),
      special(6, "<|other|>"),
    ];
    expect(cutTokens(specials, new Set([0, 1, 2, 3, 4])).map(({ id }) => id)).toEqual([0, 2]);
  });

  it("are found from any of them on", () => {
    const text = "a<e>bb<s><e>c";
    expect([...cutEnds(text, ["<e>", "<s>"])]).toEqual([4, 9, 12]);
    expect([...cutEnds(text, ["<e>", "<s>"], 4)]).toEqual([9, 12]);
    expect([...cutEnds(text, [])]).toEqual([]);
  });
});

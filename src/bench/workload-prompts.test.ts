import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Rng } from "../core/util/rng.ts";
import { plainRequest } from "../twin/workload/plain-request.ts";
import type { WorkloadRequest } from "../twin/workload/workload.ts";
import { FIRST_WORD, type PromptCalibration } from "./prompts.ts";
import { WORDS } from "./words.ts";
import { WorkloadPromptMaker } from "./workload-prompts.ts";

const EXACT: PromptCalibration = { method: "tokenize", words: WORDS, tokensPerWord: 1, overheadTokens: 2 };

function request(
  id: string,
  inputTokens: number,
  blockTokens: number,
  ids: number[] | null,
  scope = "",
): WorkloadRequest {
  const blocks = ids === null ? null : { blockTokens, scope, ids };
  return { ...plainRequest(id, inputTokens, 1), arrivalMs: 0, blocks };
}

function maker(calibration = EXACT): WorkloadPromptMaker {
  return new WorkloadPromptMaker(calibration, new Rng(1));
}

/** Tokens of a prompt by the calibration: the overhead stands before the words. */
function tokensOf(prompt: string): string[] {
  const words = prompt.split(" ");
  expect(words[0]).toBe(FIRST_WORD);
  return ["<bos>", ...words];
}

describe("prompts of a workload", () => {
  it("have their length, and equal blocks of tokens just where the ids say so", () => {
    const ids = fc.array(fc.nat({ max: 2 }), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(ids, ids, fc.nat(62), fc.nat(62), (one, other, restA, restB) => {
        const size = 64;
        const prompts = maker();
        const a = tokensOf(prompts.make(request("a", one.length * size - restA, size, one)));
        const b = tokensOf(prompts.make(request("b", other.length * size - restB, size, other)));
        expect(a).toHaveLength(one.length * size - restA);
        expect(b).toHaveLength(other.length * size - restB);
        let numShared = 0;
        while (numShared < one.length && one[numShared] === other[numShared]) numShared++;
        const sharedTokens = Math.min(numShared * size, a.length, b.length);
        expect(a.slice(0, sharedTokens)).toEqual(b.slice(0, sharedTokens));
        // By chance the first words after it may be the same, a whole block never.
        const next = (tokens: string[]): string => tokens.slice(sharedTokens, sharedTokens + size).join(" ");
        if (Math.min(a.length, b.length) - sharedTokens >= 16) expect(next(a)).not.toBe(next(b));
      }),
    );
  });

  it("without ids share nothing, and the same request is the same text again", () => {
    const prompts = maker();
    const one = prompts.make(request("a", 100, 16, null));
    const other = prompts.make(request("b", 100, 16, null));
    expect(one.split(" ").slice(1, 17)).not.toEqual(other.split(" ").slice(1, 17));
    expect(maker().make(request("a", 100, 16, null))).toBe(one);
  });

  it("differ between scopes", () => {
    const prompts = maker();
    const one = prompts.make(request("a", 64, 64, [1], "x"));
    expect(prompts.make(request("b", 64, 64, [1], "y"))).not.toBe(one);
    expect(prompts.make(request("c", 64, 64, [1], "x"))).toBe(one);
  });

  it("have a tail of their own behind what the ids cover", () => {
    const prompts = maker();
    const one = tokensOf(prompts.make(request("a", 127, 64, [1])));
    const other = tokensOf(prompts.make(request("b", 127, 64, [1])));
    expect(one.slice(0, 64)).toEqual(other.slice(0, 64));
    expect(one.slice(64)).not.toEqual(other.slice(64));
    expect(one).toHaveLength(127);
  });

  it("reckon with words of several tokens, and are never shorter than the overhead", () => {
    const prompts = maker({ method: "usage", words: WORDS, tokensPerWord: 1.5, overheadTokens: 12 });
    expect(prompts.make(request("a", 312, 64, [1, 2, 3, 4])).split(" ")).toHaveLength(201);
    expect(prompts.make(request("a", 5, 64, [1]))).toBe(FIRST_WORD);
  });
});

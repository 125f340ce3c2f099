import { expect, test } from "vitest";
import { Rng } from "../core/util/rng.ts";
import { type PromptCalibration, PromptMaker } from "./prompts.ts";
import { WORDS } from "./words.ts";

const calibration: PromptCalibration = {
  method: "tokenize",
  words: WORDS,
  tokensPerWord: 1,
  overheadTokens: 3,
};

function makerOf(share: number, overrides: Partial<PromptCalibration> = {}): PromptMaker {
  const rng = new Rng(9);
  return new PromptMaker({ ...calibration, ...overrides }, share, rng.stream("words"), rng.stream("shared"));
}

test("words and overhead add up to the length, the first word being overhead", () => {
  const words = makerOf(0).make(100).split(" ");
  expect(words.length).toBe(1 + 97);
  expect(words[0]).toBe("the");
});

test("tokens per word stretch or shrink the number of words", () => {
  expect(makerOf(0, { tokensPerWord: 2, overheadTokens: 0 }).make(100).split(" ").length).toBe(1 + 50);
});

test("a length below the overhead gives the shortest prompt there is", () => {
  expect(makerOf(0.5).make(1)).toBe("the");
});

test("prompts share the asked share from the start and nothing beyond it", () => {
  const maker = makerOf(0.5);
  const [a, b] = [maker.make(203).split(" "), maker.make(203).split(" ")];
  expect(a.slice(0, 101)).toEqual(b.slice(0, 101));
  expect(a.slice(101)).not.toEqual(b.slice(101));
  const shorter = maker.make(53).split(" ");
  expect(shorter.slice(0, 26)).toEqual(a.slice(0, 26));
});

test("without a shared share two prompts differ from the second word on", () => {
  const maker = makerOf(0);
  expect(maker.make(50).split(" ").slice(1, 6)).not.toEqual(maker.make(50).split(" ").slice(1, 6));
});

import { expect, test } from "vitest";
import { nearMiss } from "./near-miss.ts";

const POLICIES = ["static", "orca", "prefill-first", "chunked"];

test.each([
  ["chunkd", "chunked"],
  ["CHUNKED", "chunked"],
  ["hcunked", "chunked"],
  ["prefil-firsst", "prefill-first"],
  ["ocra", "orca"],
])("%s was meant to be %s", (word, meant) => {
  expect(nearMiss(word, POLICIES)).toBe(meant);
});

test("a word that is far from all, very short or very long is no slip", () => {
  expect(nearMiss("fcfs", POLICIES)).toBeNull();
  expect(nearMiss("o", ["a"])).toBeNull();
  expect(nearMiss("x".repeat(10_000), POLICIES)).toBeNull();
  expect(nearMiss("chunked", [])).toBeNull();
});

test("the closest of several wins", () => {
  expect(nearMiss("kvTokens_", ["kvToken", "kvTokens", "tokens"])).toBe("kvTokens");
});

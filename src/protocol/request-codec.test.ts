import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { GREEDY, type Request } from "../core/request.ts";
import { HASH_WORDS } from "../core/tokens/block-hash.ts";
import { ServingError } from "./errors.ts";
import {
  decodeSubmission,
  encodeSubmission,
  MAX_REQUEST_TOKENS,
  MAX_SUBMISSION_BYTES,
  MAX_SUBMITTED_HASHES,
} from "./request-codec.ts";
import type { Assignment } from "./worker-rpc.ts";

const REQUEST = {
  id: "req-1",
  epoch: 0,
  promptTokens: Int32Array.of(1, 2, 3),
  resumedTokens: Int32Array.of(),
  maxOutputTokens: 10,
  minOutputTokens: 0,
  ignoreEndOfGeneration: false,
  sampling: GREEDY,
  cacheSalt: "tenant",
  priority: 0,
} satisfies Request;
const LOCAL: Assignment = { kind: "local" };
const REQUIRED = Object.keys(REQUEST) as Array<keyof typeof REQUEST>;

const encoded = (request: Request, assignment: Assignment = LOCAL) =>
  Buffer.concat(encodeSubmission(request, assignment));

const tokens = (constraints: { minLength?: number; maxLength?: number }) =>
  fc.array(fc.nat(2 ** 31 - 1), constraints).map((values) => Int32Array.from(values));
const number = (min: number, max: number) => fc.double({ min, max, noNaN: true }).map((value) => value + 0);

const hashes = fc
  .array(fc.tuple(fc.integer(), fc.integer(), fc.integer(), fc.integer()), { maxLength: 20 })
  .map((values) => Int32Array.from(values.flat(), (value) => value | 0));

const requestArbitrary: fc.Arbitrary<Request> = fc.record(
  {
    id: fc.stringMatching(/^[A-Za-z0-9._:-]{1,128}$/),
    epoch: fc.nat(2 ** 32 - 1),
    promptTokens: tokens({ minLength: 1, maxLength: 100 }),
    resumedTokens: tokens({ maxLength: 20 }),
    maxOutputTokens: fc.integer({ min: 21, max: MAX_REQUEST_TOKENS }),
    minOutputTokens: fc.nat(MAX_REQUEST_TOKENS),
    ignoreEndOfGeneration: fc.boolean(),
    sampling: fc.record({
      temperature: number(0, 2),
      topK: fc.nat(1000),
      topP: number(Number.MIN_VALUE, 1),
      minP: number(0, 1),
      frequencyPenalty: number(-2, 2),
      presencePenalty: number(-2, 2),
      repetitionPenalty: number(0.01, 10),
      seed: fc.oneof(fc.integer(), fc.nat(2 ** 32 - 1)),
      logitBias: fc.array(fc.tuple(fc.nat(100_000), number(-100, 100)), { maxLength: 30 }),
      topLogprobs: fc.option(fc.nat(20)),
    }),
    cacheSalt: fc.string({ maxLength: 64 }),
    priority: number(-1e9, 1e9),
    knownBlockHashes: hashes,
    retention: fc.record({
      keep: fc.constantFrom("none", "default", "long"),
      ttlMs: fc.option(fc.integer({ min: 1, max: 1e9 })),
    }),
    firstTokenGoalMs: fc.integer({ min: 1, max: 3_600_000 }),
    expectedFanOut: fc.integer({ min: 1, max: 4096 }),
    cacheShare: number(0, 1),
  },
  { requiredKeys: REQUIRED },
);

const assignmentArbitrary: fc.Arbitrary<Assignment> = fc.constantFrom<Assignment>(
  LOCAL,
  { kind: "decode", prefillWorker: "w1" },
  { kind: "prefill", decodeWorker: "w2", decodeKvAddress: "unix:/run/w2.sock" },
  { kind: "local", fetch: { worker: "w3", kvAddress: "unix:/run/w3.sock", numTokens: 64 } },
  {
    kind: "prefill",
    decodeWorker: "w2",
    decodeKvAddress: "unix:/run/w2.sock",
    fetch: { worker: "w2", kvAddress: "unix:/run/w2.sock", numTokens: 1 },
  },
);

/** A submission with one field of its JSON replaced. */
function withField(path: string, value: unknown, request: Request = REQUEST): Buffer {
  const [head, ...arrays] = encodeSubmission(request, LOCAL);
  const json = JSON.parse(head!.toString()) as Record<string, unknown>;
  const keys = path.split(".");
  const last = keys.pop()!;
  let target = json;
  for (const key of keys) target = target[key] as Record<string, unknown>;
  target[last] = value;
  return Buffer.concat([Buffer.from(`${JSON.stringify(json)}\n`), ...arrays]);
}

describe("submissions", () => {
  it("give back any request and assignment", () => {
    fc.assert(
      fc.property(requestArbitrary, assignmentArbitrary, (request, assignment) => {
        expect(decodeSubmission(encoded(request, assignment))).toEqual({ request, assignment });
      }),
    );
  });

  it("say how many of their hashes are public", () => {
    const request = { ...REQUEST, knownBlockHashes: new Int32Array(2 * HASH_WORDS), publicBlocks: 2 };
    expect(decodeSubmission(encoded(request)).request).toEqual(request);
    expect(() => decodeSubmission(encoded({ ...request, publicBlocks: 3 }))).toThrow("known block hashes");
  });

  it("carry a view into a larger array without its surroundings", () => {
    const request = { ...REQUEST, promptTokens: Int32Array.of(9, 1, 2, 9).subarray(1, 3) };
    const decoded = decodeSubmission(encoded(request));
    expect(decoded.request.promptTokens).toEqual(Int32Array.of(1, 2));
  });

  it("of the longest prompt and resumed output fit the body limit", () => {
    const most = new Int32Array(MAX_REQUEST_TOKENS);
    const knownBlockHashes = new Int32Array((MAX_SUBMITTED_HASHES + 1) * HASH_WORDS);
    const longest = encoded({
      ...REQUEST,
      promptTokens: most,
      resumedTokens: most.subarray(1),
      maxOutputTokens: most.length,
      knownBlockHashes,
    });
    const decoded = decodeSubmission(longest);
    expect(decoded.request.knownBlockHashes).toHaveLength(MAX_SUBMITTED_HASHES * HASH_WORDS);
    expect(longest.length).toBeLessThan(MAX_SUBMISSION_BYTES);
    expect(decoded.request.promptTokens).toHaveLength(MAX_REQUEST_TOKENS);
  });

  it.each<[path: string, value: unknown]>([
    ["request.id", ""],
    ["request.id", "a b"],
    ["request.id", "x".repeat(129)],
    ["request.epoch", -1],
    ["request.epoch", 1.5],
    ["request.epoch", 2 ** 32],
    ["request.promptTokens", 0],
    ["request.promptTokens", -1],
    ["request.promptTokens", 1.5],
    ["request.promptTokens", [1, 2]],
    ["request.promptTokens", 4],
    ["request.promptTokens", 2],
    ["request.promptTokens", MAX_REQUEST_TOKENS + 1],
    ["request.resumedTokens", 1],
    ["request.knownBlockHashes", 1],
    ["request.knownBlockHashes", null],
    ["request.knownBlockHashes", MAX_SUBMITTED_HASHES + 1],
    ["request.publicBlocks", 1],
    ["request.publicBlocks", 0],
    ["request.retention", { keep: "forever", ttlMs: null }],
    ["request.retention", { keep: "long", ttlMs: 0 }],
    ["request.expectedFanOut", 0],
    ["request.firstTokenGoalMs", 3_600_001],
    ["request.cacheShare", 1.5],
    ["request.maxOutputTokens", 0],
    ["request.maxOutputTokens", MAX_REQUEST_TOKENS + 1],
    ["request.ignoreEndOfGeneration", 1],
    ["request.sampling.temperature", -0.1],
    ["request.sampling.temperature", null],
    ["request.sampling.topP", 0],
    ["request.sampling.minP", 1.1],
    ["request.sampling.repetitionPenalty", 0],
    ["request.sampling.seed", 2 ** 32],
    ["request.sampling.logitBias", [[1, 101]]],
    ["request.sampling.logitBias", Array.from({ length: 1025 }, (_, i) => [i, 1])],
    ["request.sampling.topLogprobs", 21],
    ["request.sampling.beam", 4],
    ["request.cacheSalt", "x".repeat(257)],
    ["request.priority", "high"],
    ["assignment.kind", "both"],
    ["assignment.decodeWorker", "w2"],
  ])("with %s = %j are refused", (path, value) => {
    expect(() => decodeSubmission(withField(path, value))).toThrow(ServingError);
  });

  it("that end too early, or too late, anywhere are refused", () => {
    const whole = encoded({ ...REQUEST, knownBlockHashes: new Int32Array(2 * HASH_WORDS) });
    for (let length = 0; length < whole.length; length++)
      expect(() => decodeSubmission(whole.subarray(0, length))).toThrow(ServingError);
    expect(() => decodeSubmission(Buffer.concat([whole, Buffer.alloc(4)]))).toThrow("4 bytes follow");
  });

  it("name the field at fault", () => {
    const refusal = (value: Buffer) => {
      try {
        decodeSubmission(value);
      } catch (error) {
        return error as ServingError;
      }
      return null;
    };
    expect(refusal(withField("request.sampling.topP", 7))).toMatchObject({
      code: "invalid_value",
      param: "request.sampling.topP",
    });
    const negative = encoded({ ...REQUEST, promptTokens: Int32Array.of(1, -5) });
    expect(refusal(negative)?.message).toContain("promptTokens: token ids must not be negative");
    expect(refusal(withField("request.promptTokens", 9))).toMatchObject({ param: "request.promptTokens" });
    expect(refusal(Buffer.from("null"))).toMatchObject({ code: "invalid_value" });
    expect(refusal(Buffer.alloc(0))).toMatchObject({ code: "invalid_json" });
  });

  it("with nothing left to generate are refused", () => {
    const request = { ...REQUEST, resumedTokens: Int32Array.of(1, 2), maxOutputTokens: 2 };
    expect(() => decodeSubmission(encoded(request))).toThrow("nothing is left");
  });
});

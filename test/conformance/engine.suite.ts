import { afterEach, describe, expect, it } from "vitest";
import type { KvOp } from "../../src/core/kv/kv-ops.ts";
import type { StepPlan } from "../../src/core/scheduler/step-plan.ts";
import type { Sequence } from "../../src/core/sequence.ts";
import type { Engine, EngineErrorCode } from "../../src/serve/engine/engine.ts";
import { EngineModel } from "../support/engine-model.ts";
import {
  chunkOf,
  computeUpTo,
  generate,
  planOf,
  randomSource,
  randomTokens,
  restOf,
  runStep,
} from "../support/engine-plan.ts";
import { makeSequence, type RequestOverrides } from "../support/make.ts";

/** What the suite asks of the engine that it opens. Engines may round the capacity up to a multiple of 256. */
export interface EngineSuiteLimits {
  readonly kvCapacityTokens: number;
  readonly maxStepTokens: number;
  readonly numSlots: number;
}

const LIMITS: EngineSuiteLimits = { kvCapacityTokens: 1024, maxStepTokens: 256, numSlots: 12 };
const MAX_OUTPUT_TOKENS = 200;

/** Fails unless two exports of one range stand for the same tokens. */
export type KvComparison = (actual: Uint8Array, expected: Uint8Array) => void;

/**
 * What every engine promises. `open` makes engines of one model, which can exchange KV. `compareKv` is for engines in which
 * the place of a token among the KV cells shows in the last bits; by default exports are equal.
 */
export function engineSuite(
  name: string,
  open: (limits: EngineSuiteLimits) => Promise<Engine>,
  compareKv: KvComparison = (actual, expected) => expect(actual).toEqual(expected),
): void {
  describe(name, () => {
    const opened: Engine[] = [];
    const openEngine = async (limits: Partial<EngineSuiteLimits> = {}): Promise<Engine> => {
      const engine = await open({ ...LIMITS, ...limits });
      opened.push(engine);
      return engine;
    };
    afterEach(async () => {
      for (const engine of opened.splice(0)) await engine.close();
    });

    const promptOf = (engine: Engine, seed: number, count: number) =>
      randomTokens(seed, count, engine.info.vocabSize);
    const sequenceAt = (slot: number, overrides: RequestOverrides): Sequence => {
      const sequence = makeSequence({ maxOutputTokens: MAX_OUTPUT_TOKENS, ...overrides });
      sequence.slot = slot;
      return sequence;
    };
    /** What a sequence generates when it is alone in a fresh engine and its prompt is one chunk. */
    const alone = async (overrides: RequestOverrides, count: number): Promise<number[]> =>
      generate(await openEngine(), sequenceAt(0, overrides), count);
    const expectRejection = async (promise: Promise<unknown>, code: EngineErrorCode): Promise<void> => {
      await expect(promise).rejects.toMatchObject({ name: "EngineError", code });
    };

    it("generates the same tokens again, in the same engine and in another", async () => {
      const engine = await openEngine();
      const prompt = promptOf(engine, 1, 40);
      const first = await generate(engine, sequenceAt(0, { prompt }), 12);
      const second = await generate(engine, sequenceAt(5, { prompt }), 12);
      expect(second).toEqual(first);
      expect(await alone({ prompt }, 12)).toEqual(first);
      expect(new Set(first).size).toBeGreaterThan(1);
    });

    it("generates other tokens after another prompt", async () => {
      const engine = await openEngine();
      const a = await generate(engine, sequenceAt(0, { prompt: promptOf(engine, 1, 40) }), 12);
      const b = await generate(engine, sequenceAt(1, { prompt: promptOf(engine, 2, 40) }), 12);
      expect(a).not.toEqual(b);
    });

    it.each([1, 7, 16, 64])("computes a prompt in chunks of %i as it does whole", async (chunkTokens) => {
      const engine = await openEngine();
      const prompt = promptOf(engine, 3, 90);
      const sequence = sequenceAt(0, { prompt });
      const expected = await alone({ prompt }, 8);
      expect(await generate(engine, sequence, 8, chunkTokens)).toEqual(expected);
      const other = await openEngine();
      const whole = sequenceAt(0, { prompt });
      await computeUpTo(other, whole, 90);
      const range = { slot: 0, start: 0, end: 90 };
      expect(await engine.exportKv(range)).toEqual(await other.exportKv(range));
    });

    it("computes a sequence in a mixed batch as it does alone", async () => {
      const engine = await openEngine();
      const prompts = [5, 33, 70, 120].map((count, i) => promptOf(engine, 10 + i, count));
      const expected = [];
      for (const prompt of prompts) expected.push(await alone({ prompt }, 10));
      const sequences = prompts.map((prompt, i) => sequenceAt(i, { prompt }));
      // Every sequence starts two steps after the one before it and prefills in chunks, so that each step mixes both.
      for (let step = 0; sequences.some((sequence) => sequence.numOutputTokens < 10); step++) {
        const chunks = sequences
          .filter((sequence, i) => i * 2 <= step && sequence.numOutputTokens < 10)
          .map((sequence) =>
            chunkOf(sequence, sequence.numComputedTokens, Math.min(32, sequence.numUncomputedTokens)),
          );
        await runStep(engine, ...chunks);
      }
      const outputs = sequences.map((sequence) =>
        Array.from(sequence.knownTokens().subarray(sequence.numPromptTokens, sequence.numPromptTokens + 10)),
      );
      expect(outputs).toEqual(expected);
    });

    it("continues from a shared prefix as from its own", async () => {
      const engine = await openEngine();
      const prefix = promptOf(engine, 20, 48);
      const prompt = [...prefix, ...promptOf(engine, 21, 20)];
      await computeUpTo(engine, sequenceAt(0, { prompt: prefix }), 48);
      await engine.applyKvOps([{ kind: "share", slot: 0, to: 3, start: 0, end: 48 }]);
      const sharing = sequenceAt(3, { prompt });
      sharing.numComputedTokens = 48;
      expect(await generate(engine, sharing, 10)).toEqual(await alone({ prompt }, 10));
    });

    it("keeps a shared prefix when the slot that computed it is dropped", async () => {
      const engine = await openEngine();
      const prompt = promptOf(engine, 22, 60);
      await computeUpTo(engine, sequenceAt(0, { prompt }), 59);
      await engine.applyKvOps([
        { kind: "share", slot: 0, to: 1, start: 0, end: 59 },
        { kind: "drop", slot: 0, start: 0, end: 60 },
      ]);
      const sharing = sequenceAt(1, { prompt });
      sharing.numComputedTokens = 59;
      expect(await generate(engine, sharing, 6)).toEqual(await alone({ prompt }, 6));
    });

    it("hands KV over to another engine, in pieces and in any order, without a trace", async () => {
      const from = await openEngine();
      const to = await openEngine();
      const prompt = promptOf(from, 30, 100);
      await computeUpTo(from, sequenceAt(2, { prompt }), 99, 33);
      // Steps of another sequence before and between, so that cells and slots differ between the two.
      const other = sequenceAt(0, { prompt: promptOf(from, 31, 17) });
      await runStep(to, restOf(other));
      for (const [start, end] of [
        [64, 99],
        [0, 16],
        [16, 64],
      ] as const) {
        const bytes = await from.exportKv({ slot: 2, start, end });
        await to.importKv({ slot: 7, start, end }, bytes);
        await runStep(to, restOf(other));
        expect(await to.exportKv({ slot: 7, start, end })).toEqual(bytes);
      }
      const all = { start: 0, end: 99 };
      expect(await to.exportKv({ slot: 7, ...all })).toEqual(await from.exportKv({ slot: 2, ...all }));
      const moved = sequenceAt(7, { prompt });
      moved.numComputedTokens = 99;
      expect(await generate(to, moved, 12)).toEqual(await alone({ prompt }, 12));
    });

    it("imports into free cells that lie scattered between used ones", async () => {
      const engine = await openEngine({ kvCapacityTokens: 256 });
      const source = await openEngine();
      const prompt = promptOf(source, 40, 60);
      await computeUpTo(source, sequenceAt(0, { prompt }), 60);
      const bytes = await source.exportKv({ slot: 0, start: 0, end: 60 });
      const sequences = Array.from({ length: 8 }, (_, i) =>
        sequenceAt(i, { prompt: promptOf(engine, 50 + i, 31) }),
      );
      for (let at = 0; at < 31; at++) await runStep(engine, ...sequences.map((s) => chunkOf(s, at, 1)));
      const before = await engine.exportKv({ slot: 1, start: 0, end: 31 });
      const range = { slot: 9, start: 0, end: 60 };
      await expectRejection(engine.importKv(range, bytes), "kv_full");
      await engine.applyKvOps([2, 5].map((slot) => ({ kind: "drop", slot, start: 0, end: 31 })));
      await engine.importKv(range, bytes);
      expect(await engine.exportKv(range)).toEqual(bytes);
      expect(await engine.exportKv({ slot: 1, start: 0, end: 31 })).toEqual(before);
      const moved = sequenceAt(9, { prompt: [...prompt, 7] });
      moved.numComputedTokens = 60;
      expect(await generate(engine, moved, 4)).toEqual(await alone({ prompt: [...prompt, 7] }, 4));
    });

    it("leaves the KV as it was when a step is aborted", async () => {
      const engine = await openEngine();
      const running = sequenceAt(0, { prompt: promptOf(engine, 60, 30) });
      const starting = sequenceAt(1, { prompt: promptOf(engine, 61, 200) });
      await runStep(engine, restOf(running));
      const before = await engine.exportKv({ slot: 0, start: 0, end: 30 });
      const result = engine.execute(planOf(restOf(running), restOf(starting)));
      engine.abort();
      expect(await result).toEqual({ kind: "aborted" });
      expect(await engine.exportKv({ slot: 0, start: 0, end: 30 })).toEqual(before);
      await expectRejection(engine.exportKv({ slot: 0, start: 30, end: 31 }), "bad_argument");
      await expectRejection(engine.exportKv({ slot: 1, start: 0, end: 1 }), "bad_argument");
      const prompts = [running, starting].map((sequence) => Array.from(sequence.request.promptTokens));
      expect(await generate(engine, starting, 5)).toEqual(await alone({ prompt: prompts[1]! }, 5));
      expect(await generate(engine, running, 5)).toEqual(await alone({ prompt: prompts[0]! }, 5));
    });

    it("aborts steps that were asked for before and none after", async () => {
      const engine = await openEngine();
      const sequence = sequenceAt(0, { prompt: promptOf(engine, 62, 100) });
      engine.abort();
      await runStep(engine, chunkOf(sequence, 0, 10));
      const first = engine.execute(planOf(chunkOf(sequence, 10, 50)));
      const second = engine.execute(planOf(chunkOf(sequence, 10, 60)));
      engine.abort();
      const third = engine.execute(planOf(chunkOf(sequence, 10, 70)));
      expect((await first).kind).toBe("aborted");
      expect((await second).kind).toBe("aborted");
      expect((await third).kind).toBe("done");
      expect((await engine.exportKv({ slot: 0, start: 0, end: 80 })).length).toBeGreaterThan(0);
    });

    it("takes calls in order without waiting for one another", async () => {
      const engine = await openEngine();
      const prompt = promptOf(engine, 63, 64);
      const sequence = sequenceAt(0, { prompt });
      const copy = sequenceAt(1, { prompt });
      const results = await Promise.all([
        engine.execute(planOf(chunkOf(sequence, 0, 40))),
        engine.applyKvOps([{ kind: "share", slot: 0, to: 1, start: 0, end: 40 }]),
        engine.exportKv({ slot: 1, start: 0, end: 40 }),
        engine.applyKvOps([{ kind: "drop", slot: 0, start: 0, end: 40 }]),
        engine.execute(planOf(chunkOf(copy, 40, 24))),
        engine.execute(planOf(chunkOf(sequence, 0, 40))),
        engine.exportKv({ slot: 0, start: 0, end: 40 }),
      ]);
      expect(results[2]).toEqual(results[6]);
    });

    it("computes for the slot that the plan names, whatever has become of the sequence", async () => {
      const engine = await openEngine();
      const sequence = sequenceAt(0, { prompt: promptOf(engine, 64, 20) });
      const first = engine.execute(planOf(chunkOf(sequence, 0, 10)));
      const second = engine.execute(planOf(chunkOf(sequence, 10, 10, false)));
      sequence.slot = -1;
      expect((await first).kind).toBe("done");
      expect((await second).kind).toBe("done");
      expect((await engine.exportKv({ slot: 0, start: 0, end: 20 })).length).toBeGreaterThan(0);
    });

    it("draws with a seed the same tokens whatever else is in the batch", async () => {
      const engine = await openEngine();
      const sampling = { temperature: 0.9, topP: 0.95, seed: 1234 };
      const prompt = promptOf(engine, 70, 25);
      const expected = await alone({ prompt, sampling }, 12);
      const seeded = sequenceAt(4, { prompt, sampling });
      const others = [0, 1, 2].map((slot) =>
        sequenceAt(slot, {
          prompt: promptOf(engine, 71 + slot, 9 + slot),
          sampling: { temperature: 1, seed: slot },
        }),
      );
      while (seeded.numOutputTokens < 12) await runStep(engine, ...[...others, seeded].map(restOf));
      expect(Array.from(seeded.knownTokens().subarray(25, 37))).toEqual(expected);
      expect(await alone({ prompt, sampling: { ...sampling, seed: 99 } }, 12)).not.toEqual(expected);
    });

    it("reports log probabilities when asked, of the drawn token among the most likely", async () => {
      const engine = await openEngine();
      const prompt = promptOf(engine, 80, 10);
      const asking = sequenceAt(0, { prompt, sampling: { topLogprobs: 3 } });
      const silent = sequenceAt(1, { prompt });
      const result = await engine.execute(planOf(restOf(asking), restOf(silent)));
      if (result.kind !== "done") throw new Error("aborted");
      const [sample, other] = result.samples;
      expect(sample!.logprobs!.top).toHaveLength(3);
      expect(sample!.logprobs!.top[0]).toEqual([sample!.token, sample!.logprobs!.logprob]);
      expect(sample!.logprobs!.logprob).toBeLessThanOrEqual(0);
      expect(other).toEqual({ token: sample!.token });
    });

    it("samples only where the plan asks for it", async () => {
      const engine = await openEngine();
      const sequence = sequenceAt(0, { prompt: promptOf(engine, 81, 20) });
      const other = sequenceAt(1, { prompt: promptOf(engine, 82, 5) });
      const result = await engine.execute(planOf(chunkOf(sequence, 0, 12), restOf(other)));
      expect(result).toMatchObject({ kind: "done", samples: [null, { token: expect.any(Number) }] });
      const silent = await engine.execute(planOf(chunkOf(sequence, 12, 8, false)));
      expect(silent).toEqual({ kind: "done", samples: [null] });
    });

    it("computes all slots in one step", async () => {
      const engine = await openEngine();
      const sequences = Array.from({ length: engine.info.numSlots }, (_, slot) =>
        sequenceAt(slot, { prompt: promptOf(engine, 90 + slot, 3 + slot) }),
      );
      await runStep(engine, ...sequences.map(restOf));
      await runStep(engine, ...sequences.map(restOf));
      const last = sequences.at(-1)!;
      const prompt = Array.from(last.request.promptTokens);
      expect(Array.from(last.knownTokens().subarray(prompt.length, prompt.length + 2))).toEqual(
        await alone({ prompt }, 2),
      );
    });

    it("says when it is full, changes nothing, and has room again after a drop", async () => {
      const engine = await openEngine({ kvCapacityTokens: 256 });
      const { kvCapacityTokens } = engine.info;
      const big = sequenceAt(0, {
        prompt: promptOf(engine, 100, kvCapacityTokens - 10),
        maxOutputTokens: 20,
      });
      await computeUpTo(engine, big, big.numPromptTokens);
      const small = sequenceAt(1, { prompt: promptOf(engine, 101, 30) });
      await expectRejection(engine.execute(planOf(restOf(small))), "kv_full");
      // Sharing takes no cells, so there is still room for exactly ten.
      await engine.applyKvOps([{ kind: "share", slot: 0, to: 2, start: 0, end: 200 }]);
      await runStep(engine, chunkOf(small, 0, 10));
      await expectRejection(engine.execute(planOf(restOf(big))), "kv_full");
      await engine.applyKvOps([{ kind: "drop", slot: 0, start: 0, end: 220 }]);
      await runStep(engine, chunkOf(small, 10, 20));
      const prompt = Array.from(small.request.promptTokens);
      await engine.applyKvOps([{ kind: "drop", slot: 2, start: 0, end: 200 }]);
      expect(await generate(engine, small, 4)).toEqual(await alone({ prompt }, 4));
    });

    it("refuses every malformed step plan and still works", async () => {
      const engine = await openEngine();
      const { vocabSize, numSlots, kvCapacityTokens, maxStepTokens } = engine.info;
      const prompt = promptOf(engine, 110, 40);
      const sequence = sequenceAt(0, { prompt });
      await runStep(engine, chunkOf(sequence, 0, 20));
      const holed = sequenceAt(1, { prompt });
      await runStep(engine, chunkOf(holed, 0, 20));
      await engine.applyKvOps([{ kind: "drop", slot: 1, start: 4, end: 8 }]);
      const at = (slot: number, tokens = prompt) => sequenceAt(slot, { prompt: tokens });
      const long = sequenceAt(2, { prompt: promptOf(engine, 111, kvCapacityTokens + 1) });
      const good = chunkOf(sequence, 20, 10);
      const bad: Record<string, StepPlan> = {
        "no chunks": planOf(),
        "no slot": planOf(chunkOf(at(-1), 0, 10)),
        "slot beyond the last": planOf(chunkOf(at(numSlots), 0, 10)),
        "slot twice": planOf(good, chunkOf(sequence, 30, 10)),
        "more chunks than slots": planOf(
          ...Array.from({ length: numSlots + 1 }, (_, i) => chunkOf(at(i), 0, 1)),
        ),
        "a gap": planOf(chunkOf(sequence, 21, 10)),
        "an overlap": planOf(chunkOf(sequence, 19, 10)),
        "a start in an empty slot": planOf(chunkOf(at(2), 1, 10)),
        "a hole before the chunk": planOf(chunkOf(holed, 20, 10)),
        "an empty chunk": planOf(chunkOf(sequence, 20, 0, false)),
        "a negative length": planOf(chunkOf(sequence, 20, -1, false)),
        "a fraction of a token": planOf(chunkOf(sequence, 20, 1.5, false)),
        "tokens that are not known": planOf(chunkOf(sequence, 20, 21)),
        "sampling before the last known token": planOf(chunkOf(sequence, 20, 10, true)),
        "a negative token": planOf(chunkOf(at(2, [1, -1, 2]), 0, 3)),
        "a token beyond the vocabulary": planOf(chunkOf(at(2, [1, vocabSize, 2]), 0, 3)),
        "too many tokens": planOf(chunkOf(long, 0, maxStepTokens + 1)),
        "a wrong sum": { ...planOf(good), numTokens: 11 },
      };
      for (const [what, plan] of Object.entries(bad)) {
        await expect(engine.execute(plan), what).rejects.toMatchObject({ code: "bad_argument" });
      }
      expect(await generate(engine, sequence, 6)).toEqual(await alone({ prompt }, 6));
    });

    it("refuses every malformed KV operation as a whole and still works", async () => {
      const engine = await openEngine();
      const prompt = promptOf(engine, 120, 40);
      const sequence = sequenceAt(0, { prompt });
      await runStep(engine, chunkOf(sequence, 0, 20));
      await engine.applyKvOps([{ kind: "share", slot: 0, to: 1, start: 0, end: 10 }]);
      const share = { kind: "share", slot: 0, to: 2, start: 0, end: 10 } as const;
      const drop = { kind: "drop", slot: 0, start: 0, end: 10 } as const;
      const bad: KvOp[] = [
        { ...share, slot: -1 },
        { ...share, slot: engine.info.numSlots },
        { ...share, to: engine.info.numSlots },
        { ...share, to: -1 },
        { ...share, to: 0 },
        { ...share, to: 1 },
        { ...share, end: 21 },
        { ...share, start: -1 },
        { ...share, start: 11 },
        { ...share, slot: 5 },
        { ...share, end: Number.NaN },
        { ...drop, slot: -1 },
        { ...drop, slot: engine.info.numSlots },
        { ...drop, slot: 0.5 },
        { ...drop, start: -1 },
        { ...drop, end: 2 ** 31 },
        { ...drop, start: 11, end: 10 },
      ];
      for (const op of bad) {
        const what = JSON.stringify(op);
        await expect(engine.applyKvOps([drop, share, op]), what).rejects.toMatchObject({
          code: "bad_argument",
        });
        await expect(engine.applyKvOps([op]), what).rejects.toMatchObject({ code: "bad_argument" });
      }
      await engine.applyKvOps([share]);
      expect(await generate(engine, sequence, 6)).toEqual(await alone({ prompt }, 6));
    });

    it("takes drops of positions that a slot does not hold, and empty lists", async () => {
      const engine = await openEngine();
      const sequence = sequenceAt(0, { prompt: promptOf(engine, 121, 20) });
      await runStep(engine, chunkOf(sequence, 0, 20));
      await engine.applyKvOps([]);
      await engine.applyKvOps([
        { kind: "drop", slot: 0, start: 16, end: 32 },
        { kind: "drop", slot: 3, start: 0, end: 100 },
        { kind: "share", slot: 4, to: 5, start: 3, end: 3 },
      ]);
      await runStep(engine, chunkOf(sequence, 16, 4));
      expect((await engine.exportKv({ slot: 0, start: 0, end: 20 })).length).toBeGreaterThan(0);
    });

    it("refuses malformed transfers and still works", async () => {
      const engine = await openEngine();
      const { numSlots, kvCapacityTokens } = engine.info;
      const prompt = promptOf(engine, 130, 40);
      const sequence = sequenceAt(0, { prompt });
      await runStep(engine, chunkOf(sequence, 0, 20));
      const bytes = await engine.exportKv({ slot: 0, start: 4, end: 12 });
      const ranges = [
        { slot: -1, start: 4, end: 12 },
        { slot: numSlots, start: 4, end: 12 },
        { slot: 0, start: 12, end: 4 },
        { slot: 0, start: -4, end: 4 },
        { slot: 0, start: 4, end: 4 },
        { slot: 1.5, start: 4, end: 12 },
      ];
      for (const range of [...ranges, { slot: 0, start: 15, end: 21 }, { slot: 3, start: 0, end: 1 }]) {
        await expectRejection(engine.exportKv(range), "bad_argument");
      }
      const beyond = { slot: 3, start: kvCapacityTokens, end: kvCapacityTokens + 8 };
      for (const range of [...ranges, beyond, { slot: 0, start: 11, end: 19 }]) {
        await expectRejection(engine.importKv(range, bytes), "bad_argument");
      }
      expect(await generate(engine, sequence, 6)).toEqual(await alone({ prompt }, 6));
    });

    it("refuses KV that does not fit the range, and leaves the range empty", async () => {
      const engine = await openEngine();
      const sequence = sequenceAt(0, { prompt: promptOf(engine, 131, 20) });
      await runStep(engine, chunkOf(sequence, 0, 20));
      const bytes = await engine.exportKv({ slot: 0, start: 4, end: 12 });
      const range = { slot: 3, start: 4, end: 12 };
      const altered = (at: number) => {
        const copy = bytes.slice();
        copy[at]! ^= 1;
        return copy;
      };
      const bad: Record<string, Uint8Array> = {
        nothing: new Uint8Array(0),
        "a few bytes": bytes.slice(0, 7),
        "one byte less": bytes.slice(0, -1),
        "one byte more": new Uint8Array([...bytes, 0]),
        "another format": altered(0),
        zeros: new Uint8Array(bytes.length),
        "other positions": await engine.exportKv({ slot: 0, start: 5, end: 13 }),
        "fewer positions": await engine.exportKv({ slot: 0, start: 4, end: 11 }),
      };
      for (const [what, wrong] of Object.entries(bad)) {
        await expect(engine.importKv(range, wrong), what).rejects.toMatchObject({ code: "bad_kv" });
        await expectRejection(engine.exportKv(range), "bad_argument");
      }
      const numBefore = bytes.slice();
      await engine.importKv(range, bytes);
      expect(await engine.exportKv(range)).toEqual(numBefore);
    });

    it("cuts an export so that the part can be imported, and equals what an export of the part gives", async () => {
      const engine = await openEngine();
      const prompt = promptOf(engine, 132, 40);
      const sequence = sequenceAt(0, { prompt });
      await runStep(engine, chunkOf(sequence, 0, 40));
      const whole = { start: 4, end: 36 };
      const bytes = await engine.exportKv({ slot: 0, ...whole });
      for (const part of [whole, { start: 4, end: 20 }, { start: 20, end: 36 }, { start: 9, end: 10 }]) {
        const slice = engine.sliceKv(bytes, whole, part);
        expect(slice, JSON.stringify(part)).toEqual(await engine.exportKv({ slot: 0, ...part }));
      }
      await engine.applyKvOps([{ kind: "share", slot: 0, to: 3, start: 0, end: 4 }]);
      const half = { start: 4, end: 30 };
      await engine.importKv({ slot: 3, ...half }, engine.sliceKv(bytes, whole, half));
      const target = sequenceAt(3, { prompt });
      target.numComputedTokens = half.end;
      expect(await generate(engine, target, 6)).toEqual(await alone({ prompt }, 6));
      for (const wrong of [bytes.subarray(0, -1), new Uint8Array(0)]) {
        expect(() => engine.sliceKv(wrong, whole, half)).toThrow(/does not fit/);
      }
      expect(() => engine.sliceKv(bytes, { start: 3, end: 35 }, half)).toThrow(/does not fit/);
    });

    it("finishes what was asked for when closed, and refuses what comes after", async () => {
      const engine = await open(LIMITS);
      const sequence = sequenceAt(0, { prompt: promptOf(engine, 140, 50) });
      const step = engine.execute(planOf(restOf(sequence)));
      const exported = engine.exportKv({ slot: 0, start: 0, end: 50 });
      const closed = engine.close();
      expect((await step).kind).toBe("done");
      expect((await exported).length).toBeGreaterThan(0);
      await closed;
      await engine.close();
      engine.abort();
      await expectRejection(engine.execute(planOf(restOf(sequence))), "closed");
      await expectRejection(engine.applyKvOps([]), "closed");
      await expectRejection(engine.exportKv({ slot: 0, start: 0, end: 50 }), "closed");
      await expectRejection(engine.importKv({ slot: 1, start: 0, end: 1 }, new Uint8Array(1)), "closed");
    });

    it("lets other work of the event loop have its turn during a long run of quick steps", async () => {
      const engine = await openEngine();
      // An engine may keep the thread for some milliseconds, never for as many steps as this.
      const maxSteps = 30_000;
      const numSteps = 150;
      let numTurns = 0;
      let isOver = false;
      const turn = () => {
        numTurns++;
        if (!isOver) setImmediate(turn);
      };
      setImmediate(turn);
      for (let run = 0; run * numSteps < maxSteps && numTurns < 3; run++) {
        await generate(engine, sequenceAt(0, { prompt: promptOf(engine, 141, 8) }), numSteps);
      }
      isOver = true;
      expect(numTurns).toBeGreaterThanOrEqual(3);
    });

    it.each([1, 2, 3])("agrees with a naive model through random operations (seed %i)", async (seed) => {
      const model = new EngineModel(
        await openEngine({ kvCapacityTokens: 512 }),
        await openEngine({ kvCapacityTokens: 512 }),
        randomSource(seed),
        compareKv,
      );
      for (let i = 0; i < 250; i++) await model.step();
      await model.checkAll();
      expect(model.numChecks).toBeGreaterThan(20);
    });
  });
}

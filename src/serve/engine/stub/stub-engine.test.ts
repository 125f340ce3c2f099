import { describe, expect, it } from "vitest";
import { engineSuite } from "../../../../test/conformance/engine.suite.ts";
import { chunkOf, generate, planOf, randomTokens, runStep } from "../../../../test/support/engine-plan.ts";
import { makeSequence } from "../../../../test/support/make.ts";
import { openEngine, openTokenizer } from "../open-engine.ts";
import { StubEngine, type StubTimer } from "./stub-engine.ts";

engineSuite("stub engine", async (limits) => new StubEngine(limits));

const TIMING = { stepBaseMs: 5, prefillMsPerToken: 0.25, decodeMsPerSequence: 1.5 };

/** A timer that the test fires, and that notes what it was set to. */
function manualTimer(): { timer: StubTimer; delays: number[]; fire: () => void; numCancelled: () => number } {
  const delays: number[] = [];
  let pending: (() => void) | null = null;
  let numCancelled = 0;
  const timer: StubTimer = (delayMs, callback) => {
    delays.push(delayMs);
    pending = callback;
    return () => {
      pending = null;
      numCancelled++;
    };
  };
  return { timer, delays, fire: () => pending?.(), numCancelled: () => numCancelled };
}

const sequenceAt = (slot: number, prompt: ArrayLike<number>) => {
  const sequence = makeSequence({ prompt, maxOutputTokens: 2000 });
  sequence.slot = slot;
  return sequence;
};

describe("stub engine", () => {
  it("takes the time that its timing says, with fractions of a millisecond carried over", async () => {
    const { timer, delays, fire } = manualTimer();
    const engine = new StubEngine({ timing: TIMING, timer });
    const [a, b] = [sequenceAt(0, randomTokens(1, 10, 256)), sequenceAt(1, randomTokens(2, 6, 256))];
    const steps = [
      planOf(chunkOf(a, 0, 10)),
      planOf(chunkOf(b, 0, 5), chunkOf(sequenceAt(2, [7]), 0, 1)),
      planOf(chunkOf(b, 5, 1)),
    ];
    for (const plan of steps) {
      const result = engine.execute(plan);
      fire();
      expect((await result).kind).toBe("done");
    }
    // 7.5, then 7.75 + 0.5, then 6.5 + 0.25.
    expect(delays).toEqual([7, 8, 6]);
  });

  it("cancels its timer when a step is aborted", async () => {
    const { timer, fire, numCancelled } = manualTimer();
    const engine = new StubEngine({ timing: TIMING, timer });
    const sequence = sequenceAt(0, [1, 2, 3]);
    const result = engine.execute(planOf(chunkOf(sequence, 0, 3)));
    engine.abort();
    expect(await result).toEqual({ kind: "aborted" });
    expect(numCancelled()).toBe(1);
    const next = engine.execute(planOf(chunkOf(sequence, 0, 3)));
    fire();
    expect((await next).kind).toBe("done");
  });

  it("never ends by itself unless told to, and then about as often as told", async () => {
    const countEnds = async (endOfGenerationShare: number) => {
      const engine = new StubEngine({ endOfGenerationShare });
      const output = await generate(engine, sequenceAt(0, [1, 2, 3]), 2000);
      return output.filter((token) => engine.info.endOfGenerationTokens.includes(token)).length;
    };
    expect(await countEnds(0)).toBe(0);
    expect(await countEnds(1)).toBe(2000);
    const numEnds = await countEnds(0.1);
    expect(numEnds).toBeGreaterThan(140);
    expect(numEnds).toBeLessThan(260);
  });

  it("writes words", async () => {
    const engine = await openEngine({ engine: "stub" });
    const tokenizer = await openTokenizer({ engine: "stub" });
    expect(tokenizer).toMatchObject({ id: engine.info.tokenizerId, vocabSize: engine.info.vocabSize });
    const prompt = await tokenizer.encode("What is a river?", { parseSpecial: false, addSpecial: true });
    const output = await generate(engine, sequenceAt(0, prompt), 50);
    const text = Buffer.concat(output.map((token) => tokenizer.tokenBytes(token))).toString();
    expect(text).toMatch(/^([.,]| [a-z]+)+$/);
    expect(new Set(text.split(" ")).size).toBeGreaterThan(20);
    await engine.close();
    await tokenizer.close();
  });

  it("shows in its text when a position holds another token", async () => {
    const engine = new StubEngine();
    const outputs = new Set<string>();
    const prompt = randomTokens(3, 20, 256);
    for (let at = 0; at < 20; at++) {
      const changed = prompt.with(at, (prompt[at]! + 1) % 256);
      const sequence = sequenceAt(0, changed);
      outputs.add((await generate(engine, sequence, 4)).join());
      await engine.applyKvOps([{ kind: "drop", slot: 0, start: 0, end: 24 }]);
    }
    expect(outputs.size).toBe(20);
  });

  it("obeys logit biases", async () => {
    const engine = new StubEngine();
    const sequence = makeSequence({ prompt: [1], sampling: { logitBias: [[65, 100]] } });
    sequence.slot = 0;
    expect(await generate(engine, sequence, 3)).toEqual([65, 65, 65]);
    const [a, b] = [sequenceAt(1, [1]), sequenceAt(2, [1])];
    await runStep(engine, chunkOf(a, 0, 1), chunkOf(b, 0, 1));
    expect(a.tokenAt(1)).toBe(b.tokenAt(1));
  });

  it.each([
    [{ kvCapacityTokens: 0 }, "kvCapacityTokens"],
    [{ numSlots: 1.5 }, "numSlots"],
    [{ maxStepTokens: -1 }, "maxStepTokens"],
    [{ endOfGenerationShare: 1.1 }, "endOfGenerationShare"],
    [{ timing: { ...TIMING, stepBaseMs: Number.NaN } }, "stepBaseMs"],
  ])("refuses the options %j", (options, name) => {
    expect(() => new StubEngine(options)).toThrow(expect.objectContaining({ code: "bad_argument" }));
    expect(() => new StubEngine(options)).toThrow(name);
  });
});

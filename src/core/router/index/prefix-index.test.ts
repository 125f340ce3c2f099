import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { keysOf, NaiveIndex } from "../../../../test/support/naive-index.ts";
import type { KvEvent, KvEventBatch, KvTier } from "../../kv/kv-events.ts";
import { BlockHasher, HASH_WORDS } from "../../tokens/block-hash.ts";
import { Overlaps } from "./overlaps.ts";
import { MAX_INDEX_WORKERS, PREDICTION_TTL_MS, PrefixIndex } from "./prefix-index.ts";

const AMPLE_BYTES = 64 * 2 ** 20;
const WORKERS = ["a", "b", "c", "d"];
const NUM_PROMPTS = 7;
const PROMPT_BLOCKS = 90;

function chain(tokens: readonly number[], cacheSalt = ""): Int32Array {
  const hasher = new BlockHasher({ blockSizeTokens: 1, cacheSalt, modelId: "m" });
  const hashes = new Int32Array(tokens.length * HASH_WORDS);
  hasher.hashBlocks(Int32Array.from(tokens), 0, tokens.length, hashes);
  return hashes;
}

/** Prompts that part from each other in different places, some in the middle of what is a page. */
const PROMPTS = Array.from({ length: NUM_PROMPTS }, (_, k) =>
  chain(Array.from({ length: PROMPT_BLOCKS }, (_, i) => (i < (k * 23) % 71 ? i : i + 1000 * k))),
);

/** The same prompts under hashes that differ in their last word alone: the worst that a foreign engine could send. */
const NUMBERS = new Map<string, number>();
const WEAK_PROMPTS = PROMPTS.map((prompt) =>
  Int32Array.from(
    keysOf(prompt).flatMap((key) => {
      if (!NUMBERS.has(key)) NUMBERS.set(key, NUMBERS.size);
      return [0, 0, 0, NUMBERS.get(key)!];
    }),
  ),
);

function blocks(prompt: Int32Array, from: number, to: number): Int32Array {
  return prompt.slice(from * HASH_WORDS, to * HASH_WORDS);
}

/** The blocks of [from, to) by steps, last one first. */
function scattered(prompt: Int32Array, from: number, to: number, step: number): Int32Array {
  const words: number[] = [];
  for (let i = to - 1; i >= from; i -= step) words.push(...blocks(prompt, i, i + 1));
  return Int32Array.from(words);
}

function stored(hashes: Int32Array, parent: Int32Array | null = null, tier: KvTier = "device"): KvEvent {
  return { kind: "stored", tier, parent, hashes };
}

const span = fc
  .tuple(fc.nat(PROMPT_BLOCKS), fc.nat(PROMPT_BLOCKS))
  .map(([a, b]) => ({ from: Math.min(a, b), to: Math.max(a, b) }));
const tier = fc.constantFrom<KvTier>("device", "device", "host", "disk");
const prompt = fc.nat(NUM_PROMPTS - 1);
const worker = fc.constantFrom(...WORKERS);

const event = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("stored" as const), tier, prompt, span }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("removed" as const),
      tier,
      prompt,
      span,
      step: fc.integer({ min: 1, max: 3 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("cleared" as const), tier }) },
);

const command = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("batch" as const),
      worker,
      events: fc.array(event, { maxLength: 3 }),
      fate: fc.constantFrom("arrives", "arrives", "arrives", "repeated", "lost", "snapshot"),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("predict" as const),
      worker,
      prompt,
      count: fc.nat(PROMPT_BLOCKS),
      as: fc.constantFrom<"predicted" | "in-transfer">("predicted", "in-transfer"),
      tag: fc.constantFrom("x", "y", "z"),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("settle" as const), tag: fc.constantFrom("x", "y", "z") }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("die" as const), worker }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("return" as const), worker }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("later" as const), ms: fc.nat(PREDICTION_TTL_MS) }) },
);

type Command = typeof command extends fc.Arbitrary<infer T> ? T : never;

/** An index and the oracle beside it, that are told the same. */
class Pair {
  readonly index = new PrefixIndex({ maxBytes: AMPLE_BYTES });
  readonly naive = new NaiveIndex();
  readonly #numbers = new Map<string, number>();
  readonly #sent = new Map<string, number>();
  readonly #prompts: readonly Int32Array[];
  readonly #out = new Overlaps();
  #nowMs = 0;

  constructor(prompts: readonly Int32Array[]) {
    this.#prompts = prompts;
    for (const id of WORKERS) this.add(id);
  }

  add(id: string): void {
    this.naive.addWorker(id);
    this.#numbers.set(id, this.index.addWorker(id));
    this.#sent.set(id, 0);
  }

  run(command: Command): void {
    if (command.kind === "batch") this.#send(command);
    else if (command.kind === "predict") {
      const { worker, count, as, tag } = command;
      this.index.predict(worker, this.#prompts[command.prompt]!, count, as, tag, this.#nowMs);
      this.naive.predict(worker, this.#prompts[command.prompt]!, count, as, tag, this.#nowMs);
    } else if (command.kind === "settle") {
      this.index.settle(command.tag);
      this.naive.settle(command.tag);
    } else if (command.kind === "later") {
      this.#nowMs += command.ms;
      this.index.expire(this.#nowMs);
      this.naive.expire(this.#nowMs);
    } else if (command.kind === "die") {
      this.index.removeWorker(command.worker);
      this.naive.removeWorker(command.worker);
      this.#numbers.delete(command.worker);
    } else if (!this.#numbers.has(command.worker)) this.add(command.worker);
  }

  #send({ worker, events, fate }: Command & { kind: "batch" }): void {
    const sequence = this.#sent.get(worker)! + 1;
    this.#sent.set(worker, sequence);
    if (fate === "lost") return;
    const batch: KvEventBatch = {
      sequence,
      isSnapshot: fate === "snapshot",
      events: events.map((event) => this.#event(event)),
    };
    for (let i = fate === "repeated" ? 0 : 1; i < 2; i++)
      expect(this.index.apply(worker, batch)).toBe(this.naive.apply(worker, batch));
  }

  #event(choice: typeof event extends fc.Arbitrary<infer T> ? T : never): KvEvent {
    if (choice.kind === "cleared") return { kind: "cleared", tier: choice.tier };
    const hashes = this.#prompts[choice.prompt]!;
    const { from, to } = choice.span;
    if (choice.kind === "removed")
      return { kind: "removed", tier: choice.tier, hashes: scattered(hashes, from, to, choice.step) };
    return stored(blocks(hashes, from, to), from === 0 ? null : blocks(hashes, from - 1, from), choice.tier);
  }

  /** Both say the same of every worker. */
  compare(hashes: Int32Array): void {
    this.index.lookup(hashes, hashes.length / HASH_WORDS, this.#out);
    const keys = keysOf(hashes);
    const found = this.#out.workers.subarray(0, this.#out.numWorkers);
    let numFound = 0;
    for (const [id, number] of this.#numbers) {
      const expected = this.naive.overlap(id, keys);
      const { device, host, disk, confirmed } = this.#out;
      // `expect` takes longer than everything else here.
      const same =
        device[number] === expected.device &&
        host[number] === expected.host &&
        disk[number] === expected.disk &&
        confirmed[number] === expected.confirmed;
      if (!same) expect([device, host, disk, confirmed].map((all) => all[number])).toEqual(expected);
      if (expected.disk > 0) numFound++;
      if (found.includes(number) !== expected.disk > 0) expect([...found]).toEqual(id);
    }
    if (numFound !== found.length) expect([...found]).toEqual(numFound);
  }

  check(): void {
    this.index.checkInvariants();
    for (const hashes of this.#prompts) this.compare(hashes);
    const { numBlocks, numEntries } = this.index.stats();
    const held = this.naive.workers.map((id) => this.naive.held(id));
    expect(numEntries).toBe(held.reduce((sum, { size }) => sum + size, 0));
    expect(numBlocks).toBe(new Set(held.flatMap((keys) => [...keys])).size);
  }

  /** Every block by itself: a hash stands for all before it, so whoever has it is found. */
  checkBlocks(): void {
    for (const hashes of this.#prompts)
      for (let i = 0; i < PROMPT_BLOCKS; i++) this.compare(blocks(hashes, i, i + 1));
  }
}

describe("PrefixIndex", () => {
  it.each([
    ["chained hashes", PROMPTS],
    ["hashes that hardly differ", WEAK_PROMPTS],
  ])("agrees with sets under churn, lost and repeated batches, death and return: %s", (_, prompts) => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 30 }), (commands) => {
        const pair = new Pair(prompts);
        for (const command of commands) {
          pair.run(command);
          pair.check();
        }
        pair.checkBlocks();
        expect(pair.index.stats().numEvictedBlocks).toBe(0);
      }),
      { numRuns: 40 },
    );
  });

  /** Leading blocks in the device tier of the worker with the number `worker`. */
  function deviceOf(index: PrefixIndex, hashes: Int32Array, worker: number): number {
    const out = new Overlaps();
    index.lookup(hashes, hashes.length / HASH_WORDS, out);
    return out.device[worker]!;
  }

  function batch(sequence: number, ...events: KvEvent[]): KvEventBatch {
    return { sequence, isSnapshot: false, events };
  }

  it("applies nothing behind a gap until a snapshot or the missing batch comes", () => {
    const index = new PrefixIndex({ maxBytes: AMPLE_BYTES });
    const a = index.addWorker("a");
    const hashes = PROMPTS[0]!;
    expect(index.apply("a", batch(2, stored(hashes)))).toBe("gap");
    expect(deviceOf(index, hashes, a)).toBe(0);
    expect(index.apply("a", batch(1, stored(blocks(hashes, 0, 5))))).toBe("ok");
    expect(index.apply("a", batch(3, stored(hashes)))).toBe("gap");
    expect(deviceOf(index, hashes, a)).toBe(5);
    const snapshot = { sequence: 9, isSnapshot: true, events: [stored(blocks(hashes, 0, 3))] };
    expect(index.apply("a", snapshot)).toBe("ok");
    expect(deviceOf(index, hashes, a)).toBe(3);
    expect(index.apply("a", batch(10, { kind: "removed", tier: "device", hashes }))).toBe("ok");
    expect(deviceOf(index, hashes, a)).toBe(0);
    expect(index.stats()).toMatchObject({ numGaps: 2, numVainRemovals: PROMPT_BLOCKS - 3, numBlocks: 0 });
  });

  it("drops and counts batches of workers and of epochs that it does not know", () => {
    const index = new PrefixIndex({ maxBytes: AMPLE_BYTES });
    index.addWorker("w#1");
    index.removeWorker("w#1");
    const number = index.addWorker("w#2");
    expect(number).toBe(0);
    expect(index.apply("w#1", batch(1, stored(PROMPTS[0]!)))).toBe("unknown-worker");
    expect(index.apply("nobody", batch(1, stored(PROMPTS[0]!)))).toBe("unknown-worker");
    index.predict("w#1", PROMPTS[0]!, 4, "predicted", "x", 0);
    expect(deviceOf(index, PROMPTS[0]!, number)).toBe(0);
    expect(index.stats()).toMatchObject({ numUnknownWorkerBatches: 2, numBlocks: 0, numPredictions: 0 });
  });

  it("keeps tenants apart, whose salt is in the hashes", () => {
    const index = new PrefixIndex({ maxBytes: AMPLE_BYTES });
    const a = index.addWorker("a");
    const tokens = Array.from({ length: 40 }, (_, i) => i);
    index.apply("a", batch(1, stored(chain(tokens, "tenant 1"))));
    expect(deviceOf(index, chain(tokens, "tenant 1"), a)).toBe(40);
    expect(deviceOf(index, chain(tokens, "tenant 2"), a)).toBe(0);
    expect(deviceOf(index, chain(tokens), a)).toBe(0);
  });

  it("keeps what another request predicts of the same blocks, and what events confirm", () => {
    const index = new PrefixIndex({ maxBytes: AMPLE_BYTES });
    const a = index.addWorker("a");
    const hashes = PROMPTS[0]!;
    index.predict("a", hashes, 50, "predicted", "x", 0);
    const shared = 46;
    index.predict("a", PROMPTS[2]!, 80, "predicted", "y", 0);
    index.apply("a", batch(1, stored(blocks(hashes, 0, 10))));
    index.settle("x");
    expect(deviceOf(index, hashes, a)).toBe(shared);
    index.settle("y");
    expect(deviceOf(index, hashes, a)).toBe(10);
    expect(index.stats()).toMatchObject({ numBlocks: 10, numPredictions: 0 });
  });

  it("does not let a worker that reports a false chain spoil what it says of others", () => {
    const index = new PrefixIndex({ maxBytes: AMPLE_BYTES });
    const liar = index.addWorker("liar");
    const honest = index.addWorker("honest");
    const [hashes, others] = [PROMPTS[0]!, PROMPTS[1]!];
    const chained = hashes.slice();
    chained.set(blocks(others, 80, 81), 3 * HASH_WORDS);
    index.apply("liar", batch(1, stored(chained)));
    index.apply("honest", batch(1, stored(hashes)));
    expect(deviceOf(index, hashes, honest)).toBe(PROMPT_BLOCKS);
    expect(deviceOf(index, hashes, liar)).toBe(3);
    index.checkInvariants();
  });

  it("answers for as many workers as it takes", () => {
    const index = new PrefixIndex({ maxBytes: AMPLE_BYTES });
    for (let i = 0; i < MAX_INDEX_WORKERS; i++) {
      index.addWorker(`w${i}`);
      index.apply(`w${i}`, batch(1, stored(blocks(PROMPTS[0]!, 0, 1 + (i % PROMPT_BLOCKS)))));
    }
    expect(() => index.addWorker("one more")).toThrow(`more than ${MAX_INDEX_WORKERS} workers`);
    const out = new Overlaps();
    index.lookup(PROMPTS[0]!, PROMPT_BLOCKS, out);
    expect(out.numWorkers).toBe(MAX_INDEX_WORKERS);
    expect([...out.device]).toEqual(Array.from(out.device, (_, i) => 1 + (i % PROMPT_BLOCKS)));
    for (let i = 0; i < MAX_INDEX_WORKERS; i += 3) index.removeWorker(`w${i}`);
    index.checkInvariants();
    index.lookup(PROMPTS[0]!, PROMPT_BLOCKS, out);
    expect(out.numWorkers).toBe(MAX_INDEX_WORKERS - Math.ceil(MAX_INDEX_WORKERS / 3));
  });
});

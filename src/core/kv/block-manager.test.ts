import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { KvCells } from "../../../test/support/kv-cells.ts";
import { makeSequence, tokenRange } from "../../../test/support/make.ts";
import type { Sequence } from "../sequence.ts";
import { BlockManager } from "./block-manager.ts";
import type { BlockManagerOptions } from "./block-manager-options.ts";

const OPTIONS: BlockManagerOptions = { numBlocks: 16, blockSizeTokens: 4, numSlots: 8, modelId: "m" };

/** A block manager with a naive engine behind it that checks every hand-over of KV. */
class Bench {
  readonly manager: BlockManager;
  readonly cells = new KvCells();
  readonly live = new Set<Sequence>();

  constructor(options: Partial<BlockManagerOptions> = {}) {
    this.manager = new BlockManager({ ...OPTIONS, ...options });
  }

  admit(sequence: Sequence, numTokens = sequence.numKnownTokens): boolean {
    const admitted = this.manager.admit(sequence, numTokens, sequence.numKnownTokens - 1);
    this.sync();
    if (admitted) this.live.add(sequence);
    return admitted;
  }

  compute(sequence: Sequence, numTokens = sequence.numUncomputedTokens): void {
    if (!this.manager.grow(sequence, sequence.numComputedTokens + numTokens)) throw new Error("no room");
    this.sync();
    for (let i = 0; i < numTokens; i++) {
      const position = sequence.numComputedTokens++;
      this.cells.write(sequence.slot, position, contentAt(sequence, position));
    }
    this.manager.fileComputed(sequence);
    this.sync();
  }

  free(sequence: Sequence): void {
    this.manager.free(sequence);
    this.live.delete(sequence);
    this.sync();
  }

  sync(): void {
    for (const effect of this.manager.takeEffects())
      if (effect.kind === "kv-ops") this.cells.apply(effect.ops);
  }

  check(): void {
    this.manager.checkInvariants(this.live);
    for (const sequence of this.live) {
      expect(this.cells.positions(sequence.slot)).toEqual(tokenRange(0, sequence.numComputedTokens));
      expect(this.cells.isInOrder(sequence.slot), "KV from two histories in one sequence").toBe(true);
      for (let position = 0; position < sequence.numComputedTokens; position++) {
        expect(this.cells.content(sequence.slot, position)).toBe(contentAt(sequence, position));
      }
    }
    const { blockSizeTokens, numUsedBlocks, numCachedBlocks } = this.manager;
    expect(this.cells.numCells).toBeLessThanOrEqual((numUsedBlocks + numCachedBlocks) * blockSizeTokens);
  }
}

/** KV at a position depends on every token up to it, and on the tenant. */
function contentAt(sequence: Sequence, position: number): string {
  return `${sequence.request.cacheSalt}|${sequence
    .knownTokens()
    .subarray(0, position + 1)
    .join()}`;
}

describe("BlockManager", () => {
  it("shares the blocks of a prefix that has been computed, and leaves at least one token to compute", () => {
    const bench = new Bench();
    const first = makeSequence({ prompt: tokenRange(0, 12) });
    bench.admit(first);
    bench.compute(first);
    const same = makeSequence({ prompt: tokenRange(0, 12) });
    bench.admit(same);
    expect(same.numComputedTokens).toBe(8);
    expect(same.blocks.slice(0, 2)).toEqual(first.blocks.slice(0, 2));
    const longer = makeSequence({ prompt: tokenRange(0, 13) });
    bench.admit(longer);
    expect(longer.numComputedTokens).toBe(12);
    bench.check();
  });

  it("finds a prefix after its sequence has gone, until its blocks are needed, least recently used first", () => {
    const bench = new Bench({ numBlocks: 6 });
    for (const start of [0, 100]) {
      const sequence = makeSequence({ prompt: tokenRange(start, 9) });
      bench.admit(sequence);
      bench.compute(sequence);
      bench.free(sequence);
    }
    expect(bench.manager.numCachedBlocks).toBe(4);
    const filler = makeSequence({ prompt: tokenRange(900, 16) });
    bench.admit(filler);
    bench.check();
    // Two free blocks and the two oldest cached ones went to the filler.
    const old = makeSequence({ prompt: tokenRange(0, 9) });
    const recent = makeSequence({ prompt: tokenRange(100, 5) });
    bench.free(filler);
    bench.admit(old);
    bench.admit(recent);
    expect(old.numComputedTokens).toBe(0);
    expect(recent.numComputedTokens).toBe(4);
    bench.check();
  });

  it("does not share between tenants", () => {
    const bench = new Bench();
    const a = makeSequence({ prompt: tokenRange(0, 12), cacheSalt: "a" });
    bench.admit(a);
    bench.compute(a);
    const b = makeSequence({ prompt: tokenRange(0, 12), cacheSalt: "b" });
    bench.admit(b);
    expect(b.numComputedTokens).toBe(0);
    bench.check();
  });

  it("changes nothing when there is no room", () => {
    const bench = new Bench({ numBlocks: 4 });
    const big = makeSequence({ prompt: tokenRange(0, 12) });
    bench.admit(big);
    bench.compute(big);
    const other = makeSequence({ prompt: tokenRange(50, 12) });
    expect(bench.admit(other)).toBe(false);
    expect(other.slot).toBe(-1);
    expect(bench.manager.grow(big, 17)).toBe(false);
    bench.check();
    bench.free(big);
    expect(bench.admit(other)).toBe(true);
    bench.check();
  });

  it("keeps a growing conversation in one retained slot", () => {
    const bench = new Bench({ numBlocks: 40, numSlots: 2 });
    let prompt = tokenRange(0, 9);
    for (let turn = 0; turn < 6; turn++) {
      const sequence = makeSequence({ prompt });
      expect(bench.admit(sequence)).toBe(true);
      expect(sequence.numComputedTokens).toBe(turn === 0 ? 0 : Math.floor((prompt.length - 7) / 4) * 4);
      bench.compute(sequence);
      bench.free(sequence);
      prompt = [...prompt, ...tokenRange(1000 * (turn + 1), 7)];
      bench.check();
    }
  });

  it("gives up the longest retained slot when every slot is taken", () => {
    const bench = new Bench({ numBlocks: 40, numSlots: 3 });
    for (const start of [0, 100, 200, 300]) {
      const sequence = makeSequence({ prompt: tokenRange(start, 8) });
      expect(bench.admit(sequence)).toBe(true);
      bench.compute(sequence);
      bench.free(sequence);
      bench.check();
    }
    const lost = makeSequence({ prompt: tokenRange(0, 9) });
    bench.admit(lost);
    expect(lost.numComputedTokens).toBe(0);
    const kept = makeSequence({ prompt: tokenRange(300, 9) });
    bench.admit(kept);
    expect(kept.numComputedTokens).toBe(8);
    bench.check();
  });

  it("keeps nothing when no block may be cached", () => {
    const bench = new Bench({ maxCachedBlocks: 0 });
    const first = makeSequence({ prompt: tokenRange(0, 12) });
    bench.admit(first);
    bench.compute(first);
    bench.free(first);
    expect(bench.manager.numCachedBlocks).toBe(0);
    expect(bench.cells.numCells).toBe(0);
  });

  it("keeps no more unused blocks than allowed, beginnings of prefixes before their ends", () => {
    const bench = new Bench({ maxCachedBlocks: 2 });
    const first = makeSequence({ prompt: tokenRange(0, 17) });
    bench.admit(first);
    bench.compute(first);
    bench.free(first);
    expect(bench.manager.numCachedBlocks).toBe(2);
    expect(bench.cells.numCells).toBe(8);
    const again = makeSequence({ prompt: tokenRange(0, 17) });
    bench.admit(again);
    expect(again.numComputedTokens).toBe(8);
    bench.check();
  });

  it("never pieces a prefix together from blocks that two sequences computed", () => {
    const bench = new Bench({ maxCachedBlocks: 2 });
    const prompt = tokenRange(0, 17);
    // Computed first, but filed last, as KV that is received is filed only when all of it has been verified.
    const early = makeSequence({ prompt });
    bench.admit(early);
    for (let position = 0; position < 16; position++) {
      bench.cells.write(early.slot, position, contentAt(early, position));
    }
    const late = makeSequence({ prompt });
    bench.admit(late);
    bench.compute(late);
    bench.free(late);
    // Two blocks of `late` are still cached, and the rest of the chain is free to be filed.
    early.numComputedTokens = 16;
    bench.manager.fileComputed(early);
    bench.sync();
    const sharer = makeSequence({ prompt });
    bench.admit(sharer);
    expect(sharer.numComputedTokens).toBe(8);
    bench.check();
  });

  it("agrees with a naive engine under any sequence of operations", () => {
    const command = fc.oneof(
      {
        weight: 3,
        arbitrary: fc.record({
          kind: fc.constant("admit" as const),
          family: fc.nat(2),
          shared: fc.nat(24),
          own: fc.integer({ min: 1, max: 12 }),
          salt: fc.nat(1),
        }),
      },
      {
        weight: 5,
        arbitrary: fc.record({
          kind: fc.constant("compute" as const),
          which: fc.nat(),
          numTokens: fc.integer({ min: 1, max: 9 }),
        }),
      },
      {
        weight: 2,
        arbitrary: fc.record({ kind: fc.constant("append" as const), which: fc.nat(), token: fc.nat(2) }),
      },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant("free" as const), which: fc.nat() }) },
    );
    fc.assert(
      fc.property(
        fc.record({
          numBlocks: fc.integer({ min: 8, max: 30 }),
          numSlots: fc.integer({ min: 1, max: 6 }),
          blockSizeTokens: fc.constantFrom(1, 2, 4),
          maxCachedBlocks: fc.constantFrom(0, 3, 1000),
        }),
        fc.array(command, { maxLength: 80 }),
        (options, commands) => {
          const bench = new Bench(options);
          for (const c of commands) {
            const live = [...bench.live];
            const chosen = "which" in c && live.length > 0 ? live[c.which % live.length]! : null;
            if (c.kind === "admit") {
              const prompt = [...tokenRange(c.family * 1000, c.shared), ...tokenRange(c.own * 77, c.own)];
              bench.admit(makeSequence({ prompt, cacheSalt: String(c.salt) }));
            } else if (chosen !== null && c.kind === "compute") {
              const numTokens = Math.min(c.numTokens, chosen.numUncomputedTokens);
              if (bench.manager.grow(chosen, chosen.numComputedTokens + numTokens))
                bench.compute(chosen, numTokens);
            } else if (chosen !== null && c.kind === "append") {
              if (chosen.numKnownTokens < chosen.maxKnownTokens) chosen.append(c.token);
            } else if (chosen !== null) {
              bench.free(chosen);
            }
            bench.check();
          }
          for (const sequence of [...bench.live]) bench.free(sequence);
          bench.check();
          expect(bench.manager.numUsedBlocks).toBe(0);
        },
      ),
      { numRuns: 300 },
    );
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { makeRequest, tokenRange } from "../../../../test/support/make.ts";
import { Sequence } from "../../sequence.ts";
import { HASH_WORDS } from "../../tokens/block-hash.ts";
import { BlockManager } from "../block-manager.ts";
import { FetchAnswers, MAX_ANSWERS } from "./fetch-answers.ts";
import { KvTiers } from "./kv-tiers.ts";
import { ReadTurns } from "./read-turns.ts";
import { hashKey, type LowerTier, segmentOf } from "./segment.ts";
import type { ServedPart } from "./tier-effects.ts";

const BLOCK = 4;
const NUM_BLOCKS = 12;

type Serve = { readonly answer: number; readonly parts: readonly ServedPart[] };

/** A worker's device and tiers, each with some of one prompt, and the prompt's hashes. */
function open(
  held: { device: number; tiers: ReadonlyArray<readonly [LowerTier, readonly number[]]> },
  maxExportedBytes = 1e6,
  cacheSalt = "a",
) {
  const tiers = new KvTiers({
    tiers: (["host", "disk"] as const).map((tier) => ({ tier, maxBytes: 1e6 })),
    eviction: "lru",
    blockSizeTokens: BLOCK,
    bytesPerToken: 1,
  });
  const blocks = new BlockManager({ numBlocks: 64, blockSizeTokens: BLOCK, numSlots: 8, modelId: "m" });
  const prompt = tokenRange(1, NUM_BLOCKS * BLOCK);
  const chainOf = (salt: string): Int32Array => {
    const sequence = new Sequence(makeRequest({ id: "hashes", prompt, cacheSalt: salt }), { order: 0 });
    blocks.admit(sequence, prompt.length, prompt.length);
    blocks.free(sequence);
    return sequence.blockHashes!;
  };
  const chain = chainOf(cacheSalt);
  let id = 1;
  for (const [tier, lengths] of held.tiers) {
    let at = 0;
    const found = lengths.map((length) => {
      const segment = segmentOf(id++, chain, at, at + length);
      at += length;
      return { segment, bytes: length * BLOCK };
    });
    tiers.restore(tier, found, 0);
  }
  const sequence = new Sequence(makeRequest({ id: "holder", prompt, cacheSalt }), { order: 0 });
  blocks.admit(sequence, held.device * BLOCK, held.device * BLOCK);
  sequence.numComputedTokens = held.device * BLOCK;
  blocks.fileComputed(sequence);
  blocks.takeEffects();
  const readTurns = new ReadTurns();
  const answers = new FetchAnswers(tiers, blocks, readTurns, maxExportedBytes);
  const ask = (firstBlock: number, numBlocks: number, hashes = chain): Serve => {
    const part = hashes.slice(firstBlock * HASH_WORDS, (firstBlock + numBlocks) * HASH_WORDS);
    const message = { kind: "fetch", requestId: "r", epoch: 0, firstBlock, hashes: part } as const;
    const effect = answers.answer("peer", message);
    answers.checkInvariants();
    readTurns.checkInvariants(answers.reads);
    tiers.checkInvariants();
    if (effect.kind !== "serve-kv") throw new Error(`a fetch was answered by ${effect.kind}`);
    return effect;
  };
  return { tiers, blocks, chain, chainOf, answers, ask, slot: sequence.slot };
}

const lengths = fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 4 });
const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

describe("FetchAnswers", () => {
  it("joins device, host and disk to one prefix without a gap, each block from the nearest that has it", () => {
    fc.assert(
      fc.property(
        fc.record({ device: fc.integer({ min: 0, max: NUM_BLOCKS }), host: lengths, disk: lengths }),
        fc.nat(NUM_BLOCKS - 1),
        fc.integer({ min: 1, max: NUM_BLOCKS }),
        ({ device, host, disk }, firstBlock, wanted) => {
          const inTiers = [
            ["host", host],
            ["disk", disk],
          ] as const;
          const { chain, ask, slot } = open({ device, tiers: inTiers });
          const numBlocks = Math.min(wanted, NUM_BLOCKS - firstBlock);
          const { parts } = ask(firstBlock, numBlocks);
          let at = firstBlock;
          for (const part of parts) {
            expect(part.start).toBe(at * BLOCK);
            for (; at * BLOCK < part.end; at++) {
              // The nearest, said the obvious way: the chains are held from their beginnings.
              const nearest =
                at < device ? "device" : at < sum(host) ? "host" : at < sum(disk) ? "disk" : "none";
              expect(part.kind === "device" ? "device" : part.piece.tier).toBe(nearest);
              if (part.kind === "device") expect(part.slot).toBe(slot);
              else {
                const { segment } = part.piece;
                const inSegment = at - segment.firstBlock;
                expect(hashKey(segment.hashes, inSegment * HASH_WORDS)).toBe(hashKey(chain, at * HASH_WORDS));
              }
            }
            expect(part.end).toBe(at * BLOCK);
          }
          const heldEnd = Math.max(device, sum(host), sum(disk), firstBlock);
          expect(at).toBe(Math.min(heldEnd, firstBlock + numBlocks));
        },
      ),
    );
  });

  it("gives another tenant's worker nothing, and nobody anything for a block of the wrong place", () => {
    const { ask, chainOf, chain } = open({ device: 3, tiers: [["host", [4, 4]]] });
    expect(ask(0, 8, chainOf("b")).parts).toEqual([]);
    const shifted = new Int32Array(chain.length + HASH_WORDS);
    shifted.set(chain, HASH_WORDS);
    expect(ask(2, 4, shifted).parts).toEqual([]);
    expect(ask(3, 5).parts).toHaveLength(2);
  });

  it("keeps what an answer needs in its tier until the answer is over, and gives up what was damaged", () => {
    const { tiers, ask, answers } = open({ device: 0, tiers: [["disk", [4, 4]]] });
    const { answer, parts } = ask(0, 8);
    const pieces = parts.map((part) => (part.kind === "tier" ? part.piece : null)!);
    expect(pieces).toHaveLength(2);
    answers.answered({ kind: "answered", answer, bad: pieces[1]! });
    answers.checkInvariants();
    tiers.checkInvariants();
    expect(tiers.takeDeletions().map(({ segment }) => segment)).toEqual([pieces[1]!.segment]);
    expect(tiers.stats[1]![1]).toMatchObject({ bad: 1, blocks: 4 });
    expect(ask(0, 8).parts).toHaveLength(1);
  });

  it("answers no more than so many at a time, and exports no more than so much, from the beginning", () => {
    const { ask, answers } = open({ device: 10, tiers: [["host", [12]]] }, 12 * BLOCK);
    const first = ask(0, 12);
    expect(first.parts.map(({ kind, end }) => [kind, end / BLOCK])).toEqual([
      ["device", 10],
      ["tier", 12],
    ]);
    // Room for two more blocks.
    expect(ask(0, 12).parts.map(({ kind, end }) => [kind, end / BLOCK])).toEqual([["device", 2]]);
    for (let i = 2; i < MAX_ANSWERS; i++) expect(ask(10, 2).parts).toHaveLength(1);
    expect(ask(10, 2).parts).toEqual([]);
    answers.answered({ kind: "answered", answer: first.answer, bad: null });
    expect(ask(0, 12).parts.map(({ end }) => end / BLOCK)).toEqual([10, 12]);
  });
});

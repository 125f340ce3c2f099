import type { BlockManager } from "../kv/block-manager.ts";
import { assert } from "../util/assert.ts";
import { isDecoding } from "./policy.ts";
import type { SampledToken, ScheduledChunk } from "./step-plan.ts";

/**
 * How many times a step may run in a row before the scheduler would plan another one: 1 unless every chunk decodes. The row
 * ends before a sequence exceeds its longest output, and before KV could run out.
 */
export function longestRow(
  chunks: readonly ScheduledChunk[],
  blocks: BlockManager,
  bounds: { readonly maxSteps: number; readonly hasWaiting: boolean },
): number {
  const size = blocks.blockSizeTokens;
  let row = bounds.maxSteps;
  for (const { sequence, start, numTokens } of chunks) {
    if (numTokens !== 1 || !isDecoding(sequence)) return 1;
    row = Math.min(row, sequence.maxKnownTokens - sequence.numKnownTokens);
    // Somebody waits for KV. A block that is filed meanwhile could let it in, by making its cached prefix longer.
    if (bounds.hasWaiting) row = Math.min(row, size - (start % size));
  }
  // Halving finds a row for which there is KV without solving for the longest one.
  while (row > 1 && blocksMissing(chunks, blocks, row) > blocks.numReusableBlocks) row >>= 1;
  return row;
}

/** Blocks that the chunks' sequences lack for a number of steps. */
function blocksMissing(chunks: readonly ScheduledChunk[], blocks: BlockManager, numSteps: number): number {
  let missing = 0;
  for (const { sequence, start } of chunks) {
    // What one sequence has in reserve is of no use to another.
    missing += Math.max(0, blocks.blocksFor(start + numSteps) - sequence.blocks.length);
  }
  return missing;
}

/**
 * Ends `tokens.length` steps of a row, in each of which every chunk drew the next of `tokens`, and begins one more. Blocks are filed and
 * taken in the order that single steps take.
 */
export function repeatSteps(
  chunks: readonly ScheduledChunk[],
  blocks: BlockManager,
  tokens: readonly SampledToken[],
): void {
  const size = blocks.blockSizeTokens;
  for (let done = 0; done < tokens.length; ) {
    // Until a block is full, steps touch nothing but the sequences.
    let until = tokens.length;
    for (let i = 0; i < chunks.length; i++) {
      const left = size - (chunks[i]!.sequence.numComputedTokens % size);
      if (done + left < until) until = done + left;
    }
    for (let i = 0; i < chunks.length; i++) {
      const { sequence } = chunks[i]!;
      sequence.appendAll(tokens, done, until);
      sequence.numComputedTokens += until - done;
      if (sequence.numComputedTokens % size === 0) blocks.fileComputed(sequence);
    }
    for (let i = 0; i < chunks.length; i++) {
      const { sequence } = chunks[i]!;
      if (sequence.numComputedTokens % size !== 0) continue;
      const grown = blocks.grow(sequence, sequence.numComputedTokens + 1);
      assert(grown, "blocks that were there are gone");
    }
    done = until;
  }
}

import { HASH_WORDS } from "../../core/tokens/block-hash.ts";
import type { PromptBlocks } from "./workload.ts";

/** Ids from here on need a second word. */
const WORD_RANGE = 0x1_0000_0000;

/** Multipliers of the lanes: odd, without pattern. */
const PRIME_A = 0x239b961b;
const PRIME_B = 0x85ebca77;
const PRIME_C = 0xc2b2ae3d;
const PRIME_D = 0x165667b1;

/** Words of the chain between two ids: {@link HASH_WORDS}. An array, because numbers in module variables would be boxed. */
const chain = new Int32Array(HASH_WORDS);

/**
 * Block hashes of a prompt in the twin: what `BlockHasher` is to real tokens. Writes {@link HASH_WORDS} words for each full block
 * of `blockTokens` tokens that the ids cover, from the start of the prompt, and returns how many blocks that are.
 *
 * The hash of a block stands for the scope and all ids up to the one that holds the block's last token, and for where in that id's
 * tokens the block ends. So two prompts have equal hashes just as far as their ids are equal, whatever the sizes of the trace's
 * and the twin's blocks: larger trace blocks are expanded, smaller ones merged. Blocks that the ids do not cover get none: see {@link uniqueBlockHashes}.
 *
 * Not cryptographic: a trace has no attacker. Four lanes of multiply, rotate and multiply as in xxHash32 (Collet, 2012), and the
 * finaliser of MurmurHash3 (Appleby, 2011) on every word.
 */
export function promptBlockHashes(
  blocks: PromptBlocks,
  inputTokens: number,
  blockTokens: number,
  out: Int32Array,
): number {
  const { ids, blockTokens: traceTokens, scope } = blocks;
  const numBlocks = Math.floor(Math.min(inputTokens, ids.length * traceTokens) / blockTokens);
  start(scope, traceTokens, blockTokens);
  // The lanes are local, and the loop repeats what `absorb` does, because this runs for every block of every request.
  let a = chain[0]!;
  let b = chain[1]!;
  let c = chain[2]!;
  let d = chain[3]!;
  let coveredTokens = 0;
  let index = 0;
  for (let block = 0; block < numBlocks; block++) {
    const endTokens = (block + 1) * blockTokens;
    for (; coveredTokens < endTokens; coveredTokens += traceTokens) {
      const id = ids[index++]!;
      const low = id | 0;
      if (id < 0 || id >= WORD_RANGE) d ^= highWord(id);
      a = lane(a, low, PRIME_A);
      b = lane(b, low, PRIME_B);
      c = lane(c, low, PRIME_C);
      d = lane(d, low, PRIME_D);
    }
    emit(a, b, c, d, endTokens - coveredTokens + traceTokens, out, block * HASH_WORDS);
  }
  return numBlocks;
}

/**
 * Hashes for blocks [firstBlock, endBlock) that no other prompt shares: prompts without ids, and what ids do not cover.
 * `requestNumber` is different for every request of a run.
 */
export function uniqueBlockHashes(
  requestNumber: number,
  firstBlock: number,
  endBlock: number,
  out: Int32Array,
): void {
  start("unique", 0, 0);
  absorb(requestNumber);
  const [a = 0, b = 0, c = 0, d = 0] = chain;
  for (let block = firstBlock; block < endBlock; block++) emit(a, b, c, d, block, out, block * HASH_WORDS);
}

function start(scope: string, traceTokens: number, blockTokens: number): void {
  chain[0] = 0x243f6a88 ^ traceTokens;
  chain[1] = 0x85a308d3 ^ blockTokens;
  chain[2] = 0x13198a2e ^ scope.length;
  chain[3] = 0x03707344;
  for (let index = 0; index < scope.length; index++) absorb(scope.charCodeAt(index));
}

/** Folds an id into the chain; no two ids below 2^53 leave the same chain. */
function absorb(id: number): void {
  const low = id | 0;
  if (id < 0 || id >= WORD_RANGE) chain[3] = chain[3]! ^ highWord(id);
  chain[0] = lane(chain[0]!, low, PRIME_A);
  chain[1] = lane(chain[1]!, low, PRIME_B);
  chain[2] = lane(chain[2]!, low, PRIME_C);
  chain[3] = lane(chain[3]!, low, PRIME_D);
}

/** What an id has beyond 32 bits, spread over a word. */
function highWord(id: number): number {
  return Math.imul(Math.floor(id / WORD_RANGE) | 0, 0x27d4eb2f);
}

/** One lane after a word: invertible in the word and in the lane. */
function lane(state: number, word: number, prime: number): number {
  const sum = (state + Math.imul(word, prime)) | 0;
  return Math.imul((sum << 13) | (sum >>> 19), 0x9e3779b1);
}

/** Words for the lanes and a place inside the last id's tokens. */
function emit(a: number, b: number, c: number, d: number, offset: number, out: Int32Array, at: number): void {
  const first = mix((a + Math.imul(offset, 0x85ebca77) + ((d << 7) | (d >>> 25))) | 0);
  const second = mix((b ^ first) | 0);
  const third = mix((c + second) | 0);
  out[at] = first;
  out[at + 1] = second;
  out[at + 2] = third;
  out[at + 3] = mix((d ^ third) | 0);
}

/** MurmurHash3's finaliser of 32 bits: every bit of the input reaches every bit of the output. */
function mix(word: number): number {
  let z = word;
  z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
  z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
  return z ^ (z >>> 16);
}

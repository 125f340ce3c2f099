import { HASH_WORDS } from "../core/tokens/block-hash.ts";
import { RandomStream, type Rng } from "../core/util/rng.ts";
import { promptBlockHashes } from "../twin/workload/block-identity.ts";
import type { PromptBlocks, WorkloadRequest } from "../twin/workload/workload.ts";
import { FIRST_WORD, type PromptCalibration } from "./prompts.ts";

/**
 * Makes the prompts of a workload: as many tokens as the request says, and the same words just where the block ids say that
 * prefixes are the same. The words of a block are drawn from its hash, which stands for all ids before it too; what has no id is
 * drawn from the request's own.
 *
 * How exactly blocks keep their borders depends on the calibration: with `tokenize` to the token, except for what a chat template
 * puts behind the prompt, which counts as if it stood before.
 */
export class WorkloadPromptMaker {
  readonly #calibration: PromptCalibration;
  readonly #rng: Rng;
  #hashes = new Int32Array(0);

  constructor(calibration: PromptCalibration, rng: Rng) {
    this.#calibration = calibration;
    this.#rng = rng;
  }

  /** The prompt of a request; at least the overhead of the calibration. */
  make(request: WorkloadRequest): string {
    const { words, tokensPerWord, overheadTokens } = this.#calibration;
    const numWords = Math.max(0, Math.round((request.inputTokens - overheadTokens) / tokensPerWord));
    const parts = [FIRST_WORD];
    const { blocks } = request;
    const numBlocks = blocks === null ? 0 : this.#hash(blocks);
    for (let block = 0; block < numBlocks && blocks !== null; block++) {
      // The first word whose tokens lie behind this block.
      const endTokens = (block + 1) * blocks.blockTokens;
      const endWord = Math.min(numWords, Math.ceil((endTokens - overheadTokens) / tokensPerWord));
      this.#draw(parts, endWord, this.#streamOf(block), words);
    }
    if (parts.length <= numWords) this.#draw(parts, numWords, this.#rng.stream(`tail/${request.id}`), words);
    return parts.join(" ");
  }

  /** Hashes of all blocks with an id, a partial last one among them, at the size of the trace. */
  #hash(blocks: PromptBlocks): number {
    const numWords = blocks.ids.length * HASH_WORDS;
    if (this.#hashes.length < numWords) this.#hashes = new Int32Array(numWords);
    const { blockTokens } = blocks;
    return promptBlockHashes(blocks, blocks.ids.length * blockTokens, blockTokens, this.#hashes);
  }

  #streamOf(block: number): RandomStream {
    const at = block * HASH_WORDS;
    const [a = 0, b = 0, c = 0, d = 0] = this.#hashes.subarray(at, at + HASH_WORDS);
    // A state of zeros would never leave zero; its odds are 2^-128.
    return new RandomStream([a, b, c, d | 1]);
  }

  #draw(parts: string[], endWord: number, stream: RandomStream, words: readonly string[]): void {
    while (parts.length <= endWord) parts.push(words[stream.nextBelow(words.length)]!);
  }
}

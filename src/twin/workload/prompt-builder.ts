import type { PromptBlocks } from "./workload.ts";

/** Gives block ids that no other block of a run has. */
export class BlockNames {
  #next = 0;

  take(): number {
    return this.#next++;
  }
}

/**
 * A generated prompt that grows at its end. A block's id is fresh for what completes it, so that two prompts share exactly the
 * full blocks of the part that one was copied from. The last block has no id until it is full.
 */
export class PromptBuilder {
  readonly #blockTokens: number;
  readonly #names: BlockNames;
  readonly #ids: number[];
  #tokens: number;

  constructor(blockTokens: number, names: BlockNames, from: PromptBuilder | null = null) {
    this.#blockTokens = blockTokens;
    this.#names = names;
    this.#ids = from === null ? [] : [...from.#ids];
    this.#tokens = from === null ? 0 : from.#tokens;
  }

  get tokens(): number {
    return this.#tokens;
  }

  /** Appends text that occurs nowhere else. */
  append(tokens: number): this {
    this.#tokens += tokens;
    while ((this.#ids.length + 1) * this.#blockTokens <= this.#tokens) this.#ids.push(this.#names.take());
    return this;
  }

  /** The blocks as they are now; later growth does not change them. */
  blocks(scope: string): PromptBlocks | null {
    if (this.#ids.length === 0) return null;
    return { blockTokens: this.#blockTokens, scope, ids: [...this.#ids] };
  }
}

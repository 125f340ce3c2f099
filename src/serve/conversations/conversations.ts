import { HASH_WORDS } from "../../core/tokens/block-hash.ts";
import { cutEnds } from "../engine/cut-tokens.ts";
import type { Tokenizer } from "../engine/tokenizer.ts";
import type { BlockChain, ChainHasher } from "./chain-hasher.ts";
import { PromptTree, type Turn } from "./prompt-tree.ts";
import { makeRoom } from "./recency-tree.ts";
import type { RenderedPrompt } from "./rendered-prompt.ts";

/** One tokenised prompt. */
export interface Prompt {
  readonly tokens: Int32Array;
  /** Of its full blocks; null as long as no worker has said what goes into their hashes. */
  readonly blocks: BlockChain | null;
  /** Which turn of which conversation it is, where prompts are kept. */
  readonly turn?: Turn;
}

/** A rendered prompt's control tokens are in its text, that of its beginning among them. */
const RENDERED = { parseSpecial: true, addSpecial: false };

export interface ConversationsOptions {
  readonly tokenizer: Tokenizer;
  /** Hashes prompts; null until the fleet has said how. */
  readonly chains: () => ChainHasher | null;
  /** Memory for what is kept of prompts, over all tenants; 0 keeps nothing. */
  readonly maxBytes: number;
}

/**
 * Turns rendered conversations into tokens and block hashes, and keeps both, so that of the next turn only what is new is tokenised
 * and hashed. The result is what tokenising the whole text gives: a prompt is known up to a token behind which texts can be cut.
 *
 * Nobody names conversations here: a prompt's own beginning finds what is known of it, among the prompts of the same tenant. When
 * memory runs out, the tenant that has most of it gives back what it has not used for longest.
 */
export class Conversations {
  readonly #options: ConversationsOptions;
  readonly #cuts: readonly string[];
  readonly #cutIds: ReadonlySet<number>;
  /** By cache salt. As many as there are tenants. */
  readonly #trees = new Map<string, PromptTree>();

  constructor(options: ConversationsOptions) {
    this.#options = options;
    this.#cuts = [...options.tokenizer.cutTokens.keys()];
    this.#cutIds = new Set(options.tokenizer.cutTokens.values());
  }

  /** What is kept, in bytes, about. */
  get bytes(): number {
    let bytes = 0;
    for (const tree of this.#trees.values()) bytes += tree.tree.bytes;
    return bytes;
  }

  /**
   * Tokenises a prompt, and keeps it.
   *
   * @param accept is told how many tokens there are; when it throws, nothing is kept
   */
  async tokenise(
    cacheSalt: string,
    prompt: RenderedPrompt,
    accept: (numTokens: number) => void = () => {},
  ): Promise<Prompt> {
    const { tokenizer, chains: chainsOf, maxBytes } = this.#options;
    const chains = chainsOf();
    if (chains === null || maxBytes === 0 || this.#cuts.length === 0) {
      const tokens = await tokenizer.encode(prompt.text(), RENDERED);
      accept(tokens.length);
      prompt.keep(null);
      return { tokens, blocks: (await chains?.chain(cacheSalt, tokens)) ?? null };
    }
    const tree = this.#treeOf(cacheSalt, chains.blockSizeTokens);
    const prefix = tree.find(prompt, (text, from) => cutEnds(text, this.#cuts, from));
    const added = await tokenizer.encode(prefix.rest, RENDERED);
    accept(prefix.numTokens + added.length);
    const tokens = new Int32Array(prefix.numTokens + added.length);
    tokens.set(added, prefix.numTokens);
    const hashes = new Int32Array(chains.blocksOf(tokens.length) * HASH_WORDS);
    tree.copy(prefix, tokens, hashes);
    const numBlocks = chains.blocksOf(prefix.numTokens);
    const blocks = await chains.chain(cacheSalt, tokens, { numBlocks, hashes });
    const segments = this.#segments(prefix.rest, tokens, prefix.numTokens);
    const { turn, node } = tree.add({ tokens, hashes }, prefix, segments);
    prompt.keep({ tree, node });
    makeRoom(
      [...this.#trees.values()].map((each) => each.tree),
      maxBytes,
    );
    return { tokens, blocks, turn };
  }

  /** Where the segments of a text end. None when text and tokens do not agree: then it is not kept. */
  #segments(
    text: string,
    tokens: Int32Array,
    fromTokens: number,
  ): Array<{ endChars: number; endTokens: number }> {
    const charEnds = cutEnds(text, this.#cuts);
    const tokenEnds: number[] = [];
    for (let i = fromTokens; i < tokens.length; i++) if (this.#cutIds.has(tokens[i]!)) tokenEnds.push(i + 1);
    if (charEnds.length !== tokenEnds.length) return [];
    return charEnds.map((endChars, i) => ({ endChars, endTokens: tokenEnds[i]! }));
  }

  #treeOf(cacheSalt: string, blockSizeTokens: number): PromptTree {
    let tree = this.#trees.get(cacheSalt);
    if (tree === undefined) {
      tree = new PromptTree(blockSizeTokens);
      this.#trees.set(cacheSalt, tree);
    }
    return tree;
  }

  checkInvariants(): void {
    for (const tree of this.#trees.values()) tree.checkInvariants();
  }
}

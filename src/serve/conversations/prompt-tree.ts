import { randomUUID } from "node:crypto";
import { HASH_WORDS } from "../../core/tokens/block-hash.ts";
import { assert } from "../../core/util/assert.ts";
import { ownText } from "./own-text.ts";
import { RecencyTree, type TreeNode } from "./recency-tree.ts";
import type { RenderedPrompt } from "./rendered-prompt.ts";

/** What a segment costs besides its arrays and its text: the objects themselves. Measured: 1,290 bytes of heap in Node 20. */
const NODE_BYTES = 1280;
/** Segments that are kept of one prompt, from its beginning: 2,048 questions with answers. Adding them holds up the event loop. */
const MAX_SEGMENTS = 4096;
/** Characters of a segment's head by which it is looked up, and half as many as of its tail. */
const KEY_CHARS = 24;

/** A prompt as a part of a conversation: one that goes on from the end of another is its next turn. */
export interface Turn {
  readonly conversation: string;
  /** Counts from 1. */
  readonly turn: number;
}

/** One segment of text, up to and including a token behind which texts can be cut. */
interface Segment {
  readonly text: string;
  readonly tokens: Int32Array;
  /** Hashes of the blocks that end in this segment. */
  readonly hashes: Int32Array;
  /** Tokens and characters from the beginning of the prompt to the end of this segment. */
  readonly endTokens: number;
  readonly endChars: number;
  /** Segments from the beginning of the prompt to this one, itself included. */
  readonly depth: number;
  /** The prompt whose last segment this was. */
  turn: Turn | null;
}

export type PromptNode = TreeNode<Segment>;

/** How far the beginning of a prompt is known, and from where. */
export interface KnownPrefix {
  readonly numTokens: number;
  readonly node: PromptNode;
  /** The text behind it. */
  readonly rest: string;
}

/** What was found out about a prompt, its known prefix included. */
export interface TokenisedPrompt {
  readonly tokens: Int32Array;
  /** Of all full blocks. */
  readonly hashes: Int32Array;
}

/**
 * The prompts of one tenant, each with its tokens and block hashes, as a tree: prompts that begin alike, turns of one conversation
 * or sub-agents of one session, share what they begin with.
 */
export class PromptTree {
  readonly tree: RecencyTree<Segment>;
  readonly #blockSizeTokens: number;

  constructor(blockSizeTokens: number) {
    this.#blockSizeTokens = blockSizeTokens;
    const nothing = new Int32Array(0);
    this.tree = new RecencyTree<Segment>({
      ...{ text: "", tokens: nothing, hashes: nothing, endTokens: 0, endChars: 0, depth: 0, turn: null },
    });
  }

  /**
   * The longest known prefix of a prompt.
   *
   * @param cutEnds gives the places in a text behind the tokens that end segments, in order, from a given place on
   */
  find(prompt: RenderedPrompt, cutEnds: (text: string, from: number) => readonly number[]): KnownPrefix {
    const start = this.#startOf(prompt);
    const base = start.value.endChars;
    const text = prompt.from(base);
    let node = this.#followLatest(start, text, base);
    let ends: readonly number[] = [];
    let next = 0;
    for (;;) {
      const endChars = node.value.endChars - base;
      if (next === 0) ends = cutEnds(text, endChars);
      while (next < ends.length && ends[next]! <= endChars) next++;
      const end = ends[next];
      const child = end === undefined ? undefined : this.#child(node, text.slice(endChars, end));
      if (child === undefined) return { numTokens: node.value.endTokens, node, rest: text.slice(endChars) };
      node = this.#followLatest(child, text, base);
      next++;
    }
  }

  /** What the prompt is known to begin with, as far as that is still kept: what goes, goes from its end. */
  #startOf({ known }: RenderedPrompt): PromptNode {
    if (known === null || known.tree !== this) return this.tree.root;
    let { node } = known;
    while (!node.isKept) node = node.parent!;
    return node;
  }

  /**
   * Goes down as long as the text goes on as it did the last time. A segment that the text has at this place ends there too: its end
   * is the end of the first cut token in it.
   *
   * @param base where the text begins in the prompt
   */
  #followLatest(from: PromptNode, text: string, base: number): PromptNode {
    let node = from;
    for (;;) {
      const { latest } = node;
      if (latest === null) return node;
      const { value } = latest;
      if (text.slice(node.value.endChars - base, value.endChars - base) !== value.text) return node;
      node = latest;
    }
  }

  /** Writes the tokens and the hashes of a known prefix to the beginning of these arrays. */
  copy(prefix: KnownPrefix, tokens: Int32Array, hashes: Int32Array): void {
    let hashesEnd = this.#blocksOf(prefix.numTokens) * HASH_WORDS;
    for (let node = prefix.node; node.parent !== null; node = node.parent) {
      const segment = node.value;
      const tokensStart = segment.endTokens - segment.tokens.length;
      hashesEnd -= segment.hashes.length;
      copyShort(segment.tokens, tokens, tokensStart);
      copyShort(segment.hashes, hashes, hashesEnd);
    }
  }

  /**
   * Adds what follows a known prefix, segment by segment up to `MAX_SEGMENTS`, and says which turn this is and how far the prompt is
   * kept. Keeps nothing when the prefix has been forgotten meanwhile.
   *
   * @param ends where each segment ends, in characters from the prefix on and in tokens from the beginning, in order
   */
  add(
    prompt: TokenisedPrompt,
    prefix: KnownPrefix,
    ends: ReadonlyArray<Pick<Segment, "endChars" | "endTokens">>,
  ): { turn: Turn; node: PromptNode } {
    let { node } = prefix;
    // A second prompt that goes on from the same one is a branch, and a conversation of its own.
    const before = node.children.size === 0 || ends.length === 0 ? node.value.turn : null;
    let start = 0;
    for (const { endChars, endTokens } of ends) {
      if (node.value.depth >= MAX_SEGMENTS) break;
      const text = prefix.rest.slice(start, endChars);
      // Another request may have added the same meanwhile.
      const next = this.#child(node, text) ?? this.#addChild(node, text, prompt, endTokens);
      if (next === null) break;
      node = next;
      start = endChars;
    }
    this.tree.use(node);
    const isRepeated = node === prefix.node && before !== null;
    const turn = isRepeated
      ? before
      : { conversation: before?.conversation ?? randomUUID(), turn: (before?.turn ?? 0) + 1 };
    node.value.turn ??= turn;
    return { turn, node };
  }

  #child(node: PromptNode, text: string): PromptNode | undefined {
    return this.tree.child(
      node,
      (value) => value.text === text,
      () => keyOf(text),
    );
  }

  #addChild(
    parent: PromptNode,
    segment: string,
    prompt: TokenisedPrompt,
    endTokens: number,
  ): PromptNode | null {
    const from = parent.value;
    const { text, bytes } = ownText(segment);
    const tokens = prompt.tokens.slice(from.endTokens, endTokens);
    const hashes = prompt.hashes.slice(
      this.#blocksOf(from.endTokens) * HASH_WORDS,
      this.#blocksOf(endTokens) * HASH_WORDS,
    );
    const size = NODE_BYTES + bytes + tokens.byteLength + hashes.byteLength;
    const endChars = from.endChars + text.length;
    const value = { text, tokens, hashes, endTokens, endChars, depth: from.depth + 1, turn: null };
    return this.tree.add(parent, keyOf(text), value, size);
  }

  #blocksOf(numTokens: number): number {
    return Math.floor(numTokens / this.#blockSizeTokens);
  }

  /** Throws unless all is consistent. Linear in the number of segments. */
  checkInvariants(): void {
    this.tree.checkInvariants(({ value, parent }) => {
      const from = parent!.value;
      assert(value.endTokens === from.endTokens + value.tokens.length, "tokens are missing");
      assert(value.endChars === from.endChars + value.text.length, "text is missing");
      const numBlocks = this.#blocksOf(value.endTokens) - this.#blocksOf(from.endTokens);
      assert(value.hashes.length === numBlocks * HASH_WORDS, "hashes are missing");
    });
  }
}

/** For arrays of a few hundred words the call of `set` costs more than the copying. */
function copyShort(from: Int32Array, to: Int32Array, at: number): void {
  if (from.length > 2048) to.set(from, at);
  else for (let i = 0; i < from.length; i++) to[at + i] = from[i]!;
}

/** Tells most texts apart without a look at all of them; the rest is compared. */
export function keyOf(text: string): string {
  return `${text.length}:${text.slice(0, KEY_CHARS)}${text.slice(-2 * KEY_CHARS)}`;
}

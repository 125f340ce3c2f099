import { HASH_WORDS } from "../../core/tokens/block-hash.ts";
import { assert } from "../../core/util/assert.ts";
import { ownText } from "./own-text.ts";

/** What a node costs besides its arrays and its text: the objects themselves. */
const NODE_BYTES = 512;
/** Characters of either end of a segment by which it is looked up. */
const KEY_CHARS = 24;
/** Segments kept below one that look alike by that; each is compared. */
const MAX_ALIKE = 16;

/** One segment of text, up to and including a token behind which texts can be cut, after the segments above it. */
interface Node {
  readonly parent: Node | null;
  readonly key: string;
  readonly text: string;
  readonly tokens: Int32Array;
  /** Hashes of the blocks that end in this segment. */
  readonly hashes: Int32Array;
  /** Tokens and characters from the beginning of the prompt to the end of this segment. */
  readonly endTokens: number;
  readonly endChars: number;
  readonly bytes: number;
  readonly children: Map<string, Node[]>;
  /** Neighbours in the tenant's list, which begins with what was used last. */
  newer: Node;
  older: Node;
  isKept: boolean;
}

/** How far the beginning of a prompt is known, and from where. */
export interface KnownPrefix {
  readonly numChars: number;
  readonly numTokens: number;
  readonly node: unknown;
}

/** A prompt with all that was found out about it. */
export interface TokenisedPrompt {
  readonly text: string;
  readonly tokens: Int32Array;
  /** Of all full blocks. */
  readonly hashes: Int32Array;
}

/**
 * The prompts of one tenant, each with its tokens and block hashes, as a tree: prompts that begin alike, turns of one conversation
 * or sub-agents of one session, share what they begin with.
 *
 * A node is more recent than its children, always: whoever uses a node uses those above it. So the least recent node is a leaf, and
 * forgetting it cuts nothing off.
 */
export class PromptTree {
  readonly #blockSizeTokens: number;
  readonly #root: Node;
  #bytes = 0;
  #numNodes = 0;

  constructor(blockSizeTokens: number) {
    this.#blockSizeTokens = blockSizeTokens;
    this.#root = makeNode(null, {
      ...{ key: "", text: "", tokens: new Int32Array(0), hashes: new Int32Array(0) },
      ...{ endTokens: 0, endChars: 0, bytes: 0 },
    });
  }

  /** About what the nodes take in memory. */
  get bytes(): number {
    return this.#bytes;
  }

  get numNodes(): number {
    return this.#numNodes;
  }

  /**
   * The longest known prefix of a text.
   *
   * @param cutEnds the places in the text behind the tokens that end segments, in order
   */
  find(text: string, cutEnds: Iterable<number>): KnownPrefix {
    let node = this.#root;
    for (const end of cutEnds) {
      const child = childOf(node, keyOf(text, node.endChars, end), text.slice(node.endChars, end));
      if (child === undefined) break;
      node = child;
    }
    this.#use(node);
    return { numChars: node.endChars, numTokens: node.endTokens, node };
  }

  /** Writes the tokens and the hashes of a known prefix to the beginning of these arrays. */
  copy(prefix: KnownPrefix, tokens: Int32Array, hashes: Int32Array): void {
    let hashesEnd = this.#blocksOf(prefix.numTokens) * HASH_WORDS;
    for (let node = prefix.node as Node; node.parent !== null; node = node.parent) {
      tokens.set(node.tokens, node.endTokens - node.tokens.length);
      hashesEnd -= node.hashes.length;
      hashes.set(node.hashes, hashesEnd);
    }
  }

  /**
   * Adds what follows a known prefix, segment by segment. Does nothing when the prefix has been forgotten meanwhile.
   *
   * @param segments where each segment ends, in characters and in tokens, in order
   */
  add(
    prompt: TokenisedPrompt,
    prefix: KnownPrefix,
    segments: ReadonlyArray<{ readonly endChars: number; readonly endTokens: number }>,
  ): void {
    let node = prefix.node as Node;
    if (!node.isKept) return;
    for (const { endChars, endTokens } of segments) {
      const key = keyOf(prompt.text, node.endChars, endChars);
      // Another request may have added the same meanwhile.
      const known = childOf(node, key, prompt.text.slice(node.endChars, endChars));
      if (known === undefined && (node.children.get(key)?.length ?? 0) >= MAX_ALIKE) break;
      node = known ?? this.#addChild(node, key, prompt, { endChars, endTokens });
    }
    this.#use(node);
  }

  /** Forgets the segment that has not been used for longest; of equals, the one with the longest prompt before it. */
  forgetOldest(): void {
    const node = this.#root.newer;
    assert(node !== this.#root, "nothing is kept");
    assert(node.children.size === 0, "the least recent segment has others below it");
    unlink(node);
    node.isKept = false;
    const alike = node.parent!.children.get(node.key)!;
    alike.splice(alike.indexOf(node), 1);
    if (alike.length === 0) node.parent!.children.delete(node.key);
    this.#bytes -= node.bytes;
    this.#numNodes--;
  }

  #addChild(
    parent: Node,
    key: string,
    prompt: TokenisedPrompt,
    end: { endChars: number; endTokens: number },
  ): Node {
    const { text, bytes: textBytes } = ownText(prompt.text, parent.endChars, end.endChars);
    const tokens = prompt.tokens.slice(parent.endTokens, end.endTokens);
    const hashes = prompt.hashes.slice(
      this.#blocksOf(parent.endTokens) * HASH_WORDS,
      this.#blocksOf(end.endTokens) * HASH_WORDS,
    );
    const bytes = NODE_BYTES + textBytes + tokens.byteLength + hashes.byteLength;
    const node = makeNode(parent, { key, text, tokens, hashes, ...end, bytes });
    const alike = parent.children.get(key);
    if (alike === undefined) parent.children.set(key, [node]);
    else alike.push(node);
    this.#bytes += bytes;
    this.#numNodes++;
    linkBehind(this.#root, node);
    return node;
  }

  /** Makes a node and all above it the most recent, the root's child first of all. */
  #use(leaf: Node): void {
    for (let node = leaf; node.parent !== null; node = node.parent) {
      if (!node.isKept) return;
      unlink(node);
      linkBehind(this.#root, node);
    }
  }

  #blocksOf(numTokens: number): number {
    return Math.floor(numTokens / this.#blockSizeTokens);
  }

  /** Throws unless tree, list and sums agree. Linear in the number of nodes. */
  checkInvariants(): void {
    const ranks = new Map<Node, number>();
    for (let node = this.#root.older; node !== this.#root; node = node.older) {
      assert(node.older.newer === node && !ranks.has(node), "the list is broken");
      ranks.set(node, ranks.size);
    }
    let bytes = 0;
    let numNodes = 0;
    const visit = (node: Node): void => {
      const children = [...node.children].flatMap(([key, alike]) => alike.map((child) => ({ key, child })));
      for (const { key, child } of children) {
        assert(child.parent === node && child.key === key && child.isKept, "the tree is broken");
        assert(child.endTokens === node.endTokens + child.tokens.length, "tokens are missing");
        assert(child.endChars === node.endChars + child.text.length, "text is missing");
        const numBlocks = this.#blocksOf(child.endTokens) - this.#blocksOf(node.endTokens);
        assert(child.hashes.length === numBlocks * HASH_WORDS, "hashes are missing");
        const rank = ranks.get(child);
        assert(rank !== undefined, "a segment is not in the list");
        assert(node === this.#root || ranks.get(node)! < rank, "a segment is more recent than the one above");
        bytes += child.bytes;
        numNodes++;
        visit(child);
      }
    };
    visit(this.#root);
    assert(numNodes === this.#numNodes && numNodes === ranks.size, "the count of segments is off");
    assert(bytes === this.#bytes, "the count of bytes is off");
  }
}

function childOf(node: Node, key: string, text: string): Node | undefined {
  return node.children.get(key)?.find((child) => child.text === text);
}

/** Tells most segments apart without a look at all of their text; the rest is compared. */
function keyOf(text: string, start: number, end: number): string {
  const head = text.slice(start, Math.min(end, start + KEY_CHARS));
  const tail = text.slice(Math.max(start, end - 2 * KEY_CHARS), end);
  return `${end - start}:${head}${tail}`;
}

function makeNode(
  parent: Node | null,
  fields: Omit<Node, "parent" | "children" | "newer" | "older" | "isKept">,
): Node {
  const node = { ...fields, parent, children: new Map(), isKept: true } as unknown as Node;
  node.newer = node;
  node.older = node;
  return node;
}

function unlink(node: Node): void {
  node.newer.older = node.older;
  node.older.newer = node.newer;
}

/** Puts a node behind the list's beginning: the root, which is the list's sentinel, newer than the newest. */
function linkBehind(root: Node, node: Node): void {
  node.newer = root;
  node.older = root.older;
  root.older.newer = node;
  root.older = node;
}

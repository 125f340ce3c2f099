import { assert } from "../../core/util/assert.ts";

/** Children kept below one node under one key; each is compared. */
const MAX_ALIKE = 16;

/** Places that a node which has become a leaf looks for its place in the order. */
const MAX_SEARCH = 64;

/** One step of a sequence, after the steps above it. */
export interface TreeNode<Value> {
  readonly parent: TreeNode<Value> | null;
  readonly key: string;
  readonly value: Value;
  /** Below it, by key. Different values may have one key. */
  readonly children: Map<string, TreeNode<Value>[]>;
  bytes: number;
  /** The child that was found or added last: most conversations go on where they did before. */
  latest: TreeNode<Value> | null;
  /** When a sequence that ends here was last used, or one below it that has been forgotten; a count of uses. */
  usedAt: number;
  /** Neighbours in the list of leaves; the root stands between the least and the most recent one. Others point to themselves. */
  newer: TreeNode<Value>;
  older: TreeNode<Value>;
  /** False once it has been forgotten. */
  isKept: boolean;
}

/**
 * Sequences that share their beginnings, in bounded memory. The leaf that has not been used for longest is forgotten first; a node
 * whose children are all forgotten is a leaf again, as recent as the last of them. So a sequence is forgotten from its end, and what
 * others begin with stays as long as one of them does.
 */
export class RecencyTree<Value> {
  readonly root: TreeNode<Value>;
  #bytes = 0;
  #numNodes = 0;
  #numUses = 0;

  constructor(rootValue: Value) {
    this.root = makeNode(null, "", rootValue, 0);
  }

  /** Sum of what was said of the nodes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The child whose value is the right one. Its key is asked for only when it is not the one that was found last. */
  child(
    node: TreeNode<Value>,
    isRight: (value: Value) => boolean,
    key: () => string,
  ): TreeNode<Value> | undefined {
    const { latest } = node;
    if (latest !== null && isRight(latest.value)) return latest;
    const found = node.children.get(key())?.find((child) => isRight(child.value));
    if (found !== undefined) node.latest = found;
    return found;
  }

  /** Adds a child, or returns null when there are too many of its key or the parent has been forgotten. */
  add(parent: TreeNode<Value>, key: string, value: Value, bytes: number): TreeNode<Value> | null {
    if (!parent.isKept) return null;
    const alike = parent.children.get(key);
    if (alike !== undefined && alike.length >= MAX_ALIKE) return null;
    const node = makeNode(parent, key, value, bytes);
    if (alike === undefined) parent.children.set(key, [node]);
    else alike.push(node);
    parent.latest = node;
    this.#bytes += bytes;
    this.#numNodes++;
    if (parent !== this.root) unlink(parent);
    node.usedAt = ++this.#numUses;
    linkBehind(this.root, node);
    return node;
  }

  /** Corrects what is known of a node's size. */
  grow(node: TreeNode<Value>, bytes: number): void {
    if (!node.isKept) return;
    node.bytes += bytes;
    this.#bytes += bytes;
  }

  /** Makes the sequence that ends at a node the most recent. */
  use(node: TreeNode<Value>): void {
    if (!node.isKept || node === this.root) return;
    node.usedAt = ++this.#numUses;
    if (node.children.size > 0) return;
    unlink(node);
    linkBehind(this.root, node);
  }

  /** Forgets the leaf that has not been used for longest. */
  forgetOldest(): void {
    const node = this.root.newer;
    assert(node !== this.root, "nothing is kept");
    assert(node.children.size === 0, "a node in the list has others below it");
    unlink(node);
    node.isKept = false;
    const parent = node.parent!;
    const { children } = parent;
    if (parent.latest === node) parent.latest = null;
    const alike = children.get(node.key)!;
    alike.splice(alike.indexOf(node), 1);
    if (alike.length === 0) children.delete(node.key);
    this.#bytes -= node.bytes;
    this.#numNodes--;
    parent.usedAt = Math.max(parent.usedAt, node.usedAt);
    if (children.size === 0 && parent !== this.root) this.#linkByUse(parent);
  }

  #linkByUse(node: TreeNode<Value>): void {
    let newer = this.root.newer;
    for (let i = 0; i < MAX_SEARCH && newer !== this.root && newer.usedAt < node.usedAt; i++)
      newer = newer.newer;
    linkBehind(newer, node);
  }

  /** Throws unless tree, list and sums agree. Linear in the number of nodes. */
  checkInvariants(checkNode: (node: TreeNode<Value>) => void = () => {}): void {
    const listed = new Set<TreeNode<Value>>();
    for (let node = this.root.older; node !== this.root; node = node.older) {
      assert(node.older.newer === node && !listed.has(node), "the list is broken");
      listed.add(node);
    }
    let numLeaves = 0;
    let bytes = 0;
    let numNodes = 0;
    const visit = (node: TreeNode<Value>): void => {
      const { latest } = node;
      assert(latest === null || (latest.isKept && latest.parent === node), "the latest child is none");
      for (const [key, alike] of node.children) {
        assert(alike.length > 0 && alike.length <= MAX_ALIKE, "a key has no nodes or too many");
        for (const child of alike) {
          assert(child.parent === node && child.key === key && child.isKept, "the tree is broken");
          const isLeaf = child.children.size === 0;
          assert(isLeaf === listed.has(child), "the list does not have the leaves, or more than them");
          if (isLeaf) numLeaves++;
          checkNode(child);
          bytes += child.bytes;
          numNodes++;
          visit(child);
        }
      }
    };
    visit(this.root);
    assert(numNodes === this.#numNodes && numLeaves === listed.size, "the count of nodes is off");
    assert(bytes === this.#bytes, "the count of bytes is off");
  }
}

/** Forgets of several trees until they take no more than `maxBytes` together: always of the one that takes most. */
export function makeRoom(trees: Iterable<RecencyTree<unknown>>, maxBytes: number): void {
  const all = [...trees];
  let bytes = all.reduce((sum, tree) => sum + tree.bytes, 0);
  while (bytes > maxBytes) {
    const largest = all.reduce((most, tree) => (tree.bytes > most.bytes ? tree : most));
    const before = largest.bytes;
    largest.forgetOldest();
    bytes -= before - largest.bytes;
  }
}

function makeNode<Value>(
  parent: TreeNode<Value> | null,
  key: string,
  value: Value,
  bytes: number,
): TreeNode<Value> {
  const node = {
    ...{ parent, key, value, bytes, latest: null },
    children: new Map(),
    isKept: true,
  } as unknown as TreeNode<Value>;
  node.newer = node;
  node.older = node;
  return node;
}

function unlink(node: TreeNode<unknown>): void {
  node.newer.older = node.older;
  node.older.newer = node.newer;
  node.newer = node;
  node.older = node;
}

/** Puts a node behind another one; behind the root it is the most recent. */
function linkBehind<Value>(newer: TreeNode<Value>, node: TreeNode<Value>): void {
  node.newer = newer;
  node.older = newer.older;
  newer.older.newer = node;
  newer.older = node;
}

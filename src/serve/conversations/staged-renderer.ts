import { createHash, randomBytes } from "node:crypto";
import type { Template } from "@huggingface/jinja";
import { ownText } from "./own-text.ts";
import { keyOf } from "./prompt-tree.ts";
import { makeRoom, RecencyTree, type TreeNode } from "./recency-tree.ts";
import { findLocalLoop, type TemplateNode } from "./template-analysis.ts";

/** A message as templates see it. */
export interface TemplateMessage {
  readonly role: string;
  readonly content: string;
  readonly [field: string]: unknown;
}

/** Everything that a template sees. What is not a message is `rest`. */
export interface TemplateInput {
  readonly messages: readonly TemplateMessage[];
  readonly rest: Readonly<Record<string, unknown>>;
}

/** One message of a conversation, after those above it. */
interface Turn {
  readonly role: string;
  readonly content: string;
  /** Other fields, as JSON. */
  readonly extra: string;
  /** The text of the message before this one, which depends on this one at most; null when it is not known. */
  previous: string | null;
}

/** What a message costs besides its texts. Measured: some 900 bytes of heap in Node 20. */
const NODE_BYTES = 896;
/** The first messages of all are always rendered: others may depend on the first two, and the first has no text kept. */
const NUM_ANCHORS = 3;
/** Lengths of conversations with which a template is tried out, each a beginning of the next. */
const PROBED_LENGTHS = [2, 5, 8, 9, 12, 16];
/** Trees at once: one per tenant and set of tools. */
const MAX_TREES = 4096;

/**
 * Renders conversations with a template, keeping the text of earlier messages. For a template in which a message's text depends only on
 * its neighbourhood (see {@link findLocalLoop}), a next turn is rendered from the first messages and the last ones, between marks, and the
 * text of those in between is put in from what is kept. For other templates everything is rendered each time.
 */
export class StagedRenderer {
  readonly #template: Template;
  /** The same with a mark before each message's text and one after the last; null when it cannot be done in stages. */
  #marked: Template | null;
  readonly #mark = `<|mark-${randomBytes(16).toString("hex")}|>`;
  readonly #maxBytes: number;
  readonly #trees = new Map<string, RecencyTree<Turn | null>>();

  constructor(template: Template, maxBytes: number) {
    this.#template = template;
    this.#maxBytes = maxBytes;
    this.#marked = maxBytes > 0 ? markLoop(template, this.#mark) : null;
    if (!this.#provesItself()) this.#marked = null;
  }

  /** Whether anything can be kept. */
  get isStaged(): boolean {
    return this.#marked !== null;
  }

  get bytes(): number {
    let bytes = 0;
    for (const tree of this.#trees.values()) bytes += tree.bytes;
    return bytes;
  }

  /** Everything at once, with nothing kept. Throws what the template throws. */
  renderWhole({ messages, rest }: TemplateInput): string {
    return this.#template.render({ messages, ...rest });
  }

  /**
   * The same text as {@link renderWhole} gives.
   *
   * @param scope whose conversations may share what is kept: a tenant's secret
   */
  render(input: TemplateInput, scope: string): string {
    if (this.#marked === null) return this.renderWhole(input);
    const tree = this.#treeOf(
      createHash("sha256")
        .update(JSON.stringify([scope, input.rest]))
        .digest("base64"),
    );
    const path = findPath(tree, input.messages);
    const text = this.#renderFrom(this.#marked, tree, input, path);
    makeRoom(this.#trees.values(), this.#maxBytes);
    return text;
  }

  #renderFrom(
    marked: Template,
    tree: RecencyTree<Turn | null>,
    { messages, rest }: TemplateInput,
    path: ReadonlyArray<TreeNode<Turn | null>>,
  ): string {
    // Kept are the texts of all messages on the path but the last one. An even number of messages is left out.
    let first = Math.max(0, path.length - 1);
    const isHole = (at: number) => path[at + 1]!.value!.previous === null;
    for (let at = 1; at < first; at++) if (isHole(at)) first = at;
    const numSkipped = Math.max(0, first - 1 - NUM_ANCHORS) & ~1;
    first = numSkipped === 0 ? 0 : NUM_ANCHORS + numSkipped + 1;
    const rendered = numSkipped === 0 ? messages : messages.toSpliced(NUM_ANCHORS, numSkipped);
    let parts: readonly string[];
    try {
      parts = marked.render({ messages: rendered, ...rest }).split(this.#mark);
    } catch {
      // Messages that are neighbours only here may be refused, as two answers in a row. Whether all of them are is for all to say.
      return this.renderWhole({ messages, rest });
    }
    const head = parts[0]!;
    const tail = parts.at(-1)!;
    // A template may leave out the first message, having put it elsewhere.
    const offset = rendered.length - (parts.length - 2);
    if (parts.length < 2 || offset < 0 || offset > 1) return this.renderWhole({ messages, rest });
    const texts = new Array<string>(messages.length);
    if (offset === 1) texts[0] = "";
    if (offset < messages.length) texts[offset] = parts[1]!;
    for (let at = offset + 1; at < first; at++) texts[at] = path[at + 1]!.value!.previous!;
    for (let at = Math.max(first, offset + 1); at < messages.length; at++)
      texts[at] = parts[1 + at - numSkipped - offset]!;
    this.#keep(tree, messages, texts, path);
    // One copy, and a string that is flat at once.
    return [head, ...texts, tail].join("");
  }

  #keep(
    tree: RecencyTree<Turn | null>,
    messages: readonly TemplateMessage[],
    texts: readonly string[],
    path: ReadonlyArray<TreeNode<Turn | null>>,
  ): void {
    let node = path.at(-1) ?? tree.root;
    for (let at = path.length; at < messages.length; at++) {
      const message = messages[at]!;
      const turn: Turn = {
        role: message.role,
        content: message.content,
        extra: extraOf(message),
        previous: null,
      };
      const bytes = NODE_BYTES + 2 * (turn.content.length + turn.extra.length);
      const added = tree.add(node, turnKey(turn), turn, bytes);
      if (added === null) break;
      node = added;
      // The text before the first one of the path is known already.
      if (at > 0) this.#keepPrevious(tree, added, texts[at - 1]!);
    }
    tree.use(node);
  }

  #keepPrevious(tree: RecencyTree<Turn | null>, node: TreeNode<Turn | null>, text: string): void {
    const own = ownText(text);
    node.value!.previous = own.text;
    tree.grow(node, own.bytes);
  }

  #treeOf(key: string): RecencyTree<Turn | null> {
    let tree = this.#trees.get(key);
    if (tree === undefined) {
      if (this.#trees.size >= MAX_TREES) this.#dropEmptyTrees();
      tree = new RecencyTree<Turn | null>(null);
      this.#trees.set(key, tree);
    }
    return tree;
  }

  #dropEmptyTrees(): void {
    for (const [key, tree] of this.#trees) if (tree.bytes === 0) this.#trees.delete(key);
    if (this.#trees.size >= MAX_TREES) this.#trees.clear();
  }

  /** Whether conversations of every length come out the same with and without stages. */
  #provesItself(): boolean {
    const roles = ["system", "user", "assistant", "user", "assistant", "user"];
    const messages = Array.from({ length: 16 }, (_, i) => ({
      role: roles[i] ?? (i % 2 === 0 ? "assistant" : "user"),
      content: ` probe ${i}\n`,
    }));
    for (const from of [0, 1]) {
      for (const end of PROBED_LENGTHS) {
        const input = { messages: messages.slice(from, end), rest: { add_generation_prompt: end % 2 === 0 } };
        if (outcomeOf(() => this.render(input, "probe")) !== outcomeOf(() => this.renderWhole(input)))
          return false;
      }
    }
    this.#trees.clear();
    return true;
  }

  checkInvariants(): void {
    for (const tree of this.#trees.values()) tree.checkInvariants();
  }
}

function outcomeOf(render: () => string): string {
  try {
    return render();
  } catch (error) {
    return String(error);
  }
}

/** The nodes of the longest known beginning of a conversation. */
function findPath(
  tree: RecencyTree<Turn | null>,
  messages: readonly TemplateMessage[],
): TreeNode<Turn | null>[] {
  const path: TreeNode<Turn | null>[] = [];
  let node = tree.root;
  for (const message of messages) {
    const { role, content } = message;
    const extra = extraOf(message);
    const next = tree.child(
      node,
      (turn) => turn!.content === content && turn!.role === role && turn!.extra === extra,
      () => turnKey({ role, content, extra }),
    );
    if (next === undefined) break;
    path.push(next);
    node = next;
  }
  return path;
}

function extraOf(message: TemplateMessage): string {
  for (const field in message) {
    if (field === "role" || field === "content") continue;
    const { role: _, content: __, ...extra } = message;
    return JSON.stringify(extra);
  }
  return "";
}

function turnKey({ role, content, extra }: Pick<Turn, "role" | "content" | "extra">): string {
  return `${role} ${extra.length} ${keyOf(content)}`;
}

/** The template with marks around the messages' texts, or null when these depend on more than their neighbourhood. */
function markLoop(template: Template, mark: string): Template | null {
  const statements = template.parsed.body as unknown as TemplateNode[];
  const at = findLocalLoop(statements);
  if (at === null) return null;
  const loop = statements[at]!;
  const markNode: TemplateNode = { type: "StringLiteral", value: mark };
  const markedLoop = { ...loop, body: [markNode, ...(loop.body as TemplateNode[])] };
  const body = statements.toSpliced(at, 1, markedLoop, markNode);
  const marked: Template = Object.create(template);
  marked.parsed = { type: "Program", body: body as unknown as Template["parsed"]["body"] };
  return marked;
}

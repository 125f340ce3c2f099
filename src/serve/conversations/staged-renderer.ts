import { randomBytes } from "node:crypto";
import type { Template } from "@huggingface/jinja";
import { type MessageNode, MessageTree, type TemplateInput } from "./message-tree.ts";
import { makeRoom } from "./recency-tree.ts";
import { RenderedPrompt } from "./rendered-prompt.ts";
import { findLocalLoop, type TemplateNode } from "./template-analysis.ts";

/** The first messages of all are always rendered: others may depend on the first two, and the first has no text kept. */
const NUM_ANCHORS = 3;
/** Lengths of conversations with which a template is tried out, each a beginning of the next. */
const PROBED_LENGTHS = [2, 5, 8, 9, 12, 16];

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
  /** By scope. As many as there are tenants. */
  readonly #trees = new Map<string, MessageTree>();

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
    for (const { tree } of this.#trees.values()) bytes += tree.bytes;
    return bytes;
  }

  /** Everything at once, with nothing kept. Throws what the template throws. */
  renderWhole({ messages, rest }: TemplateInput): string {
    return this.#template.render({ messages, ...rest });
  }

  /**
   * The same text as {@link renderWhole} gives. It is kept when the prompt is; then the tenant that takes most room gives some back.
   *
   * @param scope whose conversations may share what is kept: a tenant's secret
   */
  render(input: TemplateInput, scope: string): RenderedPrompt {
    if (this.#marked === null) return new RenderedPrompt([this.renderWhole(input)]);
    const tree = this.#treeOf(scope);
    return this.#renderFrom(this.#marked, tree, input, tree.find(input));
  }

  #renderFrom(
    marked: Template,
    tree: MessageTree,
    input: TemplateInput,
    path: readonly MessageNode[],
  ): RenderedPrompt {
    const { messages, rest } = input;
    // Kept are the texts of all messages on the path but the last one. An even number of messages is left out.
    const numKnown = Math.max(0, path.length - 1);
    const numSkipped = Math.max(0, numKnown - 1 - NUM_ANCHORS) & ~1;
    const first = numSkipped === 0 ? 0 : NUM_ANCHORS + numSkipped + 1;
    const rendered = numSkipped === 0 ? messages : messages.toSpliced(NUM_ANCHORS, numSkipped);
    let parts: readonly string[];
    try {
      parts = marked.render({ messages: rendered, ...rest }).split(this.#mark);
    } catch {
      // Messages that are neighbours only here may be refused, as two answers in a row. Whether all of them are is for all to say.
      return new RenderedPrompt([this.renderWhole(input)]);
    }
    const head = parts[0]!;
    const tail = parts.at(-1)!;
    // A template may leave out the first message, having put it elsewhere.
    const offset = rendered.length - (parts.length - 2);
    if (parts.length < 2 || offset < 0 || offset > 1) return new RenderedPrompt([this.renderWhole(input)]);
    const texts = new Array<string>(messages.length);
    if (offset === 1) texts[0] = "";
    if (offset < messages.length) texts[offset] = parts[1]!;
    for (let at = offset + 1; at < first; at++) texts[at] = path[at + 1]!.value.previous!;
    for (let at = Math.max(first, offset + 1); at < messages.length; at++)
      texts[at] = parts[1 + at - numSkipped - offset]!;
    const opening = head + (texts[0] ?? "");
    return new RenderedPrompt(
      [opening, ...texts.slice(1), tail],
      tree.placeOf(path, numKnown, opening),
      (place) => {
        tree.keep(input, { opening, texts }, path, place);
        this.#makeRoom();
      },
    );
  }

  #treeOf(scope: string): MessageTree {
    let tree = this.#trees.get(scope);
    if (tree === undefined) {
      tree = new MessageTree();
      this.#trees.set(scope, tree);
    }
    return tree;
  }

  #makeRoom(): void {
    makeRoom(
      [...this.#trees.values()].map((each) => each.tree),
      this.#maxBytes,
    );
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
        if (outcomeOf(() => this.#renderAndKeep(input)) !== outcomeOf(() => this.renderWhole(input)))
          return false;
      }
    }
    this.#trees.clear();
    return true;
  }

  #renderAndKeep(input: TemplateInput): string {
    const prompt = this.render(input, "probe");
    prompt.keep(null);
    return prompt.text();
  }

  checkInvariants(): void {
    for (const { tree } of this.#trees.values()) tree.checkInvariants();
  }
}

function outcomeOf(render: () => string): string {
  try {
    return render();
  } catch (error) {
    return String(error);
  }
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

import { ownText } from "./own-text.ts";
import { keyOf } from "./prompt-tree.ts";
import { RecencyTree, type TreeNode } from "./recency-tree.ts";
import type { KeptPlace } from "./rendered-prompt.ts";

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

/** One message of a conversation, after those above it. Above the first one is what is not a message, with no role. */
interface Message {
  readonly role: string;
  readonly content: string;
  /** Other fields, as JSON. */
  readonly extra: string;
  /** The text of the message before this one, which depends on this one at most; null when it is not known. */
  readonly previous: string | null;
  /** Of a first message: what conversations with it last began with, up to the end of its own text. */
  opening: string | null;
  /** Where the text before this message is kept, most of it. */
  place: KnownPlace | null;
}

interface KnownPlace {
  readonly opening: string;
  readonly tree: KeptPlace["tree"];
  /** Prompts are forgotten by an order of their own, and must not stay alive from here. */
  readonly node: WeakRef<KeptPlace["node"]>;
}

export type MessageNode = TreeNode<Message>;

/** A rendered conversation, message by message. */
export interface RenderedMessages {
  /** What stands before the first message's text, and that text. */
  readonly opening: string;
  /** The text of each message. */
  readonly texts: readonly string[];
}

/** What a message costs besides its texts. Measured: some 900 bytes of heap in Node 20, and 100 for the place. */
const NODE_BYTES = 1024;

/** The messages of one tenant's conversations with their rendered texts, as a tree: conversations share what they begin with. */
export class MessageTree {
  readonly tree = new RecencyTree<Message>(messageOf({ role: "", content: "" }, null));

  /** The nodes of the longest known beginning of a conversation. */
  find({ messages, rest }: TemplateInput): MessageNode[] {
    const path: MessageNode[] = [];
    let node = this.#child(this.tree.root, frameOf(rest));
    for (const message of messages) {
      node = node && this.#child(node, message);
      if (node === undefined) break;
      path.push(node);
    }
    return path;
  }

  /**
   * Where the beginning of a conversation is kept as a prompt, the longest beginning of those that are known.
   *
   * @param numKnown messages whose texts are the ones that are kept
   */
  placeOf(path: readonly MessageNode[], numKnown: number, opening: string): KeptPlace | null {
    const kept = path[0]?.value.opening ?? null;
    if (kept !== opening) return null;
    for (let at = numKnown; at > 0; at--) {
      const place = path[at]!.value.place;
      if (place === null || place.opening !== kept) continue;
      const node = place.node.deref();
      if (node !== undefined) return { tree: place.tree, node };
    }
    return null;
  }

  /** Keeps a conversation, of which `path` was known, and where the text up to its last message is kept as a prompt. */
  keep(
    { messages, rest }: TemplateInput,
    { opening, texts }: RenderedMessages,
    path: readonly MessageNode[],
    place: KeptPlace | null,
  ): void {
    // Since they were looked up, nodes may have been forgotten, and added by others.
    let numKept = path.length;
    while (numKept > 0 && !path[numKept - 1]!.isKept) numKept--;
    let node = path[numKept - 1] ?? this.#childOrNew(this.tree.root, frameOf(rest), null);
    let first = path[0];
    for (let at = numKept; at < messages.length && node !== null; at++) {
      node = this.#childOrNew(node, messages[at]!, at === 0 ? null : texts[at - 1]!);
      if (at === 0) first = node ?? undefined;
    }
    if (node === null || first === undefined) return;
    this.tree.use(node);
    const kept = this.#keepOpening(first, opening);
    if (place === null || messages.length < 2) return;
    const numChars = texts.slice(1, -1).reduce((sum, text) => sum + text.length, opening.length);
    let last = place.node;
    while (last.value.endChars > numChars) last = last.parent!;
    node.value.place = { opening: kept, tree: place.tree, node: new WeakRef(last) };
  }

  #keepOpening(first: MessageNode, opening: string): string {
    if (first.value.opening === opening) return first.value.opening;
    const own = ownText(opening);
    first.value.opening = own.text;
    // The one before may still be in use further down.
    this.tree.grow(first, own.bytes);
    return own.text;
  }

  #child(node: MessageNode, message: TemplateMessage): MessageNode | undefined {
    const { role, content } = message;
    const extra = extraOf(message);
    return this.tree.child(
      node,
      (value) => value.content === content && value.role === role && value.extra === extra,
      () => messageKey({ role, content, extra }),
    );
  }

  #childOrNew(parent: MessageNode, message: TemplateMessage, previous: string | null): MessageNode | null {
    const known = this.#child(parent, message);
    if (known !== undefined) return known;
    const own = previous === null ? null : ownText(previous);
    const value = messageOf(message, own?.text ?? null);
    const bytes = NODE_BYTES + 2 * (value.content.length + value.extra.length) + (own?.bytes ?? 0);
    return this.tree.add(parent, messageKey(value), value, bytes);
  }
}

/** What is not a message, in the place of one. */
function frameOf(rest: TemplateInput["rest"]): TemplateMessage {
  return { role: "", content: JSON.stringify(rest) };
}

function messageOf(message: TemplateMessage, previous: string | null): Message {
  const { role, content } = message;
  return { role, content, extra: extraOf(message), previous, opening: null, place: null };
}

function extraOf(message: TemplateMessage): string {
  for (const field in message) {
    if (field === "role" || field === "content") continue;
    const { role: _, content: __, ...extra } = message;
    return JSON.stringify(extra);
  }
  return "";
}

function messageKey({ role, content, extra }: Pick<Message, "role" | "content" | "extra">): string {
  return `${role} ${extra.length} ${keyOf(content)}`;
}

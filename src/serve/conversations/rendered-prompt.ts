import type { PromptNode, PromptTree } from "./prompt-tree.ts";

/** A place among the prompts that are kept: it stands for all text up to it. */
export interface KeptPlace {
  readonly tree: PromptTree;
  readonly node: PromptNode;
}

/** A rendered conversation, in pieces that follow each other: who knows its beginning never puts all of it together. */
export class RenderedPrompt {
  /** UTF-16 units of all pieces. */
  readonly numChars: number;
  /** Where its beginning is kept, as an earlier turn has found; null when that is not known. */
  readonly known: KeptPlace | null;
  readonly #pieces: readonly string[];
  readonly #keep: (place: KeptPlace | null) => void;

  /** @param keep called when the prompt has been taken, with the place up to which it is kept now, if it is */
  constructor(
    pieces: readonly string[],
    known: KeptPlace | null = null,
    keep: (place: KeptPlace | null) => void = () => {},
  ) {
    let numChars = 0;
    for (const piece of pieces) numChars += piece.length;
    this.numChars = numChars;
    this.known = known;
    this.#pieces = pieces;
    this.#keep = keep;
  }

  /** The text from a place on. */
  from(start: number): string {
    let first = this.#pieces.length;
    let at = this.numChars;
    while (at > start) at -= this.#pieces[--first]!.length;
    // One copy, and a string that is flat at once.
    return this.#pieces
      .slice(first)
      .join("")
      .slice(start - at);
  }

  text(): string {
    return this.from(0);
  }

  /** Says that the prompt has been taken. One that is refused leaves nothing behind. */
  keep(place: KeptPlace | null): void {
    this.#keep(place);
  }
}

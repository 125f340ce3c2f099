/** Cuts a child's output into lines of bounded length, as they come. What exceeds the bound is dropped and counted. */
export class OutputLines {
  readonly #maxLineLength: number;
  readonly #onLine: (line: string) => void;
  #partial = "";
  #numDropped = 0;

  constructor(maxLineLength: number, onLine: (line: string) => void) {
    this.#maxLineLength = maxLineLength;
    this.#onLine = onLine;
  }

  push(text: string): void {
    let start = 0;
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n", start)) {
      this.#append(text.slice(start, end));
      this.#emit();
      start = end + 1;
    }
    this.#append(text.slice(start));
  }

  /** Says that no more comes: an unfinished line is one after all. */
  end(): void {
    if (this.#partial !== "") this.#emit();
  }

  #append(text: string): void {
    const room = this.#maxLineLength - this.#partial.length;
    this.#partial += text.slice(0, room);
    this.#numDropped += Math.max(0, text.length - room);
  }

  #emit(): void {
    const line = this.#partial.endsWith("\r") ? this.#partial.slice(0, -1) : this.#partial;
    const numDropped = this.#numDropped;
    this.#partial = "";
    this.#numDropped = 0;
    this.#onLine(numDropped === 0 ? line : `${line} … (${numDropped} characters more)`);
  }
}

/** A line that is longer than its limit. */
export class LineTooLongError extends Error {
  override name = "LineTooLongError";
}

const NEWLINE = 0x0a;

/** Cuts a stream of UTF-8 chunks into lines. Only whole lines are decoded, so no character is torn at a chunk's border. */
export class EventLines {
  readonly #maxLineBytes: number;
  #partial: Buffer[] = [];
  #partialBytes = 0;

  constructor(maxLineBytes: number) {
    this.#maxLineBytes = maxLineBytes;
  }

  /** The lines that the chunk completes, without newlines and empty ones. Throws {@link LineTooLongError}. */
  push(chunk: Buffer): string[] {
    const end = chunk.lastIndexOf(NEWLINE);
    const rest = chunk.length - end - 1;
    if ((end < 0 ? this.#partialBytes : 0) + rest > this.#maxLineBytes) {
      throw new LineTooLongError(`a line exceeds ${this.#maxLineBytes} bytes`);
    }
    let text = "";
    if (end >= 0) {
      const whole = chunk.subarray(0, end);
      text =
        this.#partialBytes === 0 ? whole.toString() : Buffer.concat([...this.#partial, whole]).toString();
      this.#partial = [];
      this.#partialBytes = 0;
    }
    if (rest > 0) {
      this.#partial.push(chunk.subarray(end + 1));
      this.#partialBytes += rest;
    }
    return text === "" ? [] : text.split("\n").filter((line) => line !== "");
  }
}

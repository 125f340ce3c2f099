/** Something with output to write. */
export interface Flushable {
  flush(): void;
}

/**
 * Gathers the streams that got output during one turn of the event loop and lets each write once at its end. An idle gateway
 * thus writes every token at once; a busy one writes what has come together in the meantime.
 */
export class FlushQueue {
  #due: Flushable[] = [];
  #spare: Flushable[] = [];
  readonly #run = () => this.#flush();

  /** The caller sees to it that a stream is queued at most once; the queue is then bounded by the number of streams. */
  add(stream: Flushable): void {
    if (this.#due.length === 0) setImmediate(this.#run);
    this.#due.push(stream);
  }

  #flush(): void {
    const due = this.#due;
    this.#due = this.#spare;
    for (const stream of due) stream.flush();
    due.length = 0;
    this.#spare = due;
  }
}

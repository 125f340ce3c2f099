/** Longest line or event of a stream, in UTF-16 units. */
export const MAX_EVENT_LENGTH = 1024 * 1024;

/** A stream that cannot be read on. */
export class SseError extends Error {
  override name = "SseError";
}

/**
 * Splits a server-sent event stream into the data of its events, for any borders between network chunks (WHATWG HTML, section
 * 9.2.6). Comments and fields other than `data` are skipped; lines end with LF, CR LF or CR; data lines of one event are joined by LF.
 */
export class SseReader {
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });
  #rest = "";
  #data: string[] = [];
  #dataLength = 0;
  #endedWithCr = false;

  /** The data of each event that ends in this chunk. Throws {@link SseError} on invalid UTF-8 or an endless event. */
  push(chunk: Uint8Array): string[] {
    let text: string;
    try {
      text = this.#decoder.decode(chunk, { stream: true });
    } catch (error) {
      throw new SseError("the stream is not UTF-8", { cause: error });
    }
    // The LF of a CR LF that the last chunk border cut in two ends no further line.
    if (this.#endedWithCr && text.startsWith("\n")) text = text.slice(1);
    if (text !== "") this.#endedWithCr = text.endsWith("\r");
    const lines = (this.#rest + text).split(/\r\n|\n|\r/);
    this.#rest = lines.pop() ?? "";
    const events: string[] = [];
    for (const line of lines) this.#readLine(line, events);
    if (this.#rest.length + this.#dataLength > MAX_EVENT_LENGTH) {
      throw new SseError(`an event is longer than ${MAX_EVENT_LENGTH} characters`);
    }
    return events;
  }

  #readLine(line: string, events: string[]): void {
    if (line === "") {
      if (this.#data.length > 0) events.push(this.#data.join("\n"));
      this.#data = [];
      this.#dataLength = 0;
      return;
    }
    if (line !== "data" && !line.startsWith("data:")) return;
    const value = line.slice(line.startsWith("data: ") ? 6 : 5);
    this.#data.push(value);
    this.#dataLength += value.length + 1;
  }
}

import { request } from "undici";

/** What the tests look at in a chunk of a completion stream. */
export interface StreamEvent {
  readonly choices?: Array<{ index: number; text?: string; finish_reason: string | null }>;
  readonly usage?: { completion_tokens: number } | null;
  readonly error?: { code: string; message: string };
}

export interface SseStream {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  /** The next event; throws when the stream has ended. */
  next(): Promise<StreamEvent>;
  /** Up to `count` further events; fewer when the stream ends before. */
  take(count: number): Promise<StreamEvent[]>;
  /** All events that are still to come. */
  rest(): Promise<StreamEvent[]>;
  readonly sawDone: boolean;
  /** Closes the connection, as a client that loses interest. */
  abort(): void;
}

/** Opens a streaming request. */
export async function openStream(url: string, body: Record<string, unknown>): Promise<SseStream> {
  const controller = new AbortController();
  const response = await request(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...body, stream: true }),
    signal: controller.signal,
    bodyTimeout: 0,
    headersTimeout: 0,
  });
  let sawDone = false;
  const events = readEvents(response.body, () => {
    sawDone = true;
  });
  const take = async (count: number): Promise<StreamEvent[]> => {
    const taken: StreamEvent[] = [];
    while (taken.length < count) {
      const { value, done } = await events.next();
      if (done === true) break;
      taken.push(value);
    }
    return taken;
  };
  return {
    status: response.statusCode,
    headers: response.headers,
    async next() {
      const { value, done } = await events.next();
      if (done === true) throw new Error("the stream has ended");
      return value;
    },
    take,
    rest: () => take(Number.POSITIVE_INFINITY),
    get sawDone() {
      return sawDone;
    },
    abort: () => controller.abort(),
  };
}

async function* readEvents(
  body: AsyncIterable<Buffer>,
  onDone: () => void,
): AsyncGenerator<StreamEvent, void> {
  let text = "";
  const decoder = new TextDecoder();
  for await (const bytes of body) {
    text += decoder.decode(bytes, { stream: true });
    for (let end = text.indexOf("\n\n"); end !== -1; end = text.indexOf("\n\n")) {
      const line = text.slice(0, end);
      text = text.slice(end + 2);
      if (line === "data: [DONE]") onDone();
      else if (line.startsWith("data: ")) yield JSON.parse(line.slice(6)) as StreamEvent;
    }
  }
}

import type { Dispatcher } from "undici";
import type { BenchClock } from "./clock.ts";
import type { Failure, FailureKind, ResponseTrace, Usage } from "./record.ts";
import { SseError, SseReader } from "./sse-reader.ts";

/** One streaming completion to send. */
export interface CompletionRequest {
  readonly origin: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly timeoutMs: number;
}

/** Most bytes of an error response that are read. */
const MAX_ERROR_BODY_BYTES = 16 * 1024;

/** Longest message of a failure. */
const MAX_MESSAGE_LENGTH = 200;

/** Most content times kept of one response; an output beyond it is a failure. */
const MAX_CONTENT_CHUNKS = 4 * 1024 * 1024;

const CONNECT_CODES: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ETIMEDOUT",
  "EADDRNOTAVAIL",
  "EMFILE",
  "UND_ERR_CONNECT_TIMEOUT",
]);

/** Sends a streaming completion and times its chunks as they arrive. Never rejects: failures are in the trace. */
export function callCompletion(
  dispatcher: Pick<Dispatcher, "dispatch">,
  request: CompletionRequest,
  clock: BenchClock,
  signal: AbortSignal,
): Promise<ResponseTrace> {
  return new Promise((resolve) => {
    const timer = new AbortController();
    const call = new CompletionCall(clock, (trace) => {
      timer.abort();
      signal.removeEventListener("abort", interrupt);
      resolve(trace);
    });
    const interrupt = (): void => call.stop("aborted", "the run was interrupted");
    signal.addEventListener("abort", interrupt);
    if (signal.aborted) {
      interrupt();
      return;
    }
    void clock.sleepUntil(call.sentMs + request.timeoutMs, timer.signal).then(() => {
      call.stop("timeout", `no end of the response after ${request.timeoutMs} ms`);
    });
    const { origin, path, headers, body } = request;
    try {
      dispatcher.dispatch({ origin, path, method: "POST", headers: { ...headers }, body }, call);
    } catch (error) {
      call.onResponseError(null, error instanceof Error ? error : new Error(String(error)));
    }
  });
}

/** Follows one response; settles exactly once. */
class CompletionCall implements Dispatcher.DispatchHandler {
  readonly sentMs: number;
  readonly #clock: BenchClock;
  readonly #onSettled: (trace: ResponseTrace) => void;
  readonly #reader = new SseReader();
  readonly #contentTimesMs: number[] = [];
  readonly #contentTokens: number[] = [];
  #controller: Dispatcher.DispatchController | null = null;
  #isSettled = false;
  #errorStatus: number | null = null;
  #errorBody: Buffer[] = [];
  #errorBytes = 0;
  #hasFinishReason = false;
  #isDone = false;
  #usage: Usage | null = null;

  constructor(clock: BenchClock, onSettled: (trace: ResponseTrace) => void) {
    this.#clock = clock;
    this.#onSettled = onSettled;
    this.sentMs = clock.nowMs();
  }

  /** Ends the call from this side; no effect when it has ended. */
  stop(kind: FailureKind, message: string): void {
    if (this.#isSettled) return;
    this.#settle({ kind, message });
    this.#controller?.abort(new Error(message));
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#isSettled) controller.abort(new Error("stopped before it was sent"));
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: NodeJS.Dict<string | string[]>,
  ): void {
    if (status < 200) return;
    if (status !== 200) {
      this.#errorStatus = status;
      return;
    }
    const type = String(headers["content-type"] ?? "none");
    if (type.startsWith("text/event-stream")) return;
    this.stop("not_a_stream", `content type ${cut(type)} instead of text/event-stream`);
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    const nowMs = this.#clock.nowMs();
    if (this.#isSettled) return;
    if (this.#errorStatus !== null) {
      this.#errorBytes += chunk.length;
      if (this.#errorBytes <= MAX_ERROR_BODY_BYTES) this.#errorBody.push(chunk);
      else this.#failWithStatus(this.#errorStatus);
      return;
    }
    try {
      for (const data of this.#reader.push(chunk)) this.#readEvent(data, nowMs);
    } catch (error) {
      if (!(error instanceof SseError || error instanceof SyntaxError)) throw error;
      this.stop("malformed", error instanceof SseError ? error.message : "an event is not JSON");
    }
  }

  onResponseEnd(): void {
    if (this.#isSettled) return;
    if (this.#errorStatus !== null) this.#failWithStatus(this.#errorStatus);
    else if (!this.#hasFinishReason)
      this.#settle({ kind: "truncated", message: "the stream ended without finish_reason" });
    else if (!this.#isDone) this.#settle({ kind: "truncated", message: "the stream ended without [DONE]" });
    else this.#settle(null);
  }

  onResponseError(_controller: Dispatcher.DispatchController | null, error: Error): void {
    if (this.#isSettled) return;
    const code = "code" in error ? String(error.code) : "";
    const kind = CONNECT_CODES.has(code) ? "connect" : "connection_lost";
    this.#settle({ kind, message: cut(error.message === "" ? code : error.message) });
  }

  #readEvent(data: string, nowMs: number): void {
    if (this.#isSettled || this.#isDone) return;
    if (data === "[DONE]") {
      this.#isDone = true;
      return;
    }
    const event: unknown = JSON.parse(data);
    if (!isObject(event)) {
      this.stop("malformed", "an event is not an object");
      return;
    }
    if (event.error !== undefined && event.error !== null) {
      this.stop("stream_error", messageOf(event.error));
      return;
    }
    const told = isObject(event.usage) ? toUsage(event.usage) : null;
    const choice: unknown = Array.isArray(event.choices) ? event.choices[0] : undefined;
    if (isObject(choice)) {
      if (hasContent(choice)) {
        this.#contentTimesMs.push(nowMs);
        if (told !== null) this.#contentTokens.push(told.outputTokens);
      }
      if (typeof choice.finish_reason === "string") this.#hasFinishReason = true;
    }
    this.#usage = told ?? this.#usage;
    if (this.#contentTimesMs.length > MAX_CONTENT_CHUNKS) this.stop("malformed", "the stream does not end");
  }

  #failWithStatus(status: number): void {
    const text = Buffer.concat(this.#errorBody).toString("utf8");
    let message = text;
    try {
      const parsed: unknown = JSON.parse(text);
      message = isObject(parsed) ? messageOf(parsed.error ?? parsed) : text;
    } catch {
      // Not JSON: the text itself is the message.
    }
    this.stop(`http_${status}`, cut(message === "" ? `status ${status}` : message));
  }

  #settle(failure: Failure | null): void {
    this.#isSettled = true;
    const { sentMs } = this;
    const endMs = this.#clock.nowMs();
    const contentTimesMs = this.#contentTimesMs;
    const told = this.#contentTokens;
    const contentTokens = told.length > 0 && told.length === contentTimesMs.length ? told : null;
    this.#onSettled({ sentMs, contentTimesMs, contentTokens, endMs, usage: this.#usage, failure });
  }
}

/** Whether a choice of a chat or a text completion carries text, reasoning included. */
function hasContent(choice: Record<string, unknown>): boolean {
  if (typeof choice.text === "string") return choice.text !== "";
  if (!isObject(choice.delta)) return false;
  const { content, reasoning_content: reasoning } = choice.delta;
  return (
    (typeof content === "string" && content !== "") || (typeof reasoning === "string" && reasoning !== "")
  );
}

function toUsage(usage: Record<string, unknown>): Usage | null {
  const {
    prompt_tokens: inputTokens,
    completion_tokens: outputTokens,
    prompt_tokens_details: details,
  } = usage;
  if (!isCount(inputTokens) || !isCount(outputTokens)) return null;
  const cachedTokens = isObject(details) && isCount(details.cached_tokens) ? details.cached_tokens : 0;
  return { inputTokens, outputTokens, cachedTokens };
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function messageOf(error: unknown): string {
  if (isObject(error) && typeof error.message === "string") return cut(error.message);
  return cut(typeof error === "string" ? error : JSON.stringify(error));
}

function cut(text: string): string {
  const line = text.replace(/\s+/g, " ").trim();
  return line.length > MAX_MESSAGE_LENGTH ? `${line.slice(0, MAX_MESSAGE_LENGTH)}…` : line;
}

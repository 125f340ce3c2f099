import type { Dispatcher } from "undici";
import { BenchError } from "./options.ts";

/** Most bytes of a JSON answer. */
const MAX_ANSWER_BYTES = 8 * 1024 * 1024;

/** How long a question may take that is not part of the measurement. */
const QUESTION_TIMEOUT_MS = 120_000;

/** A server and how to talk to it. */
export interface Target {
  readonly dispatcher: Dispatcher;
  /** Without `/v1` and without a trailing slash. */
  readonly baseUrl: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

export interface JsonAnswer {
  readonly status: number;
  /** Null when the answer was not JSON. */
  readonly body: unknown;
}

/** The path of an endpoint below the target's base. */
export function pathOf(target: Target, endpoint: string): string {
  return `${target.baseUrl.pathname.replace(/\/+$/, "")}${endpoint}`;
}

/** Asks for JSON. Throws {@link BenchError} when the server cannot be reached. */
export async function askJson(target: Target, endpoint: string, body?: unknown): Promise<JsonAnswer> {
  try {
    const response = await target.dispatcher.request({
      origin: target.baseUrl.origin,
      path: pathOf(target, endpoint),
      method: body === undefined ? "GET" : "POST",
      headers: { ...target.headers },
      body: body === undefined ? null : JSON.stringify(body),
      signal: AbortSignal.any([target.signal, AbortSignal.timeout(QUESTION_TIMEOUT_MS)]),
    });
    const chunks: Buffer[] = [];
    let numBytes = 0;
    for await (const chunk of response.body) {
      if (!Buffer.isBuffer(chunk)) continue;
      numBytes += chunk.length;
      if (numBytes > MAX_ANSWER_BYTES)
        throw new BenchError(`${endpoint} answers with more than ${MAX_ANSWER_BYTES} bytes`);
      chunks.push(chunk);
    }
    return { status: response.statusCode, body: parseOrNull(Buffer.concat(chunks).toString("utf8")) };
  } catch (error) {
    if (error instanceof BenchError) throw error;
    if (target.signal.aborted) throw new BenchError("interrupted before the first request", { cause: error });
    const reason = error instanceof Error && error.message !== "" ? error.message : "no connection";
    const code = error instanceof Error && "code" in error ? ` (${String(error.code)})` : "";
    const message = `cannot reach ${target.baseUrl.origin}: ${reason}${code}; is the server running?`;
    throw new BenchError(message, { cause: error });
  }
}

function parseOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

import { request } from "undici";

export interface CompletionResult {
  readonly status: number;
  readonly text: string;
  readonly finishReason: string | null;
  readonly error: { code: string; message: string; param: string | null } | null;
  readonly usage: { prompt_tokens: number; completion_tokens: number; cached_tokens: number } | null;
  readonly headers: Record<string, string | string[] | undefined>;
}

/** One `/v1/completions` call without streaming. */
export async function complete(url: string, body: Record<string, unknown>): Promise<CompletionResult> {
  const response = await request(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "lexicon-3m", ...body }),
    bodyTimeout: 0,
    headersTimeout: 0,
  });
  const json = (await response.body.json()) as {
    choices?: Array<{ text: string; finish_reason: string }>;
    error?: CompletionResult["error"];
    usage?: {
      prompt_tokens: number;
      completion_tokens: number;
      prompt_tokens_details?: { cached_tokens: number };
    };
  };
  return {
    status: response.statusCode,
    text: json.choices?.[0]?.text ?? "",
    finishReason: json.choices?.[0]?.finish_reason ?? null,
    error: json.error ?? null,
    usage:
      json.usage === undefined
        ? null
        : {
            prompt_tokens: json.usage.prompt_tokens,
            completion_tokens: json.usage.completion_tokens,
            cached_tokens: json.usage.prompt_tokens_details?.cached_tokens ?? 0,
          },
    headers: response.headers,
  };
}

/** Runs `task` over `items`, at most `concurrency` at a time; results in order of the items. */
export async function mapConcurrently<T, R>(
  items: readonly T[],
  concurrency: number,
  task: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results = new Array<R>(items.length);
  let next = 0;
  const runner = async (): Promise<void> => {
    while (next < items.length) {
      const index = next++;
      results[index] = await task(items[index]!, index);
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, runner));
  return results;
}

import type { Request } from "../../core/request.ts";
import { HASH_WORDS } from "../../core/tokens/block-hash.ts";
import { ServingError } from "../../protocol/errors.ts";

/**
 * The RPC codec has checked shapes; what depends on a worker's model is checked here. Throws `ServingError`
 * `context_length_exceeded` or `invalid_value`.
 */
export function checkRequest(
  request: Request,
  {
    contextTokens,
    vocabSize,
    blockSizeTokens,
  }: Record<"contextTokens" | "vocabSize" | "blockSizeTokens", number>,
): void {
  const numTokens = request.promptTokens.length + request.maxOutputTokens;
  if (numTokens > contextTokens) {
    const message = `prompt and output make ${numTokens} tokens; this worker takes ${contextTokens}`;
    throw new ServingError("context_length_exceeded", message);
  }
  for (const tokens of [request.promptTokens, request.resumedTokens]) {
    for (const token of tokens) {
      if (token < 0 || token >= vocabSize) {
        throw new ServingError("invalid_value", `token ${token} is not in the vocabulary of ${vocabSize}`);
      }
    }
  }
  const numHashes = (request.knownBlockHashes?.length ?? 0) / HASH_WORDS;
  if (numHashes * blockSizeTokens > request.promptTokens.length) {
    const message = `${numHashes} block hashes are more than the prompt has full blocks`;
    throw new ServingError("invalid_value", message);
  }
  for (const [token] of request.sampling.logitBias) {
    if (token >= vocabSize)
      throw new ServingError("invalid_value", `token ${token} is not in the vocabulary`);
  }
}

/** Identity of a request, minted by the gateway; unique within a fleet. */
export type RequestId = string;

/** Identity of a worker process, minted by whoever starts it. A restarted worker gets a new one. */
export type WorkerId = string;

/** What a worker may do. A `decode` worker can prefill too, but placement sends it only short prompts. */
export type WorkerRole = "prefill" | "decode" | "both";

/** How the next token is drawn from the logits. Field meanings follow the OpenAI API and vLLM's extensions. */
export interface SamplingParams {
  /** 0 means greedy: the most likely token, lowest id first on a tie. */
  readonly temperature: number;
  /** Keep the k most likely tokens; 0 keeps all. */
  readonly topK: number;
  /** Keep the smallest set of tokens whose probability reaches this share, in (0, 1]; 1 keeps all. */
  readonly topP: number;
  /** Drop tokens below this share of the most likely token's probability, in [0, 1]; 0 drops none. */
  readonly minP: number;
  /** Subtracted from a token's logit once per earlier occurrence in the output, in [-2, 2]. */
  readonly frequencyPenalty: number;
  /** Subtracted once from the logit of a token that occurs in the output, in [-2, 2]. */
  readonly presencePenalty: number;
  /** Divides (positive) or multiplies (negative) the logit of tokens in prompt or output; 1 is off. */
  readonly repetitionPenalty: number;
  /** 32-bit seed. The draw for output token i depends on (seed, i) alone, so it survives a handoff. */
  readonly seed: number;
  /** Added to the logits of these tokens: pairs of token id and bias in [-100, 100]. */
  readonly logitBias: ReadonlyArray<readonly [token: number, bias: number]>;
  /** How many alternatives to report per token (0 to 20), or null for no log probabilities at all. */
  readonly topLogprobs: number | null;
}

export const GREEDY: SamplingParams = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  frequencyPenalty: 0,
  presencePenalty: 0,
  repetitionPenalty: 1,
  seed: 0,
  logitBias: [],
  topLogprobs: null,
};

/** One sequence to complete. Immutable; what changes while it runs is in {@link Sequence}. */
export interface Request {
  readonly id: RequestId;
  /** Which attempt at placing this request this is. Output of an earlier epoch is dropped. */
  readonly epoch: number;
  readonly promptTokens: Int32Array;
  /**
   * Hashes of the request's leading full blocks, four words each as `BlockHasher` makes them, as far as the request's owner has
   * them already: a conversation keeps its chain, and the twin knows texts by identity alone. The rest is hashed where needed.
   */
  readonly knownBlockHashes?: Int32Array;
  /** How many of these blocks are the prompt's: the twin names those of the output as well, which no decision may see. Absent: all. */
  readonly numKnownPromptBlocks?: number;
  /**
   * How many leading blocks are public: hashed with a salt that all tenants share (see `BlockHasher`). Their hashes are among
   * `knownBlockHashes`. Absent: none.
   */
  readonly publicBlocks?: number;
  /**
   * Output that an earlier attempt has already emitted. It counts as known, so a request that moves to another
   * worker goes on from exactly the next token. Empty for a fresh request.
   */
  readonly resumedTokens: Int32Array;
  /** Upper bound of output tokens, resumed ones included. At least 1. */
  readonly maxOutputTokens: number;
  /** End-of-generation tokens are not acted on before this many output tokens. */
  readonly minOutputTokens: number;
  /** Go on through end-of-generation tokens until `maxOutputTokens`: for load tests of a fixed length. */
  readonly ignoreEndOfGeneration: boolean;
  readonly sampling: SamplingParams;
  /** Separates tenants in the prefix cache. Derived by the gateway, never taken from a client. */
  readonly cacheSalt: string;
  /** Smaller is served first; equal priorities are served in order of arrival. */
  readonly priority: number;
  /** The client would like the first token within this time of its arrival: a wish to placement, nothing ends. Absent: nobody has said. */
  readonly firstTokenGoalMs?: number;
  /** What the client expects of this prompt's KV after the request. Absent: nothing in particular. */
  readonly retention?: Retention;
  /** How many requests the client expects to begin with this prompt, itself included. Absent: unknown. */
  readonly expectedFanOut?: number;
  /** When the client expects to send the next turn of the conversation, after the end of this one. Absent: not said. For the owner only. */
  readonly nextTurnMs?: number;
  /** The most of a worker's prefix cache that blocks of this salt may take while nobody uses them, in [0, 1]. Absent: all of it. */
  readonly cacheShare?: number;
}

/** How long KV is likely to be wanted. A wish: what there is room for is kept in the order that this suggests. */
export interface Retention {
  /** `none`: nobody will come back. `long`: somebody will, later than others. */
  readonly keep: "none" | "default" | "long";
  /** After this time, nobody will come back. Null: not said. */
  readonly ttlMs: number | null;
}

/** Why a sequence ended. `stop`: an end-of-generation token. `length`: the output bound was reached. */
export type FinishReason = "stop" | "length";

/** Log probability of one token and its alternatives, natural logarithm, before temperature. */
export interface TokenLogprobs {
  readonly logprob: number;
  /** Most likely first: pairs of token id and log probability. */
  readonly top: ReadonlyArray<readonly [token: number, logprob: number]>;
}

import type { FinishReason, Request } from "./request.ts";
import type { PrefixFetch } from "./router/placement.ts";
import { assert } from "./util/assert.ts";

/**
 * Where a sequence stands on one worker.
 *
 * - `waiting`: known, holds no blocks
 * - `running`: holds a slot and blocks, takes part in steps
 * - `onboarding`: holds a slot and blocks that KV of a lower tier is being written into
 * - `receiving`: holds a slot and blocks that another worker's KV is being written into
 * - `received`: has all that KV, or what came up, and waits for a place in the batch
 * - `handing-off`: computed, holds its blocks until the decode worker has verified its copy
 * - `finished`: holds nothing
 */
export type SequenceStatus =
  | "waiting"
  | "running"
  | "onboarding"
  | "receiving"
  | "received"
  | "handing-off"
  | "finished";

/**
 * One request on one worker: its known tokens (prompt and output so far), how many of them have KV, and where that KV lies.
 *
 * There are no phases: a sequence whose computed tokens lag behind its known tokens has work to do, whether these
 * are a prompt, the token sampled last, or everything again after a preemption.
 *
 * ```
 *   tokens   [ prompt ................ | output ........ ]
 *            0          numComputed            numKnown
 *            |-- KV exists --|---- to compute ----|
 * ```
 */
export class Sequence {
  readonly request: Request;
  readonly numPromptTokens: number;
  /** The most tokens that can ever be known: the prompt and the longest output. */
  readonly maxKnownTokens: number;
  status: SequenceStatus = "waiting";
  numKnownTokens: number;
  numComputedTokens = 0;
  /** Prompt tokens that were found in the prefix cache at the first admission. */
  numCachedTokens = 0;
  /** Block table: the block that holds the KV of positions [i × blockSize, (i + 1) × blockSize). */
  readonly blocks: number[] = [];
  /** The engine's name for this sequence's KV, or -1 while it holds none. */
  slot = -1;
  /** How many leading blocks have been filed in the prefix cache, or found to be there already. */
  numFiledBlocks = 0;
  /** Chained hashes of the first `numBlockHashes` full blocks of known tokens; owned by the block manager. */
  blockHashes: Int32Array | null = null;
  numBlockHashes = 0;
  /** Order of arrival on this worker; breaks ties and picks preemption victims. */
  readonly order: number;
  /** When the sequence stops after its prompt because another worker decodes it. */
  readonly stopsAfterPrefill: boolean;
  /** Where the beginning of the prompt may be had, beyond what this worker has itself. */
  readonly fetch: PrefixFetch | null;
  /** The prompt stays in the request: long prompts are not copied. */
  readonly #output: number[];
  /** The step that the sequence was last scheduled in; owned by the scheduler's step builder. */
  stepMark = 0;
  numPreemptions = 0;
  /** Order of coming to where nothing but room and a place in a step is missing; given by the scheduler. */
  readyOrder = 0;
  finishReason: FinishReason | null = null;

  constructor(
    request: Request,
    options: { order: number; stopsAfterPrefill?: boolean; fetch?: PrefixFetch | undefined },
  ) {
    const numKnown = request.promptTokens.length + request.resumedTokens.length;
    assert(request.promptTokens.length > 0, "a sequence needs at least one prompt token");
    assert(request.maxOutputTokens > request.resumedTokens.length, "nothing left to generate");
    this.request = request;
    this.order = options.order;
    this.fetch = options.fetch ?? null;
    this.stopsAfterPrefill = options.stopsAfterPrefill ?? false;
    this.numPromptTokens = request.promptTokens.length;
    this.numKnownTokens = numKnown;
    this.maxKnownTokens = request.promptTokens.length + request.maxOutputTokens;
    this.#output = request.resumedTokens.length === 0 ? [] : [...request.resumedTokens];
  }

  /** The known token at a position in [0, numKnownTokens). */
  tokenAt(position: number): number {
    return position < this.numPromptTokens
      ? this.request.promptTokens[position]!
      : this.#output[position - this.numPromptTokens]!;
  }

  /** A copy of all known tokens. */
  knownTokens(): Int32Array {
    const tokens = new Int32Array(this.numKnownTokens);
    tokens.set(this.request.promptTokens);
    tokens.set(this.#output, this.numPromptTokens);
    return tokens;
  }

  /** Known tokens that have no KV yet. A decoding sequence has exactly one. */
  get numUncomputedTokens(): number {
    return this.numKnownTokens - this.numComputedTokens;
  }

  get numOutputTokens(): number {
    return this.numKnownTokens - this.numPromptTokens;
  }

  /** The most tokens whose KV this sequence can ever need here: the last output token is never computed. */
  get maxComputedTokens(): number {
    const { promptTokens, resumedTokens } = this.request;
    return this.stopsAfterPrefill ? promptTokens.length + resumedTokens.length : this.maxKnownTokens - 1;
  }

  /** Appends a sampled token. The caller has computed everything before it. */
  append(token: number): void {
    assert(this.numKnownTokens < this.maxKnownTokens, "output exceeds its bound");
    this.#output.push(token);
    this.numKnownTokens++;
  }

  /** Appends the tokens [from, to) of a list. */
  appendAll(tokens: ReadonlyArray<{ readonly token: number }>, from: number, to: number): void {
    assert(this.numKnownTokens + to - from <= this.maxKnownTokens, "output exceeds its bound");
    for (let i = from; i < to; i++) this.#output.push(tokens[i]!.token);
    this.numKnownTokens += to - from;
  }
}

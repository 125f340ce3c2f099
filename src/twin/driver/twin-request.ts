import { GREEDY, type Request, type WorkerId } from "../../core/request.ts";
import { HASH_WORDS } from "../../core/tokens/block-hash.ts";
import { promptBlockHashes, uniqueBlockHashes } from "../workload/block-identity.ts";
import { DEFAULT_TENANT } from "../workload/plain-request.ts";
import type { PromptBlocks, WorkloadRequest } from "../workload/workload.ts";

/** The token that ends an output, and the one that stands for any other. */
export const END_TOKEN = 1;
export const ANY_TOKEN = 0;

/** What a run keeps of a request while it is not over. */
export interface RequestTrack {
  readonly workload: WorkloadRequest;
  prefillWorker: WorkerId | null;
  decodeWorker: WorkerId | null;
  numCachedTokens: number;
  numOutputTokens: number;
  /** Start of the first step that computes it. */
  firstStepMs: number;
  firstTokenMs: number;
  lastTokenMs: number;
  maxGapMs: number;
  /** Every gap, when somebody wants to know. */
  readonly gapsMs: number[] | null;
}

/** A request as the decision code sees it, with what only the modelled engine looks at. */
export interface TwinRequest extends Request {
  readonly track: RequestTrack;
}

export function trackOf(request: Request): RequestTrack {
  return (request as TwinRequest).track;
}

/** Makes requests that have identities in place of tokens. */
export class RequestMaker {
  readonly #blockTokens: number;
  readonly #outputBound: number | "true";
  readonly #wishes: Pick<Request, "firstTokenGoalMs">;
  readonly #hashesPrompts: boolean;
  readonly #keepsGaps: boolean;
  /** Every prompt is a view of this: prompts have no text. */
  #zeros = new Int32Array(1 << 16);
  #numRequests = 0;
  /** What later requests keep their hashes in, and how much of it is taken. */
  #room = NO_TOKENS;
  #numTaken = 0;

  constructor(options: {
    blockTokens: number;
    outputBound: number | "true";
    firstTokenGoalMs?: number;
    hashesPrompts: boolean;
    keepsGaps: boolean;
  }) {
    this.#keepsGaps = options.keepsGaps;
    this.#blockTokens = options.blockTokens;
    this.#outputBound = options.outputBound;
    this.#hashesPrompts = options.hashesPrompts;
    const { firstTokenGoalMs } = options;
    this.#wishes = firstTokenGoalMs === undefined ? {} : { firstTokenGoalMs };
  }

  make(workload: WorkloadRequest): TwinRequest {
    const number = this.#numRequests++;
    const isTrue = this.#outputBound === "true";
    const track: RequestTrack = {
      workload,
      prefillWorker: null,
      decodeWorker: null,
      numCachedTokens: 0,
      numOutputTokens: 0,
      firstStepMs: Number.NaN,
      firstTokenMs: Number.NaN,
      lastTokenMs: Number.NaN,
      maxGapMs: 0,
      gapsMs: this.#keepsGaps ? [] : null,
    };
    return {
      id: workload.id,
      epoch: 0,
      promptTokens: this.#promptOf(workload.inputTokens),
      knownBlockHashes: this.#hashes(workload, number),
      numKnownPromptBlocks: this.#hashesPrompts ? Math.floor(workload.inputTokens / this.#blockTokens) : 0,
      resumedTokens: NO_TOKENS,
      maxOutputTokens:
        this.#outputBound === "true"
          ? workload.outputTokens
          : Math.max(workload.maxOutputTokens ?? this.#outputBound, workload.outputTokens),
      minOutputTokens: 0,
      ignoreEndOfGeneration: isTrue,
      sampling: GREEDY,
      cacheSalt: workload.tenant,
      priority: workload.priority,
      ...this.#wishes,
      ...workload.wishes,
      track,
    };
  }

  #promptOf(numTokens: number): Int32Array {
    if (numTokens > this.#zeros.length) this.#zeros = new Int32Array(2 * numTokens);
    return this.#zeros.subarray(0, numTokens);
  }

  /** Zeros that nobody else has. A piece of a larger array: one that has a buffer of its own costs microseconds. */
  #takeRoom(numWords: number): Int32Array {
    if (this.#numTaken + numWords > this.#room.length) {
      this.#room = new Int32Array(Math.max(ROOM_WORDS, numWords));
      this.#numTaken = 0;
    }
    const from = this.#numTaken;
    this.#numTaken += numWords;
    return this.#room.subarray(from, this.#numTaken);
  }

  /** Identities of the prompt's blocks, and of the output's: nobody else has these. */
  #hashes({ blocks, tenant, inputTokens, outputTokens }: WorkloadRequest, number: number): Int32Array {
    if (!this.#hashesPrompts) return NO_TOKENS;
    const numBlocks = Math.floor((inputTokens + outputTokens) / this.#blockTokens);
    const hashes = this.#takeRoom(numBlocks * HASH_WORDS);
    const named = blocks === null || tenant === DEFAULT_TENANT ? blocks : saltedBy(tenant, blocks);
    const numNamed = named === null ? 0 : promptBlockHashes(named, inputTokens, this.#blockTokens, hashes);
    if (numNamed < numBlocks) uniqueBlockHashes(number, numNamed, numBlocks, hashes);
    return hashes;
  }
}

/** Words of the array that requests get pieces of. */
const ROOM_WORDS = 8192;

/** The same blocks as nobody but the tenant has them: as in the server, tenants share no KV, whatever they send. */
function saltedBy(tenant: string, blocks: PromptBlocks): PromptBlocks {
  return { ...blocks, scope: `${tenant.length}:${tenant}${blocks.scope}` };
}

const NO_TOKENS = new Int32Array(0);

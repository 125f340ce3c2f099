import type { Request, RequestId } from "../../core/request.ts";
import type { PlacementDecision } from "../../core/router/placement.ts";
import { keptCandidates } from "../../protocol/dispatch-log.ts";
import type { ExplainedRequest } from "../../protocol/explained.ts";

/** Requests whose decisions are kept; the oldest go first. */
export const MAX_KEPT_DECISIONS = 1024;

interface Kept {
  readonly requestId: RequestId;
  readonly cacheSalt: string;
  readonly numPromptTokens: number;
  readonly maxOutputTokens: number;
  numCachedTokens: number | null;
  readonly attempts: Array<{ readonly atMs: number; readonly decision: PlacementDecision }>;
}

/** The latest decisions of a gateway, for whoever asks why. */
export class DecisionLog {
  readonly #policy: string;
  readonly #maxRequests: number;
  readonly #kept = new Map<RequestId, Kept>();

  constructor(policy: string, maxRequests: number = MAX_KEPT_DECISIONS) {
    this.#policy = policy;
    this.#maxRequests = maxRequests;
  }

  submitted({ id, cacheSalt, promptTokens, maxOutputTokens }: Request): void {
    this.#kept.set(id, {
      requestId: id,
      cacheSalt,
      numPromptTokens: promptTokens.length,
      maxOutputTokens,
      numCachedTokens: null,
      attempts: [],
    });
    if (this.#kept.size <= this.#maxRequests) return;
    for (const oldest of this.#kept.keys()) {
      this.#kept.delete(oldest);
      return;
    }
  }

  /** `atMs` is Unix time. */
  placed(requestId: RequestId, decision: PlacementDecision, atMs: number): void {
    this.#kept.get(requestId)?.attempts.push({ atMs, decision: shortened(decision) });
  }

  cached(requestId: RequestId, numTokens: number): void {
    const kept = this.#kept.get(requestId);
    if (kept !== undefined) kept.numCachedTokens = numTokens;
  }

  /** A request, or its choices `requestId-0`, `requestId-1`, …, if they are the tenant's whose salt is given. */
  explain(requestId: RequestId, cacheSalt: string): ExplainedRequest[] {
    const found: ExplainedRequest[] = [];
    const add = (id: RequestId): boolean => {
      const kept = this.#kept.get(id);
      if (kept === undefined || kept.cacheSalt !== cacheSalt) return false;
      const { cacheSalt: _, ...shown } = kept;
      found.push({ ...shown, policy: this.#policy, attempts: [...kept.attempts] });
      return true;
    };
    if (add(requestId)) return found;
    // Choices were numbered from 0 and are forgotten in that order.
    for (const id of this.#kept.keys()) if (isChoice(id, requestId)) add(id);
    return found;
  }
}

function shortened(decision: PlacementDecision): PlacementDecision {
  const { candidates } = decision;
  return candidates === undefined ? decision : { ...decision, candidates: keptCandidates(candidates) };
}

function isChoice(id: RequestId, requestId: RequestId): boolean {
  return id.startsWith(`${requestId}-`) && /^\d+$/.test(id.slice(requestId.length + 1));
}

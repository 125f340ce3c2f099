import type { CacheWishes } from "../../protocol/cache-hints.ts";

/**
 * One request of a workload. Prompts are identities, not text: `blocks` names what a prompt consists of, so that equal names
 * at the same place mean a prefix that a cache can reuse.
 */
export interface WorkloadRequest {
  /** Unique within a run. */
  readonly id: string;
  /** From the start of the run. */
  readonly arrivalMs: number;
  readonly inputTokens: number;
  /** Hidden from every policy: only the modelled engine knows when the output ends. */
  readonly outputTokens: number;
  /** The bound of the output that policies see, where the workload knows it; else the run's. */
  readonly maxOutputTokens?: number;
  /** Identities of the prompt's blocks, the last one perhaps partial; null: the prompt shares nothing with any other. */
  readonly blocks: PromptBlocks | null;
  /** Requests of one conversation or agent session carry one id; null: on its own. */
  readonly sessionId: string | null;
  readonly tenant: string;
  /** Smaller is served first. */
  readonly priority: number;
  /** Named class, such as `text` or `video`; reports can be split by it. */
  readonly kind: string;
  /** Work outside the language model: encoding before the prompt can be computed, in accelerator milliseconds; 0 for text. */
  readonly encodeMs: number;
  /** What it says of its KV; null: nothing. */
  readonly wishes: CacheWishes | null;
}

export interface PromptBlocks {
  /** Tokens of each block: 16, 64 or 512 in the known traces. */
  readonly blockTokens: number;
  /** Ids compare only within one scope: "" for all, or a session's id. */
  readonly scope: string;
  readonly ids: readonly number[];
}

/**
 * Where requests come from. Sources are streamed: memory does not grow with their length. Closed-loop sources make later
 * arrivals known when earlier requests end. Reading ahead may throw {@link WorkloadError} in any of these calls.
 */
export interface WorkloadSource {
  /** Whether arrivals depend on when earlier requests end. Default: false. */
  readonly isClosedLoop?: boolean;
  /** Arrival of the next request that is known now; infinite when none is. */
  readonly nextArrivalMs: number;
  /** Takes that request out. */
  take(): WorkloadRequest;
  /** A request has ended, well or not. Sources know it by its id. */
  ended(request: WorkloadRequest, nowMs: number): void;
  /** Lets files go before the end is reached; nothing may be asked afterwards. */
  close?(): void;
}

/** Bad data in a workload file. `line` counts from 1; 0 is the file as a whole. */
export class WorkloadError extends Error {
  override name = "WorkloadError";
  readonly code = "bad_workload";
  constructor(file: string, line: number, message: string) {
    super(line === 0 ? `${file}: ${message}` : `${file}:${line}: ${message}`);
  }
}

import { DEFAULT_KIND, DEFAULT_TENANT } from "./trace-source.ts";
import type { WorkloadRequest, WorkloadSource } from "./workload.ts";

/** Requests of which a workload knows arrival and lengths, and nothing else. */
export interface PlainRequest {
  readonly arrivalMs: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
}

/** A request that shares nothing with any other. */
export function plainRequest(
  id: string,
  { arrivalMs, inputTokens, outputTokens }: PlainRequest,
): WorkloadRequest {
  return {
    id,
    arrivalMs,
    inputTokens,
    outputTokens,
    blocks: null,
    sessionId: null,
    tenant: DEFAULT_TENANT,
    priority: 0,
    kind: DEFAULT_KIND,
    encodeMs: 0,
  };
}

/** A workload that is a list, in order of arrival. */
export class ListSource implements WorkloadSource {
  readonly #requests: readonly WorkloadRequest[];
  #next = 0;

  constructor(requests: readonly WorkloadRequest[]) {
    this.#requests = requests;
  }

  /** Requests named by their place in the list. */
  static ofPlain(requests: readonly PlainRequest[]): ListSource {
    return new ListSource(requests.map((request, index) => plainRequest(String(index), request)));
  }

  get nextArrivalMs(): number {
    return this.#requests[this.#next]?.arrivalMs ?? Number.POSITIVE_INFINITY;
  }

  take(): WorkloadRequest {
    return this.#requests[this.#next++]!;
  }

  ended(): void {}
}

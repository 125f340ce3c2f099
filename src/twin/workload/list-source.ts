import { plainRequest } from "./plain-request.ts";
import type { WorkloadRequest, WorkloadSource } from "./workload.ts";

/** Requests of which a workload knows arrival and lengths, and nothing else. */
export interface PlainRequest {
  readonly arrivalMs: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
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
    return new ListSource(
      requests.map(({ arrivalMs, inputTokens, outputTokens }, index) => ({
        ...plainRequest(String(index), inputTokens, outputTokens),
        arrivalMs,
      })),
    );
  }

  get nextArrivalMs(): number {
    return this.#requests[this.#next]?.arrivalMs ?? Number.POSITIVE_INFINITY;
  }

  take(): WorkloadRequest {
    return this.#requests[this.#next++]!;
  }

  ended(): void {}
}

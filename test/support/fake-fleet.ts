import type { FinishReason, Request, RequestId } from "../../src/core/request.ts";
import type { SampledToken } from "../../src/core/scheduler/step-plan.ts";
import { type ErrorCode, ServingError } from "../../src/protocol/errors.ts";
import type { ExplainedRequest } from "../../src/protocol/explained.ts";
import { DecisionLog } from "../../src/serve/fleet/decision-log.ts";
import type {
  BlockIdentity,
  Fleet,
  Placement,
  RequestHandle,
  RequestListener,
  WorkerStatus,
} from "../../src/serve/fleet/fleet.ts";

const PLACEMENT: Placement = { prefillWorker: "prefill-0", decodeWorker: "decode-0" };

/** One submitted request, played by hand. Like a real fleet it says nothing more after its end or a cancel. */
export class FakeRequest implements RequestHandle {
  readonly request: Request;
  readonly cancelled: Promise<void>;
  isCancelled = false;
  readonly #listener: RequestListener;
  #isEnded = false;
  #resolveCancelled: () => void = () => {};

  constructor(request: Request, listener: RequestListener) {
    this.request = request;
    this.#listener = listener;
    this.cancelled = new Promise((resolve) => {
      this.#resolveCancelled = resolve;
    });
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  place(placement: Placement = PLACEMENT): this {
    if (!this.#isEnded) this.#listener.onPlaced(placement);
    return this;
  }

  /** Delivers these tokens together. */
  emit(...tokens: ReadonlyArray<number | SampledToken>): this {
    const sampled = tokens.map((token) => (typeof token === "number" ? { token } : token));
    if (!this.#isEnded) this.#listener.onTokens(sampled);
    return this;
  }

  /** Delivers the text's bytes together, each as the byte token of `FakeTokenizer`. */
  emitText(text: string): this {
    return this.emit(...Buffer.from(text));
  }

  finish(reason: FinishReason = "stop", numCachedTokens = 0): this {
    if (!this.#isEnded) {
      this.#isEnded = true;
      this.#listener.onFinish({ reason, numCachedTokens });
    }
    return this;
  }

  fail(code: ErrorCode, message: string = code): this {
    if (!this.#isEnded) {
      this.#isEnded = true;
      this.#listener.onError(new ServingError(code, message));
    }
    return this;
  }

  cancel(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.isCancelled = true;
    this.#resolveCancelled();
  }
}

/** A fleet that does nothing by itself: a test takes each request as it arrives and plays the workers. */
export class FakeFleet implements Fleet {
  isReady = true;
  contextTokens = 1024;
  blockIdentity: BlockIdentity | null = null;
  /** When set, `submit` throws it. */
  refusal: ServingError | null = null;
  /** Runs inside `submit`, before it returns: for what a fleet does at once. */
  onSubmit: ((request: FakeRequest) => void) | null = null;
  readonly submitted: FakeRequest[] = [];
  workerList: WorkerStatus[] = [];
  readonly decisions = new DecisionLog("load");
  #numTaken = 0;
  readonly #takers: Array<(request: FakeRequest) => void> = [];

  submit(request: Request, listener: RequestListener): RequestHandle {
    if (this.refusal !== null) throw this.refusal;
    const fake = new FakeRequest(request, listener);
    this.submitted.push(fake);
    this.decisions.submitted(request);
    this.onSubmit?.(fake);
    const taker = this.#takers.shift();
    if (taker !== undefined) {
      this.#numTaken++;
      taker(fake);
    }
    return fake;
  }

  /** The next request in order of arrival, also one that is still to come. Each is given out once. */
  next(): Promise<FakeRequest> {
    const waiting = this.submitted[this.#numTaken];
    if (waiting === undefined) return new Promise((resolve) => this.#takers.push(resolve));
    this.#numTaken++;
    return Promise.resolve(waiting);
  }

  /** The next `count` requests. */
  async take(count: number): Promise<FakeRequest[]> {
    const taken: FakeRequest[] = [];
    while (taken.length < count) taken.push(await this.next());
    return taken;
  }

  workers(): readonly WorkerStatus[] {
    return this.workerList;
  }

  explain(requestId: RequestId, cacheSalt: string): readonly ExplainedRequest[] {
    return this.decisions.explain(requestId, cacheSalt);
  }
}

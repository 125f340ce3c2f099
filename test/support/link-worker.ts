import type { Request, RequestId } from "../../src/core/request.ts";
import type { TurnExpectation } from "../../src/core/sessions/turn-expectation.ts";
import {
  type Assignment,
  PROTOCOL_VERSION,
  type SubscribeOptions,
  type WorkerEvent,
  type WorkerHello,
  type WorkerLoad,
  type WorkerService,
} from "../../src/protocol/worker-rpc.ts";
import { Recorder } from "./link-support.ts";

export const TEST_TOKEN = "0123456789abcdef0123456789abcdef";

export const IDLE_LOAD: WorkerLoad = {
  numRunning: 0,
  numWaiting: 0,
  uncomputedTokens: 0,
  kvBlocksUsed: 0,
  kvBlocksCached: 0,
  kvBlocksTotal: 64,
  numSteps: 0,
  numPreemptions: 0,
  prefixTokensHit: 0,
  prefixTokensQueried: 0,
  handoffs: {},
  handoffBytes: 0,
  tiers: {},
  prefetch: null,
  rssBytes: 1,
};

export function makeHello(overrides: Partial<WorkerHello> = {}): WorkerHello {
  return {
    protocolVersion: PROTOCOL_VERSION,
    workerId: "w1",
    role: "both",
    pid: 1234,
    engine: {
      engine: "stub",
      modelName: "stub",
      modelId: "model-1",
      tokenizerId: "tokenizer-1",
      kvType: "stub",
      vocabSize: 256,
      trainedContextTokens: 4096,
      kvCapacityTokens: 1024,
      kvBytesPerToken: 8,
      numSlots: 16,
      maxStepTokens: 256,
      endOfGenerationTokens: [0],
    },
    blockSizeTokens: 16,
    contextTokens: 1024,
    tokenBudget: 256,
    maxRunning: 16,
    kvAddress: "unix:/run/w1.kv",
    ...overrides,
  };
}

export type ServiceCall =
  | { readonly kind: "submit"; readonly request: Request; readonly assignment: Assignment }
  | { readonly kind: "cancel"; readonly requestId: RequestId; readonly epoch: number }
  | { readonly kind: "expect"; readonly expectation: TurnExpectation }
  | { readonly kind: "snapshot-kv" };

/** A worker that records what it is asked and says what the test tells it to say. */
export class RecordingService implements WorkerService {
  readonly calls = new Recorder<ServiceCall>();
  /** The number of subscribers after each change. */
  readonly subscriptions = new Recorder<number>();
  readonly #sinks = new Set<(event: WorkerEvent) => void>();
  /** Whether each subscriber asked for reports. */
  readonly reports: boolean[] = [];
  greeting: unknown = makeHello();
  refusal: Error | null = null;

  hello(): WorkerHello {
    return this.greeting as WorkerHello;
  }

  submit(request: Request, assignment: Assignment): void {
    if (this.refusal !== null) throw this.refusal;
    this.calls.add({ kind: "submit", request, assignment });
  }

  cancel(requestId: RequestId, epoch: number): void {
    this.calls.add({ kind: "cancel", requestId, epoch });
  }

  expect(expectation: TurnExpectation): void {
    this.calls.add({ kind: "expect", expectation });
  }

  snapshotKv(): void {
    this.calls.add({ kind: "snapshot-kv" });
  }

  subscribe(
    sink: (event: WorkerEvent) => void,
    options: SubscribeOptions = { reports: false },
  ): {
    unsubscribe(): void;
  } {
    this.#sinks.add(sink);
    this.reports.push(options.reports);
    this.subscriptions.add(this.#sinks.size);
    return {
      unsubscribe: () => {
        this.#sinks.delete(sink);
        this.subscriptions.add(this.#sinks.size);
      },
    };
  }

  emit(event: WorkerEvent): void {
    for (const sink of this.#sinks) sink(event);
  }
}

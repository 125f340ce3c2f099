import { setMaxListeners } from "node:events";
import { Agent } from "undici";
import { drawLength } from "../core/util/length-distribution.ts";
import { Rng } from "../core/util/rng.ts";
import { type CacheWishes, cacheFieldsOf } from "../protocol/cache-hints.ts";
import type { WorkloadSource } from "../twin/workload/workload.ts";
import { arrivalTimes, type OpenArrivals } from "./arrivals.ts";
import { calibratePrompts, completionBody, completionEndpoint, findModel } from "./calibrate.ts";
import type { BenchClock } from "./clock.ts";
import { type CompletionRequest, callCompletion } from "./completion-call.ts";
import { pathOf, type Target } from "./http-json.ts";
import type { LoadOptions } from "./options.ts";
import { type PromptCalibration, PromptMaker } from "./prompts.ts";
import { type RequestRecord, type ResponseTrace, toRecord } from "./record.ts";
import { replay } from "./replay.ts";
import { type LoadReport, makeReport } from "./report.ts";
import { MAX_RECORDED_GAPS, Reservoir } from "./reservoir.ts";
import { WorkloadPromptMaker } from "./workload-prompts.ts";

/** How far a run is. */
export interface LoadProgress {
  readonly phase: "calibrating" | "warming up" | "measuring" | "finishing";
  readonly numScheduled: number;
  readonly numInFlight: number;
  readonly numCompleted: number;
  readonly numFailed: number;
  readonly numDropped: number;
}

/** What a run needs from outside. */
export interface LoadEnvironment {
  readonly clock: BenchClock;
  /** Abort it to stop the run: arrivals end, requests in flight are aborted, and the report holds what there is. */
  readonly signal: AbortSignal;
  readonly startedAt: Date;
  onProgress?(progress: LoadProgress): void;
  /** Called with every measured request when it has ended. `startMs` is the start of the run on the same clock. */
  onRecord?(record: RequestRecord, trace: ResponseTrace, startMs: number): void;
}

/** Arrivals that are due at once before input and output get a turn. */
const ARRIVALS_PER_TURN = 16;

/** Warm-up requests at once. */
const WARMUP_CONCURRENCY = 4;

/** How long an unused connection is kept. Shorter than the 5 s after which Node's own servers close theirs. */
const KEEP_ALIVE_MS = 4000;

/**
 * Puts load on an OpenAI-compatible server and measures each token. Rejects with `BenchError` when the server cannot be
 * reached or refuses a plain request; failures of single requests are counted in the report.
 */
export async function runLoad(options: LoadOptions, environment: LoadEnvironment): Promise<LoadReport> {
  // Every request in flight listens; their number is bounded by `maxInFlight`.
  setMaxListeners(0, environment.signal);
  const agent = new Agent({
    connections: options.maxInFlight,
    pipelining: 1,
    // Both times are bounded per request, over the whole response.
    headersTimeout: 0,
    bodyTimeout: 0,
    keepAliveTimeout: KEEP_ALIVE_MS,
    keepAliveMaxTimeout: KEEP_ALIVE_MS,
  });
  try {
    return await new LoadRun(options, environment, agent).run();
  } finally {
    await agent.destroy();
  }
}

/** A request that is ready to be sent. */
interface Prepared {
  readonly request: CompletionRequest;
  readonly outputTokens: number;
}

class LoadRun {
  readonly #options: LoadOptions;
  readonly #environment: LoadEnvironment;
  readonly #target: Target;
  readonly #rng: Rng;
  readonly #gaps: Reservoir;
  readonly #records: RequestRecord[] = [];
  readonly #inFlight = new Set<Promise<void>>();
  #phase: LoadProgress["phase"] = "calibrating";
  #startMs = 0;
  #numScheduled = 0;
  #numDropped = 0;
  #numFailed = 0;

  constructor(options: LoadOptions, environment: LoadEnvironment, agent: Agent) {
    this.#options = options;
    this.#environment = environment;
    const authorization = options.apiKey === null ? {} : { authorization: `Bearer ${options.apiKey}` };
    const headers = {
      "content-type": "application/json",
      accept: "text/event-stream, application/json",
      ...authorization,
    };
    this.#target = { dispatcher: agent, baseUrl: options.url, headers, signal: environment.signal };
    this.#rng = new Rng(options.seed);
    this.#gaps = new Reservoir(MAX_RECORDED_GAPS, this.#rng.stream("reservoir"));
  }

  async run(): Promise<LoadReport> {
    const { arrivals } = this.#options;
    if (arrivals.kind !== "workload") return await this.#measure(null);
    // Opened before anything is sent: a file that cannot be read shall not cost a calibration.
    const source = arrivals.open(this.#rng);
    try {
      return await this.#measure(source);
    } finally {
      source.close?.();
    }
  }

  async #measure(source: WorkloadSource | null): Promise<LoadReport> {
    const options = this.#options;
    const { clock, signal, startedAt } = this.#environment;
    this.#enter("calibrating");
    const model = await findModel(this.#target, options.model);
    const calibration = await calibratePrompts(this.#target, options, model);
    const makePrompts = (name: string): PromptMaker =>
      new PromptMaker(
        calibration,
        options.sharedPrefixShare,
        this.#rng.stream(`${name}/words`),
        this.#rng.stream("shared-prefix"),
      );
    this.#enter("warming up");
    await this.#warmUp(this.#preparer("warmup", model, makePrompts("warmup")));
    this.#enter("measuring");
    const startMs = clock.nowMs();
    this.#startMs = startMs;
    const prepare = this.#preparer("run", model, makePrompts("run"));
    const { arrivals } = options;
    if (source !== null) await this.#runReplay(source, startMs, model, calibration);
    else if (arrivals.kind === "concurrency") await this.#runClosed(arrivals.numRequests, startMs, prepare);
    else if (arrivals.kind !== "workload") await this.#runOpen(arrivals, startMs, prepare);
    this.#enter("finishing");
    await Promise.all(this.#inFlight);
    const endMs = this.#records.reduce((latest, record) => Math.max(latest, record.endMs), startMs);
    return makeReport(options, {
      startedAt: startedAt.toISOString(),
      isInterrupted: signal.aborted,
      model,
      calibration,
      records: this.#records,
      numDropped: this.#numDropped,
      startMs,
      endMs,
      gapsMs: this.#gaps.values,
      numGapsSeen: this.#gaps.numSeen,
    });
  }

  /** Makes one request after the other; lengths and words depend on the seed and the order alone. */
  #preparer(name: string, model: string, prompts: PromptMaker): () => Prepared {
    const options = this.#options;
    const inputs = this.#rng.stream(`${name}/input-lengths`);
    const outputs = this.#rng.stream(`${name}/output-lengths`);
    return () => {
      const outputTokens = drawLength(options.outputLengths, outputs);
      return this.#prepare(model, prompts.make(drawLength(options.inputLengths, inputs)), outputTokens);
    };
  }

  #prepare(model: string, prompt: string, outputTokens: number, wishes: CacheWishes = {}): Prepared {
    const options = this.#options;
    const recordsEvents = this.#environment.onRecord !== undefined;
    const body = JSON.stringify({
      ...completionBody(options, model, prompt),
      max_tokens: outputTokens,
      ...(options.ignoreEos ? { ignore_eos: true, min_tokens: outputTokens } : {}),
      stream: true,
      // Absent unless the workload says it: servers that do not know it may refuse it.
      ...cacheFieldsOf(wishes),
      // Only for records: servers that do not know it may refuse it.
      stream_options: { include_usage: true, ...(recordsEvents ? { continuous_usage_stats: true } : {}) },
    });
    const request = {
      origin: this.#target.baseUrl.origin,
      path: pathOf(this.#target, completionEndpoint(options)),
      headers: this.#target.headers,
      body,
      timeoutMs: options.requestTimeoutMs,
    };
    return { request, outputTokens };
  }

  async #warmUp(prepare: () => Prepared): Promise<void> {
    const { clock, signal } = this.#environment;
    let numLeft = this.#options.numWarmupRequests;
    const lane = async (): Promise<void> => {
      while (numLeft-- > 0 && !signal.aborted) {
        await callCompletion(this.#target.dispatcher, prepare().request, clock, signal);
      }
    };
    await Promise.all(Array.from({ length: WARMUP_CONCURRENCY }, lane));
  }

  /** Sends each request at its time, whatever became of those before it. */
  async #runOpen(arrivals: OpenArrivals, startMs: number, prepare: () => Prepared): Promise<void> {
    const { clock, signal } = this.#environment;
    let numInTurn = 0;
    for (const offsetMs of arrivalTimes(arrivals, this.#rng.stream("arrivals"))) {
      if (this.#isOver(offsetMs)) return;
      // Made before its time, so that making it delays nothing.
      const prepared = prepare();
      const scheduledMs = startMs + offsetMs;
      if (clock.nowMs() < scheduledMs) {
        numInTurn = 0;
        await clock.sleepUntil(scheduledMs, signal);
        if (signal.aborted) return;
      } else if (++numInTurn % ARRIVALS_PER_TURN === 0) {
        await clock.yieldToIo();
      }
      this.#numScheduled++;
      if (this.#inFlight.size >= this.#options.maxInFlight) this.#numDropped++;
      else this.#send(prepared, scheduledMs);
    }
  }

  /** Keeps a number of requests in flight. */
  async #runClosed(numLanes: number, startMs: number, prepare: () => Prepared): Promise<void> {
    const { clock } = this.#environment;
    const lane = async (): Promise<void> => {
      while (!this.#isOver(clock.nowMs() - startMs)) {
        const prepared = prepare();
        this.#numScheduled++;
        await this.#send(prepared, null);
      }
    };
    await Promise.all(Array.from({ length: numLanes }, lane));
  }

  /** Sends the requests of a workload. Sessions wait for their requests, also for those that fail or are dropped. */
  async #runReplay(
    source: WorkloadSource,
    startMs: number,
    model: string,
    calibration: PromptCalibration,
  ): Promise<void> {
    const { clock, signal } = this.#environment;
    const prompts = new WorkloadPromptMaker(calibration, this.#rng);
    await replay(source, startMs, {
      clock,
      signal,
      isOver: (offsetMs) => this.#isOver(offsetMs),
      send: (request, scheduledMs) => {
        this.#numScheduled++;
        if (this.#inFlight.size >= this.#options.maxInFlight) {
          this.#numDropped++;
          return null;
        }
        const { outputTokens, wishes } = request;
        const prepared = this.#prepare(model, prompts.make(request), outputTokens, wishes ?? {});
        return this.#send(prepared, scheduledMs);
      },
    });
  }

  #isOver(elapsedMs: number): boolean {
    const { numRequests, durationMs } = this.#options;
    const isLate = durationMs !== null && elapsedMs >= durationMs;
    return isLate || this.#numScheduled >= numRequests || this.#environment.signal.aborted;
  }

  /** Sends a request and records it when it ends. Without a scheduled time it is scheduled when it is sent. */
  #send(prepared: Prepared, scheduledMs: number | null): Promise<void> {
    const { clock, signal } = this.#environment;
    const call = callCompletion(this.#target.dispatcher, prepared.request, clock, signal);
    const finished = call.then((trace) => {
      this.#inFlight.delete(finished);
      const record = toRecord(scheduledMs ?? trace.sentMs, prepared.outputTokens, trace);
      this.#record(record, trace);
      this.#environment.onRecord?.(record, trace, this.#startMs);
      this.#report();
    });
    this.#inFlight.add(finished);
    this.#report();
    return finished;
  }

  #record(record: RequestRecord, { contentTimesMs: times }: ResponseTrace): void {
    this.#records.push(record);
    if (record.failure !== null) {
      this.#numFailed++;
      return;
    }
    for (let index = 1; index < times.length; index++) this.#gaps.push(times[index]! - times[index - 1]!);
  }

  #enter(phase: LoadProgress["phase"]): void {
    this.#phase = phase;
    this.#report();
  }

  #report(): void {
    this.#environment.onProgress?.({
      phase: this.#phase,
      numScheduled: this.#numScheduled,
      numInFlight: this.#inFlight.size,
      numCompleted: this.#records.length - this.#numFailed,
      numFailed: this.#numFailed,
      numDropped: this.#numDropped,
    });
  }
}

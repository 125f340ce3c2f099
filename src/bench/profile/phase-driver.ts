import { setMaxListeners } from "node:events";
import { Agent } from "undici";
import { drawLength } from "../../core/util/length-distribution.ts";
import { type RandomStream, Rng } from "../../core/util/rng.ts";
import { calibratePrompts, completionBody, completionEndpoint, findModel } from "../calibrate.ts";
import type { BenchClock } from "../clock.ts";
import { callCompletion } from "../completion-call.ts";
import { pathOf, type Target } from "../http-json.ts";
import { BenchError } from "../options.ts";
import { PromptMaker } from "../prompts.ts";
import type { ResponseTrace } from "../record.ts";
import type { Phase } from "./measuring-plan.ts";

const OPTIONS = { endpoint: "completions", temperature: 0 } as const;
const MAX_CONNECTIONS = 256;
/** Longest time of one request, should a phase not end it earlier. */
const REQUEST_TIMEOUT_MS = 120_000;
/** Pause before a request that is to find the server idle. */
const IDLE_MS = 30;

/** Puts the phases of a measuring plan on a server. */
export class PhaseDriver {
  readonly #clock: BenchClock;
  readonly #signal: AbortSignal;
  readonly #target: Target;
  readonly #agent: Agent;
  readonly #rng: Rng;
  readonly #inputs: RandomStream;
  readonly #outputs: RandomStream;
  #model = "";
  #prompts: PromptMaker | null = null;

  constructor(url: URL, options: { clock: BenchClock; signal: AbortSignal; seed: number }) {
    this.#clock = options.clock;
    this.#signal = options.signal;
    this.#rng = new Rng(options.seed);
    this.#inputs = this.#rng.stream("input-lengths");
    this.#outputs = this.#rng.stream("output-lengths");
    // Every request in flight listens; their number is that of the connections.
    setMaxListeners(0, options.signal);
    this.#agent = new Agent({
      connections: MAX_CONNECTIONS,
      pipelining: 1,
      headersTimeout: 0,
      bodyTimeout: 0,
    });
    const headers = { "content-type": "application/json", accept: "text/event-stream, application/json" };
    this.#target = { dispatcher: this.#agent, baseUrl: url, headers, signal: options.signal };
  }

  /** Finds out how text becomes tokens. Rejects with `BenchError`. */
  async open(): Promise<void> {
    this.#model = await findModel(this.#target, null);
    const calibration = await calibratePrompts(this.#target, OPTIONS, this.#model);
    this.#prompts = new PromptMaker(
      calibration,
      0,
      this.#rng.stream("words"),
      this.#rng.stream("shared-prefix"),
    );
  }

  /**
   * Runs a phase to its end in time, and resolves with the requests that completed. Those that are under way then are given up.
   * Rejects with `BenchError` when requests fail by themselves.
   */
  async run(phase: Phase): Promise<ResponseTrace[]> {
    const end = new AbortController();
    const signal = AbortSignal.any([end.signal, this.#signal]);
    setMaxListeners(0, signal);
    const traces: ResponseTrace[] = [];
    const lane = async (): Promise<void> => {
      while (!signal.aborted) {
        if (phase.isLone) await this.#clock.sleepUntil(this.#clock.nowMs() + IDLE_MS, signal);
        const trace = await this.#call(phase, signal);
        if (trace.failure === null) traces.push(trace);
        else if (trace.failure.kind !== "aborted") {
          end.abort();
          throw new BenchError(`a request of phase "${phase.name}" failed: ${trace.failure.message}`);
        }
      }
    };
    const timeUp = this.#clock
      .sleepUntil(this.#clock.nowMs() + phase.seconds * 1000, signal)
      .then(() => end.abort());
    const lanes = await Promise.allSettled(Array.from({ length: phase.concurrency }, lane));
    await timeUp;
    for (const result of lanes) if (result.status === "rejected") throw result.reason;
    return traces;
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  #call(phase: Phase, signal: AbortSignal): Promise<ResponseTrace> {
    const inputTokens = drawLength(phase.inputLengths, this.#inputs);
    const outputTokens = drawLength(phase.outputLengths, this.#outputs);
    const body = {
      ...completionBody(OPTIONS, this.#model, this.#prompts!.make(inputTokens)),
      max_tokens: outputTokens,
      min_tokens: outputTokens,
      ignore_eos: true,
      stream: true,
      stream_options: { include_usage: true },
    };
    const request = {
      origin: this.#target.baseUrl.origin,
      path: pathOf(this.#target, completionEndpoint(OPTIONS)),
      headers: this.#target.headers,
      body: JSON.stringify(body),
      timeoutMs: REQUEST_TIMEOUT_MS,
    };
    return callCompletion(this.#agent, request, this.#clock, signal);
  }
}

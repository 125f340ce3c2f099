import type { KvOp, KvRange } from "../../../core/kv/kv-ops.ts";
import { createSampler, type Sampler } from "../../../core/sampling/sampler.ts";
import type {
  SampledToken,
  ScheduledChunk,
  StepPlan,
  StepResult,
} from "../../../core/scheduler/step-plan.ts";
import { CallQueue } from "../call-queue.ts";
import { type Engine, EngineError, type EngineInfo, type KvPositions } from "../engine.ts";
import { SlotLedger } from "../slot-ledger.ts";
import { decodeStates, encodeStates, STATE_BYTES } from "./stub-blob.ts";
import { nextState, StubCells } from "./stub-cells.ts";
import { StubLogits } from "./stub-logits.ts";
import {
  STUB_END_OF_GENERATION,
  STUB_MODEL_NAME,
  STUB_TOKENIZER_ID,
  STUB_VOCAB_SIZE,
} from "./stub-vocabulary.ts";

const DEFAULT_KV_CAPACITY_TOKENS = 65_536;
const DEFAULT_MAX_STEP_TOKENS = 2048;
const DEFAULT_NUM_SLOTS = 255;
const DEFAULT_CONTEXT_TOKENS = 32_768;
const MAX_SIZE = 1 << 24;
const MAX_SLOTS = 1 << 15;

/** How long a step pretends to take: a base, plus a part per prompt token, plus a part per decoding sequence. */
export interface StubTiming {
  readonly stepBaseMs: number;
  readonly prefillMsPerToken: number;
  readonly decodeMsPerSequence: number;
}

/** Calls back once after a delay, never before it returns. Returns how to cancel that. */
export type StubTimer = (delayMs: number, callback: () => void) => () => void;

export interface StubEngineOptions {
  readonly kvCapacityTokens?: number;
  readonly maxStepTokens?: number;
  readonly numSlots?: number;
  readonly trainedContextTokens?: number;
  readonly modelName?: string;
  /** Share of states after which the sequence ends by itself, in [0, 1]; 0 by default. */
  readonly endOfGenerationShare?: number;
  /** By default steps are as fast as they can be, and still asynchronous. */
  readonly timing?: StubTiming;
  readonly timer?: StubTimer;
}

const NO_TIME: StubTiming = { stepBaseMs: 0, prefillMsPerToken: 0, decodeMsPerSequence: 0 };
const ABORTED: StepResult = { kind: "aborted" };

/**
 * A deterministic engine without a model. Every KV cell holds a hash of the prefix up to it, and the next token is a function of
 * the last cell, the seed and the output index; so a range that was shared, dropped or imported wrongly shows in the text. Serves
 * as the oracle for KV bookkeeping, and for load tests of everything around an engine.
 */
export class StubEngine implements Engine {
  readonly info: EngineInfo;
  readonly #timing: StubTiming;
  readonly #timer: StubTimer;
  readonly #queue = new CallQueue();
  readonly #ledger: SlotLedger;
  readonly #cells: StubCells;
  readonly #logits: StubLogits;
  readonly #sampler: Sampler = createSampler(STUB_VOCAB_SIZE);
  /** Part of a millisecond that earlier steps should have taken and timers cannot. */
  #owedMs = 0;
  #numAborts = 0;
  #cutShort: (() => void) | null = null;

  constructor(options: StubEngineOptions = {}) {
    checkOptions(options);
    this.info = {
      engine: "stub",
      modelName: options.modelName ?? STUB_MODEL_NAME,
      modelId: "stub-chain-1",
      tokenizerId: STUB_TOKENIZER_ID,
      kvType: "chain32",
      vocabSize: STUB_VOCAB_SIZE,
      trainedContextTokens: options.trainedContextTokens ?? DEFAULT_CONTEXT_TOKENS,
      kvCapacityTokens: options.kvCapacityTokens ?? DEFAULT_KV_CAPACITY_TOKENS,
      kvBytesPerToken: STATE_BYTES,
      numSlots: options.numSlots ?? DEFAULT_NUM_SLOTS,
      maxStepTokens: options.maxStepTokens ?? DEFAULT_MAX_STEP_TOKENS,
      endOfGenerationTokens: STUB_END_OF_GENERATION,
    };
    this.#timing = options.timing ?? NO_TIME;
    this.#timer = options.timer ?? realTimer;
    this.#ledger = new SlotLedger(this.info);
    this.#cells = new StubCells(this.info.kvCapacityTokens, this.info.numSlots);
    this.#logits = new StubLogits(options.endOfGenerationShare ?? 0);
  }

  applyKvOps(ops: readonly KvOp[]): Promise<void> {
    return this.#queue.run(() => {
      this.#ledger.applyOps(ops);
      for (const op of ops) {
        if (op.kind === "share") this.#cells.share(op.slot, op.to, op.start, op.end);
        else this.#cells.drop(op.slot, op.start, op.end);
      }
    });
  }

  execute(plan: StepPlan): Promise<StepResult> {
    const numAborts = this.#numAborts;
    return this.#queue.run(() => this.#step(plan, numAborts));
  }

  exportKv(range: KvRange): Promise<Uint8Array> {
    return this.#queue.run(() => {
      this.#ledger.checkExport(range);
      return encodeStates(range.start, this.#cells.read(range.slot, range.start, range.end));
    });
  }

  importKv(range: KvRange, bytes: Uint8Array): Promise<void> {
    return this.#queue.run(() => {
      this.#ledger.checkImport(range);
      const states = decodeStates(bytes, range.start, range.end - range.start);
      this.#requireCells(states.length);
      for (let i = 0; i < states.length; i++) this.#cells.write(range.slot, range.start + i, states[i]!);
      this.#ledger.commitImport(range);
    });
  }

  sliceKv(bytes: Uint8Array, whole: KvPositions, part: KvPositions): Uint8Array {
    const states = decodeStates(bytes, whole.start, whole.end - whole.start);
    return encodeStates(part.start, states.subarray(part.start - whole.start, part.end - whole.start));
  }

  abort(): void {
    this.#numAborts++;
    this.#cutShort?.();
  }

  close(): Promise<void> {
    return this.#queue.close();
  }

  async #step(plan: StepPlan, numAborts: number): Promise<StepResult> {
    if (numAborts !== this.#numAborts) return ABORTED;
    this.#ledger.checkPlan(plan);
    this.#requireCells(plan.numTokens);
    await this.#pass(stepMs(plan, this.#timing));
    // Nothing has been written until the step's time is over, so an aborted one leaves no trace.
    if (numAborts !== this.#numAborts) return ABORTED;
    this.#ledger.commitPlan(plan);
    const samples: Array<SampledToken | null> = [];
    for (const chunk of plan.chunks) {
      const state = this.#compute(chunk);
      samples.push(chunk.samples ? this.#sampler.sample(this.#logits.of(state), chunk.sequence) : null);
    }
    return { kind: "done", samples };
  }

  #compute({ sequence, slot, start, numTokens }: ScheduledChunk): number {
    let state = this.#cells.stateBefore(slot, start);
    for (let position = start; position < start + numTokens; position++) {
      state = nextState(state, sequence.tokenAt(position), position);
      this.#cells.write(slot, position, state);
    }
    return state;
  }

  #pass(delayMs: number): Promise<void> {
    const dueMs = delayMs + this.#owedMs;
    const wholeMs = Math.floor(dueMs);
    this.#owedMs = dueMs - wholeMs;
    return new Promise((resolve) => {
      const end = () => {
        this.#cutShort = null;
        resolve();
      };
      const cancel = this.#timer(wholeMs, end);
      this.#cutShort = () => {
        cancel();
        end();
      };
    });
  }

  #requireCells(count: number): void {
    if (count > this.#cells.numFree) {
      throw new EngineError("kv_full", `${count} KV cells are needed, ${this.#cells.numFree} are free`);
    }
  }
}

function stepMs(plan: StepPlan, timing: StubTiming): number {
  let numDecoding = 0;
  for (const chunk of plan.chunks) if (chunk.samples && chunk.numTokens === 1) numDecoding++;
  const numPrefilled = plan.numTokens - numDecoding;
  return (
    timing.stepBaseMs + timing.prefillMsPerToken * numPrefilled + timing.decodeMsPerSequence * numDecoding
  );
}

function realTimer(delayMs: number, callback: () => void): () => void {
  if (delayMs === 0) {
    const immediate = setImmediate(callback);
    return () => clearImmediate(immediate);
  }
  const timeout = setTimeout(callback, delayMs);
  return () => clearTimeout(timeout);
}

function checkOptions(options: StubEngineOptions): void {
  const sizes = { kvCapacityTokens: MAX_SIZE, maxStepTokens: MAX_SIZE, numSlots: MAX_SLOTS } as const;
  for (const name of ["kvCapacityTokens", "maxStepTokens", "numSlots"] as const) {
    const value = options[name] ?? 1;
    if (!Number.isInteger(value) || value < 1 || value > sizes[name]) {
      throw new EngineError(
        "bad_argument",
        `${name} is ${value}: it must be an integer from 1 to ${sizes[name]}`,
      );
    }
  }
  const share = options.endOfGenerationShare ?? 0;
  if (!(share >= 0 && share <= 1)) {
    throw new EngineError("bad_argument", `endOfGenerationShare is ${share}: it must be from 0 to 1`);
  }
  for (const [name, value] of Object.entries(options.timing ?? NO_TIME)) {
    if (!(value >= 0 && value < Number.POSITIVE_INFINITY)) {
      throw new EngineError("bad_argument", `${name} is ${value}: it must be a number of milliseconds`);
    }
  }
}

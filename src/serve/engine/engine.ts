import type { KvOp, KvRange } from "../../core/kv/kv-ops.ts";
import type { StepPlan, StepResult } from "../../core/scheduler/step-plan.ts";

/** Facts about a loaded model that two workers must agree on before KV may pass between them, and limits of this engine. */
export interface EngineInfo {
  readonly engine: "llama" | "stub";
  /** Human name of the model: `general.name` of the GGUF, or its file name. */
  readonly modelName: string;
  /** Fingerprint of the weights and their layout. */
  readonly modelId: string;
  /** Fingerprint of the vocabulary and merges. */
  readonly tokenizerId: string;
  /** Element type and arrangement of exported KV, such as `q8_0+fa`. */
  readonly kvType: string;
  readonly vocabSize: number;
  /** Context length that the model was trained for, or declares. */
  readonly trainedContextTokens: number;
  /** Tokens whose KV the engine can hold at once, over all slots. */
  readonly kvCapacityTokens: number;
  readonly kvBytesPerToken: number;
  /** Slots are named 0 … numSlots - 1. */
  readonly numSlots: number;
  /** The most tokens that one step may hold. */
  readonly maxStepTokens: number;
  /** Tokens after which a sequence is complete. */
  readonly endOfGenerationTokens: readonly number[];
}

/** A half-open range of positions, whatever the slot. */
export type KvPositions = Pick<KvRange, "start" | "end">;

/**
 * A model that computes step plans. Not thread-safe by nature, so all calls go through one queue inside the engine and
 * take effect strictly in the order in which they were made: what is dropped by one call can be written by the next.
 *
 * Arguments are validated before they reach native code: a slot, token or range out of bounds rejects with an
 * `EngineError` and changes nothing.
 */
export interface Engine {
  readonly info: EngineInfo;
  /** Brings the KV cells in line with the block manager. */
  applyKvOps(ops: readonly KvOp[]): Promise<void>;
  /**
   * Computes every chunk of the plan in one batch and samples where the plan asks for it (see `core/sampling`).
   * Chunks must continue at the slot's last position. Rejects with `EngineError` when the plan does not fit.
   */
  execute(plan: StepPlan): Promise<StepResult>;
  /** Copies the KV of a range out. The bytes belong to the caller. */
  exportKv(range: KvRange): Promise<Uint8Array>;
  /**
   * Writes exported KV into a range that holds nothing yet. The bytes have been authenticated by the caller;
   * bytes that do not fit the range, the model or the KV type reject with `EngineError` and leave the range empty.
   */
  importKv(range: KvRange, bytes: Uint8Array): Promise<void>;
  /**
   * The part [start, end) of an export of `whole`, as an export of its own; the bytes may be shared. Works on bytes alone: it
   * neither waits nor touches the model. Throws `EngineError` `bad_kv` when they are no export of `whole`.
   */
  sliceKv(bytes: Uint8Array, whole: KvPositions, part: KvPositions): Uint8Array;
  /** Cuts the step in flight short, if there is one: its `execute` resolves as `aborted`. */
  abort(): void;
  /** Waits for the queue and frees native memory. Calls after it reject. */
  close(): Promise<void>;
}

/** Codes of {@link EngineError}. */
export type EngineErrorCode =
  /** The platform package with the native library is not installed; the message names it. */
  | "package_missing"
  /** The native library is not the version or layout that this code was written for. */
  | "incompatible_library"
  /** The model file cannot be read, is truncated, or is not of a supported kind. */
  | "bad_model"
  /** An argument is out of bounds. */
  | "bad_argument"
  /** Imported KV does not fit. */
  | "bad_kv"
  /** No free KV cells, although the block manager thought there were. */
  | "kv_full"
  /** The native call failed. */
  | "native_failure"
  /** The engine has been closed. */
  | "closed";

/** An expected failure of an engine; its message says what to do. */
export class EngineError extends Error {
  override name = "EngineError";
  readonly code: EngineErrorCode;

  constructor(code: EngineErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

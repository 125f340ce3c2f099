import { EngineError } from "../engine.ts";
import {
  type BufferPointer,
  type ContextPointer,
  callAsync,
  type MemoryPointer,
  type ModelPointer,
} from "./bindings.ts";
import { blobBytes, canonicalize, detectLayout, type KvLayout } from "./kv-blob.ts";
import type { LlamaLibrary } from "./library.ts";
import { NativeBatch } from "./native-batch.ts";

/**
 * Steps that are expected to be shorter run on the event loop's thread. The trip to another thread costs 0.1 to 0.3 ms with its
 * cold caches; sockets wait no longer than one such step, and get their turn after each.
 */
const MAX_BLOCKING_STEP_MS = 4;
/**
 * How long such steps may follow each other before sockets and timers get their turn. A turn of the event loop costs some tens
 * of microseconds, which would be felt in steps of one millisecond.
 */
const MAX_WITHOUT_YIELD_MS = 5;
/** Weight of the newest step in the running mean of time per token. */
const STEP_TIME_SMOOTHING = 0.2;
/** KV transfers up to this size run on the event loop's thread: memory copies of well under a millisecond. */
const MAX_BLOCKING_TRANSFER_BYTES = 1 << 20;

/** Return codes of `llama_decode`. */
export const DECODE_OK = 0;
export const DECODE_NO_CELLS = 1;
export const DECODE_ABORTED = 2;

const ABORT_FLAG_BYTES = 16;

export interface NativeContextOptions {
  readonly maxStepTokens: number;
  /** Sequence ids from 0; the one after them is for transfers, the next for dead cells. */
  readonly numSlots: number;
  readonly vocabSize: number;
  /** Overrides {@link MAX_BLOCKING_STEP_MS}; 0: every step runs on another thread. */
  readonly maxBlockingStepMs?: number;
}

/**
 * Owns one model and context, and turns calls of native functions into typed operations. Not re-entrant: while a promise of
 * one method is pending, no other method but {@link requestAbort} may be called. Arguments must have been validated.
 */
export class NativeContext {
  readonly batch: NativeBatch;
  readonly numCells: number;
  readonly #library: LlamaLibrary;
  readonly #model: ModelPointer;
  readonly #context: ContextPointer;
  readonly #memory: MemoryPointer;
  /** Sequence id that a range passes through on its way out or in; empty between calls. */
  readonly #stagingId: number;
  /** Sequence id that occupies dead cells, so that libllama does not reuse them one by one (see {@link CellMap}). */
  readonly #graveId: number;
  readonly #vocabSize: number;
  readonly #abortFlagPointer: BufferPointer;
  readonly #abortFlag: Uint8Array;
  readonly #maxBlockingStepMs: number;
  #layout: KvLayout | null = null;
  #logitsPointer: bigint | null = null;
  #logitRows: Float32Array[] = [];
  #meanTokenMs = Number.POSITIVE_INFINITY;
  #lastYieldMs = Number.NEGATIVE_INFINITY;
  #isFreed = false;

  constructor(
    library: LlamaLibrary,
    model: ModelPointer,
    context: ContextPointer,
    options: NativeContextOptions,
  ) {
    const { api, koffi } = library;
    this.#library = library;
    this.#model = model;
    this.#context = context;
    this.#memory = api.llama_get_memory(context);
    this.#stagingId = options.numSlots;
    this.#graveId = options.numSlots + 1;
    this.#vocabSize = options.vocabSize;
    this.#maxBlockingStepMs = options.maxBlockingStepMs ?? MAX_BLOCKING_STEP_MS;
    this.numCells = api.llama_n_ctx(context);
    this.batch = new NativeBatch(koffi, options.maxStepTokens);
    this.#abortFlagPointer = koffi.alloc("uint8_t", ABORT_FLAG_BYTES) as BufferPointer;
    this.#abortFlag = new Uint8Array(koffi.view(this.#abortFlagPointer, ABORT_FLAG_BYTES)).fill(0);
    api.llama_set_abort_callback(context, library.isByteSet, this.#abortFlagPointer);
  }

  get layout(): KvLayout {
    return this.#layout!;
  }

  /**
   * Computes one token and looks at its exported KV. Throws `EngineError` `bad_model` when the cache is not a plain one, as with
   * sliding windows or multi-dimensional positions: its KV could not be shared and handed over by ranges.
   */
  async probe(token: number): Promise<void> {
    this.batch.clear();
    this.batch.addToken(token, 0, this.#stagingId, true);
    const code = await callAsync(this.#library.api.llama_decode, this.#context, this.batch.struct);
    if (code !== DECODE_OK)
      throw new EngineError("native_failure", `the first llama_decode returned ${code}`);
    const bytes = new Uint8Array(this.#library.api.llama_state_seq_get_size(this.#context, this.#stagingId));
    const written = this.#library.api.llama_state_seq_get_data(
      this.#context,
      bytes,
      bytes.length,
      this.#stagingId,
    );
    this.drop(this.#stagingId, 0, -1);
    this.#layout = written === bytes.length ? detectLayout(bytes) : null;
    if (this.#layout === null) {
      throw new EngineError(
        "bad_model",
        "the model's KV cache is not of the plain kind (it may use a sliding window), so its ranges cannot be handed over",
      );
    }
  }

  /** Computes the batch and resolves to the return code. Begins after what the caller still does in this turn. */
  decode(): Promise<number> {
    const { api } = this.#library;
    const numTokens = this.batch.struct.n_tokens;
    const startMs = performance.now();
    if (numTokens * this.#meanTokenMs < this.#maxBlockingStepMs) {
      return new Promise((resolve) => {
        // What the last step has yielded is written first, by an earlier microtask or in the turn of the loop.
        if (startMs - this.#lastYieldMs < MAX_WITHOUT_YIELD_MS) {
          // Node's HTTP writes leave the process in a tick that such a microtask has asked for.
          queueMicrotask(() => process.nextTick(() => resolve(this.#decodeNow())));
        } else {
          setImmediate(() => {
            this.#lastYieldMs = performance.now();
            resolve(this.#decodeNow());
          });
        }
      });
    }
    return new Promise((resolve, reject) => {
      api.llama_decode.async(this.#context, this.batch.struct, (error, code) => {
        this.#observe(performance.now() - startMs, numTokens);
        if (error === null) resolve(code);
        else reject(error);
      });
    });
  }

  #decodeNow(): number {
    const startMs = performance.now();
    const code = this.#library.api.llama_decode(this.#context, this.batch.struct);
    this.#observe(performance.now() - startMs, this.batch.struct.n_tokens);
    return code;
  }

  /** Logits of the batch's output number `row`, valid until the next decode. Read only. */
  logits(row: number): Float32Array {
    if (row === 0) this.#refreshLogits();
    return this.#logitRows[row]!;
  }

  /** Makes a decode in flight return {@link DECODE_ABORTED} soon. */
  requestAbort(): void {
    if (!this.#isFreed) this.#abortFlag[0] = 1;
  }

  clearAbort(): void {
    this.#abortFlag[0] = 0;
  }

  share(slot: number, to: number, start: number, end: number): void {
    this.#library.api.llama_memory_seq_cp(this.#memory, slot, to, start, end);
  }

  /** Occupies cells that only `slot` holds, before it drops them. */
  bury(slot: number, start: number, end: number): void {
    this.share(slot, this.#graveId, start, end);
  }

  /** Forgets every cell of every sequence. */
  clear(): void {
    this.#library.api.llama_memory_clear(this.#memory, false);
  }

  /** Frees what has been buried and slides all other cells down, in order. */
  async compact(): Promise<void> {
    const { api } = this.#library;
    this.drop(this.#graveId, 0, -1);
    const bytes = new Uint8Array(api.llama_state_get_size(this.#context));
    const written = await callAsync(api.llama_state_get_data, this.#context, bytes, bytes.length);
    const read = await callAsync(api.llama_state_set_data, this.#context, bytes, bytes.length);
    if (written !== bytes.length || read !== bytes.length) {
      const message = `compacting the KV cache wrote ${written} and read ${read} of ${bytes.length} bytes`;
      throw new EngineError("native_failure", message);
    }
  }

  /** `end` -1 means up to the last position. */
  drop(slot: number, start: number, end: number): void {
    this.#library.api.llama_memory_seq_rm(this.#memory, slot, start, end);
  }

  /** Copies a range out, with rows in order of position. */
  async exportRange(slot: number, start: number, end: number): Promise<Uint8Array> {
    const { api } = this.#library;
    const bytes = new Uint8Array(blobBytes(this.layout, end - start));
    this.share(slot, this.#stagingId, start, end);
    try {
      const isQuick = bytes.length <= MAX_BLOCKING_TRANSFER_BYTES;
      const written = isQuick
        ? api.llama_state_seq_get_data(this.#context, bytes, bytes.length, this.#stagingId)
        : await callAsync(api.llama_state_seq_get_data, this.#context, bytes, bytes.length, this.#stagingId);
      if (written !== bytes.length) {
        throw new EngineError(
          "native_failure",
          `llama_state_seq_get_data wrote ${written} of ${bytes.length} bytes`,
        );
      }
    } finally {
      this.drop(this.#stagingId, 0, -1);
    }
    canonicalize(bytes, this.layout, start, end - start);
    return bytes;
  }

  /** Writes a checked export into a range that is empty. Leaves it empty when that fails. */
  async importRange(slot: number, start: number, end: number, bytes: Uint8Array): Promise<void> {
    const { api } = this.#library;
    const id = this.#stagingId;
    try {
      const isQuick = bytes.length <= MAX_BLOCKING_TRANSFER_BYTES;
      const read = isQuick
        ? api.llama_state_seq_set_data(this.#context, bytes, bytes.length, id)
        : await callAsync(api.llama_state_seq_set_data, this.#context, bytes, bytes.length, id);
      if (read === 0) {
        throw new EngineError(
          "kv_full",
          `no ${end - start} free KV cells for an import: drop other ranges first`,
        );
      }
      const first = api.llama_memory_seq_pos_min(this.#memory, id);
      const last = api.llama_memory_seq_pos_max(this.#memory, id);
      if (read !== bytes.length || first !== start || last !== end - 1) {
        throw new EngineError("native_failure", `import of [${start}, ${end}) made [${first}, ${last + 1})`);
      }
      this.share(id, slot, start, end);
    } finally {
      this.drop(id, 0, -1);
    }
  }

  /** Frees everything native. Only {@link requestAbort} may be called afterwards. */
  free(): void {
    this.#isFreed = true;
    this.#logitRows = [];
    this.#library.api.llama_free(this.#context);
    this.#library.api.llama_model_free(this.#model);
    this.batch.free();
    this.#library.koffi.free(this.#abortFlagPointer);
  }

  /** The buffer moves only when more outputs are needed than ever before; views of it are kept until then. */
  #refreshLogits(): void {
    const { api, koffi } = this.#library;
    const pointer = api.llama_get_logits(this.#context);
    if (pointer === null) throw new EngineError("native_failure", "llama_get_logits returned null");
    if (pointer === this.#logitsPointer) return;
    const numRows = this.#stagingId + 1;
    const all = new Float32Array(koffi.view(pointer, 4 * this.#vocabSize * numRows));
    this.#logitRows = Array.from({ length: numRows }, (_, row) =>
      all.subarray(row * this.#vocabSize, (row + 1) * this.#vocabSize),
    );
    this.#logitsPointer = pointer;
  }

  #observe(stepMs: number, numTokens: number): void {
    const tokenMs = stepMs / numTokens;
    if (this.#meanTokenMs === Number.POSITIVE_INFINITY) this.#meanTokenMs = tokenMs;
    else this.#meanTokenMs += STEP_TIME_SMOOTHING * (tokenMs - this.#meanTokenMs);
  }
}

import type { ScheduledChunk } from "../../../core/scheduler/step-plan.ts";
import type { BufferPointer, NativeBatchStruct } from "./bindings.ts";
import type { LlamaLibrary } from "./library.ts";

/**
 * A native `llama_batch` that is filled anew for every step without allocating: JavaScript writes straight into its arrays.
 * Every token belongs to one sequence and has its own cell of the array that `seq_id` points into.
 */
export class NativeBatch {
  /** To pass to `llama_decode` by value. */
  readonly struct: NativeBatchStruct;
  readonly #koffi: LlamaLibrary["koffi"];
  readonly #allocated: BufferPointer[] = [];
  readonly #tokens: Int32Array;
  readonly #positions: Int32Array;
  readonly #sequences: Int32Array;
  readonly #outputs: Int8Array;

  constructor(koffi: LlamaLibrary["koffi"], maxTokens: number) {
    this.#koffi = koffi;
    const [token, pos, counts, sequences] = [4, 4, 4, 4].map((bytes) => this.#allocate(bytes * maxTokens));
    const pointers = this.#allocate(8 * maxTokens);
    const logits = this.#allocate(maxTokens);
    this.#tokens = new Int32Array(koffi.view(token, 4 * maxTokens));
    this.#positions = new Int32Array(koffi.view(pos, 4 * maxTokens));
    this.#sequences = new Int32Array(koffi.view(sequences, 4 * maxTokens));
    this.#outputs = new Int8Array(koffi.view(logits, maxTokens));
    new Int32Array(koffi.view(counts, 4 * maxTokens)).fill(1);
    const sequenceOf = new BigUint64Array(koffi.view(pointers, 8 * maxTokens));
    for (let i = 0; i < maxTokens; i++) sequenceOf[i] = sequences! + BigInt(4 * i);
    this.struct = {
      n_tokens: 0,
      token: token!,
      embd: null,
      pos: pos!,
      n_seq_id: counts!,
      seq_id: pointers,
      logits,
    };
  }

  clear(): void {
    this.struct.n_tokens = 0;
  }

  addChunk(chunk: ScheduledChunk): void {
    const { slot, start, numTokens } = chunk;
    const { sequence } = chunk;
    const at = this.struct.n_tokens;
    for (let i = 0; i < numTokens; i++) {
      this.#tokens[at + i] = sequence.tokenAt(start + i);
      this.#positions[at + i] = start + i;
      this.#sequences[at + i] = slot;
      this.#outputs[at + i] = 0;
    }
    if (chunk.samples) this.#outputs[at + numTokens - 1] = 1;
    this.struct.n_tokens = at + numTokens;
  }

  addToken(token: number, position: number, slot: number, isOutput: boolean): void {
    const at = this.struct.n_tokens++;
    this.#tokens[at] = token;
    this.#positions[at] = position;
    this.#sequences[at] = slot;
    this.#outputs[at] = isOutput ? 1 : 0;
  }

  /** Frees the native arrays. Writing to the batch afterwards corrupts memory. */
  free(): void {
    for (const pointer of this.#allocated) this.#koffi.free(pointer);
    this.#allocated.length = 0;
  }

  #allocate(bytes: number): BufferPointer {
    const pointer = this.#koffi.alloc("uint8_t", bytes) as BufferPointer;
    this.#allocated.push(pointer);
    return pointer;
  }
}

import { HASH_WORDS } from "../../tokens/block-hash.ts";
import { assert } from "../../util/assert.ts";
import type { ByteBudget } from "./byte-budget.ts";

/** Memory of a prediction besides its hashes: object, sets and names, generously. */
const PREDICTION_BYTES = 512;

/** That a worker will have the beginning of a prompt. */
export interface Prediction {
  readonly tag: string;
  readonly worker: number;
  /** Place of the mask in a holder. */
  readonly held: number;
  readonly hashes: Int32Array;
  readonly atMs: number;
}

/** The predictions that are neither settled nor too old. */
export class Predictions {
  readonly #budget: ByteBudget;
  /** In the order in which they were made. */
  readonly #open = new Set<Prediction>();
  readonly #byTag = new Map<string, Prediction[]>();
  readonly #byWorker: Array<Set<Prediction>> = [];
  #bytes = 0;

  constructor(budget: ByteBudget) {
    this.#budget = budget;
  }

  get size(): number {
    return this.#open.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Memory of a prediction of so many blocks. */
  static bytesFor(numBlocks: number): number {
    return PREDICTION_BYTES + numBlocks * HASH_WORDS * 4;
  }

  /** There has to be memory for it. */
  add(prediction: Prediction): void {
    const bytes = PREDICTION_BYTES + prediction.hashes.byteLength;
    this.#budget.take(bytes);
    this.#bytes += bytes;
    this.#open.add(prediction);
    const tagged = this.#byTag.get(prediction.tag);
    if (tagged === undefined) this.#byTag.set(prediction.tag, [prediction]);
    else tagged.push(prediction);
    while (this.#byWorker.length <= prediction.worker) this.#byWorker.push(new Set());
    this.#byWorker[prediction.worker]!.add(prediction);
  }

  ofTag(tag: string): readonly Prediction[] {
    return this.#byTag.get(tag) ?? [];
  }

  ofWorker(worker: number): Iterable<Prediction> {
    return this.#byWorker[worker] ?? [];
  }

  oldest(): Prediction | undefined {
    return this.#open.values().next().value;
  }

  remove(prediction: Prediction): void {
    const bytes = PREDICTION_BYTES + prediction.hashes.byteLength;
    this.#budget.give(bytes);
    this.#bytes -= bytes;
    this.#open.delete(prediction);
    this.#byWorker[prediction.worker]!.delete(prediction);
    const tagged = this.#byTag.get(prediction.tag)!;
    if (tagged.length === 1) this.#byTag.delete(prediction.tag);
    else tagged.splice(tagged.indexOf(prediction), 1);
  }

  /**
   * How many leading blocks of a prediction that is removed others still predict of the same worker. Hashes are chained: two predictions
   * that agree in a block agree in everything before it, so each of the others costs one comparison, nearly always.
   */
  numStillPredicted({ worker, held, hashes }: Prediction): number {
    let kept = 0;
    for (const other of this.#byWorker[worker]!) {
      if (other.held !== held) continue;
      const shorter = Math.min(hashes.length, other.hashes.length) / HASH_WORDS;
      while (kept < shorter && equalAt(hashes, other.hashes, kept * HASH_WORDS)) kept++;
    }
    return kept;
  }

  checkInvariants(): void {
    let bytes = 0;
    let numTagged = 0;
    for (const prediction of this.#open) {
      bytes += PREDICTION_BYTES + prediction.hashes.byteLength;
      assert(this.ofTag(prediction.tag).includes(prediction), "a prediction is not under its tag");
      assert(this.#byWorker[prediction.worker]!.has(prediction), "a prediction is not at its worker");
    }
    for (const tagged of this.#byTag.values()) numTagged += tagged.length;
    const numAtWorkers = this.#byWorker.reduce((sum, { size }) => sum + size, 0);
    assert(numTagged === this.size && numAtWorkers === this.size, "a settled prediction is still filed");
    assert(bytes === this.#bytes, "bytes of predictions are counted wrongly");
  }
}

function equalAt(a: Int32Array, b: Int32Array, at: number): boolean {
  for (let word = at; word < at + HASH_WORDS; word++) if (a[word] !== b[word]) return false;
  return true;
}

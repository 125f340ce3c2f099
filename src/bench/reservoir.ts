import type { RandomStream } from "../core/util/rng.ts";

/** Most gaps between tokens that a run keeps, 16 MB. */
export const MAX_RECORDED_GAPS = 2_000_000;

const INITIAL_CAPACITY = 1024;

/**
 * Keeps all values up to a capacity, and beyond it a uniform sample of all that were seen (Vitter's algorithm R, 1985). Memory
 * grows with what is kept, not with the capacity.
 */
export class Reservoir {
  readonly capacity: number;
  readonly #stream: RandomStream;
  #values = new Float64Array(INITIAL_CAPACITY);
  #numKept = 0;
  #numSeen = 0;

  constructor(capacity: number, stream: RandomStream) {
    this.capacity = capacity;
    this.#stream = stream;
  }

  push(value: number): void {
    this.#numSeen++;
    if (this.#numKept < this.capacity) {
      if (this.#numKept === this.#values.length) this.#grow();
      this.#values[this.#numKept++] = value;
      return;
    }
    const place = Math.floor(this.#stream.nextFloat() * this.#numSeen);
    if (place < this.capacity) this.#values[place] = value;
  }

  /** What is kept; valid until the next push. */
  get values(): Float64Array {
    return this.#values.subarray(0, this.#numKept);
  }

  get numSeen(): number {
    return this.#numSeen;
  }

  #grow(): void {
    const larger = new Float64Array(
      Math.min(this.#values.length * 2, Math.max(this.capacity, INITIAL_CAPACITY)),
    );
    larger.set(this.#values);
    this.#values = larger;
  }
}

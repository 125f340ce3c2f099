import type { StepRow } from "../observer.ts";

const bits = new Float64Array(1);
const words = new Int32Array(bits.buffer);

/** Words that a step is hashed as. */
const STEP_WORDS = 6;
const step = new Int32Array(STEP_WORDS);

/**
 * A running hash of numbers in order: two lanes of 32 bits, mixed as in MurmurHash3 (Appleby). It tells whether two runs made the
 * same decisions at the same times; it is no defence against anybody.
 */
export class TraceHash {
  #a = 0x9e3779b9 | 0;
  #b = 0x85ebca6b | 0;

  /** Takes in an integer of 32 bits. */
  addInt(value: number): void {
    words[0] = value;
    this.#add(words, 1);
  }

  /** Takes in any number, to the last bit. */
  addNumber(value: number): void {
    bits[0] = value;
    this.#add(words, 2);
  }

  /** Takes in when each step of a row ends and what it computes. */
  addSteps({ load, boundsMs, from, to }: StepRow): void {
    const { numDecodes, decodeContextTokens } = load;
    step[2] = numDecodes;
    step[5] = load.numPrefillTokens;
    for (let i = from; i < to; i++) {
      bits[0] = boundsMs[i + 1]!;
      step[0] = words[0]!;
      step[1] = words[1]!;
      bits[0] = decodeContextTokens + (i - from) * numDecodes;
      step[3] = words[0]!;
      step[4] = words[1]!;
      this.#add(step, STEP_WORDS);
    }
  }

  addText(text: string): void {
    for (let i = 0; i < text.length; i++) this.addInt(text.charCodeAt(i));
    this.addInt(text.length);
  }

  #add(list: Int32Array, count: number): void {
    let a = this.#a;
    let b = this.#b;
    for (let i = 0; i < count; i++) {
      let k = Math.imul(list[i]!, 0xcc9e2d51);
      k = (k << 15) | (k >>> 17);
      a ^= Math.imul(k, 0x1b873593);
      a = (Math.imul((a << 13) | (a >>> 19), 5) + 0xe6546b64) | 0;
      b = (Math.imul(b ^ k, 0x01000193) + a) | 0;
    }
    this.#a = a;
    this.#b = b;
  }

  /** Sixteen hexadecimal digits. */
  get hex(): string {
    return [this.#a, this.#b].map((lane) => (lane >>> 0).toString(16).padStart(8, "0")).join("");
  }
}

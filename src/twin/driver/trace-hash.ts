import type { StepRow } from "../observer.ts";

const bits = new Float64Array(1);
const words = new Int32Array(bits.buffer);

/**
 * A running hash of numbers in order: two lanes of 32 bits, mixed as in MurmurHash3 (Appleby). It tells whether two runs made the
 * same decisions at the same times; it is no defence against anybody.
 */
export class TraceHash {
  #a = 0x9e3779b9 | 0;
  #b = 0x85ebca6b | 0;

  /** Takes in an integer of 32 bits. */
  addInt(value: number): void {
    let k = Math.imul(value | 0, 0xcc9e2d51);
    k = (k << 15) | (k >>> 17);
    this.#a ^= Math.imul(k, 0x1b873593);
    this.#a = (Math.imul((this.#a << 13) | (this.#a >>> 19), 5) + 0xe6546b64) | 0;
    this.#b = (Math.imul(this.#b ^ k, 0x01000193) + this.#a) | 0;
  }

  /** Takes in any number, to the last bit. */
  addNumber(value: number): void {
    bits[0] = value;
    this.addInt(words[0]!);
    this.addInt(words[1]!);
  }

  /** Takes in when each step of a row ends and what it computes. */
  addSteps({ load, boundsMs, from, to }: StepRow): void {
    for (let step = from; step < to; step++) {
      this.addNumber(boundsMs[step + 1]!);
      this.addInt(load.numDecodes);
      this.addNumber(load.decodeContextTokens + (step - from) * load.numDecodes);
      this.addInt(load.numPrefillTokens);
    }
  }

  addText(text: string): void {
    for (let i = 0; i < text.length; i++) this.addInt(text.charCodeAt(i));
    this.addInt(text.length);
  }

  /** Sixteen hexadecimal digits. */
  get hex(): string {
    return [this.#a, this.#b].map((lane) => (lane >>> 0).toString(16).padStart(8, "0")).join("");
  }
}

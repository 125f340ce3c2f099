import { assert } from "./assert.ts";

/** FNV-1a over UTF-16 units, 32 bits (Fowler, Noll, Vo). */
function hashName(name: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < name.length; index++) {
    hash = Math.imul(hash ^ name.charCodeAt(index), 0x01000193);
  }
  return hash >>> 0;
}

/** A generator of well-mixed words from any seed: SplitMix32, the 32-bit form of Steele, Lea and Flood (2014). */
function splitMix32(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return (z ^ (z >>> 16)) >>> 0;
  };
}

/**
 * Source of independent streams of pseudo-random numbers, all derived from one seed. Give each use its own name, and
 * drawing more in one place changes nothing in another.
 */
export class Rng {
  readonly seed: number;

  /** `seed` is any safe integer. */
  constructor(seed: number) {
    assert(Number.isSafeInteger(seed), "a seed is a safe integer");
    this.seed = seed;
  }

  /** The stream of that name, from its beginning. The same seed and name give the same numbers. */
  stream(name: string): RandomStream {
    const low = this.seed >>> 0;
    const high = Math.floor(this.seed / 0x1_0000_0000) >>> 0;
    const seedWord = splitMix32(low ^ splitMix32(high)())();
    const next = splitMix32(seedWord ^ hashName(name));
    return new RandomStream([next(), next(), next(), next()]);
  }
}

/** One stream: xoshiro128** 1.1 by Blackman and Vigna (2018), period 2^128 - 1. Not for secrets. */
export class RandomStream {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  /** `state` is four 32-bit words, not all zero. */
  constructor(state: readonly [number, number, number, number]) {
    assert(
      state.some((word) => word >>> 0 !== 0),
      "the all-zero state never leaves zero",
    );
    [this.#a, this.#b, this.#c, this.#d] = state;
  }

  /** Uniform over the integers in [0, 2^32). */
  nextUint32(): number {
    const scrambled = Math.imul(this.#b, 5);
    const result = Math.imul((scrambled << 7) | (scrambled >>> 25), 9) >>> 0;
    const shifted = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= shifted;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result;
  }

  /** Uniform in [0, 1) with 53 random bits. */
  nextFloat(): number {
    const high = this.nextUint32() >>> 5;
    const low = this.nextUint32() >>> 6;
    return (high * 0x4000000 + low) / 0x20000000000000;
  }

  /** Uniform over the integers in [0, bound), for a bound of at most 2^32. */
  nextBelow(bound: number): number {
    assert(
      Number.isInteger(bound) && bound > 0 && bound <= 0x1_0000_0000,
      "bound is an integer in [1, 2^32]",
    );
    // The last, incomplete run of `bound` words is drawn again, so that no remainder is likelier than another.
    const limit = 0x1_0000_0000 - (0x1_0000_0000 % bound);
    let word = this.nextUint32();
    while (word >= limit) word = this.nextUint32();
    return word % bound;
  }

  /** Exponential with the given mean: the gap between arrivals that do not depend on each other. */
  nextExponential(mean: number): number {
    return -mean * Math.log1p(-this.nextFloat());
  }

  /** Normal with mean 0 and standard deviation 1 (Box and Muller, 1958; the second value of each pair is not used). */
  nextNormal(): number {
    const radius = Math.sqrt(-2 * Math.log1p(-this.nextFloat()));
    return radius * Math.cos(2 * Math.PI * this.nextFloat());
  }
}

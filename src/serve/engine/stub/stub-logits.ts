import {
  COMMA,
  FULL_STOP,
  NUM_WORDS,
  STUB_END_OF_GENERATION,
  STUB_VOCAB_SIZE,
  spacedWord,
} from "./stub-vocabulary.ts";

/** Alternatives with a noticeable probability. */
const NUM_CANDIDATES = 8;
const TOP_LOGIT = 4;
/** Distance between neighbouring candidates: the first gets 46 % at temperature 1. */
const LOGIT_STEP = 0.6;
/** Everything else: out of reach for sampling, within reach of a logit bias of 100. */
const FLOOR_LOGIT = -70;
/** The end is out of reach of a bias too, unless it is due, and then nothing else is within reach. */
const NO_END_LOGIT = -10_000;
const END_LOGIT = 1000;
/** One candidate in so many is punctuation. */
const PUNCTUATION_PERIOD = 9;

/** A small made-up distribution over the vocabulary for every state, so that sampling and log probabilities are consistent. */
export class StubLogits {
  readonly #endShare: number;
  readonly #logits = new Float32Array(STUB_VOCAB_SIZE).fill(FLOOR_LOGIT);
  readonly #candidates = new Int32Array(NUM_CANDIDATES);

  constructor(endShare: number) {
    this.#endShare = endShare;
    for (let i = 0; i < NUM_CANDIDATES; i++) this.#candidates[i] = COMMA;
  }

  /** Logits after a prefix with this state; valid until the next call. */
  of(state: number): Float32Array {
    for (const token of this.#candidates) this.#logits[token] = FLOOR_LOGIT;
    for (let i = NUM_CANDIDATES - 1; i >= 0; i--) {
      const token = candidate(mix(state, i));
      this.#candidates[i] = token;
      this.#logits[token] = TOP_LOGIT - i * LOGIT_STEP;
    }
    const isEnd = mix(state, NUM_CANDIDATES) < this.#endShare * 0x1_0000_0000;
    for (const token of STUB_END_OF_GENERATION) this.#logits[token] = NO_END_LOGIT;
    if (isEnd) this.#logits[STUB_END_OF_GENERATION[0]!] = END_LOGIT;
    return this.#logits;
  }
}

function candidate(hash: number): number {
  if (hash % PUNCTUATION_PERIOD === 0) return hash % 2 === 0 ? COMMA : FULL_STOP;
  return spacedWord(hash % NUM_WORDS);
}

/** An unsigned 32-bit hash of a state and a number. */
function mix(state: number, salt: number): number {
  let h = Math.imul(state ^ Math.imul(salt + 1, 0x9e3779b9), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

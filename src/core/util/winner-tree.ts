/**
 * The highest of many scores, kept while they change one at a time: a tournament tree (Knuth, TAOCP vol. 3, section 5.4.1). A change
 * costs the logarithm of their number, the question nothing. Of equals the one with the lowest index wins.
 */
export class WinnerTree {
  readonly #scores: Float64Array;
  /** Node k plays off nodes 2k and 2k + 1; the leaves are [width, 2 × width). Each holds the index of its winner. */
  readonly #winners: Int32Array;
  readonly #width: number;

  /** `size` scores, all minus infinity: out of the contest. */
  constructor(size: number) {
    let width = 1;
    while (width < size) width *= 2;
    this.#width = width;
    this.#scores = new Float64Array(width).fill(Number.NEGATIVE_INFINITY);
    this.#winners = new Int32Array(2 * width);
    for (let i = 0; i < width; i++) this.#winners[width + i] = i;
    for (let node = width - 1; node >= 1; node--) this.#winners[node] = this.#winners[2 * node]!;
  }

  /** The index of the highest score, or -1 when all are minus infinity. */
  get winner(): number {
    const index = this.#winners[1]!;
    return this.#scores[index] === Number.NEGATIVE_INFINITY ? -1 : index;
  }

  /** The indices of the `count` highest scores, highest first, less where fewer are in the contest. Costs `count` changes and back. */
  highest(count: number): number[] {
    const found: number[] = [];
    const scores: number[] = [];
    while (found.length < count) {
      const { winner } = this;
      if (winner === -1) break;
      found.push(winner);
      scores.push(this.#scores[winner]!);
      this.set(winner, Number.NEGATIVE_INFINITY);
    }
    for (let i = found.length - 1; i >= 0; i--) this.set(found[i]!, scores[i]!);
    return found;
  }

  set(index: number, score: number): void {
    if (this.#scores[index] === score) return;
    this.#scores[index] = score;
    for (let node = (this.#width + index) >> 1; node >= 1; node >>= 1) {
      const left = this.#winners[2 * node]!;
      const right = this.#winners[2 * node + 1]!;
      this.#winners[node] = this.#scores[left]! >= this.#scores[right]! ? left : right;
    }
  }
}

/** From one worker in so many on, everything is cleared. */
const DENSE_SHARE = 16;

/**
 * What every worker has of one prompt, in leading blocks, by dense worker number. Filled by `PrefixIndex.lookup`; made once and used
 * again, so that a look-up makes no garbage. All workers that are not among {@link workers} have 0 everywhere.
 */
export class Overlaps {
  /** Blocks that are all in the device tier, confirmed by events or expected there. */
  device = new Int32Array(0);
  /** Blocks that are each in the device or the host tier. At least `device`. */
  host = new Int32Array(0);
  /** Blocks that are each in any tier. At least `host`. */
  disk = new Int32Array(0);
  /** Blocks that are each in any tier by the worker's own events. At most `disk`. */
  confirmed = new Int32Array(0);
  /** The dense numbers of the workers that have the first block at least: the first `numWorkers` count. */
  workers = new Int32Array(0);
  numWorkers = 0;

  /** Back to nothing, with a place for every dense number below `numPlaces`. */
  reset(numPlaces: number): void {
    // Many at once are cleared faster together.
    if (this.numWorkers * DENSE_SHARE > this.workers.length) {
      for (const tier of [this.device, this.host, this.disk, this.confirmed]) tier.fill(0);
    } else {
      for (let i = 0; i < this.numWorkers; i++) this.#clear(this.workers[i]!);
    }
    this.numWorkers = 0;
    if (numPlaces <= this.workers.length) return;
    this.device = new Int32Array(numPlaces);
    this.host = new Int32Array(numPlaces);
    this.disk = new Int32Array(numPlaces);
    this.confirmed = new Int32Array(numPlaces);
    this.workers = new Int32Array(numPlaces);
  }

  #clear(worker: number): void {
    this.device[worker] = 0;
    this.host[worker] = 0;
    this.disk[worker] = 0;
    this.confirmed[worker] = 0;
  }
}

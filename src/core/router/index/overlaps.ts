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
  /** Blocks that are all in the device tier by the worker's own events. At most `device`. */
  confirmedDevice = new Int32Array(0);
  /** The dense numbers of the workers that have the first block at least: the first `numWorkers` count. */
  workers = new Int32Array(0);
  numWorkers = 0;

  /** Back to nothing, with a place for every dense number below `numPlaces`. */
  reset(numPlaces: number): void {
    for (let i = 0; i < this.numWorkers; i++) {
      const worker = this.workers[i]!;
      this.device[worker] = 0;
      this.host[worker] = 0;
      this.disk[worker] = 0;
      this.confirmedDevice[worker] = 0;
    }
    this.numWorkers = 0;
    if (numPlaces <= this.workers.length) return;
    this.device = new Int32Array(numPlaces);
    this.host = new Int32Array(numPlaces);
    this.disk = new Int32Array(numPlaces);
    this.confirmedDevice = new Int32Array(numPlaces);
    this.workers = new Int32Array(numPlaces);
  }
}

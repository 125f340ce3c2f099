import type { KvOp, KvRange } from "../../../core/kv/kv-ops.ts";
import { createSampler, type Sampler } from "../../../core/sampling/sampler.ts";
import type { SampledToken, StepPlan, StepResult } from "../../../core/scheduler/step-plan.ts";
import { CallQueue } from "../call-queue.ts";
import { type Engine, EngineError, type EngineInfo, type KvPositions } from "../engine.ts";
import { SlotLedger } from "../slot-ledger.ts";
import { CellMap } from "./cell-map.ts";
import { checkBlob, sliceBlob } from "./kv-blob.ts";
import { DECODE_ABORTED, DECODE_NO_CELLS, DECODE_OK, type NativeContext } from "./native-context.ts";

const ABORTED: StepResult = { kind: "aborted" };
/**
 * Dead cells that are tolerated however few live ones there are: libllama walks over them in every step, which costs some
 * percent at this number, and compacting touches the whole cache.
 */
const MIN_DEAD_CELLS = 2048;
/** Beyond that, dead cells per live one. */
const MAX_DEAD_SHARE = 0.5;

/** A GGUF model on llama.cpp. Made by `openLlamaEngine`. */
export class LlamaEngine implements Engine {
  readonly info: EngineInfo;
  readonly #native: NativeContext;
  readonly #queue = new CallQueue();
  readonly #ledger: SlotLedger;
  readonly #cells: CellMap;
  readonly #sampler: Sampler;
  /** Steps that were asked for at an earlier count than the present one have been aborted. */
  #numAborts = 0;
  #closing: Promise<void> | null = null;

  constructor(info: EngineInfo, native: NativeContext) {
    this.info = info;
    this.#native = native;
    this.#ledger = new SlotLedger(info);
    this.#cells = new CellMap({ numSlots: info.numSlots, numCells: native.numCells });
    this.#sampler = createSampler(info.vocabSize);
  }

  applyKvOps(ops: readonly KvOp[]): Promise<void> {
    return this.#queue.run(() => {
      this.#ledger.applyOps(ops);
      for (const op of ops) {
        if (op.start === op.end) continue;
        if (op.kind === "share") {
          this.#native.share(op.slot, op.to, op.start, op.end);
          this.#cells.share(op.slot, op.to, op.start, op.end);
        } else {
          for (const { start, end } of this.#cells.drop(op.slot, op.start, op.end)) {
            this.#native.bury(op.slot, start, end);
          }
          this.#native.drop(op.slot, op.start, op.end);
        }
      }
      // Nothing lives: the cheapest moment to get rid of the dead.
      if (this.#cells.numDead > 0 && this.#cells.numDead === this.#cells.numUsed) {
        this.#native.clear();
        this.#cells.compact();
      }
    });
  }

  execute(plan: StepPlan): Promise<StepResult> {
    const numAborts = this.#numAborts;
    return this.#queue.run(() => this.#step(plan, numAborts));
  }

  exportKv(range: KvRange): Promise<Uint8Array> {
    return this.#queue.run(() => {
      this.#ledger.checkExport(range);
      return this.#native.exportRange(range.slot, range.start, range.end);
    });
  }

  importKv(range: KvRange, bytes: Uint8Array): Promise<void> {
    return this.#queue.run(async () => {
      this.#ledger.checkImport(range);
      checkBlob(bytes, this.#native.layout, range.start, range.end - range.start);
      await this.#makeRoom(range.end - range.start);
      await this.#native.importRange(range.slot, range.start, range.end, bytes);
      this.#ledger.commitImport(range);
      this.#cells.append(range.slot, range.start, range.end);
    });
  }

  sliceKv(bytes: Uint8Array, whole: KvPositions, part: KvPositions): Uint8Array {
    return sliceBlob(bytes, this.#native.layout, whole, part);
  }

  abort(): void {
    this.#numAborts++;
    this.#native.requestAbort();
  }

  close(): Promise<void> {
    this.#closing ??= this.#queue.close().then(() => this.#native.free());
    return this.#closing;
  }

  async #step(plan: StepPlan, numAborts: number): Promise<StepResult> {
    if (numAborts !== this.#numAborts) return ABORTED;
    this.#ledger.checkPlan(plan);
    if (this.#needsCompaction(plan.numTokens)) await this.#makeRoom(plan.numTokens);
    const { batch } = this.#native;
    batch.clear();
    for (const chunk of plan.chunks) batch.addChunk(chunk);
    this.#native.clearAbort();
    const code = await this.#native.decode();
    if (code === DECODE_NO_CELLS) {
      throw new EngineError(
        "kv_full",
        `no free KV cells for a step of ${plan.numTokens} tokens: drop ranges first`,
      );
    }
    if (code === DECODE_OK && numAborts === this.#numAborts) {
      this.#ledger.commitPlan(plan);
      for (const { slot, start, numTokens } of plan.chunks)
        this.#cells.append(slot, start, start + numTokens);
      return { kind: "done", samples: this.#sample(plan) };
    }
    // Parts of the batch before the one that failed have been written already.
    for (const { slot, start } of plan.chunks) this.#native.drop(slot, start, -1);
    if (code === DECODE_OK || code === DECODE_ABORTED) return ABORTED;
    throw new EngineError("native_failure", `llama_decode returned ${code}`);
  }

  #needsCompaction(numTokens: number): boolean {
    const { numUsed, numDead, numCells } = this.#cells;
    const numLive = numUsed - numDead;
    return (
      numLive + numTokens > this.info.kvCapacityTokens ||
      numUsed + numTokens > numCells ||
      numDead > Math.max(MIN_DEAD_CELLS, numLive * MAX_DEAD_SHARE)
    );
  }

  /** Makes sure that `numTokens` cells on top are free. Rejects with `kv_full`. */
  async #makeRoom(numTokens: number): Promise<void> {
    if (!this.#needsCompaction(numTokens)) return;
    const numLive = this.#cells.numUsed - this.#cells.numDead;
    if (numLive + numTokens > this.info.kvCapacityTokens) {
      const message = `no room for ${numTokens} tokens: ${numLive} of ${this.info.kvCapacityTokens} are held; drop ranges first`;
      throw new EngineError("kv_full", message);
    }
    await this.#native.compact();
    this.#cells.compact();
  }

  #sample(plan: StepPlan): Array<SampledToken | null> {
    const samples: Array<SampledToken | null> = [];
    let row = 0;
    for (const chunk of plan.chunks) {
      samples.push(chunk.samples ? this.#sampler.sample(this.#native.logits(row++), chunk.sequence) : null);
    }
    return samples;
  }
}

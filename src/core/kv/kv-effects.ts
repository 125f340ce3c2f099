import type { KvOp } from "./kv-ops.ts";
import type { OffloadOp } from "./tiers/kv-tiers.ts";

/** Operations on the engine's cells, or an export of them. */
export type KvEffect = { readonly kind: "kv-ops"; readonly ops: readonly KvOp[] } | OffloadOp;

/** The same while operations can still be added, and the last one widened. */
type PendingEffect = { readonly kind: "kv-ops"; readonly ops: PendingOp[] } | OffloadOp;
type PendingOp = Exclude<KvOp, { kind: "drop" }> | { kind: "drop"; slot: number; start: number; end: number };

const NO_EFFECTS: readonly KvEffect[] = [];

/** What an engine has to do with its cells, in order, until it is taken. Operations that follow each other are one effect. */
export class KvEffects {
  #effects: PendingEffect[] = [];

  take(): readonly KvEffect[] {
    if (this.#effects.length === 0) return NO_EFFECTS;
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  op(op: KvOp): void {
    const last = this.#effects[this.#effects.length - 1];
    if (last?.kind === "kv-ops") last.ops.push(op);
    else this.#effects.push({ kind: "kv-ops", ops: [op] });
  }

  /** Takes a range from a slot. Blocks are given up from the last one on: neighbours become one operation. */
  drop(slot: number, start: number, end: number): void {
    const effect = this.#effects[this.#effects.length - 1];
    const last = effect?.kind === "kv-ops" ? effect.ops[effect.ops.length - 1] : undefined;
    if (last?.kind === "drop" && last.slot === slot && last.start === end) last.start = start;
    else this.op({ kind: "drop", slot, start, end });
  }

  /** Exports that must be made before whatever comes after them. */
  export(...exports: readonly OffloadOp[]): void {
    this.#effects.push(...exports);
  }
}

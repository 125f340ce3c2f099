import { assert } from "../../core/util/assert.ts";

/** When the KV that a step computes may leave: all of it after the step, or each layer as soon as it has been computed. */
export type TransferMode = "chunk" | "layer";

/** How the KV of one step is sent. Two flows: one that overlaps the step, and one for what the step finishes last. */
export interface TransferPlan {
  /** From the step's begin until the first byte may flow. */
  readonly firstByteMs: number;
  /** Sent from `firstByteMs` on; 0 when nothing can leave before the step ends. */
  readonly earlyBytes: number;
  /** Sent from the step's end on. */
  readonly lateBytes: number;
}

/**
 * Splits the KV of a step into what flows while it computes and what remains.
 *
 * With `layer`, layer i of n is ready at `stepMs · i / n` (layers take equal time and have equal KV; what a step does outside its
 * layers counts as part of them), as Splitwise sends it (ISCA 2024, section 4.2). So the first n - 1 layers may flow from
 * `stepMs / n` on, and the last one from the end of the step. Over a link that gives the pair `b` bytes per millisecond, the last
 * byte leaves at
 *
 * ```
 *   max(stepMs + bytes / (n b),  stepMs / n + bytes / b)
 * ```
 *
 * after the step's begin: the first term when the link is faster than the layers come, the second when it is slower. Starting
 * one flow of `earlyBytes` at `firstByteMs` and one of `lateBytes` at the step's end gives exactly this, because both share
 * the link. On a fast link the early flow is allowed to run ahead of its layers; that changes when the link is used, not
 * when the KV is complete.
 *
 * `stepMs` is the device time; `bytes` is a whole number.
 */
export function transferPlan(
  mode: TransferMode,
  stepMs: number,
  numLayers: number,
  bytes: number,
): TransferPlan {
  assert(stepMs >= 0 && Number.isFinite(stepMs), "a step takes a finite time");
  assert(Number.isInteger(numLayers) && numLayers >= 1, "a model has whole layers");
  assert(Number.isSafeInteger(bytes) && bytes >= 0, "a transfer has whole bytes");
  if (mode === "chunk" || numLayers === 1) return { firstByteMs: stepMs, earlyBytes: 0, lateBytes: bytes };
  const lateBytes = Math.ceil(bytes / numLayers);
  return { firstByteMs: stepMs / numLayers, earlyBytes: bytes - lateBytes, lateBytes };
}

import type { LinkSpec } from "./device-spec.ts";
import {
  type AttentionKernel,
  type AttentionMath,
  decodeAttentionCoordinates,
  decodeAttentionRooflineMs,
  decodeKvBytes,
  prefillAttentionCoordinates,
  prefillAttentionRooflineMs,
} from "./operators/attention.ts";
import { type Collective, collectiveCoordinates, collectiveRooflineMs } from "./operators/collectives.ts";
import { type Efficiency, MAX_COORDINATES, Provenance } from "./operators/efficiency.ts";
import { GEMM_FORMATS, type GemmFormat, gemmCoordinates, gemmRooflineMs } from "./operators/gemm.ts";
import {
  equivalentPromptTokens,
  type MlaKernel,
  mlaCoordinates,
  mlaDecodeRooflineMs,
  mlaPrefillRooflineMs,
} from "./operators/mla.ts";
import { type MoeKernel, moeCoordinates, moeRooflineMs } from "./operators/moe.ts";
import { type RooflineRates, rooflineMs } from "./operators/roofline.ts";

/** The link that a group of devices talks over. */
export interface GroupLink {
  readonly spec: LinkSpec;
  readonly isScaleUp: boolean;
}

/** Finds the efficiency of an operator class and variant; never fails, see {@link Efficiency.source}. */
export type EfficiencyLookup = (key: string) => Efficiency;

/**
 * Times of kernels on one device, in milliseconds: the roofline of each, times its efficiency. Every call adds to
 * `provenance` where its time came from.
 */
export class KernelTimes {
  readonly provenance = new Provenance();
  readonly #rates: RooflineRates;
  readonly #lookup: EfficiencyLookup;
  readonly #coordinates = new Float64Array(MAX_COORDINATES);

  constructor(rates: RooflineRates, lookup: EfficiencyLookup) {
    this.#rates = rates;
    this.#lookup = lookup;
  }

  /** [m, k] x [k, n]. */
  gemmMs(format: GemmFormat, m: number, n: number, k: number): number {
    if (m <= 0) return 0;
    gemmCoordinates(this.#coordinates, m, n, k, false);
    const ms = this.#scaled(gemmRooflineMs(this.#rates, format, m, n, k), `gemm/${format}`);
    return Math.max(ms, this.#coldMs(n * k * GEMM_FORMATS[format].weightBytes));
  }

  /** Causal attention of `sequences` chunks of `tokens` tokens, each behind `context` computed ones. */
  prefillAttentionMs(kernel: AttentionKernel, sequences: number, tokens: number, context: number): number {
    if (sequences <= 0 || tokens <= 0) return 0;
    prefillAttentionCoordinates(this.#coordinates, kernel, sequences, tokens, context);
    const ms = prefillAttentionRooflineMs(this.#rates, kernel, sequences, tokens, context);
    return this.#scaled(ms, attentionKey(PREFILL_KEYS, kernel), kernel.math);
  }

  /** One new token for each of `sequences`, which attends to `context` positions. */
  decodeAttentionMs(kernel: AttentionKernel, sequences: number, context: number): number {
    if (sequences <= 0) return 0;
    const visible = Math.max(1, context);
    decodeAttentionCoordinates(this.#coordinates, kernel, sequences, visible);
    const ms = decodeAttentionRooflineMs(this.#rates, kernel, sequences, visible);
    const scaled = this.#scaled(ms, attentionKey(DECODE_KEYS, kernel), kernel.math);
    return Math.max(scaled, this.#coldMs(decodeKvBytes(kernel, sequences, visible)));
  }

  /** A latent attention module, projections included, for prefill chunks. */
  mlaPrefillMs(kernel: MlaKernel, sequences: number, tokens: number, context: number): number {
    if (sequences <= 0 || tokens <= 0) return 0;
    mlaCoordinates(this.#coordinates, equivalentPromptTokens(tokens, context), sequences, kernel.numHeads);
    const ms = mlaPrefillRooflineMs(this.#rates, kernel, sequences, tokens, context);
    return this.#scaled(ms, `mla-prefill/${kernel.format}/${kvName(kernel.kvBytes)}`, kernel.math);
  }

  /** A latent attention module, projections included, for decodes. */
  mlaDecodeMs(kernel: MlaKernel, sequences: number, context: number): number {
    if (sequences <= 0) return 0;
    const visible = Math.max(1, context);
    mlaCoordinates(this.#coordinates, visible, sequences, kernel.numHeads);
    const ms = mlaDecodeRooflineMs(this.#rates, kernel, sequences, visible);
    return this.#scaled(ms, `mla-decode/${kernel.format}/${kvName(kernel.kvBytes)}`, kernel.math);
  }

  /**
   * Routed experts of one layer for `tokens` tokens of all devices that share them. `skew` is the exponent of the power law by
   * which experts are chosen; 0: evenly.
   */
  moeMs(kernel: MoeKernel, skew: number, tokens: number): number {
    if (tokens <= 0) return 0;
    moeCoordinates(this.#coordinates, kernel, skew, tokens);
    return this.#scaled(moeRooflineMs(this.#rates, kernel, tokens), `moe/${kernel.format}`);
  }

  /** A collective of `bytes` over `devices` on `link`. Only links inside a scale-up domain have been measured. */
  collectiveMs(link: GroupLink, collective: Collective, devices: number, bytes: number): number {
    if (devices <= 1 || bytes <= 0) return 0;
    collectiveCoordinates(this.#coordinates, devices, bytes);
    const key = link.isScaleUp ? collective : `scale-out/${collective}`;
    return this.#scaled(collectiveRooflineMs(link.spec, collective, devices, bytes), key);
  }

  /** Small kernels that only move memory: norms, rotations, activations, samplers. No source but the roofline has them. */
  elementwiseMs(kernels: number, bytes: number): number {
    const moved = rooflineMs(0, 1, bytes, this.#rates.memoryBytesPerSecond);
    const floor = rooflineMs(0, 1, 0, 1);
    return moved - floor + kernels * ELEMENTWISE_KERNEL_MS;
  }

  /** A scan over a recurrent state: tensor-core work in small pieces, at the roofline of both. */
  scanMs(flops: number, bytes: number): number {
    this.provenance.add("roofline", false);
    return rooflineMs(
      flops,
      (this.#rates.denseFlops.bf16 ?? 0) * SCAN_SHARE,
      bytes,
      this.#rates.memoryBytesPerSecond,
    );
  }

  /**
   * Time to read bytes that no cache holds. Tables repeat one kernel, whose weights or KV may stay in a large cache; in a step, those
   * of all layers have passed since.
   */
  #coldMs(bytes: number): number {
    return (bytes * 1e3) / (this.#rates.memoryBytesPerSecond * COLD_SHARE);
  }

  /** Attention in FP8 has its own roofline and the efficiency of BF16, which makes it an estimate whatever was measured. */
  #scaled(rooflineTimeMs: number, key: string, math: AttentionMath = "bf16"): number {
    const efficiency = this.#lookup(key);
    this.provenance.add(efficiency.source, !efficiency.covers(this.#coordinates));
    if (math !== "bf16") this.provenance.add("roofline", true);
    return rooflineTimeMs * 2 ** efficiency.log2Factor(this.#coordinates);
  }
}

/** Share of the memory bandwidth that the best kernels reach on sizes far beyond any cache. */
const COLD_SHARE = 0.92;

/** Chunks of a scan are small matrices one after another: a quarter of what large GEMMs reach. */
const SCAN_SHARE = 0.25;

/** One small kernel in a recorded graph, where the next one's launch overlaps with its end. */
const ELEMENTWISE_KERNEL_MS = 0.002;

/** Names of an attention operator's efficiencies. Made once: tables of costs look them up for thousands of shapes. */
function attentionKeys(operator: string): AttentionKeys {
  const keys = (kv: string) => ({ full: `${operator}/${kv}`, window: `${operator}/${kv}/window` });
  return { bf16: keys("bf16"), fp8: keys("fp8") };
}

type AttentionKeys = Readonly<Record<"bf16" | "fp8", { readonly full: string; readonly window: string }>>;

const PREFILL_KEYS = attentionKeys("prefill-attention");
const DECODE_KEYS = attentionKeys("decode-attention");

/** Windowed layers run other kernels, also while their window hides nothing. */
function attentionKey(keys: AttentionKeys, { kvBytes, windowTokens }: AttentionKernel): string {
  const { full, window } = keys[kvName(kvBytes)];
  return Number.isFinite(windowTokens) ? window : full;
}

function kvName(kvBytes: number): "bf16" | "fp8" {
  return kvBytes >= 2 ? "bf16" : "fp8";
}

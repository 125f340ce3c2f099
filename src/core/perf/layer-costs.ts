import { linearAttentionParameters } from "./attention-parameters.ts";
import type { DeviceSpec, Parallelism } from "./device-spec.ts";
import type { GroupLink, KernelTimes } from "./kernel-times.ts";
import { kvHeadsPerDevice, type ModelFormats } from "./model-bytes.ts";
import type { DenseFfnShape, ModelShape, MoeFfnShape } from "./model-shape.ts";
import type { AttentionKernel } from "./operators/attention.ts";
import { GEMM_FORMATS } from "./operators/gemm.ts";
import type { MlaKernel } from "./operators/mla.ts";
import type { MoeKernel } from "./operators/moe.ts";

/** A kind of work in a step, for breakdowns. */
export type OperatorClass =
  | "attention-gemm"
  | "ffn-gemm"
  | "moe"
  /** Routed experts with 4-bit weights, which have kernels of their own. */
  | "moe-4bit"
  | "output-gemm"
  | "prefill-attention"
  | "decode-attention"
  /** Latent attention modules: what one decode costs with no context, what is on top of it, and prefills. */
  | "mla-floor"
  | "mla-decode"
  | "mla-prefill"
  | "linear-attention"
  | "elementwise"
  | "collective"
  | "sampling";

/** Told of every operator that is priced: its class and its milliseconds over all layers. */
export type OperatorSink = (operator: OperatorClass, ms: number) => void;

/** Bytes of an activation between kernels. */
const ACTIVATION_BYTES = 2;
/** Norms, residual sums, rotation with cache write, and the activation function are fused into so many kernels. */
const ELEMENTWISE_KERNELS_PER_LAYER = 4;
/** Columns up to which GEMMs have been measured; an output projection that is wider counts as several. */
const WIDEST_GEMM = 65_536;
const SAMPLING_KERNELS = 12;
/** Passes over single-precision logits: temperature, maximum, exponent, sum, search. */
const SAMPLING_PASSES = 5;

/** What the layers of a model cost on one replica: each method prices one kind of load over all layers. */
export class LayerCosts {
  readonly #kernels: KernelTimes;
  readonly #model: ModelShape;
  readonly #parallelism: Parallelism;
  readonly #formats: ModelFormats;
  readonly #routingSkew: number;
  /** Links that the tensor-parallel group and the expert group talk over. */
  readonly #groupLink: GroupLink;
  readonly #expertLink: GroupLink;
  readonly #stageLink: GroupLink;

  constructor(
    kernels: KernelTimes,
    device: DeviceSpec,
    model: ModelShape,
    parallelism: Parallelism,
    formats: ModelFormats,
    routingSkew: number,
  ) {
    this.#kernels = kernels;
    this.#model = model;
    this.#parallelism = parallelism;
    this.#formats = formats;
    this.#routingSkew = routingSkew;
    const linkFor = (devices: number): GroupLink => {
      const isScaleUp = devices <= device.scaleUpDevices;
      return { spec: isScaleUp ? device.scaleUp : device.scaleOut, isScaleUp };
    };
    const { tp, pp, dp } = parallelism;
    this.#groupLink = linkFor(tp);
    this.#expertLink = linkFor(tp * dp);
    this.#stageLink = linkFor(tp * dp * pp);
  }

  /**
   * Everything that depends on the number of tokens alone. `groupTokens` are those of one attention group, `allTokens` those of all
   * groups, which meet in the experts.
   */
  addTokens(groupTokens: number, allTokens: number, sink: OperatorSink): void {
    if (groupTokens <= 0) return;
    const { numLayers, hiddenSize } = this.#model;
    const { tp, dp, pp } = this.#parallelism;
    this.#addAttentionGemms(groupTokens, sink);
    this.#addFfn(groupTokens, allTokens, sink);
    const elementwiseBytes = groupTokens * (8 * hiddenSize + this.#widthPerToken()) * ACTIVATION_BYTES;
    sink(
      "elementwise",
      numLayers * this.#kernels.elementwiseMs(ELEMENTWISE_KERNELS_PER_LAYER, elementwiseBytes),
    );
    const bytes = groupTokens * hiddenSize * ACTIVATION_BYTES;
    const reduceMs = this.#kernels.collectiveMs(this.#groupLink, "all-reduce", tp, bytes);
    const isShared = this.#model.ffn.kind === "moe" && dp > 1;
    // With attention groups, tokens come together before the experts and go apart after them.
    const meet = allTokens * hiddenSize * ACTIVATION_BYTES;
    const gatherMs = isShared
      ? this.#kernels.collectiveMs(this.#expertLink, "all-gather", tp * dp, meet) +
        this.#kernels.collectiveMs(this.#expertLink, "reduce-scatter", tp * dp, meet)
      : 0;
    sink("collective", numLayers * (isShared ? reduceMs + gatherMs : 2 * reduceMs));
    if (pp > 1) {
      const hopMs = this.#stageLink.spec.latencyMs + (bytes / tp / this.#stageLink.spec.bytesPerSecond) * 1e3;
      sink("collective", (pp - 1) * hopMs);
    }
  }

  /** Output projection and sampling for `samples` sequences of one attention group. */
  addSamples(samples: number, sink: OperatorSink): void {
    if (samples <= 0) return;
    const { vocabSize, hiddenSize } = this.#model;
    const { tp } = this.#parallelism;
    const columns = vocabSize / tp;
    const parts = Math.ceil(columns / WIDEST_GEMM);
    sink("output-gemm", parts * this.#kernels.gemmMs("bf16", samples, columns / parts, hiddenSize));
    const logitBytes = samples * vocabSize * 4;
    const gatherMs = this.#kernels.collectiveMs(this.#groupLink, "all-gather", tp, logitBytes / 2);
    sink("collective", gatherMs);
    sink("sampling", this.#kernels.elementwiseMs(SAMPLING_KERNELS, SAMPLING_PASSES * logitBytes));
  }

  /** Attention of `sequences` equal prefill chunks of one attention group. */
  addPrefillAttention(sequences: number, tokens: number, context: number, sink: OperatorSink): void {
    const { attention, numLayers } = this.#model;
    if (attention.kind === "mla") {
      const module = this.#kernels.mlaPrefillMs(this.#mlaKernel(), sequences, tokens, context);
      sink("mla-prefill", numLayers * module);
      return;
    }
    const numFull = numLayers - attention.numWindowLayers - attention.numLinearLayers;
    const full = this.#kernels.prefillAttentionMs(
      this.#attentionKernel(Number.POSITIVE_INFINITY),
      sequences,
      tokens,
      context,
    );
    sink("prefill-attention", numFull * full);
    if (attention.numWindowLayers > 0) {
      const kernel = this.#attentionKernel(attention.windowTokens);
      const windowed = this.#kernels.prefillAttentionMs(kernel, sequences, tokens, context);
      sink("prefill-attention", attention.numWindowLayers * windowed);
    }
    this.#addLinearAttention(sequences, sequences * tokens, sink);
  }

  /** Attention of `sequences` decodes of one attention group at a context of `context` each. */
  addDecodeAttention(sequences: number, context: number, sink: OperatorSink): void {
    const { attention, numLayers } = this.#model;
    if (attention.kind === "mla") {
      const visible = Math.min(context, attention.topKTokens ?? context);
      const floorMs = this.#kernels.mlaDecodeMs(this.#mlaKernel(), 1, 1);
      const moduleMs = this.#kernels.mlaDecodeMs(this.#mlaKernel(), sequences, visible);
      sink("mla-floor", numLayers * floorMs);
      sink("mla-decode", numLayers * Math.max(0, moduleMs - floorMs));
      return;
    }
    const numFull = numLayers - attention.numWindowLayers - attention.numLinearLayers;
    const full = this.#attentionKernel(Number.POSITIVE_INFINITY);
    sink("decode-attention", numFull * this.#kernels.decodeAttentionMs(full, sequences, context));
    if (attention.numWindowLayers > 0) {
      const windowed = this.#attentionKernel(attention.windowTokens);
      const ms = this.#kernels.decodeAttentionMs(windowed, sequences, context);
      sink("decode-attention", attention.numWindowLayers * ms);
    }
    this.#addLinearAttention(sequences, sequences, sink);
  }

  #addAttentionGemms(tokens: number, sink: OperatorSink): void {
    const { attention, numLayers, hiddenSize } = this.#model;
    // The measured latent modules hold their projections.
    if (attention.kind === "mla") return;
    const { tp } = this.#parallelism;
    const format = this.#formats.attention;
    const queries = (attention.numHeads / tp) * attention.headDim;
    const keys = kvHeadsPerDevice(attention.numKvHeads, tp) * attention.headDim;
    const ms =
      this.#kernels.gemmMs(format, tokens, queries + 2 * keys, hiddenSize) +
      this.#kernels.gemmMs(format, tokens, hiddenSize, queries);
    sink("attention-gemm", (numLayers - attention.numLinearLayers) * ms);
    if (attention.numLinearLayers > 0) {
      const width = linearAttentionParameters(this.#model) / hiddenSize / tp;
      const linearMs =
        this.#kernels.gemmMs(format, tokens, width * 0.75, hiddenSize) +
        this.#kernels.gemmMs(format, tokens, hiddenSize, width * 0.25);
      sink("attention-gemm", attention.numLinearLayers * linearMs);
    }
  }

  #addFfn(groupTokens: number, allTokens: number, sink: OperatorSink): void {
    const { ffn, numLayers } = this.#model;
    if (ffn.kind === "dense") {
      sink("ffn-gemm", numLayers * this.#denseMs(ffn, groupTokens));
      return;
    }
    const numMoe = numLayers - ffn.numDenseLayers;
    const dense: DenseFfnShape = {
      kind: "dense",
      intermediateSize: ffn.denseIntermediateSize,
      isGated: true,
    };
    if (ffn.numDenseLayers > 0) sink("ffn-gemm", ffn.numDenseLayers * this.#denseMs(dense, groupTokens));
    const router = this.#kernels.gemmMs("bf16", groupTokens, ffn.numExperts, this.#model.hiddenSize);
    const routed = this.#kernels.moeMs(this.#moeKernel(ffn), this.#routingSkew, allTokens);
    const isNarrow = GEMM_FORMATS[this.#formats.ffn].weightBytes < 1;
    sink(isNarrow ? "moe-4bit" : "moe", numMoe * (router + routed));
    if (ffn.numSharedExperts > 0) {
      const shared: DenseFfnShape = {
        kind: "dense",
        intermediateSize: ffn.numSharedExperts * ffn.sharedIntermediateSize,
        isGated: true,
      };
      sink("ffn-gemm", numMoe * this.#denseMs(shared, groupTokens));
    }
  }

  #denseMs(ffn: DenseFfnShape, tokens: number): number {
    const { hiddenSize } = this.#model;
    const format = this.#formats.ffn;
    const width = ffn.intermediateSize / this.#parallelism.tp;
    return (
      this.#kernels.gemmMs(format, tokens, (ffn.isGated ? 2 : 1) * width, hiddenSize) +
      this.#kernels.gemmMs(format, tokens, hiddenSize, width)
    );
  }

  /** A linear layer reads and writes its state once per sequence, and a few vectors per token. */
  #addLinearAttention(sequences: number, tokens: number, sink: OperatorSink): void {
    const { attention } = this.#model;
    if (attention.kind !== "gqa" || attention.numLinearLayers === 0) return;
    const linear = attention.linear ?? {
      numKeyHeads: attention.numHeads,
      numValueHeads: attention.numHeads,
      keyHeadDim: attention.headDim,
      valueHeadDim: attention.headDim,
    };
    const { tp } = this.#parallelism;
    const state = (linear.numValueHeads / tp) * linear.keyHeadDim * linear.valueHeadDim;
    const vectors =
      (2 * linear.numKeyHeads * linear.keyHeadDim + 3 * linear.numValueHeads * linear.valueHeadDim) / tp;
    const bytes = 2 * sequences * state * 4 + tokens * vectors * 4 * ACTIVATION_BYTES;
    // Chunked scan: per token two products with the state and two with the other tokens of its chunk.
    const flopsMs = this.#kernels.scanMs(tokens * state * 8, bytes);
    sink("linear-attention", attention.numLinearLayers * flopsMs);
  }

  /** Elements per token and device of projections and the feed-forward part that elementwise kernels pass over. */
  #widthPerToken(): number {
    const { attention, ffn } = this.#model;
    const { tp } = this.#parallelism;
    const heads =
      attention.kind === "mla"
        ? 0
        : 2 * (attention.numHeads / tp + 2 * kvHeadsPerDevice(attention.numKvHeads, tp)) * attention.headDim;
    if (ffn.kind === "dense") return heads + (3 * ffn.intermediateSize) / tp;
    // Inside the routed experts it is part of their kernel.
    return heads + (3 * ffn.numSharedExperts * ffn.sharedIntermediateSize) / tp;
  }

  #attentionKernel(windowTokens: number): AttentionKernel {
    const { attention } = this.#model;
    if (attention.kind !== "gqa") throw new Error("a latent attention has no per-head KV");
    const { tp } = this.#parallelism;
    return {
      numHeads: Math.max(1, attention.numHeads / tp),
      numKvHeads: kvHeadsPerDevice(attention.numKvHeads, tp),
      headDim: attention.headDim,
      kvBytes: this.#formats.kvBytes,
      math: this.#formats.attentionMath ?? "bf16",
      windowTokens,
    };
  }

  #mlaKernel(): MlaKernel {
    const { attention, hiddenSize } = this.#model;
    if (attention.kind !== "mla") throw new Error("only a latent attention has a latent module");
    return {
      numHeads: attention.numHeads / this.#parallelism.tp,
      hiddenSize,
      qLoraRank: attention.qLoraRank,
      kvLoraRank: attention.kvLoraRank,
      ropeHeadDim: attention.ropeHeadDim,
      nopeHeadDim: attention.nopeHeadDim,
      vHeadDim: attention.vHeadDim,
      kvBytes: this.#formats.kvBytes,
      math: this.#formats.attentionMath ?? "bf16",
      format: this.#formats.attention,
    };
  }

  #moeKernel(ffn: MoeFfnShape): MoeKernel {
    const { tp, dp, ep } = this.#parallelism;
    return {
      hiddenSize: this.#model.hiddenSize,
      intermediateSize: (ffn.expertIntermediateSize * ep) / (tp * dp),
      numExperts: ffn.numExperts,
      expertsPerToken: ffn.expertsPerToken,
      expertParallel: ep,
      format: this.#formats.ffn,
    };
  }
}

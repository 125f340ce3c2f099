/** How attention keeps and reads its context. */
export type AttentionShape =
  /** Multi-head, grouped-query or multi-query attention, by the number of KV heads. */
  | {
      readonly kind: "gqa";
      readonly numHeads: number;
      readonly numKvHeads: number;
      readonly headDim: number;
      /** Layers that attend to the last `windowTokens` positions only; 0 when there are none. */
      readonly numWindowLayers: number;
      readonly windowTokens: number;
      /** Layers with a fixed-size state in place of KV (linear attention); 0 when there are none. */
      readonly numLinearLayers: number;
      /** Sizes of the linear layers; without them they are taken to have the heads of the others. */
      readonly linear?: LinearAttentionShape;
    }
  /** Multi-head latent attention (DeepSeek-V2): one compressed vector per token and layer. */
  | {
      readonly kind: "mla";
      readonly numHeads: number;
      readonly kvLoraRank: number;
      readonly ropeHeadDim: number;
      readonly nopeHeadDim: number;
      readonly vHeadDim: number;
      /** 0: queries are not compressed. */
      readonly qLoraRank: number;
      /** Positions that a token attends to at most, chosen by an index (sparse attention); absent: all. */
      readonly topKTokens?: number;
    };

/** A layer whose context is a matrix per head (gated delta rule and its kin). */
export interface LinearAttentionShape {
  readonly numKeyHeads: number;
  readonly numValueHeads: number;
  readonly keyHeadDim: number;
  readonly valueHeadDim: number;
}

/** The feed-forward part of a layer. */
export interface DenseFfnShape {
  readonly kind: "dense";
  readonly intermediateSize: number;
  /** Gated: three matrices (SwiGLU); otherwise two. */
  readonly isGated: boolean;
}

export interface MoeFfnShape {
  readonly kind: "moe";
  readonly numExperts: number;
  readonly expertsPerToken: number;
  readonly expertIntermediateSize: number;
  /** Every token goes through these; 0 when there are none. */
  readonly numSharedExperts: number;
  readonly sharedIntermediateSize: number;
  /** Leading layers whose feed-forward part is dense, and its size. */
  readonly numDenseLayers: number;
  readonly denseIntermediateSize: number;
}

/** What the perf model knows of a language model: sizes, never weights. */
export interface ModelShape {
  readonly name: string;
  readonly numLayers: number;
  readonly hiddenSize: number;
  readonly vocabSize: number;
  readonly attention: AttentionShape;
  readonly ffn: DenseFfnShape | MoeFfnShape;
  /** Whether input and output embeddings are one matrix. */
  readonly hasTiedEmbeddings: boolean;
  readonly maxContextTokens: number;
}

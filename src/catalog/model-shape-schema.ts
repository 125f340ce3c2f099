import { z } from "zod";
import type { ModelShape } from "../core/perf/model-shape.ts";

const MAX_LAYERS = 2000;
const MAX_WIDTH = 1_000_000;
const MAX_HEADS = 10_000;
const MAX_EXPERTS = 100_000;
const MAX_VOCABULARY = 10_000_000;
const MAX_CONTEXT_TOKENS = 1_000_000_000;

const int = (min: number, max: number) => z.int().min(min).max(max);
const size = int(1, MAX_WIDTH);

const gqaSchema = z.strictObject({
  kind: z.literal("gqa"),
  numHeads: int(1, MAX_HEADS),
  numKvHeads: int(1, MAX_HEADS),
  headDim: size,
  numWindowLayers: int(0, MAX_LAYERS).default(0),
  windowTokens: int(0, MAX_CONTEXT_TOKENS).default(0),
  numLinearLayers: int(0, MAX_LAYERS).default(0),
  linear: z
    .strictObject({
      numKeyHeads: int(1, MAX_HEADS),
      numValueHeads: int(1, MAX_HEADS),
      keyHeadDim: size,
      valueHeadDim: size,
    })
    .exactOptional(),
});

const mlaSchema = z.strictObject({
  kind: z.literal("mla"),
  numHeads: int(1, MAX_HEADS),
  kvLoraRank: size,
  ropeHeadDim: size,
  nopeHeadDim: size,
  vHeadDim: size,
  qLoraRank: int(0, MAX_WIDTH).default(0),
  topKTokens: int(1, MAX_CONTEXT_TOKENS).exactOptional(),
});

const denseFfnSchema = z.strictObject({
  kind: z.literal("dense"),
  intermediateSize: size,
  isGated: z.boolean().default(true),
});

const moeFfnSchema = z.strictObject({
  kind: z.literal("moe"),
  numExperts: int(1, MAX_EXPERTS),
  expertsPerToken: int(1, MAX_EXPERTS),
  expertIntermediateSize: size,
  numSharedExperts: int(0, MAX_EXPERTS).default(0),
  sharedIntermediateSize: int(0, MAX_WIDTH).default(0),
  numDenseLayers: int(0, MAX_LAYERS).default(0),
  denseIntermediateSize: int(0, MAX_WIDTH).default(0),
});

/** The shape of a model as a file states it; what is left out is 0, or the usual. */
export const modelShapeSchema = z
  .strictObject({
    numLayers: int(1, MAX_LAYERS),
    hiddenSize: size,
    vocabSize: int(1, MAX_VOCABULARY),
    attention: z.discriminatedUnion("kind", [gqaSchema, mlaSchema]),
    ffn: z.discriminatedUnion("kind", [denseFfnSchema, moeFfnSchema]),
    hasTiedEmbeddings: z.boolean().default(false),
    maxContextTokens: int(1, MAX_CONTEXT_TOKENS),
  })
  .superRefine((shape, context) => {
    for (const { path, message } of findConflicts(shape)) {
      context.addIssue({ code: "custom", path: [...path], message });
    }
  });

interface Conflict {
  readonly path: readonly string[];
  readonly message: string;
}

/** Numbers of a shape that do not go together. */
function findConflicts(shape: Omit<ModelShape, "name">): Conflict[] {
  const conflicts: Conflict[] = [];
  const { attention, ffn, numLayers } = shape;
  if (attention.kind === "gqa") {
    const { numHeads, numKvHeads, numWindowLayers, windowTokens, numLinearLayers } = attention;
    if (numHeads % numKvHeads !== 0) {
      conflicts.push({ path: ["attention", "numKvHeads"], message: `does not divide the ${numHeads} heads` });
    }
    if (numWindowLayers + numLinearLayers > numLayers) {
      const message = `makes more window and linear layers than the ${numLayers} layers`;
      conflicts.push({ path: ["attention", "numWindowLayers"], message });
    }
    if (numWindowLayers > 0 && windowTokens === 0) {
      conflicts.push({ path: ["attention", "windowTokens"], message: "has to be given with window layers" });
    }
  }
  if (ffn.kind === "moe") {
    if (ffn.expertsPerToken > ffn.numExperts) {
      const message = `is more than the ${ffn.numExperts} experts`;
      conflicts.push({ path: ["ffn", "expertsPerToken"], message });
    }
    if (ffn.numDenseLayers >= numLayers) {
      const message = `leaves none of the ${numLayers} layers with experts`;
      conflicts.push({ path: ["ffn", "numDenseLayers"], message });
    }
    if (ffn.numDenseLayers > 0 && ffn.denseIntermediateSize === 0) {
      conflicts.push({
        path: ["ffn", "denseIntermediateSize"],
        message: "has to be given with dense layers",
      });
    }
    if (ffn.numSharedExperts > 0 && ffn.sharedIntermediateSize === 0) {
      const message = "has to be given with shared experts";
      conflicts.push({ path: ["ffn", "sharedIntermediateSize"], message });
    }
  }
  return conflicts;
}

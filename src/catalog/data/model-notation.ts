import type { AttentionShape, MoeFfnShape } from "../../core/perf/model-shape.ts";
import type { Contradiction, ModelEntry } from "../entry.ts";
import { vendor } from "../figure.ts";
import type { SourceId } from "./sources.ts";

interface ModelOptions {
  readonly context: number;
  readonly figures: ModelEntry["figures"];
  readonly aliases?: readonly string[];
  readonly sources?: readonly SourceId[];
  /** The shape was written down from memory; that its parameters add up to the published number is its only check. */
  readonly isRecalled?: true;
  readonly notes?: readonly string[];
  readonly contradictions?: readonly Contradiction[];
}

const FROM_MEMORY = "Shape written down from memory; its parameters add up to the published number.";

/** Parameters in billions as published, total and per token; a dense model uses all of them. */
export function published(total: number, active?: number): ModelEntry["figures"] {
  return {
    "params.total": vendor(total, "hf-config"),
    ...(active === undefined ? {} : { "params.active": vendor(active, "hf-config") }),
  };
}

export function gqa(
  numHeads: number,
  numKvHeads: number,
  headDim: number,
): Extract<AttentionShape, { kind: "gqa" }> {
  const plain = { numWindowLayers: 0, windowTokens: 0, numLinearLayers: 0 };
  return { kind: "gqa", numHeads, numKvHeads, headDim, ...plain };
}

/** Latent attention with the dimensions of DeepSeek-V3. */
export function mla(numHeads: number, qLoraRank: number): Extract<AttentionShape, { kind: "mla" }> {
  const dims = { kvLoraRank: 512, ropeHeadDim: 64, nopeHeadDim: 128, vHeadDim: 128 };
  return { kind: "mla", numHeads, qLoraRank, ...dims };
}

export function moe(
  numExperts: number,
  expertsPerToken: number,
  expertIntermediateSize: number,
  options: { readonly shared?: number; readonly denseLayers?: number; readonly denseSize?: number } = {},
): MoeFfnShape {
  const numSharedExperts = options.shared ?? 0;
  return {
    kind: "moe",
    numExperts,
    expertsPerToken,
    expertIntermediateSize,
    numSharedExperts,
    sharedIntermediateSize: numSharedExperts === 0 ? 0 : expertIntermediateSize,
    numDenseLayers: options.denseLayers ?? 0,
    denseIntermediateSize: options.denseSize ?? 0,
  };
}

/** A dense model from `[layers, hidden, heads, KV heads, head dimension, feed-forward size, vocabulary]`. */
export function denseModel(
  id: string,
  name: string,
  revision: string,
  sizes: readonly [number, number, number, number, number, number, number],
  options: ModelOptions & { readonly isGated?: boolean; readonly isTied?: boolean },
): ModelEntry {
  const [numLayers, hiddenSize, numHeads, numKvHeads, headDim, intermediateSize, vocabSize] = sizes;
  const shape = {
    name,
    numLayers,
    hiddenSize,
    vocabSize,
    attention: gqa(numHeads, numKvHeads, headDim),
    ffn: { kind: "dense", intermediateSize, isGated: options.isGated ?? true },
    hasTiedEmbeddings: options.isTied ?? false,
    maxContextTokens: options.context,
  } as const;
  return toEntry(id, name, revision, shape, options);
}

/** A mixture of experts from `[layers, hidden, vocabulary]`. */
export function moeModel(
  id: string,
  name: string,
  revision: string,
  [numLayers, hiddenSize, vocabSize]: readonly [number, number, number],
  options: ModelOptions & { readonly attention: AttentionShape; readonly ffn: MoeFfnShape },
): ModelEntry {
  const shape = {
    name,
    numLayers,
    hiddenSize,
    vocabSize,
    attention: options.attention,
    ffn: options.ffn,
    hasTiedEmbeddings: false,
    maxContextTokens: options.context,
  };
  return toEntry(id, name, revision, shape, options);
}

function toEntry(
  id: string,
  name: string,
  revision: string,
  shape: ModelEntry["shape"],
  { figures, aliases, sources, isRecalled, notes = [], contradictions }: ModelOptions,
): ModelEntry {
  const allNotes = isRecalled ? [...notes, FROM_MEMORY] : notes;
  return {
    kind: "model",
    id,
    name,
    revision,
    figures,
    shape,
    sources: sources ?? [isRecalled ? "memory" : "hf-config"],
    ...(aliases === undefined ? {} : { aliases }),
    ...(allNotes.length === 0 ? {} : { notes: allNotes }),
    ...(contradictions === undefined ? {} : { contradictions }),
  };
}

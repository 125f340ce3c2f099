import { z } from "zod";
import { type EngineProfile, TOKEN_KNOTS } from "../core/perf/profile-model.ts";
import { MAX_FACTORS } from "../core/perf/step-variation.ts";
import { ConfigError } from "./config-error.ts";
import { engineSchema } from "./fleet-schema.ts";
import { readYaml, toProblems } from "./yaml-document.ts";

/** Raised with every change that a reader of the older form would misread. */
export const PROFILE_VERSION = 1;

/** Longest profile, in UTF-16 units. */
const MAX_PROFILE_LENGTH = 256 * 1024;

const MAX_MS = 1e9;
/** Most times its price that a step may have taken. */
const MAX_FACTOR = 1e6;
const MAX_TOKENS = 1_000_000_000;
/** Most bytes per second of a link: a thousand times a scale-up link of 2026. */
const MAX_BYTES_PER_SECOND = 1e15;

const msSchema = z.number().min(0).max(MAX_MS);
const tokensSchema = z.int().min(0).max(MAX_TOKENS);
const percentSchema = z.number().min(0);
const textSchema = z.string().max(1000);

const fitSchema = z.strictObject({
  n: z.int().min(0),
  medianAbsPct: percentSchema,
  p90AbsPct: percentSchema,
});

const factorsSchema = z.array(z.number().min(0).max(MAX_FACTOR)).min(1).max(MAX_FACTORS);

const linearCostSchema = z.strictObject({ callMs: msSchema, tokenMs: msSchema });

/**
 * A profile: what `twofold profile` measures, and what scenarios (`device: profile:FILE`) and `validate own` price steps with.
 * `docs/reference/profile.md` documents each key.
 */
export const profileSchema = z.strictObject({
  profileVersion: z.literal(PROFILE_VERSION),
  /** ISO 8601, UTC. */
  measuredAt: textSchema,
  machine: z.strictObject({
    cpu: textSchema,
    cores: z.int().min(1),
    platform: textSchema,
    node: textSchema,
    /** Average number of runnable processes over the last minute, before and after. */
    loadAverage: z.tuple([z.number().min(0), z.number().min(0)]),
  }),
  engine: engineSchema,
  model: z.strictObject({ name: textSchema, id: textSchema }),
  /** Settings that times depend on. */
  settings: z.strictObject({
    threads: z.int().min(1),
    chunkTokens: tokensSchema,
    contextTokens: tokensSchema,
    maxRunning: z.int().min(1),
    prefixCacheTokens: tokensSchema,
  }),
  kvCapacityTokens: z.int().min(1).max(MAX_TOKENS),
  kvBytesPerToken: z.number().min(0),
  step: z.strictObject({
    stepMs: msSchema,
    /** One per ramp. */
    tokenMs: z.array(msSchema).length(TOKEN_KNOTS.length),
    sequenceMs: msSchema,
    sampleMs: msSchema,
    decodeContextMs: msSchema,
    prefillPairMs: msSchema,
    cellPairMs: msSchema,
  }),
  host: z.strictObject({ requestMs: msSchema, outputMs: msSchema, stepMs: msSchema, sequenceMs: msSchema }),
  handoff: z
    .strictObject({
      export: linearCostSchema,
      import: linearCostSchema,
      /** From the end of an export until the other worker has the frame. */
      link: z.strictObject({
        latencyMs: msSchema,
        bytesPerSecond: z.number().min(1).max(MAX_BYTES_PER_SECOND),
      }),
    })
    .nullable(),
  /** How many times their price steps took, as factors that are equally likely; profiles of before do not have it. */
  variation: z.strictObject({ decodes: factorsSchema, prefills: factorsSchema }).optional(),
  range: z.strictObject({
    stepTokens: tokensSchema,
    decodes: z.int().min(0),
    contextTokens: tokensSchema,
  }),
  /** How well the coefficients describe the measured steps: all of them, and by kind. */
  fit: z.strictObject({ steps: fitSchema, decodes: fitSchema, prefills: fitSchema, mixed: fitSchema }),
});

export type Profile = z.output<typeof profileSchema>;

/** Reads a profile, JSON or YAML. `fileName` is for messages. Throws {@link ConfigError} with line and column. */
export function parseProfile(text: string, fileName: string): Profile {
  const { data, locate } = readYaml(text, fileName, { what: "a profile", maxLength: MAX_PROFILE_LENGTH });
  const result = profileSchema.safeParse(data);
  if (result.success) return result.data;
  throw new ConfigError(toProblems(result.error, profileSchema, data, locate));
}

/** As much of a profile as prices steps. */
export function toEngineProfile(profile: Profile): EngineProfile {
  const { step, host, handoff, variation, range, kvCapacityTokens, kvBytesPerToken } = profile;
  return { step, host, handoff, variation, range, kvCapacityTokens, kvBytesPerToken };
}

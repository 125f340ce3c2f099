import { z } from "zod";

/**
 * Environment variable with a folder in which every worker that `twofold serve` starts writes what its engine did and how long it
 * took, one line of JSON per call: `WORKER.jsonl`. For `twofold profile`, and for whoever asks where time went.
 */
export const STEP_LOG_ENV = "TWOFOLD_STEP_LOG";

/** Milliseconds since the epoch, with a fraction, so that logs of processes on one machine can be laid side by side. */
const timeSchema = z.number().min(0);
const countSchema = z.int().min(0);

/** Calls take effect in the order of their lines, each one at the earliest when it was made and the one before has ended. */
const callTimes = { calledMs: timeSchema, endMs: timeSchema };

const workerSchema = z.strictObject({
  kind: z.literal("worker"),
  workerId: z.string(),
  role: z.enum(["prefill", "decode", "both"]),
  engine: z.string(),
  modelName: z.string(),
  modelId: z.string(),
  kvBytesPerToken: countSchema,
  kvCapacityTokens: countSchema,
});

const stepSchema = z.strictObject({
  kind: z.literal("step"),
  ...callTimes,
  /** Per prompt chunk: tokens computed before it, and its own. */
  prefills: z.array(z.tuple([countSchema, countSchema])),
  numDecodes: countSchema,
  /** Sum over decodes of the context that each attends to, its own token included. */
  decodeContextTokens: countSchema,
  numSamples: countSchema,
});

const transferSchema = z.strictObject({
  kind: z.enum(["export", "import"]),
  ...callTimes,
  numTokens: countSchema,
  bytes: countSchema,
});

/** One line of a step log. The first one is of kind `worker`. */
export const stepLogLineSchema = z.discriminatedUnion("kind", [workerSchema, stepSchema, transferSchema]);

export type StepLogLine = z.output<typeof stepLogLineSchema>;
export type LoggedWorker = z.output<typeof workerSchema>;
export type LoggedStep = z.output<typeof stepSchema>;
export type LoggedTransfer = z.output<typeof transferSchema>;

import { z } from "zod";
import { workerIdSchema } from "./request-codec.ts";
import { PROTOCOL_VERSION, type WorkerHello } from "./worker-rpc.ts";

const MAX_NAME_LENGTH = 512;
const MAX_END_TOKENS = 1024;

/** A worker's hello that cannot be used; the message says why. */
export class HelloError extends Error {
  override name = "HelloError";
}

/**
 * Checks a parsed hello. The protocol version comes first: a worker of another version may say everything else
 * differently, and "other version" is the answer that helps. Throws {@link HelloError}.
 */
export function parseHello(value: unknown): WorkerHello {
  const version = z.object({ protocolVersion: z.number() }).safeParse(value);
  if (!version.success) throw new HelloError("the peer does not answer as a Twofold worker");
  if (version.data.protocolVersion !== PROTOCOL_VERSION) {
    throw new HelloError(
      `the worker speaks protocol version ${version.data.protocolVersion}, this process ${PROTOCOL_VERSION}: ` +
        "run the same release on both sides",
    );
  }
  const hello = helloSchema.safeParse(value);
  if (!hello.success)
    throw new HelloError(`the worker's hello is not valid: ${z.prettifyError(hello.error)}`);
  return hello.data;
}

const countSchema = z.number().int().nonnegative();
const nameSchema = z.string().max(MAX_NAME_LENGTH);

const engineInfoSchema = z.strictObject({
  engine: z.enum(["llama", "stub"]),
  modelName: nameSchema,
  modelId: nameSchema,
  tokenizerId: nameSchema,
  kvType: nameSchema,
  vocabSize: z.number().int().positive(),
  trainedContextTokens: countSchema,
  kvCapacityTokens: countSchema,
  kvBytesPerToken: z.number().nonnegative(),
  numSlots: z.number().int().positive(),
  maxStepTokens: z.number().int().positive(),
  endOfGenerationTokens: z.array(countSchema).max(MAX_END_TOKENS),
});

const helloSchema = z.strictObject({
  protocolVersion: z.number().int(),
  workerId: workerIdSchema,
  role: z.enum(["prefill", "decode", "both"]),
  pid: countSchema,
  engine: engineInfoSchema,
  blockSizeTokens: z.number().int().positive(),
  contextTokens: z.number().int().positive(),
  tokenBudget: z.number().int().positive(),
  maxRunning: z.number().int().positive(),
  kvAddress: nameSchema,
});

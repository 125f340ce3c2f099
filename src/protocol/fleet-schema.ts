import { z } from "zod";
import { EVICTION_NAMES } from "../core/kv/tiers/eviction.ts";
import { PLACEMENT_POLICY_NAMES } from "../core/router/policies/registry.ts";
import { SCHEDULING_POLICY_NAMES } from "../core/scheduler/policies/registry.ts";
import { AddressError, parseAddress } from "./address.ts";
import { byteSizeSchema } from "./byte-size.ts";

/** Most tokens of a context or a KV cache that a configuration may ask for. */
const MAX_CONFIG_TOKENS = 16 * 1024 * 1024;

/** Most tokens of one step. */
const MAX_CHUNK_TOKENS = 65_536;

/** Most sequences in one step: twice as many hold KV at times, and libllama tells 254 apart. */
const MAX_RUNNING = 120;

/** Most sequences that wait on one worker. */
const MAX_WAITING = 65_536;

/** Most processes that one `workers` entry starts on this machine. */
export const MAX_WORKERS_PER_ENTRY = 64;

/** Most entries of `workers`. */
const MAX_WORKER_ENTRIES = 256;

/** Most API keys. */
const MAX_API_KEYS = 1024;

/** Most system messages that all tenants share, and the longest one, in UTF-16 units. */
const MAX_PUBLIC_PREFIXES = 64;
export const MAX_PUBLIC_PREFIX_LENGTH = 256 * 1024;

/** Most threads of one engine. */
const MAX_THREADS = 256;

/** Most other names of the model. */
const MAX_ALIASES = 32;

/** Longest time-out: a day. */
const MAX_TIMEOUT_MS = 86_400_000;

/** Longest modelled time of the stub engine: a minute. */
const MAX_STUB_MS = 60_000;

export const roleSchema = z.enum(["prefill", "decode", "both"]);
export const engineSchema = z.enum(["llama", "stub"]);
export const policySchema = z.enum([...SCHEDULING_POLICY_NAMES]);
export const placementPolicySchema = z.enum([...PLACEMENT_POLICY_NAMES]);
const logLevelSchema = z.enum(["trace", "debug", "info", "warn", "error", "fatal", "silent"]);

export const modelPathSchema = z.string().min(1).max(4096);
export const contextTokensSchema = z.int().min(16).max(MAX_CONFIG_TOKENS);
export const kvTokensSchema = z.int().min(16).max(MAX_CONFIG_TOKENS);
export const blockSizeTokensSchema = z
  .int()
  .min(1)
  .max(1024)
  .refine((value) => (value & (value - 1)) === 0, "is not a power of two");
export const chunkTokensSchema = z.int().min(2).max(MAX_CHUNK_TOKENS);
export const maxRunningSchema = z.int().min(1).max(MAX_RUNNING);
/** The most tokens of unused prefixes that a worker keeps. libllama pays for each in every step. */
export const prefixCacheTokensSchema = z.int().min(0).max(MAX_CONFIG_TOKENS);
/** Bounds of one wait inside a handoff. */
export const handoffWaitMsSchema = z
  .int()
  .min(100)
  .max(24 * 3_600_000);
export const maxWaitingSchema = z.int().min(1).max(MAX_WAITING);
export const threadsSchema = z.int().min(1).max(MAX_THREADS);

/** Text that `parseAddress` reads. */
export const addressSchema = z
  .string()
  .max(512)
  .superRefine((text, context) => {
    try {
      parseAddress(text);
    } catch (error) {
      if (!(error instanceof AddressError)) throw error;
      context.addIssue({ code: "custom", message: `is not usable: ${error.message}` });
    }
  });

/**
 * Times of the stub engine: a step takes `stepBaseMs + prefillMsPerToken × prompt tokens + decodeMsPerSequence ×
 * decoding sequences`. All 0: as fast as possible.
 */
export const stubSchema = z.strictObject({
  stepBaseMs: z.number().min(0).max(MAX_STUB_MS).default(0),
  prefillMsPerToken: z.number().min(0).max(MAX_STUB_MS).default(0),
  decodeMsPerSequence: z.number().min(0).max(MAX_STUB_MS).default(0),
});

/** Disk that one worker takes unless told otherwise. */
export const DEFAULT_DISK_KV = "8GiB";

/** Stores of KV below the engine; each is used when it is named. */
export const tiersSchema = z.strictObject({
  /** Memory of each worker for KV that its engine no longer needs, such as `2GiB`. */
  hostBytes: byteSizeSchema.optional(),
  /** Folder for KV on disk, with one folder per worker in it; relative to the folder of the fleet file. */
  diskPath: z.string().min(1).max(4096).optional(),
  /** Bytes on disk per worker. */
  diskBytes: byteSizeSchema.default(DEFAULT_DISK_KV),
  /** Which prefixes go when a store is full. */
  eviction: z.enum([...EVICTION_NAMES]).default("lru"),
  /** Whether KV comes up before the next turn of a conversation is expected. */
  prefetch: z.boolean().default(true),
});

/** Room for two of the default contexts. */
const DEFAULT_KV_TOKENS = 16_384;

/** KV tokens of a worker that is told none: at least a context, in whole blocks. */
export function defaultKvTokens(sizes: { contextTokens?: unknown; blockSizeTokens?: unknown }): number {
  const { contextTokens, blockSizeTokens } = sizes;
  const block = typeof blockSizeTokens === "number" && blockSizeTokens >= 1 ? blockSizeTokens : 1;
  const context = typeof contextTokens === "number" ? contextTokens : 0;
  return Math.ceil(Math.max(DEFAULT_KV_TOKENS, context) / block) * block;
}

const nameSchema = z.string().regex(/^[A-Za-z0-9._:/-]{1,128}$/, "is not 1 to 128 of A-Z a-z 0-9 . _ : / -");

const modelSchema = z.strictObject({
  /** GGUF file; relative to the folder of the fleet file. Without it the built-in model is served. */
  path: modelPathSchema.optional(),
  /** Name of the model in the API; by default the name that the file declares. */
  name: nameSchema.optional(),
  /** Other names that requests may use. */
  aliases: z.array(nameSchema).max(MAX_ALIASES).default([]),
});

const workerEntrySchema = z
  .strictObject({
    role: roleSchema,
    /** Processes to start on this machine. */
    count: z.int().min(1).max(MAX_WORKERS_PER_ENTRY).optional(),
    /** RPC address of a worker that runs elsewhere; excludes `count`. */
    address: addressSchema.optional(),
    /** Where that worker takes KV, when others must use another address than the one it reports. */
    kvAddress: addressSchema.optional(),
  })
  .superRefine((entry, context) => {
    if (entry.address !== undefined && entry.count !== undefined) {
      const message =
        "cannot stand beside address: count starts local workers, address names one that runs elsewhere";
      context.addIssue({ code: "custom", path: ["count"], message });
    }
    if (entry.kvAddress !== undefined && entry.address === undefined) {
      const message = "needs address beside it; local workers choose their own";
      context.addIssue({ code: "custom", path: ["kvAddress"], message });
    }
  });

const apiKeySchema = z
  .strictObject({
    /** Whose key it is; separates prefix caches. Several keys may name one tenant. */
    tenant: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, "is not 1 to 64 of A-Z a-z 0-9 . _ -"),
    /** SHA-256 of the key, 64 hex digits. */
    sha256: z
      .string()
      .regex(/^[0-9a-fA-F]{64}$/, "is not 64 hex digits; make it with: printf %s KEY | sha256sum")
      .optional(),
    /** Name of the environment variable that holds the key. */
    env: z
      .string()
      .regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, "is not the name of an environment variable")
      .optional(),
  })
  .superRefine((key, context) => {
    if ((key.sha256 === undefined) !== (key.env === undefined)) return;
    context.addIssue({ code: "custom", message: "needs exactly one of sha256 and env" });
  });

const tenantSchema = z.strictObject({
  /** As in `keys`. */
  name: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, "is not 1 to 64 of A-Z a-z 0-9 . _ -"),
  /** The most of each worker's prefix cache that the tenant's blocks may take while no request uses them. */
  cacheShare: z.number().min(0).max(1).default(1),
});

const publicPrefixSchema = z
  .strictObject({
    /** A system message. */
    text: z.string().min(1).max(MAX_PUBLIC_PREFIX_LENGTH).optional(),
    /** A file that holds it, in UTF-8; relative to the folder of the fleet file. */
    file: modelPathSchema.optional(),
  })
  .superRefine((prefix, context) => {
    if ((prefix.text === undefined) !== (prefix.file === undefined)) return;
    context.addIssue({ code: "custom", message: "needs exactly one of text and file" });
  });

const gatewaySchema = z.strictObject({
  /** Address to listen on. Anything but loopback needs `keys`. */
  host: z.string().min(1).max(253).default("127.0.0.1"),
  /** 0 picks a free port. */
  port: z.int().min(0).max(65_535).default(8080),
  keys: z.array(apiKeySchema).max(MAX_API_KEYS).default([]),
  /** What tenants may have; those that are not named may have everything. */
  tenants: z.array(tenantSchema).max(MAX_API_KEYS).default([]),
  /** System messages whose KV all tenants share. */
  publicPrefixes: z.array(publicPrefixSchema).max(MAX_PUBLIC_PREFIXES).default([]),
});

const timeoutsSchema = z.strictObject({
  /** From starting a worker process until it is ready, model loading included. */
  workerStartMs: z.int().min(100).max(MAX_TIMEOUT_MS).default(60_000),
  /** From a request's arrival until its last token. */
  requestMs: z.int().min(100).max(MAX_TIMEOUT_MS).default(3_600_000),
  /** Longest wait inside a handoff: for room on the decode worker, for the next frame, for the acknowledgement. */
  handoffWaitMs: handoffWaitMsSchema.default(60_000),
  /** How long running requests may take to finish when the server stops. */
  drainMs: z.int().min(0).max(MAX_TIMEOUT_MS).default(30_000),
});

const placementSchema = z.strictObject({
  /** Who prefills and decodes a request. */
  policy: placementPolicySchema.default("priced"),
  /** Prompts with fewer tokens are always prefilled on their decode worker, by `priced` and `load`. */
  localPrefillBelowTokens: z.int().min(0).max(MAX_CONFIG_TOKENS).default(16),
});

/**
 * `fleet.yaml`: what `twofold serve` runs. Every key is optional. Keys that the schema does not know are errors.
 * `docs/reference/fleet-file.md` documents each key; a test keeps the two in step.
 */
export const fleetFileSchema = z.strictObject({
  model: modelSchema.prefault({}),
  engine: engineSchema.default("llama"),
  /** Most tokens, prompt and output, of one request. */
  contextTokens: contextTokensSchema.default(8192),
  /** Tokens whose KV one worker holds, over all its requests and its prefix cache; by default see {@link defaultKvTokens}. */
  kvTokensPerWorker: kvTokensSchema.optional(),
  blockSizeTokens: blockSizeTokensSchema.default(16),
  /** Token budget of one step. */
  chunkTokens: chunkTokensSchema.default(256),
  policy: policySchema.default("chunked"),
  /** Sequences that take part in steps at once, per worker. */
  maxRunning: maxRunningSchema.default(16),
  /** Sequences that wait for a place, per worker; beyond it requests are refused. */
  maxWaiting: maxWaitingSchema.default(256),
  /** Tokens of finished requests whose KV each worker keeps for requests that begin alike; 0 keeps none. */
  prefixCacheTokens: prefixCacheTokensSchema.default(4096),
  tiers: tiersSchema.prefault({}),
  /** Threads per worker. */
  threads: threadsSchema.default(1),
  logLevel: logLevelSchema.default("info"),
  workers: z.array(workerEntrySchema).max(MAX_WORKER_ENTRIES).optional(),
  gateway: gatewaySchema.prefault({}),
  /** Whether workers on other machines may be used although nothing between the machines is encrypted. */
  allowPlaintext: z.boolean().default(false),
  timeouts: timeoutsSchema.prefault({}),
  placement: placementSchema.prefault({}),
  stub: stubSchema.prefault({}),
});

import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { ServingError } from "../../protocol/errors.ts";
import type { ChainHasher } from "../conversations/chain-hasher.ts";
import type { Conversations } from "../conversations/conversations.ts";
import type { Tokenizer } from "../engine/tokenizer.ts";
import type { Fleet } from "../fleet/fleet.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { GatewayMetrics } from "../telemetry/metrics.ts";
import type { Authenticator } from "./api-keys.ts";
import type { ChatTemplate } from "./chat-template.ts";
import type { TokenTexts } from "./detokenizer.ts";
import type { FlushQueue } from "./flush-queue.ts";
import type { GatewayLimits } from "./options.ts";
import type { RequestRecord } from "./request-record.ts";

/** One request and its answer, on the connection that they share. */
interface Exchange {
  readonly record: RequestRecord;
  readonly response: ServerResponse;
}

/** What the routes of one gateway share. */
export interface GatewayContext {
  readonly fleet: Fleet;
  readonly tokenizer: Tokenizer;
  readonly texts: TokenTexts;
  readonly template: ChatTemplate;
  /** Hashes prompts as the workers do; null until one of them has said how. */
  readonly chains: () => ChainHasher | null;
  readonly conversations: Conversations;
  readonly authenticator: Authenticator;
  readonly limits: GatewayLimits;
  readonly metrics: GatewayMetrics;
  readonly logger: Logger;
  readonly flushQueue: FlushQueue;
  /** The model's name first, then its aliases. */
  readonly modelNames: readonly string[];
  /** When the gateway was created, in whole seconds of Unix time. */
  readonly createdSeconds: number;
  readonly isLoopback: boolean;
  readonly host: string;
  /** Requests that are not answered yet; bounded by `limits.inFlightRequests` except for probes. */
  readonly inFlight: Set<RequestRecord>;
  /** The last request of each connection, to know whether an answer is under way on it. */
  readonly exchanges: WeakMap<Socket, Exchange>;
  /** Set once, when the gateway begins to close. */
  isDraining: boolean;
}

/** The name under which an answer goes out: the one the client used, or the model's own. */
export function servedName(context: GatewayContext, wanted: string | undefined): string {
  if (wanted === undefined) return context.modelNames[0] ?? "";
  if (context.modelNames.includes(wanted)) return wanted;
  const maxChars = 100;
  throw new ServingError(
    "model_not_found",
    `The model '${wanted.slice(0, maxChars)}' does not exist here. Available: ${context.modelNames.join(", ")}.`,
    { param: "model" },
  );
}

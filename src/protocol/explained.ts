import { z } from "zod";
import type { PlacementDecision } from "../core/router/placement.ts";
import { decisionSchema } from "./dispatch-log.ts";

/** How one request was placed: an entry of `GET /admin/decisions/:requestId`. */
export interface ExplainedRequest {
  readonly requestId: string;
  /** Of the placement policy. */
  readonly policy: string;
  readonly numPromptTokens: number;
  readonly maxOutputTokens: number;
  /** Prompt tokens that came from a cache in the end; null as long as no worker has said. */
  readonly numCachedTokens: number | null;
  /** One for each attempt, the first one first; empty while the request waits for a worker. */
  readonly attempts: ReadonlyArray<{
    /** Unix time. */
    readonly atMs: number;
    readonly decision: PlacementDecision;
  }>;
}

/** The answer of `GET /admin/decisions/:requestId`: one entry for each choice of the request. */
export const explanationSchema = z.object({
  object: z.literal("list"),
  data: z.array(
    z.object({
      requestId: z.string(),
      policy: z.string(),
      numPromptTokens: z.number(),
      maxOutputTokens: z.number(),
      numCachedTokens: z.number().nullable(),
      attempts: z.array(z.object({ atMs: z.number(), decision: decisionSchema })),
    }),
  ),
});

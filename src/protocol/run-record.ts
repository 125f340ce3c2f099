import { z } from "zod";

/** Files of a recorded run: requests, the fleet's configuration, the profile of its engine, and the load generator's report. */
export const RUN_FILES = {
  requests: "requests.jsonl",
  fleet: "fleet.yaml",
  profile: "profile.json",
  report: "report.json",
} as const;

const timeSchema = z.number().min(0);
const countSchema = z.int().min(0);

/** One completed request as its client saw it: a line of `requests.jsonl`. Times in milliseconds from the start of the run. */
export const recordedRequestSchema = z
  .strictObject({
    arrivalMs: timeSchema,
    firstTokenMs: timeSchema,
    /** When the last content came, and when the response ended. */
    lastTokenMs: timeSchema,
    endMs: timeSchema,
    inputTokens: countSchema.min(1),
    cachedTokens: countSchema,
    outputTokens: countSchema.min(1),
    /** Events with text: a token whose text is not complete yet has none. */
    contentChunks: countSchema.min(1),
    /** Output tokens that the client had been told of at each of them, where the server says so. */
    eventTokens: z.array(countSchema).max(1_000_000).exactOptional(),
    /** Gaps between them, in order. */
    gapsMs: z.array(timeSchema).max(1_000_000),
  })
  .refine((one) => one.arrivalMs <= one.firstTokenMs && one.firstTokenMs <= one.endMs, {
    message: "has times that run backwards: arrivalMs, firstTokenMs, endMs",
  })
  .refine(
    ({ eventTokens, gapsMs, outputTokens }) =>
      eventTokens === undefined ||
      (eventTokens.length === gapsMs.length + 1 &&
        eventTokens.every((count, i) => count <= outputTokens && count >= (eventTokens[i - 1] ?? 1))),
    { message: "has eventTokens that are not one ascending count of tokens for each event" },
  );

export type RecordedRequest = z.output<typeof recordedRequestSchema>;

import { type DestinationStream, type Logger, pino } from "pino";

export type { Logger } from "pino";

/** Fields that must never reach a log, wherever an object that holds them is logged. */
const SECRET_FIELDS = [
  "authorization",
  "apiKey",
  "apiKeys",
  "cacheSecret",
  "cookie",
  "prompt",
  "messages",
  "content",
];

/**
 * A JSON-lines logger that blanks credentials and prompt text even when somebody logs a whole request.
 *
 * @param options.destination where lines go; standard output when absent
 */
export function createLogger(options: { level?: string; destination?: DestinationStream } = {}): Logger {
  const paths = SECRET_FIELDS.flatMap((field) => [field, `*.${field}`, `*.*.${field}`]);
  const settings = { level: options.level ?? "info", base: null, redact: { paths, censor: "[redacted]" } };
  return options.destination === undefined ? pino(settings) : pino(settings, options.destination);
}

import { readFileSync, statSync } from "node:fs";
import { ConfigError, type Origin } from "../protocol/config-error.ts";

/** Reads a file of bounded size. `origin` is the place that named the file. Throws {@link ConfigError}. */
export function readTextFile(path: string, maxBytes: number, origin: Origin): string {
  const fail = (message: string, cause?: unknown) => {
    const subject = origin === path ? "" : `${path} `;
    return new ConfigError([{ origin, message: `${subject}${message}` }], { cause });
  };
  try {
    const stats = statSync(path);
    if (!stats.isFile()) throw fail("is not a file");
    if (stats.size > maxBytes) throw fail(`is larger than ${maxBytes} bytes`);
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    const code = (error as NodeJS.ErrnoException).code;
    throw fail(code === "ENOENT" ? "does not exist" : `cannot be read (${code})`, error);
  }
}

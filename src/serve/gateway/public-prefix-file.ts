import { readFileSync, statSync } from "node:fs";
import { MAX_PUBLIC_PREFIX_LENGTH } from "../../protocol/fleet-schema.ts";
import { GatewayConfigError } from "./options.ts";

/** Most bytes of a file: its longest text in UTF-8. */
const MAX_FILE_BYTES = 3 * MAX_PUBLIC_PREFIX_LENGTH;

/**
 * The text of a public prefix that a configuration gives, or names the file of.
 *
 * @throws GatewayConfigError when the file cannot be read, or is no text that a prefix may be
 */
export function readPublicPrefix(prefix: {
  readonly text?: string | undefined;
  readonly file?: string | undefined;
}): string {
  const { text, file } = prefix;
  if (file === undefined) return text ?? "";
  const fail = (why: string, cause?: unknown) =>
    new GatewayConfigError(`The public prefix ${file} ${why}.`, { cause });
  let bytes: Buffer;
  try {
    const stats = statSync(file);
    if (!stats.isFile()) throw fail("is not a file");
    if (stats.size > MAX_FILE_BYTES)
      throw fail(`has ${stats.size} bytes; at most ${MAX_FILE_BYTES} are allowed`);
    bytes = readFileSync(file);
  } catch (cause) {
    if (cause instanceof GatewayConfigError) throw cause;
    throw fail(`cannot be read (${String(Reflect.get(Object(cause), "code"))})`, cause);
  }
  let content: string;
  try {
    content = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw fail("is not UTF-8", cause);
  }
  if (content === "" || content.length > MAX_PUBLIC_PREFIX_LENGTH)
    throw fail(`has ${content.length} characters; 1 to ${MAX_PUBLIC_PREFIX_LENGTH} are allowed`);
  return content;
}

import { GgufError } from "../../../protocol/gguf/gguf-error.ts";
import { type GgufFile, readGgufFile as readFile } from "../../../protocol/gguf/gguf-file.ts";
import { EngineError } from "../engine.ts";

export type { GgufFile } from "../../../protocol/gguf/gguf-file.ts";

/** {@link readFile} whose errors are `EngineError` with code `bad_model`, as engines report them. */
export function readGgufFile(path: string): GgufFile {
  try {
    return readFile(path);
  } catch (cause) {
    if (cause instanceof GgufError) throw new EngineError("bad_model", cause.message, { cause });
    throw cause;
  }
}

import { closeSync, openSync, readSync, statSync } from "node:fs";
import { basename, dirname } from "node:path";
import { ConfigError } from "../../protocol/config-error.ts";
import { readTextFile } from "../read-text-file.ts";
import { readGgufModel } from "./gguf-model.ts";
import { MAX_HF_CONFIG_LENGTH, readHfConfig } from "./hf-config.ts";
import type { ImportedModel } from "./model-fields.ts";

const GGUF_MAGIC = "GGUF";

/**
 * Reads the shape of the model in a file: GGUF by its first bytes, anything else as a Hugging Face `config.json`. Default of `name`: that of
 * the file, or of its folder for a `config.json`. Throws {@link ConfigError} or `GgufError`, both of which name the file.
 */
export function readModelFile(path: string, name?: string): ImportedModel {
  if (startsWith(path, GGUF_MAGIC)) return readGgufModel(path, name ?? basename(path, ".gguf"));
  const stem = basename(path, ".json");
  const fallback = stem === "config" ? basename(dirname(path)) || stem : stem;
  return readHfConfig(readTextFile(path, MAX_HF_CONFIG_LENGTH, path), path, name ?? fallback);
}

function startsWith(path: string, magic: string): boolean {
  try {
    // A pipe would make the open wait for a writer.
    if (!statSync(path).isFile()) return false;
    const file = openSync(path, "r");
    try {
      const start = Buffer.alloc(magic.length);
      return readSync(file, start, 0, start.length, 0) === start.length && start.toString("latin1") === magic;
    } finally {
      closeSync(file);
    }
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    const message = code === "ENOENT" ? "does not exist" : `cannot be read (${code})`;
    throw new ConfigError([{ origin: path, message }], { cause });
  }
}

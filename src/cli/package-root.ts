import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Levels between a source or compiled file and the package root, at most. */
const MAX_LEVELS = 6;

/** Folder that holds package.json, seen from the source tree as well as from the compiled one. */
function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (let level = 0; level < MAX_LEVELS; level++) {
    if (existsSync(join(folder, "package.json"))) return folder;
    folder = dirname(folder);
  }
  throw new Error("package.json was not found above the program; the installation is incomplete");
}

/** Version of this package. */
export function packageVersion(): string {
  const parsed: unknown = JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8"));
  const hasVersion = typeof parsed === "object" && parsed !== null && "version" in parsed;
  return hasVersion ? String(parsed.version) : "unknown";
}

/** The model that is served when none is named. */
export function builtInModelPath(): string {
  return join(packageRoot(), "models", "lexicon-3m", "lexicon-3m.Q8_0.gguf");
}

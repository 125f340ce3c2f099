import { readdir, stat } from "node:fs/promises";
import { extname, join } from "node:path";

/**
 * The data files that a path means: itself, or in a folder the files with the first of the extensions that any file there has,
 * by name. Throws an error when a folder has none.
 */
export async function dataFiles(path: string, extensions: readonly string[]): Promise<string[]> {
  if (!(await stat(path)).isDirectory()) return [path];
  const names = (await readdir(path)).sort();
  for (const extension of extensions) {
    const found = names.filter((name) => extname(name).toLowerCase() === extension);
    if (found.length > 0) return found.map((name) => join(path, name));
  }
  throw new Error(`${path}: the folder has no ${extensions.join(" or ")} file`);
}

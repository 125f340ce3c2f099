import { accessSync, constants, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { ConfigError } from "../protocol/config-error.ts";

/**
 * Finds out before a long run whether its result can be written. `origin` is the flag that names the file. Throws {@link ConfigError}.
 */
export function checkOutputFile(origin: string, file: string, cwd: string): void {
  const path = resolve(cwd, file);
  const folder = dirname(path);
  const refuse = (message: string): never => {
    throw new ConfigError([{ origin, message }]);
  };
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true)
    refuse(`there is no folder ${folder}; make it, or name another file`);
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats?.isDirectory() === true) refuse(`${path} is a folder; name a file`);
  try {
    accessSync(stats === undefined ? folder : path, constants.W_OK);
  } catch {
    refuse(`${path} cannot be written; change its permissions, or name another file`);
  }
}

import { parse } from "yaml";
import { ConfigError, type ConfigPath, show } from "./config-error.ts";

/** Most steps of the path of one override. */
const MAX_OVERRIDE_STEPS = 16;

/** Longest override, in UTF-16 units. */
const MAX_OVERRIDE_LENGTH = 4096;

/**
 * Sets a value in parsed data. `override` is `path=value`, with a path such as `fleets.split.workers[0].count` and a value in
 * YAML. Returns the path. Throws {@link ConfigError}.
 */
export function applyOverride(data: unknown, override: string): ConfigPath {
  const origin = `--set ${override.slice(0, MAX_OVERRIDE_LENGTH)}`;
  const problem = (message: string, cause?: unknown): ConfigError =>
    new ConfigError([{ origin, message }], { cause });
  const equals = override.indexOf("=");
  if (override.length > MAX_OVERRIDE_LENGTH)
    throw problem(`is longer than ${MAX_OVERRIDE_LENGTH} characters`);
  if (equals <= 0) throw problem("is not PATH=VALUE, such as fleets.split.workers[0].count=4");
  const steps: readonly string[] = override.slice(0, equals).match(/[^.[\]]+/g) ?? [];
  if (steps.length === 0 || steps.length > MAX_OVERRIDE_STEPS || steps.includes("__proto__")) {
    throw problem("has no usable path; a path is such as fleets.split.workers[0].count");
  }
  let value: unknown;
  try {
    value = parse(override.slice(equals + 1));
  } catch (error) {
    throw problem("has a value that is not YAML", error);
  }
  const path = steps.map((step) => (/^\d+$/.test(step) ? Number(step) : step));
  const message = setAt(data, path, value);
  if (message !== null) throw problem(message);
  return path;
}

/** Sets a value, making mappings that are missing; returns why it cannot. */
function setAt(root: unknown, path: ConfigPath, value: unknown): string | null {
  let current = root;
  for (const [index, step] of path.entries()) {
    if (typeof current !== "object" || current === null)
      return `${show(path[index - 1])} holds a plain value`;
    if (Array.isArray(current) && !(typeof step === "number" && step < current.length)) {
      return `${show(step)} is not an entry of a list of ${current.length}; the first is 0`;
    }
    if (index === path.length - 1) {
      Reflect.set(current, step, value);
      return null;
    }
    const next: unknown = Object.hasOwn(current, step) ? Reflect.get(current, step) : undefined;
    if (next === undefined || next === null) Reflect.set(current, step, {});
    current = Reflect.get(current, step);
  }
  return null;
}

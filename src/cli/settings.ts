import type { Command } from "commander";
import { z } from "zod";
import {
  ConfigError,
  type ConfigPath,
  type ConfigProblem,
  describeIssue,
  formatPath,
  type Origin,
} from "../protocol/config-error.ts";

/**
 * One thing that can be set. The value of a setting is, in this order: its flag, its environment variable, what the file says
 * at `path`, the default of the schema.
 */
export interface Setting {
  /** Name of the value among the settings of a verb. */
  readonly key: string;
  /** As commander reads it: `--port <port>`, `--json`. A setting without one is set by environment or file only. */
  readonly flag?: string;
  readonly env?: string;
  /** Where the value stands in the configuration that it overrides. */
  readonly path?: ConfigPath;
  /** Checks the value by itself; numbers and switches are converted from text first. */
  readonly schema: z.ZodType;
  readonly help: string;
}

/** A value that a flag or the environment gave, checked. */
export interface GivenValue {
  readonly value: unknown;
  readonly origin: Origin;
}

/** Adds the flags of all settings to a verb; the help names each environment variable. */
export function addSettings(command: Command, settings: readonly Setting[]): void {
  for (const { flag, env, help } of settings) {
    if (flag === undefined) continue;
    command.option(flag, env === undefined ? help : `${help} [${env}]`);
  }
}

/** The long name of a setting's flag: `--port`. */
function flagName(setting: Setting): string | null {
  return /--[a-z0-9-]+/.exec(setting.flag ?? "")?.[0] ?? null;
}

/** The name under which commander keeps a flag: `--kv-tokens` is `kvTokens`, `--no-ignore-eos` is `ignoreEos`. */
function commanderKey(flag: string): string {
  return flag.replace(/^--(no-)?/, "").replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

/**
 * The values that flags and environment give, flags first. `flags` is what commander parsed, without defaults. An empty variable
 * counts as not set. Throws {@link ConfigError} that names flag or variable.
 */
export function readSettings(
  settings: readonly Setting[],
  flags: Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string | undefined>>,
): Map<string, GivenValue> {
  const given = new Map<string, GivenValue>();
  const problems: ConfigProblem[] = [];
  for (const setting of settings) {
    const found = findRaw(setting, flags, env);
    if (found === null) continue;
    const value = convert(setting.schema, found.value);
    const result = setting.schema.safeParse(value);
    if (result.success) {
      given.set(setting.key, { value: result.data, origin: found.origin });
    } else {
      const issue = result.error.issues[0]!;
      problems.push({ origin: found.origin, message: describeIssue(issue, setting.schema, value) });
    }
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return given;
}

function findRaw(
  setting: Setting,
  flags: Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string | undefined>>,
): { value: unknown; origin: Origin } | null {
  const flag = flagName(setting);
  if (flag !== null) {
    const value = flags[commanderKey(flag)];
    // Commander fills in `true` for a `--no-…` flag that was not given.
    const isDefault = flag.startsWith("--no-") && value === true;
    if (value !== undefined && !isDefault) return { value, origin: flag };
  }
  const variable = setting.env === undefined ? undefined : env[setting.env];
  if (setting.env === undefined || variable === undefined || variable === "") return null;
  return { value: variable, origin: setting.env };
}

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** Text as the type that the schema expects. What does not convert is left for the schema to refuse. */
function convert(schema: z.ZodType, value: unknown): unknown {
  if (typeof value !== "string") return value;
  const text = value.trim();
  if (schema instanceof z.ZodNumber && NUMBER.test(text)) return Number(text);
  if (schema instanceof z.ZodBoolean) {
    if (["1", "true", "yes", "on"].includes(text.toLowerCase())) return true;
    if (["0", "false", "no", "off"].includes(text.toLowerCase())) return false;
  }
  return value;
}

/** Values with the given settings put in their places, and where each came from. */
export interface Layered {
  readonly values: unknown;
  readonly originOf: (path: ConfigPath) => Origin;
}

/**
 * Lays the given settings over the values of a file. `locate` says where the file has a value; it is also asked for values
 * that nobody set.
 */
export function layerSettings(
  settings: readonly Setting[],
  given: ReadonlyMap<string, GivenValue>,
  base: { readonly values: unknown; locate(path: ConfigPath): Origin },
): Layered {
  const values: unknown = structuredClone(base.values);
  const origins = new Map<string, Origin>();
  for (const { key, path } of settings) {
    const found = given.get(key);
    if (found === undefined || path === undefined) continue;
    setAt(values, path, found.value);
    origins.set(formatPath(path), found.origin);
  }
  const originOf = (path: ConfigPath): Origin => {
    for (let length = path.length; length > 0; length--) {
      const origin = origins.get(formatPath(path.slice(0, length)));
      if (origin !== undefined) return origin;
    }
    return base.locate(path);
  };
  return { values, originOf };
}

/** Sets a value in nested plain objects, making those that are missing. Paths of settings hold keys only. */
function setAt(root: unknown, path: ConfigPath, value: unknown): void {
  let current = root;
  for (const [index, step] of path.entries()) {
    if (typeof current !== "object" || current === null) return;
    if (index === path.length - 1) {
      Reflect.set(current, step, value);
      return;
    }
    const next: unknown = Reflect.get(current, step);
    if (typeof next !== "object" || next === null) Reflect.set(current, step, {});
    current = Reflect.get(current, step);
  }
}

import { z } from "zod";
import { nearMiss } from "./near-miss.ts";

/** Where a value of a configuration came from, as a person would look for it: `--port`, `fleet.yaml:12:3`. */
export type Origin = string;

/** A path into a configuration: `["gateway", "port"]`, `["workers", 0, "role"]`. */
export type ConfigPath = ReadonlyArray<string | number>;

/** One thing that is wrong with a configuration. */
export interface ConfigProblem {
  readonly origin: Origin;
  readonly message: string;
}

/** The most problems that one error spells out; the rest are counted. */
const MAX_PROBLEMS_SHOWN = 8;

/** A configuration that cannot be used. The message has one line per problem: where it is, and what would be right. */
export class ConfigError extends Error {
  override name = "ConfigError";
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[], options?: ErrorOptions) {
    const lines = problems.slice(0, MAX_PROBLEMS_SHOWN).map(({ origin, message }) => `${origin}: ${message}`);
    if (problems.length > MAX_PROBLEMS_SHOWN) {
      lines.push(`and ${problems.length - MAX_PROBLEMS_SHOWN} more problems`);
    }
    super(lines.join("\n"), options);
    this.problems = problems;
  }
}

/** A path as text: `gateway.keys[0].tenant`; empty for the whole. */
export function formatPath(path: ConfigPath): string {
  let text = "";
  for (const step of path) {
    if (typeof step === "number") text += `[${step}]`;
    else text += text === "" ? step : `.${step}`;
  }
  return text;
}

/**
 * The schema of the value at `path`, with defaults and options unwrapped, or null when the path leads nowhere. Where forms are
 * alternatives, `data` (the whole value) chooses among them.
 */
export function schemaAt(schema: z.ZodType, path: ConfigPath, data?: unknown): z.ZodType | null {
  let current = choose(unwrap(schema), data);
  let value = data;
  for (const step of path) {
    let next: unknown = null;
    if (current instanceof z.ZodObject) next = current.shape[step];
    else if (current instanceof z.ZodArray) next = current.element;
    else if (current instanceof z.ZodRecord) next = current.valueType;
    if (!(next instanceof z.ZodType)) return null;
    value = valueAt(value, [step]);
    current = choose(unwrap(next), value);
  }
  return current;
}

/** The alternative of a union that a value is meant to be: by its discriminator, else by its kind. */
function choose(schema: z.ZodType, value: unknown): z.ZodType {
  if (!(schema instanceof z.ZodUnion)) return schema;
  const options = schema.options.filter((option) => option instanceof z.ZodType).map(unwrap);
  const found = options.find((option) => {
    if (!(schema instanceof z.ZodDiscriminatedUnion)) return kindOfSchema(option) === kindOfValue(value);
    const { discriminator } = schema.def;
    return discriminatorValues(option, discriminator).includes(valueAt(value, [discriminator]));
  });
  return found ?? schema;
}

function kindOfSchema(schema: z.ZodType): string {
  if (schema instanceof z.ZodObject || schema instanceof z.ZodRecord) return "mapping";
  if (schema instanceof z.ZodArray) return "list";
  return schema instanceof z.ZodNumber ? "number" : "text";
}

function kindOfValue(value: unknown): string {
  if (Array.isArray(value)) return "list";
  if (typeof value === "object" && value !== null) return "mapping";
  return typeof value === "number" ? "number" : "text";
}

/** What zod says of a union whose schema has no message of its own. */
const GENERIC_MESSAGE = "Invalid input";

/**
 * The issues that a person should see for one of zod's: for a value that has alternative forms, those of the form that it is
 * meant to have. `data` is the whole value.
 */
export function flattenIssue(issue: z.core.$ZodIssue, data: unknown): z.core.$ZodIssue[] {
  if (issue.code !== "invalid_union" || issue.errors.length === 0) return [issue];
  // The schema has said in its own words what it takes.
  if (issue.message !== GENERIC_MESSAGE) return [{ ...issue, code: "custom" }];
  const value = valueAt(data, configPath(issue.path));
  // An alternative that refuses the value as a whole, not something in it, is not the form that was meant.
  const meant = issue.errors.filter(
    (errors) => !errors.some((error) => error.path.length === 0 && error.code === "invalid_type"),
  );
  const [first] = meant;
  if (first === undefined || meant.length > 1) {
    const expected = issue.errors.flatMap((errors) =>
      errors.flatMap((error) => (error.code === "invalid_type" ? [typeName(error.expected)] : [])),
    );
    const message = `is not ${[...new Set(expected)].join(" or ")}`;
    return [{ code: "custom", path: issue.path, message, input: value }];
  }
  return first.flatMap((inner) => flattenIssue({ ...inner, path: [...issue.path, ...inner.path] }, data));
}

/** The keys that an object schema knows, or an empty list for any other schema. */
function allowedKeys(schema: z.ZodType | null): string[] {
  return schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
}

/** The values of the key that tells the alternatives of a union apart. */
function discriminators(schema: z.ZodType | null): string[] {
  if (!(schema instanceof z.ZodDiscriminatedUnion)) return [];
  const { discriminator } = schema.def;
  return schema.options.flatMap((option) => discriminatorValues(option, discriminator)).map(String);
}

/** The values of the discriminator that choose one alternative. */
function discriminatorValues(option: unknown, discriminator: string): unknown[] {
  const key: unknown = option instanceof z.ZodObject ? option.shape[discriminator] : null;
  if (key instanceof z.ZodLiteral) return [...key.values];
  return key instanceof z.ZodEnum ? [...key.options] : [];
}

function unwrap(schema: z.ZodType): z.ZodType {
  let current = schema;
  while (
    current instanceof z.ZodDefault ||
    current instanceof z.ZodPrefault ||
    current instanceof z.ZodOptional ||
    current instanceof z.ZodNullable
  ) {
    const inner: unknown = current.def.innerType;
    if (!(inner instanceof z.ZodType)) break;
    current = inner;
  }
  return current;
}

/**
 * A zod issue in one line that shows the value and says what is allowed. `value` is what stood at the issue's path in `data`,
 * the whole value.
 */
export function describeIssue(
  issue: z.core.$ZodIssue,
  schema: z.ZodType,
  value: unknown,
  data?: unknown,
): string {
  switch (issue.code) {
    case "invalid_union": {
      const allowed = discriminators(schemaAt(schema, configPath(issue.path).slice(0, -1), data));
      if (allowed.length === 0) return value === undefined ? "is missing" : `${show(value)} is not usable`;
      if (value === undefined) return `is missing; allowed: ${allowed.join(", ")}`;
      return describeUnknown(`${show(value)} is not allowed`, String(value), allowed);
    }
    case "unrecognized_keys": {
      const allowed = allowedKeys(schemaAt(schema, configPath(issue.path), data));
      return issue.keys.map((key) => describeUnknown(`unknown key ${show(key)}`, key, allowed)).join("; ");
    }
    case "invalid_value": {
      const allowed = issue.values.map(String);
      if (value === undefined) return `is missing; allowed: ${allowed.join(", ")}`;
      return describeUnknown(`${show(value)} is not allowed`, String(value), allowed);
    }
    case "invalid_type": {
      const found = schemaAt(schema, configPath(issue.path), data);
      const range = rangeOf(found);
      const expected = found instanceof z.ZodNumber && found.isInt ? "int" : issue.expected;
      const allowed = `${typeName(expected)}${range === null ? "" : ` from ${range}`}`;
      return value === undefined ? `is missing; expected ${allowed}` : `${show(value)} is not ${allowed}`;
    }
    case "invalid_key":
      return `${show(issue.path.at(-1))} ${issue.issues[0]?.message ?? issue.message}`;
    case "too_small":
    case "too_big":
      return `${show(value)} is out of range; allowed: ${describeRange(issue, schemaAt(schema, configPath(issue.path), data))}`;
    case "custom":
    case "invalid_format":
      return value === undefined ? issue.message : `${show(value)} ${issue.message}`;
    default:
      return issue.message;
  }
}

function describeUnknown(what: string, word: string, allowed: readonly string[]): string {
  const meant = nearMiss(word, allowed);
  const hint = meant === null ? "" : ` (did you mean ${meant}?)`;
  return `${what}${hint}; allowed: ${allowed.join(", ")}`;
}

function describeRange(
  issue: z.core.$ZodIssueTooSmall | z.core.$ZodIssueTooBig,
  schema: z.ZodType | null,
): string {
  const range = rangeOf(schema);
  if (range !== null && issue.inclusive !== false) return range;
  const unit = issue.origin === "string" ? " characters" : issue.origin === "array" ? " entries" : "";
  const isLow = issue.code === "too_small";
  const bound = isLow ? issue.minimum : issue.maximum;
  if (issue.inclusive === false) return `${isLow ? "more" : "less"} than ${bound}${unit}`;
  return `at ${isLow ? "least" : "most"} ${bound}${unit}`;
}

/** The range of a number that is bounded on both sides, as text, or null. */
function rangeOf(schema: z.ZodType | null): string | null {
  if (!(schema instanceof z.ZodNumber)) return null;
  const { minValue, maxValue } = schema;
  if (minValue === null || maxValue === null) return null;
  const isBounded = minValue > Number.MIN_SAFE_INTEGER && maxValue < Number.MAX_SAFE_INTEGER;
  return isBounded ? `${minValue} to ${maxValue}` : null;
}

function typeName(expected: string): string {
  switch (expected) {
    case "int":
      return "a whole number";
    case "number":
      return "a number";
    case "string":
      return "text";
    case "boolean":
      return "true or false";
    case "array":
      return "a list";
    case "object":
      return "a mapping of keys to values";
    default:
      return `of type ${expected}`;
  }
}

/** zod types path steps as property keys; JSON and YAML have no symbols. */
export function configPath(path: readonly PropertyKey[]): ConfigPath {
  return path.filter((step): step is string | number => typeof step !== "symbol");
}

/** The value at a path of parsed data, or undefined. */
export function valueAt(data: unknown, path: ConfigPath): unknown {
  let current = data;
  for (const step of path) {
    if (typeof current !== "object" || current === null || !Object.hasOwn(current, step)) return undefined;
    current = Reflect.get(current, step);
  }
  return current;
}

const MAX_SHOWN_LENGTH = 60;

/** A value as it may stand in a message: quoted, control characters escaped, cut to a bound. */
export function show(value: unknown): string {
  const text = typeof value === "number" ? String(value) : (JSON.stringify(value) ?? String(value));
  return text.length > MAX_SHOWN_LENGTH ? `${text.slice(0, MAX_SHOWN_LENGTH)}…` : text;
}

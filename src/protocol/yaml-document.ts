import { isMap, LineCounter, parseDocument } from "yaml";
import type { z } from "zod";
import {
  ConfigError,
  type ConfigPath,
  type ConfigProblem,
  configPath,
  describeIssue,
  flattenIssue,
  formatPath,
  type Origin,
  valueAt,
} from "./config-error.ts";

/** Most times that YAML aliases may multiply the document's nodes. */
const MAX_ALIAS_COUNT = 64;

/** A YAML file that has been read: what it says, and where it says it. */
export interface YamlDocument {
  /** An empty file is an empty mapping. */
  readonly data: unknown;
  /** `name:line:column` of the value at a path, or of the nearest thing around it that the file holds. */
  locate(path: ConfigPath): Origin;
}

/**
 * Reads YAML. `fileName` and `what` ("a fleet file") are for messages, `maxLength` is in UTF-16 units. Throws {@link ConfigError}
 * with line and column.
 */
export function readYaml(
  text: string,
  fileName: string,
  { what, maxLength }: { readonly what: string; readonly maxLength: number },
): YamlDocument {
  if (text.length > maxLength) {
    const message = `is longer than ${maxLength} characters; ${what} is not`;
    throw new ConfigError([{ origin: fileName, message }]);
  }
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, prettyErrors: false });
  const at = (offset: number): Origin => {
    const { line, col } = lineCounter.linePos(offset);
    return `${fileName}:${line}:${col}`;
  };
  if (document.errors.length > 0) {
    throw new ConfigError(
      document.errors.map((error) => ({ origin: at(error.pos[0]), message: error.message })),
    );
  }
  const locate = (path: ConfigPath): Origin => {
    const offset = offsetOf(document, path);
    return offset === null ? fileName : at(offset);
  };
  try {
    return { data: document.toJS({ maxAliasCount: MAX_ALIAS_COUNT }) ?? {}, locate };
  } catch (error) {
    const message = error instanceof Error ? error.message : "cannot be read";
    throw new ConfigError([{ origin: fileName, message }], { cause: error });
  }
}

/** Every issue of a failed parse as a problem that knows its place. */
export function toProblems(
  error: z.ZodError,
  schema: z.ZodType,
  data: unknown,
  locate: (path: ConfigPath) => Origin,
): ConfigProblem[] {
  return error.issues
    .flatMap((issue) => flattenIssue(issue, data))
    .map((issue) => {
      const path = configPath(issue.path);
      const firstUnknown = issue.code === "unrecognized_keys" ? issue.keys.slice(0, 1) : [];
      const description = describeIssue(issue, schema, valueAt(data, path), data);
      const subject = formatPath(path);
      return {
        origin: locate([...path, ...firstUnknown]),
        message: subject === "" ? description : `${subject}: ${description}`,
      };
    });
}

/** Offset of the key of the pair at `path`, or of the closest parent that stands in the document. */
function offsetOf(document: ReturnType<typeof parseDocument>, path: ConfigPath): number | null {
  for (let length = path.length; length > 0; length--) {
    const last = path[length - 1]!;
    const parent = document.getIn(path.slice(0, length - 1), true) ?? document.contents;
    if (isMap(parent)) {
      const pair = parent.items.find((item) => String(item.key) === String(last));
      const range = rangeOf(pair?.key);
      if (range !== null) return range;
    }
    const range = rangeOf(document.getIn(path.slice(0, length), true));
    if (range !== null) return range;
  }
  return null;
}

function rangeOf(node: unknown): number | null {
  if (typeof node !== "object" || node === null || !("range" in node)) return null;
  return Array.isArray(node.range) && typeof node.range[0] === "number" ? node.range[0] : null;
}

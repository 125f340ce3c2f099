import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { MAX_LENGTH_TOKENS } from "../../core/util/length-distribution.ts";
import { show } from "../../protocol/config-error.ts";
import { MAX_NAME_LENGTH } from "./fields.ts";
import { LineReader, reasonOf } from "./line-reader.ts";
import { plainRequest } from "./plain-request.ts";
import { type Agent, type AgentStep, SessionSource, type SessionStarts } from "./session-source.ts";
import { type Told, tellSessions } from "./tell-sessions.ts";
import { type PromptBlocks, WorkloadError, type WorkloadSource } from "./workload.ts";

/** Largest file of one session. */
const MAX_SESSION_BYTES = 64 * 1024 * 1024;

/** Most files of a folder. */
const MAX_SESSION_FILES = 1_000_000;

/** Deepest nesting of sub-agents. */
const MAX_AGENT_DEPTH = 8;

/** How agent sessions are played. */
export interface WekaOptions {
  readonly starts: SessionStarts;
  /** How often the set is played, each time with fresh ids. Default: once. */
  readonly repeat?: number;
  /** Default: nothing. */
  readonly told?: Told;
}

/**
 * Sessions of coding agents in the format of kv-cache-tester (WEKA): a folder of JSON files, one JSON file, or a JSONL file, one
 * session each. Closed loop: a request arrives its `think_time` after the one before it has ended; where the trace does not say
 * how long that one took (`api_time`), the requests arrive as far apart as in the trace, or later if the one before is still
 * running. Sub-agents start as long after the request before them as in the trace, and run beside. Throws `WorkloadError`, for a
 * session when it starts.
 */
export function openWeka(path: string, options: WekaOptions): WorkloadSource {
  const rounds = options.repeat ?? 1;
  let round = 0;
  let numRead = 0;
  let read = sessionReader(path);
  const nextSession = (): Agent | null => {
    let session = read();
    if (session === null && ++round < rounds) {
      read = sessionReader(path);
      session = read();
    }
    if (session === null) return null;
    return toAgent(session, round, numRead++);
  };
  return new SessionSource(tellSessions(nextSession, options.told), options.starts);
}

interface SessionText {
  readonly file: string;
  readonly line: number;
  readonly value: unknown;
}

/** Gives one session after the other, files in the order of their names. */
function sessionReader(path: string): () => SessionText | null {
  let isFolder: boolean;
  let files: string[] = [path];
  try {
    isFolder = statSync(path).isDirectory();
    if (isFolder)
      files = readdirSync(path)
        .filter((name) => name.endsWith(".json"))
        .sort();
  } catch (error) {
    throw new WorkloadError(path, 0, `cannot be read: ${reasonOf(error)}`);
  }
  if (files.length === 0) throw new WorkloadError(path, 0, "holds no .json files; expected one per session");
  if (files.length > MAX_SESSION_FILES)
    throw new WorkloadError(path, 0, `holds ${files.length} sessions; allowed: ${MAX_SESSION_FILES}`);
  if (!isFolder && path.endsWith(".jsonl")) {
    const lines = new LineReader(path);
    return () => {
      if (!lines.advanceToText()) return null;
      return { file: path, line: lines.line, value: parse(path, lines.line, lines.text()) };
    };
  }
  let index = 0;
  return () => {
    const name = files[index++];
    if (name === undefined) return null;
    const file = isFolder ? join(path, name) : name;
    return { file, line: 1, value: parse(file, 1, readSession(file)) };
  };
}

function readSession(file: string): string {
  try {
    const { size } = statSync(file);
    if (size > MAX_SESSION_BYTES)
      throw new WorkloadError(file, 0, `has ${size} bytes; allowed: ${MAX_SESSION_BYTES} for a session`);
    return readFileSync(file, "utf8");
  } catch (error) {
    if (error instanceof WorkloadError) throw error;
    throw new WorkloadError(file, 0, `cannot be read: ${reasonOf(error)}`);
  }
}

function parse(file: string, line: number, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new WorkloadError(file, line, `is not JSON: ${error instanceof Error ? error.message : "broken"}`);
  }
}

type Fields = Readonly<Record<string, unknown>>;

/** Reads values of one session; `where` says which in messages. */
class SessionFields {
  readonly #file: string;
  readonly #line: number;

  constructor(file: string, line: number) {
    this.#file = file;
    this.#line = line;
  }

  error(where: string, message: string): WorkloadError {
    return new WorkloadError(this.#file, this.#line, `${where}: ${message}`);
  }

  object(where: string, value: unknown): Fields {
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
    throw this.error(where, `${show(value)} is not an object`);
  }

  list(where: string, value: unknown): readonly unknown[] {
    if (Array.isArray(value)) return value;
    throw this.error(
      where,
      value === undefined ? "is missing; expected a list" : `${show(value)} is not a list`,
    );
  }

  tokens(where: string, value: unknown): number {
    if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= MAX_LENGTH_TOKENS)
      return value;
    throw this.error(
      where,
      `${show(value)} is not usable; allowed: whole numbers from 1 to ${MAX_LENGTH_TOKENS}`,
    );
  }

  /** Seconds in the file, milliseconds here. */
  timeMs(where: string, value: unknown): number {
    if (typeof value === "number" && value >= 0 && value < Number.MAX_SAFE_INTEGER) return value * 1000;
    throw this.error(where, `${show(value)} is not usable; allowed: seconds from 0 up`);
  }
}

/** What the requests of a session have in common. */
interface SessionContext {
  readonly fields: SessionFields;
  readonly sessionId: string;
  readonly scope: string;
  readonly blockTokens: number;
}

function toAgent({ file, line, value }: SessionText, round: number, number: number): Agent {
  const fields = new SessionFields(file, line);
  const session = fields.object("session", value);
  const { id, hash_id_scope: scope } = session;
  if (typeof id !== "string" || id === "" || id.length > MAX_NAME_LENGTH)
    throw fields.error("id", `${show(id)} is not a name of 1 to ${MAX_NAME_LENGTH} characters`);
  if (scope !== "local" && scope !== "global")
    throw fields.error("hash_id_scope", `${show(scope)} is not allowed; allowed: local, global`);
  // With its number, because nothing keeps two files from using one name.
  const sessionId = `${id}.${number}`;
  const context: SessionContext = {
    fields,
    sessionId,
    scope: scope === "local" ? sessionId : `#${round}`,
    blockTokens: fields.tokens("block_size", session.block_size),
  };
  const agent = readAgent(context, "requests", session.requests, 0);
  if (agent === null) throw fields.error("requests", "holds no request");
  return agent;
}

/** Turns a list of entries into steps: each request takes the sub-agents that stand before it along. Null: nothing to do. */
function readAgent(context: SessionContext, where: string, value: unknown, depth: number): Agent | null {
  const { fields } = context;
  if (depth > MAX_AGENT_DEPTH) throw fields.error(where, `is nested deeper than ${MAX_AGENT_DEPTH} agents`);
  const steps: AgentStep[] = [];
  let starts: { agent: Agent; delayMs: number }[] = [];
  /** When the request before was sent and, if known, when it ended. */
  let sentMs = 0;
  let endMs: number | null = 0;
  for (const [index, item] of fields.list(where, value).entries()) {
    const at = `${where}[${index}]`;
    const entry = fields.object(at, item);
    const timeMs = fields.timeMs(`${at}.t`, entry.t);
    if (entry.type === "subagent") {
      const agent = readAgent(context, `${at}.requests`, entry.requests, depth + 1);
      if (agent !== null) starts.push({ agent, delayMs: Math.max(0, timeMs - (endMs ?? sentMs)) });
      continue;
    }
    if (timeMs < sentMs)
      throw fields.error(`${at}.t`, `lies before the request before it (${sentMs / 1000} s)`);
    const isFirst = steps.length === 0;
    const thinkMs = isFirst ? timeMs : fields.timeMs(`${at}.think_time`, entry.think_time);
    steps.push({
      request: readRequest(context, at, entry),
      delayMs: endMs === null ? 0 : thinkMs,
      afterArrivalMs: endMs === null ? timeMs - sentMs : 0,
      starts,
      waitsForAgents: false,
    });
    starts = [];
    sentMs = timeMs;
    endMs = entry.api_time == null ? null : timeMs + fields.timeMs(`${at}.api_time`, entry.api_time);
  }
  if (starts.length > 0)
    steps.push({ request: null, delayMs: 0, afterArrivalMs: 0, starts, waitsForAgents: false });
  if (steps.length === 0) return null;
  let next = 0;
  return { next: () => steps[next++] ?? null };
}

function readRequest(context: SessionContext, at: string, entry: Fields): NonNullable<AgentStep["request"]> {
  const { fields, sessionId } = context;
  const inputTokens = fields.tokens(`${at}.in`, entry.in);
  return {
    ...plainRequest(`${sessionId}/${at}`, inputTokens, fields.tokens(`${at}.out`, entry.out)),
    blocks: readBlocks(context, `${at}.hash_ids`, entry.hash_ids, inputTokens),
    sessionId,
    kind: "agent",
  };
}

function readBlocks(
  { fields, blockTokens, scope }: SessionContext,
  at: string,
  value: unknown,
  inputTokens: number,
): PromptBlocks | null {
  const ids = fields.list(at, value);
  if (ids.length === 0) return null;
  const numFull = Math.floor(inputTokens / blockTokens);
  if (ids.length !== numFull && ids.length !== Math.ceil(inputTokens / blockTokens))
    throw fields.error(
      at,
      `has ${ids.length} ids, but ${inputTokens} tokens have ${numFull} full blocks of ${blockTokens}`,
    );
  const bad = ids.findIndex((id) => !Number.isSafeInteger(id));
  if (bad !== -1) throw fields.error(`${at}[${bad}]`, `${show(ids[bad])} is not a whole number`);
  return { blockTokens, scope, ids: ids as readonly number[] };
}

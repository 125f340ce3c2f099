import type { Command } from "commander";
import { Agent } from "undici";
import { z } from "zod";
import { askJson, type Target } from "../bench/http-json.ts";
import type { PlacementCandidate } from "../core/router/placement.ts";
import { type ExplainedRequest, explanationSchema } from "../protocol/explained.ts";
import { parseServerUrl } from "./bench-settings.ts";
import { CliError, type CliIo, EXIT, type ExitCode } from "./io.ts";
import { packageVersion } from "./package-root.ts";
import { addSettings, readSettings, type Setting } from "./settings.ts";

const EXAMPLES = `
Examples:
  twofold explain tf-3f0c9a1e5d7b                       the candidates of a request, and the winner
  twofold explain tf-3f0c9a1e5d7b --url http://10.0.0.7:8080 --json

The id is in the header x-twofold-request-id of the request's answer. Exit code 1: nothing is known of it.`;

const SETTINGS: readonly Setting[] = [
  {
    key: "url",
    flag: "--url <url>",
    env: "TWOFOLD_URL",
    schema: z.string().min(1).max(4096),
    help: "where the server is (default: http://127.0.0.1:8080)",
  },
  {
    key: "apiKey",
    env: "TWOFOLD_API_KEY",
    schema: z
      .string()
      .max(4096)
      .regex(/^[\x21-\x7e]+$/, "is not printable ASCII"),
    help: "API key of the server",
  },
];

/** Raised with every change to the output of `--json` that a reader of the older form would misread. */
const EXPLAIN_SCHEMA_VERSION = 1;

/** Adds `twofold explain`. */
export function addExplain(program: Command, io: CliIo, exit: (code: ExitCode) => void): void {
  const command = program
    .command("explain")
    .summary("why a request went where it went")
    .description(
      "Asks a server why it placed a request as it did: every candidate, what it would have cost, and the winner.",
    )
    .argument("<request-id>", "the request's id inside the fleet");
  addSettings(command, SETTINGS);
  command.option("--json", "print one JSON object instead of a table");
  command.addHelpText("after", EXAMPLES);
  command.action(async (requestId: string, flags: Record<string, unknown>) => {
    const { json, ...settings } = flags;
    const given = readSettings(SETTINGS, settings, io.env);
    const url = parseServerUrl(String(given.get("url")?.value ?? "http://127.0.0.1:8080"));
    const apiKey = given.get("apiKey")?.value;
    const headers = typeof apiKey === "string" ? { authorization: `Bearer ${apiKey}` } : {};
    const explained = await ask(url, headers, requestId);
    const answer = {
      schemaVersion: EXPLAIN_SCHEMA_VERSION,
      twofoldVersion: packageVersion(),
      requests: explained,
    };
    io.stdout.write(
      json === true ? `${JSON.stringify(answer)}\n` : explained.map(renderExplained).join("\n"),
    );
    exit(EXIT.ok);
  });
}

async function ask(
  baseUrl: URL,
  headers: Readonly<Record<string, string>>,
  requestId: string,
): Promise<ExplainedRequest[]> {
  const dispatcher = new Agent();
  const target: Target = { dispatcher, baseUrl, headers, signal: new AbortController().signal };
  try {
    const { status, body } = await askJson(target, `/admin/decisions/${encodeURIComponent(requestId)}`);
    if (status !== 200) throw new CliError(EXIT.failure, messageOf(status, body));
    const answer = explanationSchema.safeParse(body);
    if (!answer.success)
      throw new CliError(EXIT.failure, `${baseUrl.origin} does not answer as a server of this release`);
    return answer.data.data as ExplainedRequest[];
  } finally {
    await dispatcher.close();
  }
}

const errorSchema = z.object({ error: z.object({ message: z.string() }) });

function messageOf(status: number, body: unknown): string {
  const error = errorSchema.safeParse(body);
  return error.success ? error.data.error.message : `the server answers ${status}`;
}

/** A request as text: each attempt with its candidates, one line each. */
export function renderExplained(request: ExplainedRequest): string {
  const { requestId, policy, numPromptTokens, maxOutputTokens, numCachedTokens, attempts } = request;
  const cached = numCachedTokens === null ? "" : `, ${numCachedTokens} of them from a cache`;
  const lines = [
    `request   ${requestId}`,
    `policy    ${policy}`,
    `tokens    ${numPromptTokens} in${cached}; up to ${maxOutputTokens} out`,
  ];
  if (attempts.length === 0) lines.push("placed    not yet: no worker could take it so far");
  attempts.forEach(({ atMs, decision }, index) => {
    const { prefillWorker, decodeWorker, reason, fetch, candidates } = decision;
    const where =
      prefillWorker === decodeWorker
        ? `on ${decodeWorker}`
        : `prefill on ${prefillWorker}, decode on ${decodeWorker}`;
    const attempt = attempts.length === 1 ? "placed   " : `attempt ${index + 1}`;
    lines.push(`${attempt} ${new Date(atMs).toISOString()} ${where}: ${reason}`);
    if (fetch !== undefined) lines.push(`          fetches ${fetch.numTokens} tokens from ${fetch.from}`);
    if (candidates === undefined) lines.push("          the policy weighs nothing in figures");
    else lines.push("", ...table(candidates));
  });
  return `${lines.join("\n")}\n`;
}

function table(candidates: readonly PlacementCandidate[]): string[] {
  const names = [...new Set(candidates.flatMap(({ terms }) => Object.keys(terms)))];
  const hasFetch = candidates.some(({ fetch }) => fetch !== null);
  const rows = [
    ["", "prefill", "decode", ...(hasFetch ? ["fetch"] : []), ...names, "cost"],
    ...candidates.map(({ prefillWorker, decodeWorker, fetch, terms, cost }, index) => [
      index === 0 ? "→" : "",
      prefillWorker,
      decodeWorker,
      ...(hasFetch ? [fetch === null ? "" : `${fetch.numTokens} from ${fetch.from}`] : []),
      ...names.map((name) => (terms[name] === undefined ? "" : figure(terms[name]))),
      figure(cost),
    ]),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const firstFigure = hasFetch ? 4 : 3;
  return rows.map((row) => {
    const cells = row.map((cell, column) =>
      column < firstFigure ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!),
    );
    return cells.join("  ").trimEnd();
  });
}

/** Four significant digits; the JSON has them all. */
function figure(value: number): string {
  return Number.isFinite(value) ? String(Number(value.toPrecision(4))) : String(value);
}

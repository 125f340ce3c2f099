import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { request } from "undici";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { complete } from "../support/completions.ts";
import {
  type CliResult,
  MODEL_PATH,
  runCli,
  runCliHere,
  type ServerProcess,
  type ServerWorker,
  startServer,
} from "../support/server-process.ts";

/** `/admin/workers` says more than most tests look at. */
type StepCount = ServerWorker & { readonly numSteps: number };

const CHAT_PATH = "/v1/chat/completions";
const MESSAGES = [{ role: "user", content: "What is a river?" }];
const MIB = 1024 * 1024;

/** Processes that were started with this folder in their environment: a server and its workers. */
function processesWith(folder: string): number[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.filter((pid) => environmentOf(pid).includes(folder)).map(Number);
}

function environmentOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, "utf8");
  } catch {
    // It has ended since, or is another user's.
    return "";
  }
}

function rssBytes(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  if (kib === undefined) throw new Error(`no resident size of process ${pid}`);
  return Number(kib) * 1024;
}

const HUGE_BYTES = 100 * MIB;
const PIECE_BYTES = 64 * 1024;

interface HugeBody {
  readonly how: string;
  readonly header: string;
  frame(bytes: Buffer): readonly Buffer[];
  /** How much of it the server must see to know that it is too large. */
  readonly refusedAfterBytes: number;
}

const HUGE_BODIES: readonly HugeBody[] = [
  {
    how: "says its length",
    header: `content-length: ${HUGE_BYTES}`,
    frame: (bytes) => [bytes],
    refusedAfterBytes: PIECE_BYTES,
  },
  {
    how: "comes in chunks",
    header: "transfer-encoding: chunked",
    frame: (bytes) => [Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from("\r\n")],
    refusedAfterBytes: 4 * MIB + PIECE_BYTES,
  },
];

/** Writes zeros as a request body until there is an answer or `maxBytes` are written, and waits until the server hangs up. */
async function pour(
  server: ServerProcess,
  body: Pick<HugeBody, "header" | "frame"> & { readonly maxBytes: number },
): Promise<{ answer: string; sentBytes: number; peakRssBytes: number }> {
  const { hostname, port } = new URL(server.url);
  const socket = connect(Number(port), hostname);
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  // Hanging up on somebody who is still sending resets the connection.
  socket.on("error", () => undefined);
  let wake = (): void => undefined;
  for (const event of ["drain", "data", "close"]) socket.on(event, () => wake());
  let answer = "";
  socket.setEncoding("utf8").on("data", (text: string) => {
    answer += text;
  });
  await once(socket, "connect");
  socket.write(`POST ${CHAT_PATH} HTTP/1.1\r\nhost: ${hostname}\r\n${body.header}\r\n\r\n`);
  const piece = Buffer.alloc(PIECE_BYTES, "0");
  let sentBytes = 0;
  let peakRssBytes = 0;
  while (sentBytes < body.maxBytes && answer === "" && !socket.destroyed) {
    const isAccepted = body
      .frame(piece)
      .map((bytes) => socket.write(bytes))
      .at(-1);
    sentBytes += piece.length;
    if (isAccepted === true || socket.destroyed) await nextTurn();
    else
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    if (sentBytes % MIB === 0) peakRssBytes = Math.max(peakRssBytes, rssBytes(server.pid));
  }
  await closed;
  return { answer, sentBytes, peakRssBytes: Math.max(peakRssBytes, rssBytes(server.pid)) };
}

describe("a server that gets bad requests", () => {
  let server: ServerProcess;
  let runDirectory: string;
  beforeAll(async () => {
    runDirectory = mkdtempSync(join(tmpdir(), "bad-input-"));
    server = await startServer(["--prefill", "1", "--decode", "1", "--placement", "load"], {
      TWOFOLD_RUN_DIR: runDirectory,
    });
  });
  afterAll(async () => {
    await server.stop();
    rmSync(runDirectory, { recursive: true });
  });

  async function send(path: string, body: string | Buffer | object, method: "GET" | "POST" | "PUT" = "POST") {
    const payload = typeof body === "string" || Buffer.isBuffer(body) ? body : JSON.stringify(body);
    const headers = { "content-type": "application/json" };
    const response = await request(server.url + path, {
      method,
      headers,
      ...(method === "GET" ? {} : { body: payload }),
    });
    const { error } = (await response.body.json()) as {
      error: { code: string; param: string | null; message: string };
    };
    return { status: response.statusCode, headers: response.headers, ...error };
  }

  it("names the place in malformed JSON", async () => {
    const answer = await send(CHAT_PATH, '{"messages": [{"role": "user",, }]}');
    expect(answer).toMatchObject({ status: 400, code: "invalid_json" });
    expect(answer.message).toContain("near character 30");
  });

  it.each<[string, object, string, string]>([
    ["a number for a role", { messages: [{ role: 7, content: "a" }] }, "messages[0].role", "invalid_type"],
    ["text for messages", { messages: "What is a river?" }, "messages", "invalid_type"],
    ["text for a temperature", { messages: MESSAGES, temperature: "hot" }, "temperature", "invalid_type"],
    ["text for stream", { messages: MESSAGES, stream: "yes" }, "stream", "invalid_type"],
    ["half a token", { messages: MESSAGES, max_tokens: 1.5 }, "max_tokens", "invalid_type"],
    ["nine choices", { messages: MESSAGES, n: 9 }, "n", "invalid_value"],
    ["a negative max_tokens", { messages: MESSAGES, max_tokens: -1 }, "max_tokens", "invalid_value"],
    ["no messages", {}, "messages", "missing_required_parameter"],
  ])("names the parameter of %s", async (_what, body, param, code) => {
    expect(await send(CHAT_PATH, body)).toMatchObject({ status: 400, code, param });
  });

  it("refuses a body that is not UTF-8", async () => {
    const body = Buffer.concat([Buffer.from('{"prompt": "'), Buffer.of(0xc3, 0x28, 0xff), Buffer.from('"}')]);
    const answer = await send("/v1/completions", body);
    expect(answer).toMatchObject({ status: 400, code: "invalid_json" });
    expect(answer.message).toContain("UTF-8");
  });

  it("refuses ten thousand levels of nesting", async () => {
    const body = `{"messages": ${"[".repeat(10_000)}${"]".repeat(10_000)}}`;
    expect(await send(CHAT_PATH, body)).toMatchObject({ status: 400, code: "nesting_too_deep" });
  });

  it.each([
    ["/v1/completions", { prompt: "a river and a hill ".repeat(3000) }, "prompt"],
    [CHAT_PATH, { messages: [{ role: "user", content: "a river and a hill ".repeat(3000) }] }, "messages"],
  ])("refuses a prompt on %s that is longer than the context", async (path, body, param) => {
    const answer = await send(path, body);
    expect(answer).toMatchObject({ status: 400, code: "context_length_exceeded", param });
    expect(answer.message).toContain("8192");
  });

  it("says which models there are when asked for another", async () => {
    const answer = await send(CHAT_PATH, { model: "gpt-9", messages: MESSAGES });
    expect(answer).toMatchObject({ status: 404, code: "model_not_found", param: "model" });
    expect(answer.message).toContain("lexicon-3m");
  });

  it("answers 404 for an unknown route and 405, with the right method, for a wrong one", async () => {
    expect(await send("/v1/chat/complete", { messages: MESSAGES })).toMatchObject({
      status: 404,
      code: "not_found",
    });
    const wrongMethod = await send(CHAT_PATH, {}, "PUT");
    expect(wrongMethod).toMatchObject({ status: 405, code: "method_not_allowed" });
    expect(wrongMethod.headers.allow).toBe("POST");
    expect(await send(CHAT_PATH, {}, "GET")).toMatchObject({ status: 405 });
  });

  describe.each(HUGE_BODIES)("a body of 100 MB that $how", ({ header, frame, refusedAfterBytes }) => {
    it("is answered 413 as soon as it is known to be too large, and the connection closed", async () => {
      const { answer } = await pour(server, { header, frame, maxBytes: refusedAfterBytes });
      expect(answer).toMatch(/^HTTP\/1\.1 413 /);
      expect(answer.toLowerCase()).toContain("\r\nconnection: close\r\n");
      expect(answer).toContain('"code":"request_too_large"');
    });

    it("takes no memory and is not read to its end, however fast it comes", async () => {
      const refused = `twofold_gateway_requests_total{endpoint="${CHAT_PATH}",status="413"}`;
      // The series appears with the first such answer.
      const numRefused = (): Promise<number> => server.metric(refused).catch(() => 0);
      const [rssBefore, refusedBefore] = [rssBytes(server.pid), await numRefused()];
      const { sentBytes, peakRssBytes } = await pour(server, { header, frame, maxBytes: HUGE_BYTES });
      expect(sentBytes).toBeLessThan(32 * MIB);
      expect(peakRssBytes - rssBefore).toBeLessThan(32 * MIB);
      expect(await numRefused()).toBe(refusedBefore + 1);
    });
  });

  it("has lost and leaked nothing after all of them", async () => {
    const before = (await server.workers()) as StepCount[];
    const answer = await complete(server.url, {
      prompt: "A river is a large stream of water. ".repeat(8),
      temperature: 0,
      max_tokens: 8,
    });
    expect(answer).toMatchObject({ status: 200, error: null });
    expect(answer.text).not.toBe("");
    // Workers report once a second: only a report from after this request says something about the ones before it.
    const idle = await server.untilWorkers("both workers idle after a request", (seen) =>
      (seen as StepCount[]).every(({ id, numSteps, numRunning, numWaiting, kvTokensUsed }) => {
        const stepsBefore = before.find((worker) => worker.id === id)!.numSteps;
        return numSteps > stepsBefore && numRunning + numWaiting + kvTokensUsed === 0;
      }),
    );
    expect(idle.map(({ pid, state }) => [pid, state])).toEqual(before.map(({ pid }) => [pid, "ready"]));
    expect(await server.metric("twofold_gateway_requests_in_flight")).toBeLessThanOrEqual(1);
    expect(processesWith(runDirectory).toSorted()).toEqual(
      [server.pid, ...idle.map(({ pid }) => pid!)].toSorted(),
    );
  });

  it("leaves no process and no file when it is stopped", async () => {
    expect(await server.stop()).toBe(0);
    expect(processesWith(runDirectory)).toEqual([]);
    expect(readdirSync(runDirectory)).toEqual([]);
  });
});

describe("a command line that cannot be run", () => {
  let folder: string;
  let runDirectory: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "bad-input-"));
    runDirectory = mkdtempSync(join(tmpdir(), "bad-input-run-"));
  });
  afterEach(() => {
    vi.unstubAllEnvs();
    for (const path of [folder, runDirectory]) rmSync(path, { recursive: true });
  });

  /** Runs `twofold serve`, in a process of its own or in this one, and checks what must hold of every failure. */
  async function refused(
    args: readonly string[],
    { run = runCliHere as typeof runCli, runIn = runDirectory } = {},
  ): Promise<CliResult> {
    vi.stubEnv("TWOFOLD_RUN_DIR", runIn);
    const result = await run(["serve", "--port", "0", ...args]);
    expect(result.stdout).toBe("");
    expect(result.stderr).not.toMatch(/^ {4}at /m);
    expect(result.stderr).toMatch(/^twofold: /m);
    expect(processesWith(runDirectory)).toEqual([]);
    expect(
      readdirSync(runDirectory, { recursive: true, withFileTypes: true }).filter(
        (entry) => !entry.isDirectory(),
      ),
    ).toEqual([]);
    expect(readdirSync(runDirectory).filter((name) => name.startsWith("twofold-"))).toEqual([]);
    return result;
  }

  function file(name: string, content: string | Buffer): string {
    const path = join(folder, name);
    writeFileSync(path, content);
    return path;
  }

  it("names a flag that does not exist", async () => {
    const { code, stderr } = await refused(["--prefil", "2"], { run: runCli });
    expect(code).toBe(2);
    expect(stderr).toContain("--prefil");
    expect(stderr).toContain("--help");
  });

  it("says that a model file is missing", async () => {
    const path = join(folder, "none.gguf");
    const { code, stderr } = await refused(["--model", path]);
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining(`${path}: missing`) });
  });

  it.each([
    ["in its metadata", 100_000],
    ["in its weights", 2_000_000],
  ])("says that a model file is cut off %s, and how many bytes it has", async (_where, numBytes) => {
    const path = file("cut.gguf", readFileSync(MODEL_PATH).subarray(0, numBytes));
    const { code, stderr } = await refused(["--model", path]);
    expect(code).toBe(1);
    expect(stderr).toContain(`${path}: truncated`);
    expect(stderr).toContain(`has ${numBytes}. Download the file again`);
  });

  it("says that a text file is not a model", async () => {
    const path = file("notes.gguf", "A river is a large stream of water.\n");
    const { code, stderr } = await refused(["--model", path]);
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringContaining(`${path}: not a GGUF file`),
    });
  });

  it("names a port that is in use", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    const { port } = other.address() as AddressInfo;
    const { code, stderr } = await refused(["--port", String(port)], { run: runCli });
    other.close();
    expect(code).toBe(1);
    expect(stderr).toContain(`Port ${port} on 127.0.0.1 is already in use`);
  });

  it("says how to name another folder for sockets when there is none", async () => {
    const below = join(file("regular-file", ""), "run");
    const { code, stderr } = await refused([], { runIn: below });
    expect(code).toBe(1);
    expect(stderr).toContain(below);
    expect(stderr).toContain("name a writable one with TWOFOLD_RUN_DIR");
    expect(processesWith(below)).toEqual([]);
  });

  it("starts nothing when the folder for sockets has too long a path", async () => {
    const long = join(runDirectory, "long-".repeat(24));
    const { code, stderr } = await refused([], { runIn: long });
    expect(code).toBe(1);
    expect(stderr).toContain("name a shorter one with TWOFOLD_RUN_DIR");
    expect(existsSync(long)).toBe(false);
  });

  it("gives line and column of an unknown key in a fleet file", async () => {
    const path = file("fleet.yaml", "workers:\n  - role: both\ngateway:\n  prot: 8080\n");
    const { code, stderr } = await refused([path]);
    expect(code).toBe(2);
    expect(stderr).toContain(`${path}:4:3: gateway: unknown key "prot" (did you mean port?)`);
  });

  it("does not listen beyond this machine without keys", async () => {
    const { code, stderr } = await refused(["--host", "0.0.0.0"]);
    expect(code).toBe(2);
    expect(stderr).toContain("TWOFOLD_API_KEY");
  });

  it("does not start decode workers and nothing that prefills", async () => {
    const { code, stderr } = await refused(["--prefill", "0", "--decode", "2"]);
    expect(code).toBe(2);
    expect(stderr).toContain("there are decode workers and nothing that prefills");
  });
});

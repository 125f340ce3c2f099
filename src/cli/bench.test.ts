import { afterAll, afterEach, describe, expect, it, test } from "vitest";
import { BenchServer, fullStream } from "../../test/support/bench-server.ts";
import { FakeIo } from "../../test/support/cli-io.ts";
import { TempFiles } from "../../test/support/temp-files.ts";
import { loadReportSchema } from "../bench/report.ts";
import { loadBenchOptions } from "./bench-settings.ts";
import { runCli } from "./program.ts";
import type { Product } from "./serving.ts";

const nothing: Product = {
  startServing: () => Promise.reject(new Error("not part of this test")),
  runWorker: () => Promise.reject(new Error("not part of this test")),
};

const URL_TEXT = "http://127.0.0.1:8080";
const servers: BenchServer[] = [];

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

async function startServer(
  autoAnswer?: (body: Readonly<Record<string, unknown>>) => string,
): Promise<{ server: BenchServer; url: string }> {
  const server = new BenchServer(autoAnswer === undefined ? {} : { autoAnswer });
  servers.push(server);
  return { server, url: (await server.listen()).href };
}

test("every flag reaches the run, and what is not given has its default", () => {
  const defaults = loadBenchOptions(URL_TEXT, { rate: "5" }, {});
  expect(defaults).toMatchObject({
    arrivals: { kind: "poisson", requestsPerSecond: 5 },
    numRequests: 100,
    durationMs: null,
    inputLengths: { kind: "fixed", tokens: 512 },
    outputLengths: { kind: "fixed", tokens: 64 },
    ignoreEos: true,
    numWarmupRequests: 4,
    maxInFlight: 1000,
    requestTimeoutMs: 600_000,
    slo: { ttftMs: null, itlMs: null, e2eMs: null },
  });
  const flags = {
    concurrency: "8",
    duration: "2.5",
    isl: "uniform:1:9",
    osl: "choice:1,2",
    ignoreEos: false,
    sloItlMs: "50",
  };
  expect(
    loadBenchOptions(`${URL_TEXT}/proxy/v1/`, flags, { TWOFOLD_BENCH_SEED: "9", TWOFOLD_API_KEY: "k" }),
  ).toMatchObject({
    arrivals: { kind: "concurrency", numRequests: 8 },
    maxInFlight: 8,
    durationMs: 2500,
    numRequests: 500_000,
    inputLengths: { kind: "uniform", min: 1, max: 9 },
    outputLengths: { kind: "choice", values: [1, 2] },
    ignoreEos: false,
    seed: 9,
    apiKey: "k",
    slo: { ttftMs: null, itlMs: 50, e2eMs: null },
  });
  expect(loadBenchOptions(`${URL_TEXT}/proxy/v1/`, flags, {}).url.href).toBe(`${URL_TEXT}/proxy`);
});

test.each([
  [
    [URL_TEXT],
    "--rate: is missing; give --rate N for an open loop, --concurrency N for a closed one, or --workload FILE",
  ],
  [[URL_TEXT, "--rate", "1", "--concurrency", "2"], "--rate and --concurrency: an open loop has a rate"],
  [
    [URL_TEXT, "--concurrency", "2", "--arrivals", "uniform"],
    "--arrivals and --concurrency: a closed loop has no arrivals",
  ],
  [[URL_TEXT, "--rate", "0"], "--rate: 0 is out of range"],
  [
    [URL_TEXT, "--rate", "1", "--arrivals", "poison"],
    '--arrivals: "poison" is not allowed (did you mean poisson?)',
  ],
  [[URL_TEXT, "--rate", "1", "--isl", "uniform:9:1"], '--isl: "uniform:9:1" needs whole numbers MIN ≤ MAX'],
  [
    [URL_TEXT, "--rate", "1", "--requests", "1000000"],
    "--requests: 1000000 is out of range; allowed: 1 to 500000",
  ],
  [
    [URL_TEXT, "--rate", "1", "--shared-prefix", "50"],
    "--shared-prefix: 50 is out of range; allowed: 0 to 1",
  ],
  [["127.0.0.1:8080", "--rate", "1"], 'URL: "127.0.0.1:8080" is not usable; expected http://HOST:PORT'],
  [["http://user:pw@host", "--rate", "1"], "URL: must not hold a user"],
  [["--rate", "1"], "missing required argument 'url'"],
])("%j is wrong usage", async (args, message) => {
  const io = new FakeIo();
  expect(await runCli(["bench", ...args], io, nothing)).toBe(2);
  expect(io.errText).toContain(`twofold: ${message}`);
  expect(io.errText.trimEnd().split("\n").length).toBe(1);
});

test("a run prints a table, or one JSON object that fits the schema", async () => {
  const { url } = await startServer((body) => fullStream(Number(body.max_tokens)));
  const table = new FakeIo();
  const args = [
    "bench",
    url,
    "--concurrency",
    "2",
    "--requests",
    "6",
    "--isl",
    "16",
    "--osl",
    "4",
    "--warmup",
    "1",
  ];
  expect(await runCli(args, table, nothing)).toBe(0);
  expect(table.outText).toContain("6 completed of 6; 0 failed");
  expect(table.errText).toBe("");
  const json = new FakeIo();
  expect(await runCli([...args, "--json"], json, nothing)).toBe(0);
  const report = loadReportSchema.parse(JSON.parse(json.outText));
  expect(report.tokens).toMatchObject({ output: 24, requestedOutput: 24, contentChunks: 24 });
  expect(json.outText.endsWith("}\n")).toBe(true);
});

test("a run without a completed request fails, and still prints its report", async () => {
  const { url } = await startServer(() => "data: {}\n\n");
  const io = new FakeIo();
  expect(
    await runCli(["bench", url, "--concurrency", "1", "--requests", "2", "--warmup", "0"], io, nothing),
  ).toBe(1);
  expect(io.outText).toContain("failed      2 × truncated: the stream ended without finish_reason");
});

test("Ctrl-C prints what there is and exits with 1", async () => {
  const { server, url } = await startServer();
  const io = new FakeIo();
  const running = runCli(
    ["bench", url, "--concurrency", "1", "--requests", "50", "--warmup", "0"],
    io,
    nothing,
  );
  await server.next();
  io.signal("SIGINT");
  expect(await running).toBe(1);
  expect(io.outText).toContain("(interrupted)");
  expect(io.outText).toContain("0 completed of 1; 0 failed, 0 dropped, 1 aborted");
  expect(io.numSignalListeners).toBe(0);
});

test("a server that cannot be reached is one line and exit code 1", async () => {
  const io = new FakeIo();
  expect(await runCli(["bench", "http://127.0.0.1:9", "--rate", "1"], io, nothing)).toBe(1);
  expect(io.errText).toMatch(/^twofold: cannot reach http:\/\/127\.0\.0\.1:9: .*is the server running\?\n$/);
});

describe("--workload", () => {
  const files = new TempFiles();
  afterAll(() => files.remove());
  const trace = [0, 20, 40].map((timestamp) =>
    JSON.stringify({ timestamp, input_length: 30, output_length: 4, hash_ids: [1] }),
  );

  it("replays a trace, scaled, to its end", async () => {
    const { server, url } = await startServer((body) => fullStream(Number(body.max_tokens)));
    const path = files.write("trace.jsonl", trace.join("\n"));
    const io = new FakeIo();
    const args = ["bench", url, "--workload", path, "--time-scale", "0.01", "--warmup", "0", "--json"];
    expect(await runCli(args, io, nothing)).toBe(0);
    const report = loadReportSchema.parse(JSON.parse(io.outText));
    expect(report.load).toMatchObject({ arrivals: "workload", workload: "trace.jsonl" });
    expect(report.tokens).toMatchObject({ output: 12, requestedOutput: 12 });
    expect(new Set(server.bodies.map((body) => String(body.prompt))).size).toBe(1);
  });

  it("replays the section of a scenario, whose paths count from its folder", async () => {
    const { url } = await startServer((body) => fullStream(Number(body.max_tokens)));
    files.write("data/trace.jsonl", trace.join("\n"));
    const text = "workload:\n  kind: trace\n  path: trace.jsonl\n  timeScale: 0.01\n";
    const path = files.write("data/scenario.yaml", text);
    const io = new FakeIo();
    expect(
      await runCli(["bench", url, "--workload", path, "--requests", "2", "--warmup", "0"], io, nothing),
    ).toBe(0);
    expect(io.outText).toContain("workload scenario.yaml, seed 1");
    expect(io.outText).toContain("2 completed of 2");
  });

  it.each([
    [
      "trace.jsonl",
      "",
      ["--rate", "1"],
      2,
      "--rate and --workload: a workload has its own arrivals and lengths",
    ],
    ["trace.jsonl", "", ["--osl", "1"], 2, "--osl and --workload: a workload has its own"],
    [
      "l.csv",
      "num_prefill_tokens,num_decode_tokens\n1,2\n",
      [],
      2,
      "has no times; name it in a YAML section",
    ],
    ["w.yaml", "kind: trace\npth: x\n", [], 2, 'w.yaml:2:1: unknown key "pth"'],
    [
      "endless.yaml",
      "{ kind: requests, inputTokens: 1, outputTokens: 1, concurrency: 1 }",
      [],
      2,
      "describes requests without end; give --requests or --duration",
    ],
    ["bad.jsonl", "hello\n", [], 1, "bad.jsonl: is in no known format"],
    ["bad.jsonl", "hello\n", ["--workload-format", "mooncake"], 1, "bad.jsonl:1: is not JSON"],
  ])("%s is refused: %#", async (name, text, more, exitCode, message) => {
    const path = files.write(`refused/${name}`, text);
    const io = new FakeIo();
    expect(await runCli(["bench", URL_TEXT, "--workload", path, ...more], io, nothing)).toBe(exitCode);
    expect(io.errText).toContain(message);
    expect(
      io.errText
        .trimEnd()
        .split("\n")
        .filter((line) => !line.startsWith("twofold: ")),
    ).toEqual([]);
  });

  it("is what its other flags need", async () => {
    const io = new FakeIo();
    expect(await runCli(["bench", URL_TEXT, "--rate", "1", "--time-scale", "2"], io, nothing)).toBe(2);
    expect(io.errText).toContain("--time-scale: is for a workload; give --workload FILE with it");
  });
});

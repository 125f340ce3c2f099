import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { expect, test } from "vitest";
import { FakeIo } from "../../test/support/cli-io.ts";
import { renderChecks } from "./doctor.ts";
import { type Check, checkMachine, type Machine } from "./doctor-checks.ts";
import { thisMachine } from "./machine.ts";
import { runCli } from "./program.ts";
import { loadServeConfig } from "./serve-settings.ts";
import type { Product } from "./serving.ts";

const nothing: Product = {
  startServing: () => Promise.reject(new Error("not part of this test")),
  runWorker: () => Promise.reject(new Error("not part of this test")),
};

const HEALTHY: Machine = {
  nodeVersion: "20.20.2",
  platform: "linux-x64",
  numCpus: 4,
  freeMemoryBytes: 2 ** 33,
  loadModel: () => Promise.resolve({ modelName: "m", trainedContextTokens: 8192 }),
  fileBytes: () => 1000,
  portProblem: () => Promise.resolve(null),
  socketFolder: () => Promise.resolve({ path: "/tmp", problem: null }),
};

async function check(
  machine: Partial<Machine>,
  flags: Record<string, unknown> = {},
  env = {},
): Promise<Map<string, Check>> {
  const config = loadServeConfig(undefined, flags, { env, cwd: "/" });
  const checks = await checkMachine(config, { ...HEALTHY, ...machine });
  return new Map(checks.map((entry) => [entry.name, entry]));
}

test("a healthy machine has seven findings, all of them ok and without a remedy", async () => {
  const checks = [...(await check({})).values()];
  expect(checks.map(({ status, remedy }) => [status, remedy])).toEqual(
    Array.from({ length: 7 }, () => ["ok", ""]),
  );
});

test.each<[string, Partial<Machine>, Record<string, unknown>, string, string]>([
  ["node", { nodeVersion: "20.18.3" }, {}, "fail", "install Node 20.19"],
  ["node", { nodeVersion: "18.20.0" }, {}, "fail", "install Node 20.19"],
  ["engine and model", { fileBytes: () => null }, {}, "fail", "name a GGUF file with --model"],
  [
    "engine and model",
    { loadModel: () => Promise.reject(new Error("install @node-llama-cpp/linux-x64")) },
    {},
    "fail",
    "--engine stub",
  ],
  ["engine and model", {}, { ctx: "16384" }, "warn", "use --ctx 8192"],
  ["port", { portProblem: () => Promise.resolve("in use") }, {}, "fail", "--port 0"],
  [
    "socket folder",
    { socketFolder: () => Promise.resolve({ path: "/x", problem: "permission denied" }) },
    {},
    "fail",
    "TMPDIR",
  ],
  ["cores", { numCpus: 2 }, { threads: "2" }, "warn", "fewer"],
  ["memory", { freeMemoryBytes: 2 ** 20 }, {}, "warn", "smaller model"],
])("%s is reported with what to do (case %#)", async (name, machine, flags, status, remedy) => {
  const found = (await check(machine, flags)).get(name);
  expect(found?.status).toBe(status);
  expect(found?.remedy).toContain(remedy);
});

test("a host that is open to the network is a warning even with keys", async () => {
  const found = (await check({}, { host: "0.0.0.0" }, { TWOFOLD_API_KEY: "0123456789abcdef" })).get("access");
  expect(found).toMatchObject({ status: "warn", remedy: "put a proxy that ends TLS in front" });
});

test("the table has what to do below each finding that needs it", () => {
  const checks: Check[] = [
    { name: "node", status: "ok", finding: "version 20.20.2", remedy: "" },
    { name: "engine and model", status: "fail", finding: "broken", remedy: "mend it" },
  ];
  expect(renderChecks(checks)).toBe(
    "ok    node              version 20.20.2\nfail  engine and model  broken\n                        → mend it\n",
  );
});

test("doctor on this machine prints one JSON object and fails when the port is taken", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const io = new FakeIo();
  expect(await runCli(["doctor", "--json", "--engine", "stub", "--port", String(port)], io, nothing)).toBe(1);
  server.close();
  const report = JSON.parse(io.outText);
  expect(report).toMatchObject({ schemaVersion: 1, nodeVersion: process.versions.node, isHealthy: false });
  expect(report.checks).toContainEqual(
    expect.objectContaining({
      name: "port",
      status: "fail",
      finding: `127.0.0.1:${port} cannot be used: in use`,
    }),
  );
  expect(report.checks).toContainEqual(expect.objectContaining({ name: "socket folder", status: "ok" }));
});

test("a configuration that cannot run is a finding, a wrong flag is wrong usage", async () => {
  const io = new FakeIo();
  expect(await runCli(["doctor", "--decode", "1"], io, nothing)).toBe(1);
  expect(io.outText).toContain(
    "fail  configuration  --decode: there are decode workers and nothing that prefills",
  );
  expect(await runCli(["doctor", "--port", "x"], io, nothing)).toBe(2);
});

test("this machine's memory and files are what they are", () => {
  expect(thisMachine.freeMemoryBytes).toBeGreaterThan(2 ** 20);
  expect(thisMachine.fileBytes("/no/such/file")).toBeNull();
  expect(thisMachine.fileBytes("/")).toBeNull();
});

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Recorder, temporaryFolder } from "../../../test/support/link-support.ts";
import { ManualTimers } from "../../../test/support/link-timers.ts";
import { ORPHAN_GRACE_MS } from "./child-side.ts";
import {
  type ChildReport,
  type ChildSpec,
  createSupervisor,
  type OutputLine,
  type Supervisor,
  type SupervisorOptions,
} from "./supervisor.ts";

let folder: ReturnType<typeof temporaryFolder>;
let supervisors: Supervisor[];

beforeEach(() => {
  folder = temporaryFolder();
  supervisors = [];
});

afterEach(async () => {
  await Promise.all(supervisors.map((supervisor) => supervisor.close()));
  folder.remove();
});

/** Writes a script into the temporary folder and returns its path. */
function script(name: string, text: string): string {
  const path = join(folder.path, name);
  writeFileSync(path, text);
  return path;
}

const READY = `process.send({ kind: "twofold-ready", payload: { pid: process.pid } });\n`;
const STAY = "setInterval(() => undefined, 60_000);\n";

function supervise(options: Partial<SupervisorOptions> = {}) {
  const reports = new Recorder<ChildReport>();
  const output = new Recorder<OutputLine>();
  const supervisor = createSupervisor({
    onReport: reports.add,
    onOutput: output.add,
    execArgv: [],
    random: () => 0,
    ...options,
  });
  supervisors.push(supervisor);
  const start = (text: string, overrides: Partial<ChildSpec> = {}) =>
    supervisor.start({ name: "w", args: [script("child.mjs", text)], env: () => ({}), ...overrides });
  const reached = (state: ChildReport["state"], count = 1) =>
    reports.until((items) => items.filter((report) => report.state === state).length >= count);
  return { supervisor, reports, output, start, reached };
}

describe("supervisor", { timeout: 20_000 }, () => {
  it("starts a child, hears that it is ready, forwards its output by line and stops it", async () => {
    const { start, reports, output, reached } = supervise();
    const child = start(`console.log("one\\ntwo"); console.error("three");${READY}${STAY}`);
    await reached("ready");
    const pid = child.pid;
    expect(reports.items.map((report) => report.state)).toEqual(["starting", "ready"]);
    expect(reports.items[1]).toMatchObject({ name: "w", pid, incarnation: 0, payload: { pid } });
    await output.atLeast(3);
    await child.stop();
    expect(output.items.filter((line) => line.stream === "stdout").map((line) => line.line)).toEqual([
      "one",
      "two",
    ]);
    expect(output.items.filter((line) => line.stream === "stderr").map((line) => line.line)).toEqual([
      "three",
    ]);
    expect(reports.items.at(-1)).toMatchObject({
      state: "stopped",
      pid: null,
      reason: "was ended by SIGTERM",
    });
    expect(() => process.kill(pid ?? 0, 0)).toThrow("ESRCH");
  });

  it("gives each start its own environment and keeps it out of the arguments", async () => {
    const { start, reports, reached } = supervise({ limits: { baseDelayMs: 1 } });
    start(
      `const { SECRET } = process.env;
       process.send({ kind: "twofold-ready", payload: { SECRET, argv: process.argv } }, () => process.exit(3));`,
      { env: (incarnation) => ({ SECRET: `secret-${incarnation}` }) },
    );
    await reached("ready", 2);
    const payloads = reports.items.flatMap((report) => (report.state === "ready" ? [report.payload] : []));
    expect(payloads.slice(0, 2)).toMatchObject([{ SECRET: "secret-0" }, { SECRET: "secret-1" }]);
    expect(JSON.stringify((payloads[0] as { argv: string[] }).argv)).not.toContain("secret-0");
  });

  it("restarts a crashed child with growing delays, gives up on a loop, and starts again when asked", async () => {
    const timers = new ManualTimers();
    const { start, reports, reached } = supervise({ timers });
    const child = start("process.exit(7);");
    const delays: number[] = [];
    for (let crash = 1; crash < 5; crash++) {
      await reached("backing-off", crash);
      const delayMs = 250 * 2 ** (crash - 1);
      timers.advance(delayMs - 1);
      expect(child.state).toBe("backing-off");
      timers.advance(1);
      expect(child.state).toBe("starting");
      delays.push(delayMs);
    }
    await reached("failed");
    expect(delays).toEqual([250, 500, 1000, 2000]);
    expect(reports.items.at(-1)?.reason).toBe("exited with code 7; no more restarts: 5 crashes within 60 s");
    expect(
      reports.items.filter((report) => report.state === "starting").map((report) => report.incarnation),
    ).toEqual([0, 1, 2, 3, 4]);
    expect(timers.size).toBe(0);
    child.restart();
    expect(child.state).toBe("starting");
    await reached("backing-off", 5);
  });

  it("restarts a child that was killed while it worked", async () => {
    const { start, reports, reached } = supervise({ limits: { baseDelayMs: 1 } });
    const child = start(`${READY}${STAY}`);
    await reached("ready");
    const first = child.pid ?? 0;
    process.kill(first, "SIGKILL");
    await reached("ready", 2);
    expect(child.pid).not.toBe(first);
    expect(reports.items.find((report) => report.state === "backing-off")?.reason).toContain(
      "was ended by SIGKILL",
    );
  });

  it("kills a child that is not ready in time", async () => {
    const timers = new ManualTimers();
    const { start, reports, output, reached } = supervise({ timers });
    start(`console.log("up");${STAY}`);
    await output.atLeast(1);
    timers.advance(60_000);
    await reached("backing-off");
    expect(reports.items.at(-1)?.reason).toContain("was not ready after 60000 ms");
  });

  it("kills a child that ignores the request to stop, however often it is asked", async () => {
    const timers = new ManualTimers();
    const { start, reports, output, reached } = supervise({ timers });
    const child = start(`process.on("SIGTERM", () => console.log("no"));${READY}${STAY}`);
    await reached("ready");
    const stops = [child.stop(), child.stop()];
    await output.atLeast(1);
    timers.advance(4999);
    expect(child.state).toBe("stopping");
    timers.advance(1);
    await Promise.all(stops);
    expect(reports.items.at(-1)).toMatchObject({ state: "stopped", reason: "was ended by SIGKILL" });
  });

  it("does not restart a child that was stopped while it waited for its restart", async () => {
    const timers = new ManualTimers();
    const { start, reached } = supervise({ timers });
    const child = start("process.exit(1);");
    await reached("backing-off");
    await child.stop();
    expect(child.state).toBe("stopped");
    expect(timers.size).toBe(0);
    await child.stop();
  });

  it("reports a process that cannot be started like a crash", async () => {
    const { start, reports, reached } = supervise({
      spawn: (_, args, options) => spawn(join(folder.path, "missing"), args, options),
    });
    start("");
    await reached("backing-off");
    expect(reports.items.at(-1)?.reason).toContain("could not be started: spawn");
  });

  it("bounds the length of forwarded lines", async () => {
    const { start, output } = supervise({ limits: { maxLineLength: 100 } });
    start(`console.log("x".repeat(5_000_000));${STAY}`);
    await output.atLeast(1);
    expect(output.items[0]?.line).toBe(`${"x".repeat(100)} … (4999900 characters more)`);
  });

  it("starts no second child of a name and none after it was closed", async () => {
    const { supervisor, start } = supervise();
    const child = start(STAY);
    expect(() => start(STAY)).toThrow("a child named w exists already");
    await supervisor.close();
    expect(child.state).toBe("stopped");
    expect(() => start(STAY, { name: "x" })).toThrow("has been closed");
    child.restart();
    expect(child.state).toBe("stopped");
  });
});

describe("children of a killed supervisor", { timeout: 20_000 }, () => {
  /** Runs TypeScript sources in a plain child process. */
  const LOADER = ["--import", pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href];
  const source = (file: string) =>
    JSON.stringify(pathToFileURL(fileURLToPath(new URL(file, import.meta.url))).href);

  /** A process that supervises `child.mjs`; the child holds a connection to the returned server while it lives. */
  async function startFamily(
    childText: string,
  ): Promise<{ parent: ChildProcess; child: Socket; lines: Recorder<string> }> {
    const lines = new Recorder<string>();
    const socketPath = join(folder.path, "alive.sock");
    const server = createServer();
    server.listen(socketPath);
    await once(server, "listening");
    const childPath = script("child.mjs", childText);
    const parentPath = script(
      "parent.mjs",
      `import { createSupervisor } from ${source("./supervisor.ts")};
       const say = (value) => console.log(JSON.stringify(value));
       createSupervisor({ onReport: (report) => say(report.state), onOutput: (output) => say(output.line) })
         .start({ name: "w", args: [${JSON.stringify(childPath)}], env: () => ({ SOCKET: ${JSON.stringify(socketPath)} }) });`,
    );
    const parent = spawn(process.execPath, [...LOADER, parentPath], { stdio: ["ignore", "pipe", "inherit"] });
    createInterface({ input: parent.stdout! }).on("line", (line) => lines.add(JSON.parse(line) as string));
    const [child] = (await once(server, "connection")) as [Socket];
    server.close();
    child.on("error", () => undefined).resume();
    return { parent, child, lines };
  }

  it("notice and end, after they have cleaned up", async () => {
    const { parent, child, lines } = await startFamily(
      `import { connect } from "node:net";
       import { exitWithParent, reportReady } from ${source("./child-side.ts")};
       const socket = connect(process.env.SOCKET, () => reportReady({}));
       exitWithParent(() => new Promise((resolve) => socket.write("cleaned up", resolve)));
       setInterval(() => undefined, 60_000);`,
    );
    await lines.until((items) => items.includes("ready"));
    const said = new Recorder<string>();
    child.on("data", (chunk: Buffer) => said.add(chunk.toString()));
    const gone = once(child, "close");
    parent.kill("SIGKILL");
    await gone;
    expect(said.items.join("")).toBe("cleaned up");
  });

  it("end even when the parent died before they looked, or their clean-up hangs", async () => {
    const { parent, child } = await startFamily(
      `import { connect } from "node:net";
       import { exitWithParent } from ${source("./child-side.ts")};
       const socket = connect(process.env.SOCKET, () => {
         // Long enough for the parent to be dead when the channel is looked at.
         Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
         exitWithParent(() => new Promise(() => undefined));
       });
       setInterval(() => undefined, 60_000);`,
    );
    const gone = once(child, "close");
    const killedAtMs = performance.now();
    parent.kill("SIGKILL");
    await gone;
    expect(performance.now() - killedAtMs).toBeGreaterThan(ORPHAN_GRACE_MS);
  });
});

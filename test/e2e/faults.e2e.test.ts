import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { complete } from "../support/completions.ts";
import { type ServerProcess, startServer, untilGone } from "../support/server-process.ts";
import { openStream } from "../support/sse-stream.ts";

const SLOW_STUB = [
  ...["--engine", "stub", "--stub-step-ms", "20", "--prefill", "1", "--decode", "1"],
  // Every prompt is handed over, so that there is something to lose.
  ...["--placement", "load"],
];
const LONG_REQUEST = {
  model: "stub",
  prompt: "one two three ".repeat(40),
  max_tokens: 500,
  ignore_eos: true,
};

let server: ServerProcess;
let settings: string | null = null;

/** The server of the test before, if it was started with the same settings and all has gone well since; else a new one. */
async function startUnlessRunning(args: readonly string[]): Promise<void> {
  if (settings === args.join(" ")) return;
  await stop();
  server = await startServer(args);
  settings = args.join(" ");
}

async function stop(): Promise<void> {
  if (settings !== null) await server.stop();
  settings = null;
}

afterEach(async ({ task }) => {
  if (task.result?.state === "fail") await stop();
});
afterAll(stop);

async function pidOf(role: string): Promise<number> {
  const workers = await server.untilWorkers(`a ready ${role} worker`, (seen) =>
    seen.some((worker) => worker.role === role && worker.state === "ready"),
  );
  return workers.find((worker) => worker.role === role && worker.state === "ready")!.pid!;
}

/** Together they kill a worker less often than the brake on restarts allows. */
describe("when a worker is killed", () => {
  beforeEach(() => startUnlessRunning(SLOW_STUB));

  it("ends a stream that had begun with the in-band error, and serves the next request", async () => {
    const stream = await openStream(`${server.url}/v1/completions`, LONG_REQUEST);
    expect((await stream.next()).choices).toHaveLength(1);
    process.kill(await pidOf("decode"), "SIGKILL");
    const rest = await stream.rest();
    expect(rest.at(-1)?.error?.code).toBe("worker_lost");
    expect(rest.some((event) => event.choices?.some((choice) => choice.finish_reason !== null))).toBe(false);
    expect(stream.sawDone).toBe(false);
    const next = await complete(server.url, { ...LONG_REQUEST, max_tokens: 4 });
    expect(next.error).toBeNull();
    expect(next.usage?.completion_tokens).toBe(4);
  });

  it("goes on decoding what had been handed over when the prefill worker dies", async () => {
    const stream = await openStream(`${server.url}/v1/completions`, { ...LONG_REQUEST, max_tokens: 60 });
    await stream.next();
    await stream.next();
    await stream.next();
    process.kill(await pidOf("prefill"), "SIGKILL");
    const rest = await stream.rest();
    expect(rest.at(-1)?.choices?.[0]?.finish_reason).toBe("length");
    expect(stream.sawDone).toBe(true);
  });

  it("ends and restarts a worker that stands still without dying", async () => {
    const pid = await pidOf("decode");
    process.kill(pid, "SIGSTOP");
    await server.untilWorkers("a new decode worker", (seen) =>
      seen.some((worker) => worker.role === "decode" && worker.state === "ready" && worker.pid !== pid),
    );
    await untilGone([pid]);
    expect((await complete(server.url, { ...LONG_REQUEST, max_tokens: 2 })).error).toBeNull();
  });

  it("lets running requests finish on SIGTERM and refuses new ones", async () => {
    const stream = await openStream(`${server.url}/v1/completions`, { ...LONG_REQUEST, max_tokens: 40 });
    await stream.next();
    const pids = (await server.workers()).map((worker) => worker.pid!);
    settings = null;
    const stopped = server.stop();
    const rest = await stream.rest();
    expect(rest.at(-1)?.choices?.[0]?.finish_reason).toBe("length");
    expect(await stopped).toBe(0);
    await untilGone(pids);
  });
});

describe("when a worker is killed before it has answered, and then the server", () => {
  beforeEach(() => startUnlessRunning([...SLOW_STUB, "--stub-prefill-ms-per-token", "10"]));

  it("places requests that have not begun on the worker that comes back", async () => {
    const pid = await pidOf("prefill");
    // Prompts that share nothing, so that each takes more than a second to prefill.
    const bodies = ["red", "blue", "green"].map((word) => ({
      ...LONG_REQUEST,
      prompt: `${word} ${LONG_REQUEST.prompt}`,
      temperature: 0,
      max_tokens: 3,
    }));
    const waiting = Promise.all(bodies.map((body) => complete(server.url, body)));
    await server.untilWorkers("work on the prefill worker", (seen) =>
      seen.some((worker) => worker.role === "prefill" && worker.numRunning + worker.numWaiting > 0),
    );
    process.kill(pid, "SIGKILL");
    const results = await waiting;
    const again = await Promise.all(bodies.map((body) => complete(server.url, body)));
    expect(results.map(({ error }) => error)).toEqual([null, null, null]);
    expect(results.map(({ text }) => text)).toEqual(again.map(({ text }) => text));
    expect(await pidOf("prefill")).not.toBe(pid);
  });

  it("leaves no worker behind after SIGKILL", async () => {
    const pids = (await server.workers()).map((worker) => worker.pid!);
    expect(pids).toHaveLength(2);
    settings = null;
    server.kill("SIGKILL");
    await untilGone([server.pid, ...pids]);
  });
});

describe("when a worker is killed again and again", () => {
  it("answers 503 with Retry-After, not an endless wait, while nothing can serve", async () => {
    await startUnlessRunning(SLOW_STUB);
    // A crash loop: killed whenever it comes up, until the brake stops the restarts.
    for (;;) {
      const seen = await server.workers();
      const decode = seen.find((worker) => worker.role === "decode")!;
      if (decode.state === "failed") break;
      if (decode.pid !== null) {
        try {
          process.kill(decode.pid, "SIGKILL");
        } catch {
          // It had ended already.
        }
        await untilGone([decode.pid]);
      }
    }
    const ready = await fetch(`${server.url}/readyz`);
    expect(ready.status).toBe(503);
    const live = await fetch(`${server.url}/livez`);
    expect(live.status).toBe(200);
    await stop();
  });
});

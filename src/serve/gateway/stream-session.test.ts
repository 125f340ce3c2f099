import { EventEmitter } from "node:events";
import type { ServerResponse } from "node:http";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { FakeFleet } from "../../../test/support/fake-fleet.ts";
import { FakeTokenizer } from "../../../test/support/fake-tokenizer.ts";
import { GREEDY } from "../../core/request.ts";
import type { ServingError } from "../../protocol/errors.ts";
import { createGatewayMetrics } from "../telemetry/metrics.ts";
import { TokenTexts } from "./detokenizer.ts";
import { FlushQueue } from "./flush-queue.ts";
import { StreamFraming } from "./framing.ts";
import { Generation } from "./generation.ts";
import { DEFAULT_LIMITS } from "./options.ts";
import { StreamSession } from "./stream-session.ts";

/** The part of a response that a stream uses, recording what it is told. */
class FakeResponse extends EventEmitter {
  written = "";
  isEnded = false;
  isDestroyed = false;
  headersSent = false;
  writableNeedDrain = false;
  failure: Error | null = null;
  write(text: string): boolean {
    if (this.failure !== null) throw this.failure;
    this.written += text;
    return true;
  }
  end(text: string): void {
    this.write(text);
    this.isEnded = true;
  }
  destroy(): void {
    this.isDestroyed = true;
  }
}

/** Streams turn by turn, with `flush` called by hand and the clock in the test's hand. */
function setUp() {
  const response = new FakeResponse();
  const fleet = new FakeFleet();
  const metrics = createGatewayMetrics({ inFlight: () => 0, workers: () => [], includeProcess: false });
  const troubles: ServingError[] = [];
  const session = new StreamSession({
    response: response as unknown as ServerResponse,
    sendHeaders: () => {
      response.headersSent = true;
    },
    framing: new StreamFraming(
      "completion",
      { id: "x", createdSeconds: 0, model: "m" },
      { numChoices: 1, includeUsage: false },
    ),
    includeUsage: false,
    continuousUsage: false,
    metrics,
    flushQueue: new FlushQueue(),
    limits: DEFAULT_LIMITS,
    onTrouble: (trouble) => troubles.push(trouble),
  });
  const generation = new Generation({
    fleet,
    metrics,
    promptTokens: [1],
    choices: [
      {
        request: {
          id: "r",
          epoch: 0,
          promptTokens: Int32Array.of(1),
          resumedTokens: new Int32Array(0),
          maxOutputTokens: 100,
          minOutputTokens: 0,
          ignoreEndOfGeneration: false,
          sampling: GREEDY,
          cacheSalt: "",
          priority: 0,
        },
        options: {
          index: 0,
          promptIndex: 0,
          texts: new TokenTexts(new FakeTokenizer()),
          stop: null,
          minTokens: 0,
          logprobs: null,
        },
      },
    ],
    arrivedAtMs: 0,
    deadlineMs: DEFAULT_LIMITS.generationMs,
    observer: session,
  });
  session.start(generation);
  return { response, metrics, session, troubles, request: fleet.submitted[0]! };
}

describe("StreamSession", () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setImmediate"] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  test("pings when nothing has moved for the whole interval, and not while output flows", () => {
    const { response, request, session } = setUp();
    request.place();
    vi.advanceTimersByTime(0);
    for (let i = 0; i < 5; i++) {
      vi.advanceTimersByTime(DEFAULT_LIMITS.pingIntervalMs - 1000);
      request.emitText("a");
      session.flush();
    }
    expect(response.written).not.toContain(": ping");
    vi.advanceTimersByTime(DEFAULT_LIMITS.pingIntervalMs - 1);
    expect(response.written).not.toContain(": ping");
    vi.advanceTimersByTime(1);
    expect(response.written.match(/: ping\n\n/g)).toHaveLength(1);
    vi.advanceTimersByTime(2 * DEFAULT_LIMITS.pingIntervalMs);
    expect(response.written.match(/: ping\n\n/g)).toHaveLength(3);
    session.close();
  });

  test("sends no ping into a socket that is full", () => {
    const { response, request, session, metrics } = setUp();
    request.place();
    vi.advanceTimersByTime(0);
    response.writableNeedDrain = true;
    vi.advanceTimersByTime(3 * DEFAULT_LIMITS.pingIntervalMs);
    expect(response.written).toBe("");
    expect(metrics.totals.pings).toBe(0);
    session.close();
  });

  test("forgives a slow reader that reads on in time", () => {
    const { response, request, session } = setUp();
    request.place();
    for (let i = 0; i < 3; i++) {
      response.writableNeedDrain = true;
      request.emitText("a");
      session.flush();
      vi.advanceTimersByTime(DEFAULT_LIMITS.slowReaderMs - 1);
      response.writableNeedDrain = false;
      response.emit("drain");
      vi.advanceTimersByTime(0);
    }
    expect(response.isDestroyed).toBe(false);
    expect(response.written.match(/"text":"a"/g)).toHaveLength(3);
    request.emitText("b");
    response.writableNeedDrain = true;
    session.flush();
    vi.advanceTimersByTime(DEFAULT_LIMITS.slowReaderMs);
    expect(response.isDestroyed).toBe(true);
    expect(request.isCancelled).toBe(true);
  });

  test("that breaks while writing ends its own request and leaves no timer", () => {
    const { response, request, session, troubles } = setUp();
    request.place().emitText("a");
    session.flush();
    response.failure = new Error("broken");
    request.emitText("b");
    session.flush();
    expect(troubles).toMatchObject([{ code: "internal_error", cause: response.failure }]);
    expect(request.isCancelled).toBe(true);
    expect(response.isDestroyed).toBe(true);
    vi.advanceTimersByTime(0);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("that is closed while it waits for its placement says so and leaves no timer", async () => {
    const { session, request } = setUp();
    session.close();
    request.finish();
    await expect(session.opened).rejects.toMatchObject({ code: "client_closed_request" });
    expect(vi.getTimerCount()).toBe(0);
  });
});

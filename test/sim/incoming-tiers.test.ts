import { describe, expect, it } from "vitest";
import type { HandoffMessage } from "../../src/core/handoff/messages.ts";
import type { Request } from "../../src/core/request.ts";
import { LoopFleet } from "../support/loop-fleet.ts";
import { makeRequest, tokenRange } from "../support/make.ts";
import { expectedOutput, NaiveWorker } from "../support/naive-worker.ts";

const NUM_TOKENS = 40;
const ask = (id: string, cacheSalt = "a", start = 1): Request =>
  makeRequest({ id, cacheSalt, prompt: tokenRange(start, NUM_TOKENS), maxOutputTokens: 3 });

/** Takes all of the device. */
const BETWEEN = makeRequest({ id: "between", prompt: tokenRange(500, 46), maxOutputTokens: 3 });

/** A prefill worker without tiers, and one that decodes on a small device above memory or a disk. */
function open(tier: "host" | "disk") {
  let failNext = false;
  const options = {
    numBlocks: 12,
    tiers: { tiers: [{ tier, maxBytes: 1000 }], eviction: "lru" },
    failsNext: () => {
      const fails = failNext;
      failNext = false;
      return fails;
    },
  } as const;
  const fleet = new LoopFleet(["p", "d"], options, () => 0);
  const decode = fleet.workers.get("d")!;
  /** Hands a request over; returns how many of its prompt's tokens were sent. */
  const handOver = (request: Request): number => {
    let numSent = 0;
    const receive = decode.loop.receive.bind(decode.loop);
    decode.loop.receive = (peer, message, nowMs, ms) => {
      if (message.kind === "kv") numSent += message.end - message.start;
      receive(peer, message, nowMs, ms);
    };
    fleet.split(request, "p", "d");
    fleet.finish();
    decode.loop.receive = receive;
    expect(fleet.outcomes.get(request.id)!.end).toBe("finished");
    expect(fleet.textOf(request)).toEqual(expectedOutput(request));
    fleet.expectBaseline();
    return numSent;
  };
  const prepare = (): void => {
    expect(handOver(ask("first"))).toBe(NUM_TOKENS);
    // Another prompt takes the decode worker's device.
    fleet.local(BETWEEN, "d");
    fleet.finish();
  };
  return {
    handOver,
    prepare,
    decode,
    failOnce: () => {
      failNext = true;
    },
  };
}

describe.each(["host", "disk"] as const)("a decode worker with KV in %s", (tier) => {
  it("is sent only what it does not bring up itself, for the tenant that it belongs to", () => {
    const { handOver, prepare, decode } = open(tier);
    prepare();
    expect(handOver(ask("foreign", "b"))).toBe(NUM_TOKENS);
    const hits = decode.tiers.stats[0]![1].hits;
    expect(handOver(ask("again"))).toBe(0);
    expect(decode.tiers.stats[0]![1].hits).toBe(hits + NUM_TOKENS / 4);
  });

  it("is sent everything where that is quicker than bringing it up", () => {
    const { handOver, prepare, decode } = open(tier);
    prepare();
    decode.tiers.rule.learn(tier, 100, 100);
    decode.tiers.rule.learn("link", 100, 10);
    expect(handOver(ask("again"))).toBe(NUM_TOKENS);
  });

  it("is sent everything when it can't read what it has", () => {
    const { handOver, prepare, failOnce, decode } = open(tier);
    prepare();
    failOnce();
    expect(handOver(ask("again"))).toBe(NUM_TOKENS);
    expect(decode.tiers.stats[0]![1].bad).toBe(1);
  });

  it("asks for everything when reading takes too long, and is not confused by what comes later", () => {
    const sent: HandoffMessage[] = [];
    const outbox = {
      send: (_: string, __: string, message: HandoffMessage) => sent.push(message),
      emit: () => {},
    };
    const worker = new NaiveWorker("d", outbox, {
      numBlocks: 12,
      tiers: { tiers: [{ tier, maxBytes: 1000 }], eviction: "lru" },
    });
    const runAll = (): void => {
      while (worker.runJob(0) || worker.io.length > 0) worker.io.shift()?.(0);
    };
    for (const request of [ask("first"), BETWEEN]) {
      worker.loop.submit(request, { kind: "local" }, 0);
      worker.settle();
      runAll();
    }
    worker.loop.submit(ask("again"), { kind: "decode", peer: "p" }, 0);
    worker.loop.receive("p", { kind: "reserve", requestId: "again", epoch: 0, numTokens: NUM_TOKENS }, 0);
    worker.settle();
    expect(worker.io).not.toHaveLength(0);
    expect(sent).toEqual([]);
    worker.check();
    const deadlineMs = worker.loop.nextDeadlineMs;
    expect(deadlineMs).toBe(10_000);
    worker.loop.tick(deadlineMs);
    worker.settle();
    expect(sent).toEqual([{ kind: "grant", requestId: "again", epoch: 0, cachedTokens: 0 }]);
    runAll();
    worker.check();
    worker.loop.cancel("again", 0, deadlineMs);
    worker.settle();
    runAll();
    worker.check();
    expect(worker.blocks.numUsedBlocks).toBe(0);
    expect(worker.loop.numRequests).toBe(0);
  });
});

import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FakeIo } from "../../test/support/cli-io.ts";
import { type GatewayUnderTest, makeGateway } from "../../test/support/gateway-harness.ts";
import { makeRequest } from "../../test/support/make.ts";
import type { PlacementDecision } from "../core/router/placement.ts";
import { createAuthenticator, hashApiKey } from "../serve/gateway/api-keys.ts";
import { runCli } from "./program.ts";

const nothing = {
  startServing: () => Promise.reject(new Error("not part of this test")),
  runWorker: () => Promise.reject(new Error("not part of this test")),
};

const DECISION: PlacementDecision = {
  prefillWorker: "p2",
  decodeWorker: "d1",
  reason: "cheapest",
  fetch: { from: "p1", numTokens: 128 },
  candidates: [
    {
      prefillWorker: "p2",
      decodeWorker: "d1",
      fetch: { from: "p1", numTokens: 128 },
      terms: { queue: 0.25, prefill: 0.123456 },
      cost: 0.373456,
    },
    {
      prefillWorker: "p1",
      decodeWorker: "d1",
      fetch: null,
      terms: { queue: Number.POSITIVE_INFINITY, handoff: 1 },
      cost: Number.POSITIVE_INFINITY,
    },
  ],
};

const KEYS = ["alice", "bob"].map((name) => ({ name, sha256: hashApiKey(`${name}-0123456789abcdef`) }));
const CACHE_SECRET = Buffer.alloc(32, 7);
const saltOf = (tenant: string) =>
  createAuthenticator(KEYS, CACHE_SECRET).authenticate(`Bearer ${tenant}-0123456789abcdef`)!.cacheSalt;

let under: GatewayUnderTest;
let url: string;

beforeEach(async () => {
  under = await makeGateway({ apiKeys: KEYS, cacheSecret: CACHE_SECRET });
  ({ url } = await under.gateway.listen());
});

afterEach(() => under.gateway.close());

async function explain(id: string, tenant: string, ...args: string[]) {
  const io = new FakeIo({ env: { TWOFOLD_API_KEY: `${tenant}-0123456789abcdef` } });
  const code = await runCli(["explain", id, "--url", url, ...args], io, nothing);
  return { code, out: io.outText, err: io.errText };
}

function keep(id: string, tenant: string, ...decisions: PlacementDecision[]): void {
  const { decisions: log } = under.fleet;
  log.submitted(makeRequest({ id, prompt: new Array(200).fill(1), cacheSalt: saltOf(tenant) }));
  for (const [i, decision] of decisions.entries()) log.placed(id, decision, Date.UTC(2026, 0, 1, 0, 0, i));
  log.cached(id, 128);
}

describe("twofold explain", () => {
  it("shows every candidate with its terms, the winner first", async () => {
    keep("tf-1", "alice", DECISION);
    const { code, out, err } = await explain("tf-1", "alice");
    expect(err).toBe("");
    expect(code).toBe(0);
    expect(out).toBe(`request   tf-1
policy    load
tokens    200 in, 128 of them from a cache; up to 16 out
placed    2026-01-01T00:00:00.000Z prefill on p2, decode on d1: cheapest
          fetches 128 tokens from p1

   prefill  decode  fetch           queue  prefill  handoff      cost
→  p2       d1      128 from p1      0.25   0.1235             0.3735
   p1       d1                   Infinity                 1  Infinity
`);
  });

  it("shows every attempt, also of a policy without figures, and requests that wait", async () => {
    const local = { prefillWorker: "d1", decodeWorker: "d1", reason: "short_prompt" } as const;
    keep("tf-2-0", "alice", local, { ...local, decodeWorker: "d2", prefillWorker: "d2" });
    keep("tf-2-1", "alice");
    const { out } = await explain("tf-2", "alice");
    expect(out).toContain("request   tf-2-0");
    expect(out).toContain("attempt 1 2026-01-01T00:00:00.000Z on d1: short_prompt");
    expect(out).toContain("attempt 2 2026-01-01T00:00:01.000Z on d2: short_prompt");
    expect(out).toContain("the policy weighs nothing in figures");
    expect(out).toContain("not yet");
  });

  it("prints all figures as JSON", async () => {
    keep("tf-3", "alice", DECISION);
    const { out } = await explain("tf-3", "alice", "--json");
    const [request] = JSON.parse(out).requests;
    expect(request).toMatchObject({ requestId: "tf-3", policy: "load", numCachedTokens: 128 });
    expect(request.attempts[0].decision.candidates[0]).toMatchObject({ cost: 0.373456 });
  });

  it("tells a tenant nothing of another one's requests", async () => {
    keep("tf-4", "alice", DECISION);
    const { code, out, err } = await explain("tf-4", "bob");
    expect(code).toBe(1);
    expect(out).toBe("");
    expect(err).toContain("No decision on the request is kept");
    expect(err).toBe((await explain("tf-unknown", "bob")).err);
    expect((await explain("tf-4", "mallory")).err).toContain("API key");
  });

  it("says when there is no server", async () => {
    const io = new FakeIo();
    expect(await runCli(["explain", "x", "--url", "http://127.0.0.1:1"], io, nothing)).toBe(1);
    expect(io.errText).toContain("cannot reach http://127.0.0.1:1");
    expect(await runCli(["explain", "x", "--url", "nowhere"], io, nothing)).toBe(2);
  });
});

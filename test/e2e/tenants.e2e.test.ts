import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hashApiKey } from "../../src/serve/gateway/api-keys.ts";
import { type ServerProcess, startServer } from "../support/server-process.ts";
import { TempFiles } from "../support/temp-files.ts";

const PUBLIC = "You are the assistant of a public library, and you answer in one short sentence. ".repeat(8);
const TENANTS = ["ann", "bob", "eve"];
const BLOCK_TOKENS = 16;

const fleetFile = `
engine: stub
contextTokens: 4096
kvTokensPerWorker: 16384
workers:
  - { role: prefill, count: 1 }
  - { role: decode, count: 1 }
placement: { localPrefillBelowTokens: 0 }
gateway:
  port: 0
  keys:
${TENANTS.map((tenant) => `    - { tenant: ${tenant}, sha256: ${hashApiKey(`key-of-${tenant}`)} }`).join("\n")}
  tenants:
    - { name: eve, cacheShare: 0 }
  publicPrefixes:
    - { file: public.txt }
`;

describe("tenants of a fleet with public prefixes", () => {
  const files = new TempFiles();
  let server: ServerProcess;
  beforeAll(async () => {
    files.write("public.txt", PUBLIC);
    server = await startServer([files.write("fleet.yaml", fleetFile)]);
  });
  afterAll(async () => {
    await server.stop();
    files.remove();
  });

  /** Prompt tokens of a conversation, and how many of them came from a cache. */
  async function ask(tenant: string, ...contents: string[]): Promise<{ prompt: number; cached: number }> {
    const messages = contents.map((content, i) => ({
      role: i === 0 ? "system" : i % 2 === 1 ? "user" : "assistant",
      content,
    }));
    const response = await fetch(`${server.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer key-of-${tenant}`, "content-type": "application/json" },
      body: JSON.stringify({ messages, max_tokens: 4 }),
    });
    expect(response.status).toBe(200);
    const { usage } = (await response.json()) as {
      usage: { prompt_tokens: number; prompt_tokens_details: { cached_tokens: number } };
    };
    return { prompt: usage.prompt_tokens, cached: usage.prompt_tokens_details.cached_tokens };
  }

  const isAlmostAll = ({ prompt, cached }: { prompt: number; cached: number }) =>
    cached > 0 && prompt - cached <= 2 * BLOCK_TOKENS;

  it("find their own conversations and nobody else's", async () => {
    const text = "A private matter, told at some length so that it fills several blocks. ".repeat(10);
    expect((await ask("ann", text, "What now?")).cached).toBe(0);
    expect((await ask("bob", text, "What now?")).cached).toBe(0);
    expect(await ask("ann", text, "What now?")).toSatisfy(isAlmostAll);
    const next = await ask("ann", text, "What now?", "Nothing.", "And then?");
    expect(next.cached).toBeGreaterThan(next.prompt / 2);
  });

  it("share what is public, and not what follows it", async () => {
    const question = "A long question about a book that I have been looking for. ".repeat(10);
    expect((await ask("ann", PUBLIC, question)).cached).toBe(0);
    const own = await ask("ann", PUBLIC, question);
    expect(own).toSatisfy(isAlmostAll);
    const shared = await ask("bob", PUBLIC, question);
    expect(shared.cached).toBeGreaterThan(PUBLIC.length / 20);
    expect(shared.cached).toBeLessThan(own.cached - 5 * BLOCK_TOKENS);
    expect((await ask("bob", `${PUBLIC} `, "Hello")).cached).toBeLessThanOrEqual(shared.cached);
  });

  it("leave behind no more than their share", async () => {
    const text = "Something that nobody wants to keep, whatever else may be in the cache. ".repeat(10);
    for (let i = 0; i < 2; i++) expect((await ask("eve", text, "What now?")).cached).toBe(0);
  });
});

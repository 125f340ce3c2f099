import { createHmac } from "node:crypto";
import { describe, expect, test } from "vitest";
import { makeGateway } from "../../../test/support/gateway-harness.ts";
import { createAuthenticator, hashApiKey } from "./api-keys.ts";
import { GatewayConfigError, isLoopbackHost } from "./options.ts";

describe("a configuration", () => {
  test.each(["0.0.0.0", "::", "192.168.1.5", "example.com"])(
    "that binds %s without keys is refused",
    async (host) => {
      await expect(makeGateway({ host })).rejects.toThrow(/Refusing to listen on .* without API keys/);
    },
  );

  test("that binds wider with a key is accepted", async () => {
    const { gateway } = await makeGateway({
      host: "0.0.0.0",
      apiKeys: [{ name: "a", sha256: hashApiKey("k") }],
    });
    const answer = await gateway.app.inject({ url: "/v1/models", headers: { host: "example.com" } });
    expect(answer.statusCode).toBe(401);
    await gateway.close();
  });

  test("with a short secret, a bad hash or a limit out of range is refused", async () => {
    await expect(makeGateway({ cacheSecret: Buffer.alloc(8) })).rejects.toThrow(GatewayConfigError);
    await expect(makeGateway({ apiKeys: [{ name: "a", sha256: "xyz" }] })).rejects.toThrow(/64 hexadecimal/);
    await expect(makeGateway({ limits: { bodyBytes: 0 } })).rejects.toThrow(/bodyBytes/);
    await expect(makeGateway({ limits: { generationMs: 2 ** 31 } })).rejects.toThrow(/generationMs/);
  });

  test("with a port that is taken fails with advice", async () => {
    const first = await makeGateway();
    const { url } = await first.gateway.listen();
    const second = await makeGateway({ port: Number(new URL(url).port) });
    await expect(second.gateway.listen()).rejects.toThrow(
      /already in use; stop the other program or choose another port/,
    );
    await first.gateway.close();
    await second.gateway.close();
  });
});

test("loopback addresses are known in all their forms", () => {
  expect(["localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"].map(isLoopbackHost)).toEqual([
    true,
    true,
    true,
    true,
    true,
  ]);
  expect(["0.0.0.0", "::", "127.evil.com", "10.0.0.1", ""].map(isLoopbackHost)).toEqual([
    false,
    false,
    false,
    false,
    false,
  ]);
});

describe("API keys", () => {
  const secret = Buffer.alloc(32, 1);
  const keys = [
    { name: "ann", sha256: hashApiKey("key-a") },
    { name: "ann", sha256: hashApiKey("key-b") },
    { name: "bob", sha256: hashApiKey("key-c") },
  ];

  test("name the tenant, whose salt depends on name and secret alone", () => {
    const { authenticate } = createAuthenticator(keys, secret);
    const expected = createHmac("sha256", secret).update("ann").digest("hex");
    expect(authenticate("Bearer key-a")).toEqual({ name: "ann", cacheSalt: expected, cacheShare: 1 });
    expect(authenticate("bearer  key-b")?.cacheSalt).toBe(expected);
    expect(authenticate("Bearer key-c")?.cacheSalt).not.toBe(expected);
    expect(createAuthenticator(keys, Buffer.alloc(32, 2)).authenticate("Bearer key-a")?.cacheSalt).not.toBe(
      expected,
    );
  });

  test.each([
    undefined,
    "",
    "Bearer",
    "Bearer ",
    "Basic key-a",
    "key-a",
    "Bearer key-a extra",
    "Bearer KEY-A",
  ])("%j lets nobody in", (header) => {
    expect(createAuthenticator(keys, secret).authenticate(header)).toBeNull();
  });

  test("without keys everybody is one tenant", () => {
    const { authenticate } = createAuthenticator([], secret);
    expect(authenticate(undefined)).toEqual(authenticate("Bearer whatever"));
    expect(authenticate(undefined)?.name).toBe("default");
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AddressError, formatAddress, isLoopback, MAX_UNIX_PATH_BYTES, parseAddress } from "./address.ts";

describe("address", () => {
  it("reads unix paths, host names, IPv4 and bracketed IPv6", () => {
    expect(parseAddress("unix:/run/twofold/w0.sock")).toEqual({ kind: "unix", path: "/run/twofold/w0.sock" });
    expect(parseAddress("tcp:node-7.example.org:9000")).toEqual({
      kind: "tcp",
      host: "node-7.example.org",
      port: 9000,
    });
    expect(parseAddress("tcp:10.0.0.7:0")).toEqual({ kind: "tcp", host: "10.0.0.7", port: 0 });
    expect(parseAddress("tcp:[fe80::1]:80")).toEqual({ kind: "tcp", host: "fe80::1", port: 80 });
  });

  it("formats what it reads back unchanged", () => {
    const host = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain());
    const path = fc.stringMatching(/^\/[a-zA-Z0-9 ä:_.-]{1,50}$/);
    const address = fc.oneof(
      fc.record({ kind: fc.constant("tcp" as const), host, port: fc.nat(65_535) }),
      fc.record({ kind: fc.constant("unix" as const), path }),
    );
    fc.assert(
      fc.property(address, (value) => {
        expect(parseAddress(formatAddress(value))).toEqual(value);
      }),
    );
  });

  it.each([
    ["", "neither unix"],
    ["http://x", "neither unix"],
    ["unix:relative.sock", "must start with /"],
    ["unix:/a\0b", "NUL"],
    ["tcp:host", "not tcp:host:port"],
    ["tcp:host:", "not tcp:host:port"],
    ["tcp:host:70000", "above 65535"],
    ["tcp:::1:80", "IPv6 in brackets"],
    ["tcp:[1.2.3.4]:80", "not an IPv6 address"],
    ["tcp::80", "not a host name"],
    ["tcp:300.1.1.1:80", "not a host name"],
    ["tcp:a b:80", "not a host name"],
  ])("refuses %j and says why", (text, reason) => {
    expect(() => parseAddress(text)).toThrow(AddressError);
    expect(() => parseAddress(text)).toThrow(reason);
  });

  it("takes the longest path that the system takes and counts bytes, not characters", () => {
    const longest = `/${"a".repeat(MAX_UNIX_PATH_BYTES - 1)}`;
    expect(parseAddress(`unix:${longest}`)).toEqual({ kind: "unix", path: longest });
    expect(() => parseAddress(`unix:${longest}a`)).toThrow("has 108 bytes; the system allows 107");
    expect(() => parseAddress(`unix:/${"ä".repeat(60)}`)).toThrow("has 121 bytes");
  });

  it("knows which addresses stay on this machine", () => {
    const local = [
      "unix:/x",
      "tcp:localhost:1",
      "tcp:127.0.0.1:1",
      "tcp:127.9.8.7:1",
      "tcp:[::1]:1",
      "tcp:[::ffff:127.0.0.1]:1",
    ];
    const remote = [
      "tcp:0.0.0.0:1",
      "tcp:[::]:1",
      "tcp:10.0.0.1:1",
      "tcp:example.org:1",
      "tcp:localhost.example.org:1",
    ];
    for (const text of local) expect(isLoopback(parseAddress(text)), text).toBe(true);
    for (const text of remote) expect(isLoopback(parseAddress(text)), text).toBe(false);
  });
});

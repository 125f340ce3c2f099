import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { temporaryFolder } from "../../../test/support/link-support.ts";
import { decodeLogHeader, decodeLogLine } from "../../protocol/dispatch-log.ts";
import { DispatchRecord, DispatchRecordError } from "./dispatch-record.ts";
import { createLogger, type Logger } from "./logger.ts";

const HEADER = {
  twofoldVersion: "1.2.3",
  world: "server" as const,
  policy: { name: "load", options: { localPrefillBelowTokens: 16 } },
  dispatcher: { maxRequests: 10, maxWaitMs: 1000, maxAttempts: 3 },
  blockSizeTokens: 16,
};

let folder: ReturnType<typeof temporaryFolder>;
let path: string;
let logger: Logger;
let warnings: string[];

beforeEach(() => {
  folder = temporaryFolder();
  path = join(folder.path, "log.jsonl");
  warnings = [];
  const destination = new PassThrough();
  destination.on("data", (chunk: Buffer) => warnings.push(chunk.toString()));
  logger = createLogger({ level: "warn", destination });
});

afterEach(() => folder.remove());

function lines(): string[] {
  return readFileSync(path, "utf8").trimEnd().split("\n");
}

async function begin(limits: { fileBytes?: number; pendingBytes?: number } = {}, at = path) {
  const record = await DispatchRecord.open(at, HEADER, { logger, ...limits });
  record.start();
  return record;
}

describe("DispatchRecord", () => {
  it("touches nothing before it is started", async () => {
    const fresh = await DispatchRecord.open(path, HEADER, { logger });
    fresh.add({ kind: "tick", nowMs: 1 });
    await fresh.close();
    expect(existsSync(path)).toBe(false);
    writeFileSync(path, "an earlier record");
    const record = await DispatchRecord.open(path, HEADER, { logger });
    await record.close();
    expect(readFileSync(path, "utf8")).toBe("an earlier record");
    await (await begin()).close();
    expect(lines()).toHaveLength(2);
  });

  it("writes a header, every entry and an end", async () => {
    const record = await begin();
    for (let nowMs = 0; nowMs < 1000; nowMs++) record.add({ kind: "tick", nowMs });
    await record.close();
    const [first, ...rest] = lines();
    expect(decodeLogHeader(first!)).toEqual(HEADER);
    expect(rest).toHaveLength(1001);
    expect(decodeLogLine(rest[7]!)).toEqual({ kind: "tick", nowMs: 7 });
    expect(decodeLogLine(rest[1000]!)).toEqual({ kind: "end", reason: "stopped" });
    expect(warnings).toEqual([]);
  });

  it("is for this user alone, also in place of a file that others could read", async () => {
    writeFileSync(path, "old", { mode: 0o644 });
    const record = await begin();
    await record.close();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(decodeLogHeader(lines()[0]!)).toEqual(HEADER);
  });

  it("stops at its bound with an end and one warning", async () => {
    const record = await begin({ fileBytes: 1000 });
    for (let nowMs = 0; nowMs < 1000; nowMs++) record.add({ kind: "tick", nowMs });
    await record.close();
    expect(lines().join("\n").length).toBeLessThan(1100);
    expect(decodeLogLine(lines().at(-1)!)).toEqual({ kind: "end", reason: "full" });
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain("the record is full");
  });

  it("gives up with one warning when the disk does not keep up", async () => {
    const record = await begin({ pendingBytes: 500 });
    for (let nowMs = 0; nowMs < 1000; nowMs++) record.add({ kind: "tick", nowMs });
    await record.close();
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain("does not keep up");
  });

  // Only Linux has a device that is always full.
  it.skipIf(!existsSync("/dev/full"))("gives up with one warning when the disk is full", async () => {
    const record = await begin({}, "/dev/full");
    record.add({ kind: "tick", nowMs: 1 });
    await record.close();
    record.add({ kind: "tick", nowMs: 2 });
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain("ENOSPC");
  });

  it("says at the start that a file can't be written", async () => {
    const begun = DispatchRecord.open(join(folder.path, "no/such/folder"), HEADER, { logger });
    await expect(begun).rejects.toThrow(DispatchRecordError);
    await expect(begun).rejects.toThrow("--record");
  });
});

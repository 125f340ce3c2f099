import { appendFileSync, readdirSync, readFileSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { TempFiles } from "../../../test/support/temp-files.ts";
import { type Segment, segmentOf } from "../../core/kv/tiers/segment.ts";
import { DiskStore } from "./disk-store.ts";
import { fingerprintOf } from "./segment-file.ts";
import { openTierFolder, type TierFiles } from "./tier-files.ts";

const FACTS = { modelId: "m", kvType: "q8", blockSizeTokens: 16 };
const identity = { fingerprint: fingerprintOf(FACTS), key: Buffer.alloc(32, 1) };
const chain = Int32Array.from({ length: 40 }, (_, i) => i * 0x1234567);
const segment = segmentOf(1, chain, 0, 4);
const next = segmentOf(2, chain, 4, 6);
const payload = Uint8Array.from({ length: 1000 }, (_, i) => i);

let temp: TempFiles;
beforeEach(() => {
  temp = new TempFiles();
});
afterEach(() => temp.remove());

async function open(overrides: Partial<ConstructorParameters<typeof DiskStore>[0]> = {}) {
  const reasons: string[] = [];
  const store = new DiskStore({
    files: await openTierFolder(temp.folder),
    identity,
    onOff: (reason) => reasons.push(reason),
    ...overrides,
  });
  return { store, reasons };
}

const names = (): string[] => readdirSync(temp.folder).toSorted();

/** Writes two segments, lets something be done to their files, and reads them with a store that was opened later. */
async function afterwards(damage: (paths: readonly string[]) => void) {
  const { store } = await open();
  for (const written of [segment, next]) expect(await store.write(written, payload)).toBeGreaterThan(1000);
  await store.close();
  damage(names().map((name) => join(temp.folder, name)));
  return (await open()).store;
}

/** A folder in which a kind of call fails. */
function failing(files: TierFiles, call: "write" | "list" | "read", code: string): TierFiles {
  const fail = () => Promise.reject(Object.assign(new Error(`${code}: no`), { code }));
  return {
    list: () => files.list(),
    readHead: (name, maxBytes) => files.readHead(name, maxBytes),
    read: (name) => files.read(name),
    write: (name, parts) => files.write(name, parts),
    remove: (name) => files.remove(name),
    [call]: fail,
  };
}

async function bytesOf(store: DiskStore, of: Segment): Promise<Uint8Array> {
  const read = await store.read(of);
  if (typeof read === "string") throw new Error(`the segment is ${read}`);
  return new Uint8Array(read);
}

describe("DiskStore", () => {
  it("gives back what was written, also to a later process", async () => {
    const store = await afterwards(() => {});
    const { found, numBad } = await store.scan();
    expect(numBad).toBe(0);
    expect(found.map((file) => file.segment)).toEqual([segment, next]);
    expect(found.map(({ bytes }) => bytes)).toEqual(
      [4, 2].map((blocks) => 24 + 64 + 16 * (blocks + 1) + 32 + 1000),
    );
    expect(await bytesOf(store, segment)).toEqual(payload);
    expect(await bytesOf(store, next)).toEqual(payload);
  });

  it("finds files in the order in which they were written", async () => {
    const store = await afterwards((paths) => {
      paths.forEach((path, i) => {
        utimesSync(path, 1000 - i, 1000 - i);
      });
    });
    const { found } = await store.scan();
    expect(found.map((file) => file.segment.id)).toEqual([2, 1].toSorted((a, b) => order(b) - order(a)));
    function order(id: number): number {
      return names().findIndex((name) => name.endsWith(`-${id}.kv`));
    }
  });

  it("forgets what is deleted, after the writes that were asked for before", async () => {
    const { store } = await open();
    const written = store.write(segment, payload);
    store.delete(segment);
    await written;
    await store.close();
    expect(names()).toEqual([]);
    expect(await store.read(segment)).toBe("bad");
  });

  const damages: Array<[string, (path: string) => void]> = [
    ["cut off", (path) => truncateSync(path, 700)],
    ["cut off within the header", (path) => truncateSync(path, 50)],
    ["empty", (path) => truncateSync(path, 0)],
    ["longer than it was", (path) => appendFileSync(path, "x")],
    [
      "something else",
      (path) => writeFileSync(path, "not a segment, but as long as anybody could want it to be"),
    ],
  ];
  it.each(damages)("deletes a file that is %s, and counts it", async (_, damage) => {
    const store = await afterwards((paths) => damage(paths[0]!));
    const { found, numBad } = await store.scan();
    expect([found.length, numBad]).toEqual([1, 1]);
    expect(names()).toHaveLength(1);
  });

  it("believes no header of which a single byte was changed", async () => {
    const store = await afterwards(() => {});
    const [name] = names();
    const path = join(temp.folder, name!);
    const whole = readFileSync(path);
    const id = Number.parseInt(name!.split("-")[1]!, 36);
    const blocks = id === 1 ? 4 : 2;
    for (let at = 0; at < 24 + 64 + 16 * (blocks + 1) + 32; at++) {
      const changed = Buffer.from(whole);
      changed[at]! ^= 0x10;
      writeFileSync(path, changed);
      expect(await store.read(id === 1 ? segment : next), `byte ${at}`).toBe("bad");
    }
    expect((await store.scan()).numBad).toBe(1);
  });

  it("gives no payload of which a byte was changed, although the header is right", async () => {
    const store = await afterwards((paths) => {
      for (const path of paths) {
        const bytes = readFileSync(path);
        bytes[bytes.length - 3]! ^= 1;
        writeFileSync(path, bytes);
      }
    });
    expect((await store.scan()).numBad).toBe(0);
    expect(await store.read(segment)).toBe("bad");
  });

  it("takes no file of another segment in place of its own", async () => {
    const store = await afterwards(([a, b]) => {
      const bytes = readFileSync(a!);
      writeFileSync(a!, readFileSync(b!));
      writeFileSync(b!, bytes);
    });
    expect(await store.read(segment)).toBe("bad");
    expect((await store.scan()).numBad).toBe(2);
    expect(names()).toEqual([]);
  });

  it.each([
    ["model", { ...identity, fingerprint: fingerprintOf({ ...FACTS, modelId: "other" }) }],
    ["KV type", { ...identity, fingerprint: fingerprintOf({ ...FACTS, kvType: "f16" }) }],
    ["block size", { ...identity, fingerprint: fingerprintOf({ ...FACTS, blockSizeTokens: 32 }) }],
    ["fleet", { ...identity, key: Buffer.alloc(32, 2) }],
  ])("deletes files of another %s", async (_, other) => {
    await (await open()).store.write(segment, payload);
    const { store } = await open({ identity: other });
    expect(await store.read(segment)).toBe("bad");
    expect((await store.scan()).numBad).toBe(1);
    expect(names()).toEqual([]);
  });

  it("deletes what was being written when a process ended, and leaves strangers' files alone", async () => {
    const store = await afterwards(([path]) => {
      writeFileSync(`${path}.tmp`, "half");
      writeFileSync(join(temp.folder, "notes.txt"), "mine");
    });
    expect((await store.scan()).numBad).toBe(0);
    expect(names()).toHaveLength(3);
    expect(names()).toContain("notes.txt");
  });

  it.each([
    ["ENOSPC", "no space is left (ENOSPC)"],
    ["EROFS", "it can't be written to (EROFS)"],
    ["EACCES", "it can't be written to (EACCES)"],
    ["EIO", "EIO: no"],
  ])("is off after a write failed with %s, and says so once", async (code, reason) => {
    const files = await openTierFolder(temp.folder);
    await (await open()).store.write(segment, payload);
    const { store, reasons } = await open({ files: failing(files, "write", code) });
    const others: Segment[] = [3, 4, 5].map((id) => segmentOf(id, chain, 6, 8));
    expect(await Promise.all(others.map((other) => store.write(other, payload)))).toEqual([null, null, null]);
    expect(reasons).toEqual([reason]);
    expect(await store.read(segment)).toBe("bad");
    store.delete(segment);
    await store.close();
    expect(names()).toHaveLength(1);
  });

  it("says of a segment that it can't read now, and gives it when it can", async () => {
    const files = await openTierFolder(temp.folder);
    await (await open()).store.write(segment, payload);
    const { store: crowded } = await open({ files: failing(files, "read", "EMFILE") });
    expect(await crowded.read(segment)).toBe("busy");
    let letGo = (): void => {};
    const gate = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    const read = async (name: string): Promise<Buffer> => {
      await gate;
      return files.read(name);
    };
    const { store } = await open({
      files: {
        list: () => files.list(),
        readHead: (name, maxBytes) => files.readHead(name, maxBytes),
        write: (name, parts) => files.write(name, parts),
        remove: (name) => files.remove(name),
        read,
      },
    });
    // Four are read at a time, and 4096 wait.
    const reads = Array.from({ length: 4100 }, () => store.read(segment));
    expect(await store.read(segment)).toBe("busy");
    letGo();
    for (const outcome of await Promise.all(reads)) expect(outcome).toBeInstanceOf(Uint8Array);
  });

  it("has nothing to give when a file can't be read", async () => {
    const files = await openTierFolder(temp.folder);
    const { store } = await open({ files: failing(files, "read", "EIO") });
    await store.write(segment, payload);
    expect(await store.read(segment)).toBe("bad");
  });
});

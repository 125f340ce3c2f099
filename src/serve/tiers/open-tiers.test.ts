import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { makeRequest, tokenRange } from "../../../test/support/make.ts";
import { SoloWorker } from "../../../test/support/solo-worker.ts";
import { TempFiles } from "../../../test/support/temp-files.ts";
import { StubEngine } from "../engine/stub/stub-engine.ts";
import { openTierFolder } from "./tier-files.ts";

let temp: TempFiles;
beforeEach(() => {
  temp = new TempFiles();
});
afterEach(() => temp.remove());

const start = (diskPath: string, key?: Buffer): Promise<SoloWorker> =>
  SoloWorker.start(new StubEngine({ kvCapacityTokens: 512 }), { tiers: { diskPath, diskFolder: "w" } }, key);

let numRequests = 0;
const ask = (worker: SoloWorker, cacheSalt = "a") =>
  worker.run(
    makeRequest({ id: `r${numRequests++}`, prompt: tokenRange(10, 200), maxOutputTokens: 4, cacheSalt }),
  );

describe("a worker's tiers", () => {
  it("give a restarted worker what the one before it had, for the same tenant only", async () => {
    const first = await start(temp.folder);
    const { tokens } = await ask(first);
    await first.stop();
    const second = await start(temp.folder);
    expect((await ask(second, "b")).numCached).toBe(0);
    expect(await ask(second)).toEqual({ tokens, numCached: 192, end: "finished" });
    await second.stop();
  });

  it("compute what is damaged while the worker runs, and count it", async () => {
    const first = await start(temp.folder);
    const { tokens } = await ask(first);
    await first.stop();
    for (const name of readdirSync(join(temp.folder, "w"))) {
      const path = join(temp.folder, "w", name);
      const bytes = readFileSync(path);
      bytes[bytes.length - 1]! ^= 1;
      writeFileSync(path, bytes);
    }
    const second = await start(temp.folder);
    expect(await ask(second)).toEqual({ tokens, numCached: 0, end: "finished" });
    expect(second.load.tiers.disk).toMatchObject({ bad: 1 });
    second.check();
    await second.stop();
  });

  it("do not read what another fleet wrote", async () => {
    const first = await start(temp.folder);
    await ask(first);
    await first.stop();
    const second = await start(temp.folder, Buffer.alloc(32, 99));
    expect((await ask(second)).numCached).toBe(0);
    expect(second.load.tiers.disk).toMatchObject({ bad: 1 });
    await second.stop();
  });

  it("are without the disk, after one warning, when the folder can't be used", async () => {
    const path = temp.write("file", "not a folder");
    const worker = await start(path);
    expect((await ask(worker)).end).toBe("finished");
    expect(worker.warnings).toHaveLength(1);
    expect(worker.warnings[0]).toMatch(/is off until the worker starts again/);
    expect(worker.load.tiers).toEqual({});
    await worker.stop();
  });

  it("take from others what they may do in a folder that was there", async () => {
    const path = join(temp.folder, "w");
    mkdirSync(path);
    chmodSync(path, 0o777);
    const worker = await start(temp.folder);
    expect(worker.warnings).toEqual([]);
    expect(statSync(path).mode & 0o777).toBe(0o700);
    await worker.stop();
  });

  it("are not put into a folder of another user", async () => {
    const { uid } = statSync(temp.folder);
    await expect(openTierFolder(temp.folder, uid + 1)).rejects.toThrow(`belongs to user ${uid}`);
  });

  it("never share a folder with a worker that lives", async () => {
    const first = await start(temp.folder);
    const second = await start(temp.folder);
    expect(second.warnings).toEqual([expect.stringMatching(/in use by the worker with process id/)]);
    expect((await ask(second)).end).toBe("finished");
    await second.stop();
    await first.stop();
    const third = await start(temp.folder);
    expect(third.warnings).toEqual([]);
    await third.stop();
  });
});

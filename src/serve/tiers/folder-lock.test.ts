import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { TempFiles } from "../../../test/support/temp-files.ts";
import { FolderInUseError, lockFolder } from "./folder-lock.ts";
import { isAlive, type ProcessName, processName } from "./process-name.ts";

let temp: TempFiles;
beforeEach(() => {
  temp = new TempFiles();
});
afterEach(() => temp.remove());

const names = (): string[] => readdirSync(temp.folder).toSorted();

/** What a process of that name leaves behind when it is killed. */
function leave({ pid, start, boot }: ProcessName, { isHeld }: { isHeld: boolean }): void {
  const name = join(temp.folder, `lock-${pid}-${start}-${boot}-00112233aabbccdd`);
  writeFileSync(name, "");
  if (isHeld) writeFileSync(`${name}.held`, "");
}

async function killedProcess(): Promise<ProcessName> {
  const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
  await once(child, "spawn");
  const name = await processName(child.pid!);
  expect(await isAlive(name)).toBe(true);
  child.kill("SIGKILL");
  await once(child, "exit");
  return name;
}

describe("lockFolder", () => {
  it("lets nobody else in until it is released, and leaves nothing behind", async () => {
    const lock = await lockFolder(temp.folder);
    await expect(lockFolder(temp.folder)).rejects.toThrow(FolderInUseError);
    await expect(lockFolder(temp.folder)).rejects.toThrow(`process id ${process.pid}`);
    await lock.release();
    expect(names()).toEqual([]);
  });

  it.each([true, false])(
    "takes over from a process that was killed while it held the folder: %s",
    async (isHeld) => {
      leave(await killedProcess(), { isHeld });
      const lock = await lockFolder(temp.folder);
      expect(names()).toHaveLength(2);
      await lock.release();
      expect(names()).toEqual([]);
    },
  );

  it("does not take another process with the number of a former one for that one", async () => {
    const own = await processName(process.pid);
    for (const former of [{ start: "1" }, { boot: "0123456789ab" }, { start: "" }]) {
      leave({ ...own, ...former }, { isHeld: true });
      const lock = await lockFolder(temp.folder);
      await lock.release();
      expect(names()).toEqual([]);
    }
  });

  it("respects a living process that holds the folder, or is about to, and strangers' files", async () => {
    // Of the process that runs the tests' processes; its name comes before or after ours.
    const parent = await processName(process.ppid);
    leave(parent, { isHeld: true });
    writeFileSync(join(temp.folder, "lock-notes.txt"), "mine");
    await expect(lockFolder(temp.folder)).rejects.toThrow(`process id ${process.ppid}`);
    expect(names()).toContain("lock-notes.txt");
    expect(names()).toHaveLength(3);
  });

  it("lets exactly one of several in that come at the same time", async () => {
    for (let round = 0; round < 30; round++) {
      const outcomes = await Promise.allSettled(
        Array.from({ length: 2 + (round % 4) }, () => lockFolder(temp.folder)),
      );
      const winners = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
      for (const outcome of outcomes)
        if (outcome.status === "rejected") expect(outcome.reason).toBeInstanceOf(FolderInUseError);
      expect(winners).toHaveLength(1);
      await winners[0]!.release();
      expect(names()).toEqual([]);
    }
  });
});

import { describe, expect, it } from "vitest";
import { ConcurrencyLimit } from "./concurrency-limit.ts";

describe("ConcurrencyLimit", () => {
  it("runs so many calls at a time, the others in order, and refuses what cannot wait", async () => {
    const limit = new ConcurrencyLimit({ maxRunning: 2, maxWaiting: 3 });
    const started: number[] = [];
    const finishers: Array<() => void> = [];
    const call = (id: number) =>
      limit.run(() => {
        started.push(id);
        return new Promise<number>((resolve) => finishers.push(() => resolve(id)));
      });
    const results = [1, 2, 3, 4, 5].map(call);
    await expect(call(6)).rejects.toMatchObject({ code: "bad_argument" });
    expect(started).toEqual([1, 2]);
    finishers[1]!();
    expect(await results[1]).toBe(2);
    expect(started).toEqual([1, 2, 3]);
    const idle = limit.idle().then(() => started.length);
    for (const id of [3, 4, 5]) {
      finishers[id - 1]?.();
      await results[id - 1];
    }
    finishers[0]!();
    expect(await idle).toBe(5);
  });

  it("goes on after a call that rejects", async () => {
    const limit = new ConcurrencyLimit({ maxRunning: 1, maxWaiting: 3 });
    const failing = limit.run(() => Promise.reject(new Error("no")));
    const next = limit.run(() => Promise.resolve("yes"));
    await expect(failing).rejects.toThrow("no");
    expect(await next).toBe("yes");
    await limit.idle();
  });
});

import { describe, expect, it } from "vitest";
import { CallQueue, MAX_WAITING_CALLS } from "./call-queue.ts";

/** A promise that the test settles. */
function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (error: Error) => void } {
  let resolve: (value: T) => void = () => {};
  let reject: (error: Error) => void = () => {};
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

describe("CallQueue", () => {
  it("starts a call synchronously when nothing else runs", () => {
    const queue = new CallQueue();
    let hasStarted = false;
    void queue.run(() => {
      hasStarted = true;
    });
    expect(hasStarted).toBe(true);
    expect(queue.isIdle).toBe(true);
  });

  it("runs calls one after the other in order, whether they take time or not", async () => {
    const queue = new CallQueue();
    const log: string[] = [];
    const first = deferred<void>();
    const third = deferred<void>();
    const results = [
      queue.run(() => first.promise.then(() => void log.push("first"))),
      queue.run(() => void log.push("second")),
      queue.run(() => third.promise.then(() => void log.push("third"))),
      queue.run(() => void log.push("fourth")),
    ];
    third.resolve();
    expect(log).toEqual([]);
    first.resolve();
    await Promise.all(results);
    expect(log).toEqual(["first", "second", "third", "fourth"]);
  });

  it("goes on after calls that throw or reject, and passes their errors on", async () => {
    const queue = new CallQueue();
    const slow = deferred<number>();
    const results = [
      queue.run(() => slow.promise),
      queue.run(() => {
        throw new Error("thrown");
      }),
      queue.run(() => Promise.reject(new Error("rejected"))),
      queue.run(() => 4),
    ];
    slow.reject(new Error("late"));
    const settled = await Promise.allSettled(results);
    expect(settled.map((s) => (s.status === "fulfilled" ? s.value : (s.reason as Error).message))).toEqual([
      "late",
      "thrown",
      "rejected",
      4,
    ]);
    expect(queue.isIdle).toBe(true);
  });

  it("is free for whoever awaited the last call", async () => {
    const queue = new CallQueue();
    const call = deferred<void>();
    const result = queue.run(() => call.promise);
    call.resolve();
    await result;
    expect(queue.isIdle).toBe(true);
  });

  it("drains as many quick calls as it can hold without running out of stack", async () => {
    const queue = new CallQueue();
    const blocker = deferred<void>();
    const results: Array<Promise<unknown>> = [queue.run(() => blocker.promise)];
    for (let i = 0; i < MAX_WAITING_CALLS; i++) results.push(queue.run(() => i));
    await expect(queue.run(() => 0)).rejects.toMatchObject({ code: "bad_argument" });
    blocker.resolve();
    expect((await Promise.all(results)).at(-1)).toBe(MAX_WAITING_CALLS - 1);
  });

  it("closes when the last call has settled, and lets none in afterwards", async () => {
    const queue = new CallQueue();
    const call = deferred<string>();
    const log: string[] = [];
    const result = queue.run(() => call.promise).then((value) => log.push(value));
    const waiting = queue.run(() => void log.push("waiting"));
    const closed = queue.close().then(() => log.push("closed"));
    await expect(queue.run(() => 0)).rejects.toMatchObject({ code: "closed" });
    call.resolve("call");
    await Promise.all([result, waiting, closed]);
    expect(log).toEqual(["waiting", "call", "closed"]);
    await new CallQueue().close();
  });
});

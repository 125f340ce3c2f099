import { describe, expect, it } from "vitest";
import { ManualTimers } from "../../../test/support/link-timers.ts";
import { SilenceWatch } from "./silence-watch.ts";

function makeWatch() {
  const timers = new ManualTimers();
  const checks: number[] = [];
  const silences: number[] = [];
  const watch = new SilenceWatch({
    timers,
    limitMs: 5000,
    checkIntervalMs: 1000,
    onCheck: (silentMs) => checks.push(silentMs),
    onSilent: (silentMs) => silences.push(silentMs),
  });
  return { timers, watch, checks, silences };
}

describe("SilenceWatch", () => {
  it("reports silence once, at the first look after the limit, and stops", () => {
    const { timers, checks, silences } = makeWatch();
    timers.advance(20_000);
    expect(checks).toEqual([1000, 2000, 3000, 4000, 5000]);
    expect(silences).toEqual([6000]);
    expect(timers.size).toBe(0);
  });

  it("starts to count again with every sign of life", () => {
    const { timers, watch, silences } = makeWatch();
    for (let i = 0; i < 10; i++) {
      timers.advance(4900);
      watch.heard();
    }
    expect(silences).toEqual([]);
    timers.advance(6000);
    expect(silences).toHaveLength(1);
  });

  it("does not blame the peer for the time that this process stood still", () => {
    const { timers, silences } = makeWatch();
    timers.leap(60_000);
    expect(silences).toEqual([]);
    timers.advance(6000);
    expect(silences).toEqual([6000]);
  });

  it("leaves no timer behind when it is stopped, also from within a check", () => {
    const timers = new ManualTimers();
    const watch: SilenceWatch = new SilenceWatch({
      timers,
      limitMs: 5000,
      checkIntervalMs: 1000,
      onCheck: () => watch.stop(),
      onSilent: () => expect.unreachable(),
    });
    timers.advance(1000);
    expect(timers.size).toBe(0);
  });
});

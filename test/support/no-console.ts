import { afterAll, beforeAll } from "vitest";

/** Unit tests run silently: a stray console call fails the test that made it. */
const METHODS = ["log", "info", "warn", "error", "debug"] as const;
const originals = new Map<string, unknown>();

beforeAll(() => {
  for (const method of METHODS) {
    originals.set(method, console[method]);
    console[method] = (...parts: unknown[]) => {
      throw new Error(`console.${method} called in a unit test: ${parts.map(String).join(" ")}`);
    };
  }
});

afterAll(() => {
  for (const method of METHODS) Object.assign(console, { [method]: originals.get(method) });
});

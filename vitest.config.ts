import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    reporters: ["default", "./test/support/closing-line-reporter.ts"],
    // Two cores are shared with the engine processes that the end-to-end tests start.
    maxWorkers: 2,
    projects: [
      {
        test: {
          name: "unit",
          // What is compiled runs as it is.
          server: { deps: { external: [/\/dist\//] } },
          include: ["src/**/*.test.ts", "test/sim/**/*.test.ts", "test/tidy.test.ts"],
          pool: "threads",
          isolate: false,
          setupFiles: ["test/support/no-console.ts", "test/support/property-size.ts"],
          // Only what hangs should run into it, also on a machine that is busy with other work.
          testTimeout: 120_000,
        },
      },
      {
        test: {
          name: "engine",
          include: ["test/engine/**/*.test.ts"],
          pool: "forks",
          testTimeout: 60_000,
        },
      },
      {
        test: {
          name: "e2e",
          // What is compiled runs as it is.
          server: { deps: { external: [/\/dist\//] } },
          include: ["test/e2e/**/*.test.ts"],
          pool: "forks",
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 30_000,
        },
      },
    ],
  },
});

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { FakeIo } from "../../test/support/cli-io.ts";
import { checkOutputFile } from "./output-file.ts";
import { runCli } from "./program.ts";
import type { Product } from "./serving.ts";

const nothing: Product = {
  startServing: () => Promise.reject(new Error("not part of this test")),
  runWorker: () => Promise.reject(new Error("not part of this test")),
};

const cwd = mkdtempSync(join(tmpdir(), "twofold-output-"));
afterAll(() => rmSync(cwd, { recursive: true, force: true }));
mkdirSync(join(cwd, "folder"));

test("a result needs a folder and the name of a file", () => {
  expect(() => checkOutputFile("--out", "folder/a.json", cwd)).not.toThrow();
  expect(() => checkOutputFile("--out", "none/a.json", cwd)).toThrow("--out: there is no folder");
  expect(() => checkOutputFile("--out", "folder", cwd)).toThrow("is a folder; name a file");
});

test("a profile that cannot be written is refused before anything is measured", async () => {
  const io = new FakeIo({ cwd });
  expect(await runCli(["profile", "--engine", "stub", "--out", "none/a.json"], io, nothing)).toBe(2);
  expect(io.errText).toContain("twofold: --out: there is no folder");
  const other = new FakeIo({ cwd });
  expect(await runCli(["profile", "--engine", "stub", "--validate", "/dev/null/run"], other, nothing)).toBe(
    2,
  );
  expect(other.errText).toContain("twofold: --validate: ");
});

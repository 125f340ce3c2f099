import { chmodSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { TempFiles } from "../../../test/support/temp-files.ts";
import { keptSecret } from "./kept-secret.ts";

let temp: TempFiles;
beforeEach(() => {
  temp = new TempFiles();
});
afterEach(() => temp.remove());

test("a folder keeps its secret, for its owner alone", async () => {
  const folder = join(temp.folder, "kv");
  const secret = await keptSecret(folder);
  expect(secret).toMatch(/^[0-9a-f]{64}$/);
  expect(await keptSecret(folder)).toBe(secret);
  expect(statSync(join(folder, "fleet-secret")).mode & 0o777).toBe(0o600);
  expect(await keptSecret(join(temp.folder, "other"))).not.toBe(secret);
  expect(readdirSync(folder)).toEqual(["fleet-secret"]);
});

test("whoever starts at the same time gets the same secret", async () => {
  const secrets = await Promise.all(Array.from({ length: 8 }, () => keptSecret(temp.folder)));
  expect(new Set(secrets).size).toBe(1);
  expect(readdirSync(temp.folder)).toEqual(["fleet-secret"]);
});

test("a secret that others can read, or that is none, is refused with what to do", async () => {
  await keptSecret(temp.folder);
  chmodSync(join(temp.folder, "fleet-secret"), 0o644);
  await expect(keptSecret(temp.folder)).rejects.toThrow(/chmod 600/);
  const other = new TempFiles();
  chmodSync(other.write("fleet-secret", "short"), 0o600);
  await expect(keptSecret(other.folder)).rejects.toThrow(/holds no secret: delete it/);
  other.remove();
});

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { readCsv } from "./csv-file.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "twofold-csv-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function fileOf(text: string): Promise<string> {
  const path = join(folder, "table.csv");
  await writeFile(path, text);
  return path;
}

it("reads quoted fields, a byte-order mark, both line ends and empty lines", async () => {
  const rows = readCsv(await fileOf('\uFEFFa,b\r\n1,"x, ""y"""\r\n\r\n2,\n'), ["b"]);
  expect(rows.map(({ line, values }) => ({ line, values }))).toEqual([
    { line: 2, values: { a: "1", b: 'x, "y"' } },
    { line: 4, values: { a: "2", b: "" } },
  ]);
});

it("names the file and what its header lacks", async () => {
  const path = await fileOf("a,b\n1,2\n");
  expect(() => readCsv(path, ["b", "c", "d"])).toThrow(/table\.csv:1: has no column c, d; found: a, b/);
});

it("names the line with another number of fields", async () => {
  const path = await fileOf("a,b\n1,2\n1,2,3\n");
  expect(() => readCsv(path, [])).toThrow(/table\.csv:3: has 3 fields; the header names 2/);
});

it("takes numbers within bounds, and names the place of any other", async () => {
  const [row] = readCsv(await fileOf("a,b,c\n1.5,7,\n"), []);
  expect(row!.number("a", { min: 0 })).toBe(1.5);
  expect(row!.count("b", 1)).toBe(7);
  expect(() => row!.count("a", 1)).toThrow(/table\.csv:2: a is "1\.5"; allowed: whole numbers from 1 up/);
  expect(() => row!.number("b", { min: 0, max: 5 })).toThrow(/b is "7"; allowed: numbers from 0 to 5/);
  expect(() => row!.number("c", { min: 0 })).toThrow(/c is ""/);
});

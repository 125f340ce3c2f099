import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { readCsv } from "./csv.ts";

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
  const rows = await readCsv(await fileOf('\uFEFFa,b\r\n1,"x, ""y"""\r\n\r\n2,\n'), ["b"]);
  expect(rows).toEqual([
    { line: 2, values: { a: "1", b: 'x, "y"' } },
    { line: 4, values: { a: "2", b: "" } },
  ]);
});

it("names the file and what its header lacks", async () => {
  await expect(readCsv(await fileOf("a,b\n1,2\n"), ["b", "c", "d"])).rejects.toThrow(
    /table\.csv:1: no column c, d/,
  );
});

it("names the line with another number of fields", async () => {
  await expect(readCsv(await fileOf("a,b\n1,2\n1,2,3\n"), [])).rejects.toThrow(
    /table\.csv:3: 3 fields, but the header has 2/,
  );
});

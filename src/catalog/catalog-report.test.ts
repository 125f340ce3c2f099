import { expect, it } from "vitest";
import { z } from "zod";
import { BUILT_IN_CATALOG as CATALOG } from "./catalog.ts";
import { catalogReportSchema, makeCatalogReport } from "./catalog-report.ts";
import { ENTRY_KINDS } from "./entry.ts";

const report = makeCatalogReport(
  CATALOG,
  ENTRY_KINDS.flatMap((kind) => [...CATALOG.all(kind)]),
);

it("fits its schema with every entry of the catalogue", () => {
  expect(catalogReportSchema.parse(JSON.parse(JSON.stringify(report)))).toEqual(report);
});

it("describes every source that an entry names", () => {
  const named = report.entries.flatMap(({ figures }) => figures.flatMap(({ sources }) => sources));
  expect(named.filter((id) => report.sources[id]?.title === undefined)).toEqual([]);
});

it("lists what nobody knows, and what blocks a simulation", () => {
  const lpu = report.entries.find(({ id }) => id === "groq3-lp30");
  expect(lpu).toMatchObject({ blockedBy: ["scaleOut.bandwidth", "scaleOut.latency", "scaleUp.latency"] });
  expect(lpu?.missing).toContain("power.tdp");
  expect(lpu?.missing).not.toContain("dense.fp4");
  expect(report.entries.find(({ id }) => id === "groq3-lpx")?.missing).toEqual([
    "power.rack",
    "price.purchase",
  ]);
});

it("has a schema that changes only together with its version", async () => {
  const schema = JSON.stringify(z.toJSONSchema(catalogReportSchema), null, 2);
  await expect(`${schema}\n`).toMatchFileSnapshot("catalog-report-schema.snap");
});

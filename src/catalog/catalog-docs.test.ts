import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { BUILT_IN_CATALOG } from "./catalog.ts";
import { parseCatalogFile } from "./catalog-file.ts";
import { toDeviceSpec } from "./device-spec.ts";
import { ACCELERATOR_FIGURES, LINK_FIGURES, MODEL_FIGURES, RACK_FIGURES } from "./figure-keys.ts";
import { GGUF_ARCHITECTURES } from "./import/gguf-model.ts";
import { HF_MODEL_TYPES } from "./import/hf-config.ts";

const page = readFileSync(new URL("../../docs/reference/catalog.md", import.meta.url), "utf8");

it.each([
  ["Of accelerators", ACCELERATOR_FIGURES],
  ["Of racks", RACK_FIGURES],
  ["Of links and models", { ...LINK_FIGURES, ...MODEL_FIGURES }],
])("docs/reference/catalog.md has every figure %s, with its unit, and no other", (title, kinds) => {
  const text = page.split(/^###? /m).find((part) => part.startsWith(title)) ?? "";
  const rows = [...text.matchAll(/^\| `([A-Za-z0-9.]+)` +\| ([^|]+?) +\|/gm)].map(([, key, unit]) => [
    key,
    unit,
  ]);
  expect(rows).toEqual(Object.entries(kinds).map(([key, { unit }]) => [key, unit]));
});

it("the example file of the page adds parts that can be simulated", () => {
  const example = /```yaml\n([\s\S]*?)```/.exec(page)?.[1] ?? "";
  const catalog = parseCatalogFile(example, "example.yaml", BUILT_IN_CATALOG);
  for (const id of ["lab-chip", "h100-capped"]) {
    expect(toDeviceSpec(catalog.get("accelerator", id))).toHaveProperty("spec");
  }
  expect(catalog.get("model", "small").shape.numLayers).toBe(24);
});

it("the page lists what can be imported", () => {
  for (const name of [...HF_MODEL_TYPES, ...GGUF_ARCHITECTURES]) expect(page).toContain(`\`${name}\``);
});

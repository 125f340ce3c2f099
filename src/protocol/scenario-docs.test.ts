import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { z } from "zod";
import { schemaAt } from "./config-error.ts";
import { scenarioSchema } from "./scenario-schema.ts";

const page = readFileSync(new URL("../../docs/reference/scenario.md", import.meta.url), "utf8");

/** Text of the page under a heading. */
function sectionOf(heading: string): string {
  return page.split(/^## /m).find((part) => part.startsWith(`${heading}\n`)) ?? "";
}

test.each([
  ["Top", []],
  ["fleets.NAME", ["fleets", "x"]],
  ["fleets.NAME.workers[]", ["fleets", "x", "workers", 0]],
  ["placement", ["placement"]],
  ["power", ["power"]],
  ["price", ["price"]],
  ["limits", ["limits"]],
])("docs/reference/scenario.md documents every key under %s, and no other", (heading, path) => {
  const schema = schemaAt(scenarioSchema, path);
  const keys = schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
  const rows = [...sectionOf(heading).matchAll(/^\| `([A-Za-z]+)`/gm)].map((match) => match[1]);
  expect(keys.length).toBeGreaterThan(0);
  expect(rows).toEqual(keys);
});

test("kinds and keys of service levels and faults are documented", () => {
  const forms = [
    ["slo.NAME", schemaAt(scenarioSchema, ["slo", "x"])],
    ["faults[]", schemaAt(scenarioSchema, ["faults", 0])],
  ] as const;
  for (const [heading, union] of forms) {
    expect(union).toBeInstanceOf(z.ZodDiscriminatedUnion);
    const options = union instanceof z.ZodDiscriminatedUnion ? union.options : [];
    const words = options.flatMap((option) => {
      if (!(option instanceof z.ZodObject)) return [];
      const kind: unknown = option.shape.kind;
      return [
        ...Object.keys(option.shape),
        ...(kind instanceof z.ZodLiteral ? [...kind.values].map(String) : []),
      ];
    });
    expect(words.length).toBeGreaterThan(6);
    expect(words.filter((word) => !sectionOf(heading).includes(`\`${word}\``))).toEqual([]);
  }
});

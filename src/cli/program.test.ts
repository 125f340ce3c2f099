import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { z } from "zod";
import { FakeIo } from "../../test/support/cli-io.ts";
import { schemaAt } from "../protocol/config-error.ts";
import { fleetFileSchema } from "../protocol/fleet-file.ts";
import { createProgram, runCli } from "./program.ts";
import type { Product } from "./serving.ts";

const nothing: Product = {
  startServing: () => Promise.reject(new Error("not part of this test")),
  runWorker: () => Promise.reject(new Error("not part of this test")),
};

const program = createProgram(new FakeIo(), nothing, () => undefined);
const verbs = program.commands.map((command) => command.name());

test("the version is that of package.json", async () => {
  const io = new FakeIo();
  expect(await runCli(["--version"], io, nothing)).toBe(0);
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  expect(io.outText).toBe(`${JSON.parse(text).version}\n`);
});

test("no arguments print help to stderr and are wrong usage", async () => {
  const io = new FakeIo();
  expect(await runCli([], io, nothing)).toBe(2);
  expect(io.errText).toContain("Usage: twofold");
  expect(io.outText).toBe("");
});

test.each(verbs)("twofold %s --help shows an example, prints to stdout and is no failure", async (verb) => {
  const io = new FakeIo();
  expect(await runCli([verb, "--help"], io, nothing)).toBe(0);
  expect(io.outText).toMatch(new RegExp(`Examples?[^]*twofold ${verb}`));
  expect(io.errText).toBe("");
});

const cliPage = readFileSync(new URL("../../docs/reference/cli.md", import.meta.url), "utf8");
const fleetPage = readFileSync(new URL("../../docs/reference/fleet-file.md", import.meta.url), "utf8");

test.each(verbs)(
  "docs/reference/cli.md documents every flag and variable of twofold %s, and no other",
  (verb) => {
    const section = cliPage.split(/^## /m).find((part) => part.startsWith(`twofold ${verb}\n`)) ?? "";
    const command = program.commands.find((entry) => entry.name() === verb);
    const flags = (command?.options ?? [])
      .map((option) => option.long ?? "")
      .filter((flag) => flag !== "--help");
    const rows = [...section.matchAll(/^\| `(--[a-z0-9-]+)/gm)].map((match) => match[1] ?? "");
    // Doctor takes the flags of serve and says so instead of repeating them.
    const expected = verb === "doctor" ? ["--json"] : flags;
    expect(rows.sort()).toEqual([...expected].sort());
    const helpText = command?.helpInformation() ?? "";
    const variables = [...new Set(helpText.match(/TWOFOLD_[A-Z0-9_]+/g))];
    if (verb !== "doctor") expect(variables.filter((name) => !section.includes(`\`${name}\``))).toEqual([]);
  },
);

/** Paths of all keys of the fleet file: `gateway.keys[].tenant`. */
function keysOf(path: readonly (string | number)[] = [], name = ""): string[] {
  const schema = schemaAt(fleetFileSchema, path);
  if (schema instanceof z.ZodObject) {
    return Object.keys(schema.shape).flatMap((key) =>
      keysOf([...path, key], name === "" ? key : `${name}.${key}`),
    );
  }
  const isListOfObjects =
    schema instanceof z.ZodArray && schemaAt(fleetFileSchema, [...path, 0]) instanceof z.ZodObject;
  return isListOfObjects ? keysOf([...path, 0], `${name}[]`) : [name];
}

test("docs/reference/fleet-file.md documents every key of the fleet file, and no other", () => {
  const documented = [...fleetPage.matchAll(/^\| `([A-Za-z0-9.[\]]+)` +\|/gm)].map((match) => match[1] ?? "");
  expect(keysOf()).toContain("gateway.keys[].tenant");
  expect(documented.sort()).toEqual(keysOf().sort());
});

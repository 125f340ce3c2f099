import { Command } from "commander";
import { expect, test } from "vitest";
import { z } from "zod";
import { addSettings, layerSettings, readSettings, type Setting } from "./settings.ts";

const SETTINGS: readonly Setting[] = [
  {
    key: "port",
    flag: "--port <port>",
    env: "T_PORT",
    path: ["gateway", "port"],
    schema: z.int().min(0).max(65_535),
    help: "port",
  },
  {
    key: "name",
    flag: "--model-name <name>",
    env: "T_NAME",
    path: ["model", "name"],
    schema: z.string().min(1),
    help: "name",
  },
  { key: "isOn", flag: "--no-is-on", env: "T_IS_ON", path: ["isOn"], schema: z.boolean(), help: "off" },
  { key: "secret", env: "T_SECRET", schema: z.string().min(4), help: "secret" },
];

function flagsOf(...args: string[]): Record<string, unknown> {
  const command = new Command("test").exitOverride();
  addSettings(command, SETTINGS);
  return command.parse(args, { from: "user" }).opts();
}

function layer(flags: Record<string, unknown>, env: Record<string, string>, values: unknown = {}) {
  const given = readSettings(SETTINGS, flags, env);
  return layerSettings(SETTINGS, given, { values, locate: (path) => `file:${path.join(".")}` });
}

test("a flag wins over the environment, that over the file, and each knows where it came from", () => {
  const file = { gateway: { port: 1, host: "h" }, model: { name: "file" } };
  const all = layer(flagsOf("--port", "3"), { T_PORT: "2", T_NAME: "env" }, file);
  expect(all.values).toEqual({ gateway: { port: 3, host: "h" }, model: { name: "env" } });
  expect(all.originOf(["gateway", "port"])).toBe("--port");
  expect(all.originOf(["model", "name"])).toBe("T_NAME");
  expect(all.originOf(["gateway", "host"])).toBe("file:gateway.host");
  expect(file.gateway.port).toBe(1);
});

test("places that the file does not have are made", () => {
  expect(layer(flagsOf("--port", "3"), {}).values).toEqual({ gateway: { port: 3 } });
});

test("a switch that was not given is not a value, and can be set by the environment", () => {
  expect(layer(flagsOf(), {}).values).toEqual({});
  expect(layer(flagsOf("--no-is-on"), {}).values).toEqual({ isOn: false });
  expect(layer(flagsOf(), { T_IS_ON: "off" }).values).toEqual({ isOn: false });
  expect(layer(flagsOf("--no-is-on"), { T_IS_ON: "1" }).values).toEqual({ isOn: false });
});

test("an empty variable counts as not set, and a setting without a flag is read from the environment", () => {
  expect(readSettings(SETTINGS, {}, { T_PORT: "", T_SECRET: "abcd" })).toEqual(
    new Map([["secret", { value: "abcd", origin: "T_SECRET" }]]),
  );
});

test.each([
  ["abc", '--port: "abc" is not a whole number from 0 to 65535'],
  ["", '--port: "" is not a whole number'],
  ["1.5", "--port: 1.5 is not a whole number"],
  ["-1", "--port: -1 is out of range; allowed: 0 to 65535"],
  ["0x10", '--port: "0x10" is not a whole number'],
  ["NaN", '--port: "NaN" is not a whole number'],
  ["Infinity", '--port: "Infinity" is not a whole number'],
])("the number %j is refused with the flag's name and the range", (text, message) => {
  expect(() => readSettings(SETTINGS, { port: text }, {})).toThrow(message);
});

test("a bad value in the environment names the variable", () => {
  expect(() => readSettings(SETTINGS, {}, { T_PORT: "http" })).toThrow(/^T_PORT: /);
  expect(() => readSettings(SETTINGS, {}, { T_IS_ON: "maybe" })).toThrow(
    'T_IS_ON: "maybe" is not true or false',
  );
});

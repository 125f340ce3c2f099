import { expect, it } from "vitest";
import { readGgufFile } from "./gguf-file.ts";

it("reports a file that is no model the way engines do", () => {
  expect(() => readGgufFile("package.json")).toThrow(
    expect.objectContaining({
      name: "EngineError",
      code: "bad_model",
      message: expect.stringContaining("package.json: not a GGUF file"),
    }),
  );
});

it("reads the built-in model", () => {
  expect(readGgufFile("models/lexicon-3m/lexicon-3m.Q8_0.gguf").architecture).toBe("llama");
});

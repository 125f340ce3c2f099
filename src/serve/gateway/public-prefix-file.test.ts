import { afterAll, describe, expect, it } from "vitest";
import { TempFiles } from "../../../test/support/temp-files.ts";
import { MAX_PUBLIC_PREFIX_LENGTH } from "../../protocol/fleet-schema.ts";
import { readPublicPrefix } from "./public-prefix-file.ts";

describe("a public prefix", () => {
  const files = new TempFiles();
  afterAll(() => files.remove());

  it("is the text that the configuration gives, or its file holds", () => {
    expect(readPublicPrefix({ text: "Be brief." })).toBe("Be brief.");
    expect(readPublicPrefix({ file: files.write("brief.txt", "Grüße 🦊\n") })).toBe("Grüße 🦊\n");
  });

  it.each([
    ["missing.txt", null, "cannot be read (ENOENT)"],
    [".", null, "is not a file"],
    ["empty.txt", "", "has 0 characters"],
    ["long.txt", "x".repeat(MAX_PUBLIC_PREFIX_LENGTH + 1), "at most"],
    ["huge.txt", "x".repeat(3 * MAX_PUBLIC_PREFIX_LENGTH + 1), "bytes"],
  ])("in %s is refused with what is wrong", (name, content, message) => {
    const file = content === null ? `${files.folder}/${name}` : files.write(name, content);
    expect(() => readPublicPrefix({ file })).toThrow(
      message === "at most" ? `1 to ${MAX_PUBLIC_PREFIX_LENGTH} are allowed` : message,
    );
  });
});

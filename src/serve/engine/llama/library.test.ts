import { describe, expect, it } from "vitest";
import { type LibraryHost, loadLibraryFrom, platformPackage } from "./library.ts";

/** A host on which only the named packages are installed. */
function hostWith(packages: Record<string, unknown>, platform = "linux", arch = "x64"): LibraryHost {
  return {
    platform,
    arch,
    importPackage: (name) =>
      name in packages
        ? Promise.resolve(packages[name])
        : Promise.reject(
            Object.assign(new Error(`Cannot find package '${name}'`), { code: "ERR_MODULE_NOT_FOUND" }),
          ),
  };
}

describe("library lookup", () => {
  it.each([
    ["linux", "x64", "@node-llama-cpp/linux-x64"],
    ["linux", "arm64", "@node-llama-cpp/linux-arm64"],
    ["darwin", "arm64", "@node-llama-cpp/mac-arm64-metal"],
    ["darwin", "x64", "@node-llama-cpp/mac-x64"],
    ["win32", "x64", "@node-llama-cpp/win-x64"],
  ])("maps %s %s to %s", (platform, arch, name) => {
    expect(platformPackage({ platform, arch })).toBe(name);
  });

  it("says that there is nothing to install on other platforms", async () => {
    const load = loadLibraryFrom(hostWith({ koffi: {} }, "sunos", "x64"));
    await expect(load).rejects.toMatchObject({
      name: "EngineError",
      code: "package_missing",
      message: expect.stringContaining("sunos x64"),
    });
  });

  it.each([
    ["koffi", {}, "npm install koffi@3.3.4"],
    ["@node-llama-cpp/linux-x64", { koffi: {} }, "npm install @node-llama-cpp/linux-x64@3.22.1"],
  ])("names the missing package %s and how to install it", async (name, packages, command) => {
    const load = loadLibraryFrom(hostWith(packages));
    await expect(load).rejects.toMatchObject({
      code: "package_missing",
      message: expect.stringContaining(name),
    });
    await expect(load).rejects.toThrow(command);
  });

  it("refuses a package without the pinned release before anything is loaded", async () => {
    const getBinsDir = () => ({ binsDir: "/nonexistent" });
    const load = loadLibraryFrom(hostWith({ koffi: {}, "@node-llama-cpp/linux-x64": { getBinsDir } }));
    await expect(load).rejects.toMatchObject({ code: "incompatible_library" });
    await expect(load).rejects.toThrow("expected libggml-base.so, found nothing");
    const other = loadLibraryFrom(hostWith({ koffi: {}, "@node-llama-cpp/linux-x64": {} }));
    await expect(other).rejects.toMatchObject({ code: "incompatible_library" });
  });
});

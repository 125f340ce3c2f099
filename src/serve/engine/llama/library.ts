import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { EngineError } from "../engine.ts";
import { bindFunctions, declareStructs, type LlamaApi } from "./bindings.ts";
import { checkLibrary, LLAMA_RELEASE } from "./canary.ts";

type Koffi = typeof import("koffi");

/** Version of the platform packages that contain llama.cpp {@link LLAMA_RELEASE}. */
const PACKAGE_VERSION = "3.22.1";
const KOFFI_VERSION = "3.3.4";

/** Packages with a CPU (or Metal) build, by `process.platform` and `process.arch`. */
const PLATFORM_PACKAGES: Readonly<Record<string, string>> = {
  "linux-x64": "linux-x64",
  "linux-arm64": "linux-arm64",
  "linux-arm": "linux-armv7l",
  "darwin-arm64": "mac-arm64-metal",
  "darwin-x64": "mac-x64",
  "win32-x64": "win-x64",
  "win32-arm64": "win-arm64",
};

/**
 * Native stack of every call. The tokenizer's regular expressions recurse, and a graph needs more than koffi's default
 * of 128 KiB leaves; 64 KiB is a segmentation fault. Pages that are not touched cost nothing.
 */
const NATIVE_STACK_BYTES = 8 << 20;
const MAX_ASYNC_CALLS = 64;

/** libllama, loaded and checked. */
export interface LlamaLibrary {
  readonly api: LlamaApi;
  readonly koffi: Koffi;
  /** As `llama_version()` says, such as `0.5.0-dev`. */
  readonly version: string;
  /**
   * Address of a native `bool f(void * data)` that returns whether the byte at `data` is not 0, for a data pointer to a byte
   * followed by a 0: the abort callback, which runs on native threads and therefore must not be JavaScript.
   */
  readonly isByteSet: bigint;
}

/** How packages are found, so that a test can take one away. */
export interface LibraryHost {
  readonly platform: string;
  readonly arch: string;
  /** Like `import(name)`. */
  importPackage(name: string): Promise<unknown>;
}

const REAL_HOST: LibraryHost = {
  platform: process.platform,
  arch: process.arch,
  importPackage: (name) => import(name),
};

let loaded: Promise<LlamaLibrary> | null = null;

/** Loads libllama once per process. Rejects with `EngineError` `package_missing` or `incompatible_library`. */
export function loadLibrary(): Promise<LlamaLibrary> {
  loaded ??= loadLibraryFrom(REAL_HOST).catch((error: unknown) => {
    loaded = null;
    throw error;
  });
  return loaded;
}

/** The npm package with the native library for a platform. */
export function platformPackage(host: Pick<LibraryHost, "platform" | "arch">): string {
  const name = PLATFORM_PACKAGES[`${host.platform}-${host.arch}`];
  if (name === undefined) {
    throw new EngineError(
      "package_missing",
      `there is no prebuilt llama.cpp for ${host.platform} ${host.arch}; the stub engine runs everywhere`,
    );
  }
  return `@node-llama-cpp/${name}`;
}

/** Folder with the shared libraries of the platform package. */
async function locateBinaries(host: LibraryHost): Promise<string> {
  const name = platformPackage(host);
  const module = await importOr(host, name, PACKAGE_VERSION);
  const getBinsDir = (module as { getBinsDir?: () => { binsDir: string } }).getBinsDir;
  if (typeof getBinsDir !== "function") {
    throw new EngineError(
      "incompatible_library",
      `${name} has no getBinsDir(): npm install ${name}@${PACKAGE_VERSION}`,
    );
  }
  return join(getBinsDir().binsDir, name.slice(name.indexOf("/") + 1));
}

/** Loads libllama with the packages of a host, without remembering it. */
export async function loadLibraryFrom(host: LibraryHost): Promise<LlamaLibrary> {
  const koffi = (await importOr(host, "koffi", KOFFI_VERSION)) as Koffi;
  const folder = await locateBinaries(host);
  const hint = `${platformPackage(host)}@${PACKAGE_VERSION}`;
  const files = await findLibraries(folder, host.platform, hint);
  // Has no effect after the first library has been loaded.
  koffi.config({
    sync_stack_size: NATIVE_STACK_BYTES,
    async_stack_size: NATIVE_STACK_BYTES,
    resident_async_pools: 4,
    max_async_calls: MAX_ASYNC_CALLS,
  });
  koffi.load(join(folder, files.base));
  const ggml = koffi.load(join(folder, files.ggml));
  const llama = koffi.load(join(folder, files.llama));
  const structs = declareStructs(koffi);
  const api = bindFunctions(llama, structs);
  const structSizes = {
    modelParams: koffi.sizeof(structs.modelParams),
    contextParams: koffi.sizeof(structs.contextParams),
    batch: koffi.sizeof(structs.batch),
  };
  checkLibrary({ api, structSizes }, hint);
  if (process.env.TWOFOLD_LLAMA_LOG !== "1") silence(api, llama.symbol("llama_max_devices") as bigint);
  // Picks the best of the CPU variants and must come before the first model is loaded.
  ggml.func("ggml_backend_load_all_from_path", "void", ["str"])(folder);
  api.llama_backend_init();
  const isByteSet = koffi.load(null).symbol("strlen") as bigint;
  return { api, koffi, version: api.llama_version(), isByteSet };
}

/**
 * Replaces the default log, which writes hundreds of lines to stderr. A JavaScript callback could deadlock, for it may be called on
 * a native thread while the event loop waits; any native function that takes no arguments ignores the three of a log line.
 */
function silence(api: LlamaApi, harmlessFunction: bigint): void {
  api.llama_log_set(harmlessFunction, null);
}

async function findLibraries(
  folder: string,
  platform: string,
  hint: string,
): Promise<{ base: string; ggml: string; llama: string }> {
  const names = await readdir(folder).catch(() => [] as string[]);
  const extension = platform === "win32" ? "dll" : platform === "darwin" ? "dylib" : "so";
  const prefix = platform === "win32" ? "" : "lib";
  const pick = (stem: string, release: string) => {
    const wanted = `${prefix}${stem}${release}.${extension}`;
    if (names.includes(wanted)) return wanted;
    const found = names.filter((name) => name.startsWith(`${prefix}${stem}.`)).join(", ") || "nothing";
    throw new EngineError("incompatible_library", `expected ${wanted}, found ${found}: npm install ${hint}`);
  };
  return {
    base: pick("ggml-base", ""),
    ggml: pick("ggml", `.${LLAMA_RELEASE}`),
    llama: pick("llama", `.${LLAMA_RELEASE}`),
  };
}

async function importOr(host: LibraryHost, name: string, version: string): Promise<unknown> {
  try {
    return await host.importPackage(name);
  } catch (cause) {
    throw new EngineError(
      "package_missing",
      `the package ${name} is not installed: run npm install ${name}@${version}, or choose the stub engine`,
      { cause },
    );
  }
}

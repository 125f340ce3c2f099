import { isLoopback } from "../protocol/address.ts";
import { countWorkers, type ServeConfig } from "../protocol/fleet-file.ts";

/** What the checks ask of a machine; a test has its own. */
export interface Machine {
  /** Without a leading `v`. */
  readonly nodeVersion: string;
  readonly platform: string;
  readonly numCpus: number;
  readonly freeMemoryBytes: number;
  /** Opens and closes the tokenizer of the model, which loads the native library and reads the file. */
  loadModel(
    config: ServeConfig,
  ): Promise<{ readonly modelName: string; readonly trainedContextTokens: number }>;
  /** Size of a readable file in bytes, or null. */
  fileBytes(path: string): number | null;
  /** Why a port cannot be listened on, or null if it can. */
  portProblem(host: string, port: number): Promise<string | null>;
  /** The folder for sockets, and why it cannot be used, or null if it can. */
  socketFolder(): Promise<{ readonly path: string; readonly problem: string | null }>;
}

/** One finding. `remedy` is empty when all is well. */
export interface Check {
  readonly name: string;
  readonly status: "ok" | "warn" | "fail";
  readonly finding: string;
  readonly remedy: string;
}

/** Oldest Node that the dependencies support. */
const MIN_NODE = [20, 19] as const;

/** Memory that a worker takes beside model and KV: the runtime, the native library, buffers. */
const WORKER_OVERHEAD_BYTES = 150 * 1024 * 1024;

function ok(name: string, finding: string): Check {
  return { name, status: "ok", finding, remedy: "" };
}

/** Checks a machine against a configuration. Never rejects: what goes wrong is a finding. */
export async function checkMachine(config: ServeConfig, machine: Machine): Promise<Check[]> {
  return [
    checkNode(machine),
    await checkModel(config, machine),
    await checkPort(config, machine),
    await checkSocketFolder(machine),
    checkCores(config, machine),
    checkMemory(config, machine),
    checkKeys(config),
  ];
}

function checkNode({ nodeVersion }: Machine): Check {
  const [major = 0, minor = 0] = nodeVersion.split(".").map(Number);
  const isRecent = major > MIN_NODE[0] || (major === MIN_NODE[0] && minor >= MIN_NODE[1]);
  if (isRecent) return ok("node", `version ${nodeVersion}`);
  const remedy = `install Node ${MIN_NODE.join(".")} or newer`;
  return { name: "node", status: "fail", finding: `version ${nodeVersion} is too old`, remedy };
}

async function checkModel(config: ServeConfig, machine: Machine): Promise<Check> {
  const name = "engine and model";
  const { path } = config.model;
  if (path !== null && machine.fileBytes(path) === null) {
    const remedy = "name a GGUF file with --model, or reinstall the package to get the built-in model back";
    return { name, status: "fail", finding: `${path} cannot be read`, remedy };
  }
  try {
    const { modelName, trainedContextTokens } = await machine.loadModel(config);
    if (config.contextTokens > trainedContextTokens) {
      const finding = `${modelName} was made for ${trainedContextTokens} tokens of context, ${config.contextTokens} are configured`;
      return { name, status: "warn", finding, remedy: `use --ctx ${trainedContextTokens}` };
    }
    return ok(name, `${config.engine} engine, ${modelName}`);
  } catch (error) {
    const finding = error instanceof Error ? error.message : String(error);
    const remedy = "follow the message, or use --engine stub to run without a model";
    return { name, status: "fail", finding, remedy };
  }
}

async function checkPort(config: ServeConfig, machine: Machine): Promise<Check> {
  const { host, port } = config.gateway;
  if (port === 0) return ok("port", "a free one is picked");
  const problem = await machine.portProblem(host, port);
  if (problem === null) return ok("port", `${host}:${port} is free`);
  const remedy = "stop what listens there, or use --port 0 for a free one";
  return { name: "port", status: "fail", finding: `${host}:${port} cannot be used: ${problem}`, remedy };
}

async function checkSocketFolder(machine: Machine): Promise<Check> {
  const { path, problem } = await machine.socketFolder();
  if (problem === null) return ok("socket folder", path);
  const remedy = "set TMPDIR to a short path that you may write to";
  return { name: "socket folder", status: "fail", finding: `${path}: ${problem}`, remedy };
}

function numLocalWorkers(config: ServeConfig): number {
  return config.workers.reduce((sum, entry) => sum + ("count" in entry ? entry.count : 0), 0);
}

function checkCores(config: ServeConfig, { numCpus }: Machine): Check {
  const numThreads = numLocalWorkers(config) * config.threads;
  const finding = `${numThreads} worker threads on ${numCpus} cores`;
  if (numThreads <= numCpus) return ok("cores", finding);
  const remedy = "workers will take turns: use fewer workers or fewer --threads";
  return { name: "cores", status: "warn", finding, remedy };
}

function checkMemory(config: ServeConfig, machine: Machine): Check {
  const modelBytes = config.model.path === null ? 0 : (machine.fileBytes(config.model.path) ?? 0);
  // The weights are mapped from the file and shared by all workers.
  const neededBytes = modelBytes + numLocalWorkers(config) * WORKER_OVERHEAD_BYTES;
  const finding = `${toMebibytes(machine.freeMemoryBytes)} MiB available, at least ${toMebibytes(neededBytes)} MiB needed beside KV`;
  if (neededBytes <= machine.freeMemoryBytes) return ok("memory", finding);
  const remedy = "use a smaller model or fewer workers";
  return { name: "memory", status: "warn", finding, remedy };
}

function checkKeys(config: ServeConfig): Check {
  const { host, keys } = config.gateway;
  const { prefill, decode, both } = countWorkers(config.workers);
  const fleet = `${prefill} prefill, ${decode} decode, ${both} both`;
  if (isLoopback({ kind: "tcp", host, port: 0 }))
    return ok("access", `${host} is this machine only; ${fleet}`);
  // Loading the configuration has refused an open host without keys.
  const finding = `${host} is open to the network with ${keys.length} API keys, without encryption; ${fleet}`;
  return { name: "access", status: "warn", finding, remedy: "put a proxy that ends TLS in front" };
}

function toMebibytes(bytes: number): number {
  return Math.ceil(bytes / (1024 * 1024));
}

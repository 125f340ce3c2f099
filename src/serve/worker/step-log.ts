import { appendFileSync } from "node:fs";
import type { KvRange } from "../../core/kv/kv-ops.ts";
import { isDecoding } from "../../core/scheduler/policy.ts";
import type { StepPlan } from "../../core/scheduler/step-plan.ts";
import type { LoggedStep, StepLogLine } from "../../protocol/step-log.ts";
import type { Engine } from "../engine/engine.ts";

/** Lines wait for so long, so that writing is no part of any step but one in hundreds. */
const FLUSH_MS = 250;
/** Lines that may wait when the timer does not get its turn. */
const MAX_WAITING_LINES = 4096;

/** An engine that writes down what it does: see `protocol/step-log.ts`. Rejects what the engine rejects. */
export class LoggedEngine implements Engine {
  readonly #engine: Engine;
  readonly #path: string;
  readonly #timer: NodeJS.Timeout;
  #lines: StepLogLine[] = [];

  /** Throws a system error when the file cannot be written. */
  constructor(engine: Engine, path: string, worker: { id: string; role: "prefill" | "decode" | "both" }) {
    this.#engine = engine;
    this.#path = path;
    const { engine: name, modelName, modelId, kvBytesPerToken, kvCapacityTokens } = engine.info;
    const facts = { engine: name, modelName, modelId, kvBytesPerToken, kvCapacityTokens };
    this.#lines.push({ kind: "worker", workerId: worker.id, role: worker.role, ...facts });
    this.#flush();
    this.#timer = setInterval(() => this.#flush(), FLUSH_MS);
    this.#timer.unref();
  }

  get info(): Engine["info"] {
    return this.#engine.info;
  }

  applyKvOps(ops: Parameters<Engine["applyKvOps"]>[0]): Promise<void> {
    return this.#engine.applyKvOps(ops);
  }

  async execute(plan: StepPlan): ReturnType<Engine["execute"]> {
    const calledMs = nowMs();
    const load = loadOf(plan);
    const result = await this.#engine.execute(plan);
    if (result.kind === "done") this.#add({ kind: "step", calledMs, endMs: nowMs(), ...load });
    return result;
  }

  async exportKv(range: KvRange): Promise<Uint8Array> {
    const calledMs = nowMs();
    const bytes = await this.#engine.exportKv(range);
    this.#addTransfer("export", calledMs, range, bytes.length);
    return bytes;
  }

  async importKv(range: KvRange, bytes: Uint8Array): Promise<void> {
    const calledMs = nowMs();
    await this.#engine.importKv(range, bytes);
    this.#addTransfer("import", calledMs, range, bytes.length);
  }

  sliceKv(...args: Parameters<Engine["sliceKv"]>): Uint8Array {
    return this.#engine.sliceKv(...args);
  }

  abort(): void {
    this.#engine.abort();
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#flush();
    await this.#engine.close();
  }

  #addTransfer(kind: "export" | "import", calledMs: number, range: KvRange, bytes: number): void {
    this.#add({ kind, calledMs, endMs: nowMs(), numTokens: range.end - range.start, bytes });
  }

  #add(line: StepLogLine): void {
    this.#lines.push(line);
    if (this.#lines.length >= MAX_WAITING_LINES) this.#flush();
  }

  #flush(): void {
    if (this.#lines.length === 0) return;
    const text = this.#lines.map((line) => `${JSON.stringify(line)}\n`).join("");
    this.#lines = [];
    appendFileSync(this.#path, text);
  }
}

/** Microseconds are what the clock is good for. */
function nowMs(): number {
  return Math.round((performance.timeOrigin + performance.now()) * 1000) / 1000;
}

function loadOf(plan: StepPlan): Omit<LoggedStep, "kind" | "calledMs" | "endMs"> {
  const prefills: Array<[number, number]> = [];
  let numDecodes = 0;
  let decodeContextTokens = 0;
  let numSamples = 0;
  for (const { sequence, start, numTokens, samples } of plan.chunks) {
    if (samples) numSamples++;
    if (isDecoding(sequence)) {
      numDecodes++;
      decodeContextTokens += start + 1;
    } else prefills.push([start, numTokens]);
  }
  return { prefills, numDecodes, decodeContextTokens, numSamples };
}

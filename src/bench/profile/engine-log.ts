import type { StepLoad } from "../../core/perf/step-load.ts";
import {
  type LoggedStep,
  type LoggedTransfer,
  type LoggedWorker,
  type StepLogLine,
  stepLogLineSchema,
} from "../../protocol/step-log.ts";

/** A call of the engine, with the time for which it had the engine. */
export interface Held<Call> {
  readonly call: Call;
  readonly ms: number;
}

/** What one worker's engine did, read from its step log. */
export interface EngineLog {
  readonly worker: LoggedWorker;
  readonly steps: ReadonlyArray<Held<LoggedStep>>;
  readonly exports: ReadonlyArray<Held<LoggedTransfer>>;
  readonly imports: ReadonlyArray<Held<LoggedTransfer>>;
  /** Pauses between two steps that follow each other without anything in between, and the sequences of the first of them. */
  readonly pauses: ReadonlyArray<{ readonly ms: number; readonly sequences: number }>;
}

/** A step log that cannot be read; the message names its line. */
export class StepLogError extends Error {
  override name = "StepLogError";
  readonly code = "bad_step_log";
}

/**
 * Longest pause that counts as the worker's own doing between two steps. It takes a tenth of that; longer ones are waits for a
 * request.
 */
const MAX_PAUSE_MS = 1;

/**
 * Reads a step log. A last line that is not complete is left out: the worker may be writing it. Lines that ended before `fromMs`
 * (epoch) are passed over. Throws {@link StepLogError}.
 */
export function readEngineLog(text: string, fileName: string, fromMs = 0): EngineLog {
  const lines = text.split("\n");
  lines.pop();
  const [first, ...rest] = lines.map((line, index) => parseLine(line, `${fileName}:${index + 1}`));
  if (first?.kind !== "worker") throw new StepLogError(`${fileName}:1: the first line is not of kind worker`);
  const log = {
    worker: first,
    steps: [] as Array<Held<LoggedStep>>,
    exports: [] as Array<Held<LoggedTransfer>>,
    imports: [] as Array<Held<LoggedTransfer>>,
    pauses: [] as Array<{ ms: number; sequences: number }>,
  };
  let freeAtMs = 0;
  let previous: StepLogLine | null = null;
  for (const line of rest) {
    if (line.kind === "worker") continue;
    // A call waits for the ones before it, but not in their time.
    const ms = line.endMs - Math.max(line.calledMs, freeAtMs);
    freeAtMs = line.endMs;
    const before: StepLogLine | null = previous;
    previous = line;
    if (line.endMs < fromMs || ms <= 0) continue;
    if (line.kind !== "step") (line.kind === "export" ? log.exports : log.imports).push({ call: line, ms });
    else {
      log.steps.push({ call: line, ms });
      if (before?.kind !== "step") continue;
      const pauseMs = line.calledMs - before.endMs;
      const sequences = before.numDecodes + before.prefills.length;
      if (pauseMs > 0 && pauseMs <= MAX_PAUSE_MS) log.pauses.push({ ms: pauseMs, sequences });
    }
  }
  return log;
}

function parseLine(text: string, place: string): StepLogLine {
  try {
    return stepLogLineSchema.parse(JSON.parse(text));
  } catch (error) {
    throw new StepLogError(`${place}: is not a line of a step log`, { cause: error });
  }
}

/** Describes a logged step in the form that perf models price. */
export function fillLoad(step: LoggedStep, load: StepLoad): StepLoad {
  load.clear();
  for (const [context, tokens] of step.prefills) load.addPrefill(context, tokens, false);
  load.numDecodes = step.numDecodes;
  load.decodeContextTokens = step.decodeContextTokens;
  load.numSamples = step.numSamples;
  return load;
}

import type { RunResult } from "../../protocol/simulation-schema.ts";
import type { RunProgress } from "../record/recorder.ts";
import type { RunDetail } from "../report/run-detail.ts";
import type { RunRecord } from "../simulate.ts";

/** A scenario as text: threads read it themselves, as perf models cannot be sent. */
export interface ScenarioText {
  readonly text: string;
  readonly fileName: string;
  readonly overrides: readonly string[];
  /** Where relative paths start. */
  readonly folder: string;
  /** Folder of measured kernel tables, or null. */
  readonly tables: string | null;
}

/** One fleet with one seed. */
export interface RunTask {
  readonly fleet: string;
  readonly seed: number;
  /** Whether plots or a trace will be made of it. */
  readonly wantsDetail: boolean;
  /** Where to write a record of its dispatcher; absent: nowhere. */
  readonly record?: RunRecord;
}

export interface RunOutcome {
  readonly result: RunResult;
  readonly detail: RunDetail | null;
}

/** What a thread is told: a task, by its place in the list. The scenario is its `workerData`. */
export interface ThreadRequest {
  readonly index: number;
  readonly task: RunTask;
}

/** What it answers. */
export type ThreadReply =
  | { readonly kind: "progress"; readonly index: number; readonly progress: RunProgress }
  | { readonly kind: "done"; readonly index: number; readonly outcome: RunOutcome }
  /** `name` is the error's; `message` is meant for the user unless `isBug`, then it is a stack. */
  | {
      readonly kind: "failed";
      readonly index: number;
      readonly name: string;
      readonly message: string;
      readonly isBug: boolean;
    };

import { Dispatcher } from "../../core/dispatch/dispatcher.ts";
import { repeatInput } from "../../core/dispatch/recorded-dispatcher.ts";
import type { RequestId } from "../../core/request.ts";
import type { PlacementDecision, PlacementPolicy } from "../../core/router/placement.ts";
import { InvariantError } from "../../core/util/assert.ts";
import { comparableDecision } from "../../protocol/dispatch-log.ts";
import type { DispatchLogReader } from "./dispatch-log-reader.ts";

/** The first decision that came out otherwise. */
export interface DecisionDifference {
  /** Of the recorded decision, or of the input that should have had none. */
  readonly line: number;
  readonly requestId: RequestId;
  /** Null: none was recorded, or none was made. */
  readonly recorded: PlacementDecision | null;
  readonly repeated: PlacementDecision | null;
}

export interface Repetition {
  readonly numInputs: number;
  readonly numDecisions: number;
  readonly numEqual: number;
  readonly firstDifference: DecisionDifference | null;
}

/**
 * Feeds the inputs of a record to a dispatcher with `placement` and compares every decision, the figures of its candidates bit for bit.
 * Throws `WorkloadError` for a record that is broken, also for one whose inputs can't have happened.
 */
export function repeatDecisions(log: DispatchLogReader, placement: PlacementPolicy): Repetition {
  const dispatcher = new Dispatcher({ ...log.header.dispatcher, placement });
  /** Decisions that were made and not found in the record yet. */
  const made: Array<{ requestId: RequestId; decision: PlacementDecision }> = [];
  let numInputs = 0;
  let numDecisions = 0;
  let numEqual = 0;
  let firstDifference: DecisionDifference | null = null;
  const differ = (difference: DecisionDifference) => {
    firstDifference ??= difference;
  };
  const expectNoMore = (line: number) => {
    // Each decision of a record follows its input at once, so what is left now was never recorded.
    for (const { requestId, decision } of made.splice(0)) {
      numDecisions++;
      differ({ line, requestId, recorded: null, repeated: decision });
    }
  };
  let inputLine = log.line;
  for (const entry of log.entries()) {
    if (entry.kind === "decision") {
      numDecisions++;
      const { requestId, decision: recorded } = entry;
      const next = made.shift() ?? null;
      if (next !== null && next.requestId === requestId && isSame(recorded, next.decision)) numEqual++;
      else differ({ line: log.line, requestId, recorded, repeated: next?.decision ?? null });
      continue;
    }
    expectNoMore(inputLine);
    inputLine = log.line;
    numInputs++;
    try {
      repeatInput(dispatcher, entry);
    } catch (error) {
      if (error instanceof InvariantError) throw log.error(`can't have happened: ${error.message}`);
      throw error;
    }
    for (const effect of dispatcher.takeEffects())
      if (effect.kind === "placed") made.push({ requestId: effect.requestId, decision: effect.decision });
  }
  // A record that was cut off may lack the decisions on its last input.
  if (log.end === "stopped") expectNoMore(inputLine);
  return { numInputs, numDecisions, numEqual, firstDifference };
}

function isSame(a: PlacementDecision, b: PlacementDecision): boolean {
  return JSON.stringify(comparableDecision(a)) === JSON.stringify(comparableDecision(b));
}

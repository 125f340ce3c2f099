import type { Sequence } from "../sequence.ts";
import { assert } from "../util/assert.ts";

/** Takes a sequence out of a list that it has to be in. */
export function removeFrom(list: Sequence[], sequence: Sequence): void {
  const at = list.indexOf(sequence);
  assert(at !== -1, "a sequence is not in the list that its status names");
  list.splice(at, 1);
}

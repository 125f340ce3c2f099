/** Half-open range of positions [start, end) of one slot. */
export interface KvRange {
  readonly slot: number;
  readonly start: number;
  readonly end: number;
}

/** Calls `visit` for each maximal run of equal values, one per block, with the token range that it spans. */
export function forRuns(
  values: readonly number[],
  blockSizeTokens: number,
  visit: (value: number, start: number, end: number) => void,
): void {
  for (let from = 0; from < values.length; ) {
    let to = from + 1;
    while (to < values.length && values[to] === values[from]) to++;
    visit(values[from]!, from * blockSizeTokens, to * blockSizeTokens);
    from = to;
  }
}

/**
 * What an engine does to its KV cells so that they agree with the block manager. Both are cheap bookkeeping.
 *
 * - `share`: positions [start, end) of `slot` also belong to slot `to`, without copying
 * - `drop`: positions [start, end) no longer belong to `slot`; cells that belong to no slot are free
 */
export type KvOp =
  | {
      readonly kind: "share";
      readonly slot: number;
      readonly to: number;
      readonly start: number;
      readonly end: number;
    }
  | { readonly kind: "drop"; readonly slot: number; readonly start: number; readonly end: number };

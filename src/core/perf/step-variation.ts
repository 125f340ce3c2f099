/** Most factors that {@link factorsOf} makes: the tails of a machine that is shared, in steps of one in 64. */
export const MAX_FACTORS = 64;

/**
 * How much longer than their price steps of one kind took: factors that are equally likely, ascending. On a machine that does other things
 * as well, most steps take about their price and some take several times as long; what a run shows are sums of both.
 */
export interface StepVariation {
  /** Of steps that only decode. */
  readonly decodes: readonly number[];
  /** Of steps with part of a prompt. */
  readonly prefills: readonly number[];
}

/**
 * Few factors that stand for measured ones: the means of equally large groups of them in ascending order, so that the mean stays as it was.
 * Empty without ratios.
 */
export function factorsOf(ratios: readonly number[]): number[] {
  const sorted = Float64Array.from(ratios).sort();
  const numGroups = Math.min(MAX_FACTORS, sorted.length);
  return Array.from({ length: numGroups }, (_, group) => {
    // Each group takes the same share, so that ratios on a border belong to both in parts.
    const [from, to] = [group, group + 1].map((bound) => (bound * sorted.length) / numGroups);
    let sum = 0;
    for (let i = Math.floor(from!); i < to!; i++)
      sum += sorted[i]! * (Math.min(i + 1, to!) - Math.max(i, from!));
    return sum / (to! - from!);
  });
}

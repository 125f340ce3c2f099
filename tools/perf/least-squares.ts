/** One equation: the residual that is to vanish, already divided by its expected size, and how it changes with each parameter. */
export interface Equation {
  readonly residual: number;
  readonly slopes: readonly number[];
}

/** Beyond so many expected sizes a residual counts linearly and not squared (Huber, 1964). */
const HUBER_LIMIT = 1.5;

/** The step that makes residuals vanish in the least-squares sense, and the standard error of every parameter. */
export function solveStep(
  equations: readonly Equation[],
  damping: number,
): { readonly step: number[]; readonly errors: number[] } {
  const size = equations[0]!.slopes.length;
  const normal = Array.from({ length: size }, () => new Array<number>(size).fill(0));
  const right = new Array<number>(size).fill(0);
  let squares = 0;
  for (const { residual, slopes } of equations) {
    const weight = Math.min(1, HUBER_LIMIT / Math.max(1e-12, Math.abs(residual)));
    squares += weight * residual * residual;
    for (let i = 0; i < size; i++) {
      right[i]! -= weight * slopes[i]! * residual;
      for (let j = 0; j < size; j++) normal[i]![j]! += weight * slopes[i]! * slopes[j]!;
    }
  }
  for (let i = 0; i < size; i++) normal[i]![i]! *= 1 + damping;
  const inverse = invert(normal);
  const variance = squares / Math.max(1, equations.length - size);
  return {
    step: inverse.map((row) => row.reduce((sum, value, j) => sum + value * right[j]!, 0)),
    errors: inverse.map((row, i) => Math.sqrt(Math.max(0, row[i]! * variance))),
  };
}

/** Inverse by Gauss and Jordan with pivots. */
function invert(matrix: readonly (readonly number[])[]): number[][] {
  const size = matrix.length;
  const rows = matrix.map((row, i) => [...row, ...row.map((_, j) => (i === j ? 1 : 0))]);
  for (let column = 0; column < size; column++) {
    let pivot = column;
    for (let i = column + 1; i < size; i++)
      if (Math.abs(rows[i]![column]!) > Math.abs(rows[pivot]![column]!)) pivot = i;
    [rows[column], rows[pivot]] = [rows[pivot]!, rows[column]!];
    const divisor = rows[column]![column]!;
    if (divisor === 0) throw new Error("the measurements do not tell the parameters apart");
    rows[column] = rows[column]!.map((value) => value / divisor);
    for (let i = 0; i < size; i++) {
      if (i === column) continue;
      const factor = rows[i]![column]!;
      rows[i] = rows[i]!.map((value, j) => value - factor * rows[column]![j]!);
    }
  }
  return rows.map((row) => row.slice(size));
}

/**
 * Fits a multilinear surface to scattered points: least absolute deviations by reweighted least squares, each solved by conjugate
 * gradients on the sparse normal equations, with a penalty on second differences so that knots without points follow their neighbours.
 */

/** Weight of the penalty against the points. */
const SMOOTHNESS = 1e-3;
/** Weight of the pull to zero, relative to the penalty: makes the equations regular. */
const RIDGE = 1e-4;
const REWEIGHTINGS = 6;
const MAX_ITERATIONS = 200;
const TOLERANCE = 1e-8;
/** Residual below which a point is weighted as one of that size, in powers of two. */
const SMALLEST_RESIDUAL = 0.02;

interface Basis {
  readonly corners: number;
  readonly index: Int32Array;
  readonly weight: Float64Array;
}

/** Values at the knots, the last coordinate fastest, for points and targets. */
export function fitSurface(
  knots: readonly (readonly number[])[],
  points: ReadonlyArray<readonly number[]>,
  targets: readonly number[],
): Float64Array {
  const sizes = knots.map((axis) => axis.length);
  const strides = sizes.map((_, d) => sizes.slice(d + 1).reduce((a, b) => a * b, 1));
  const numValues = sizes.reduce((a, b) => a * b, 1);
  const basis = basisOf(knots, strides, points);
  const omega = new Float64Array(points.length).fill(1);
  const values = new Float64Array(numValues);
  for (let round = 0; round < REWEIGHTINGS; round++) {
    solve(values, basis, omega, targets, sizes, strides);
    let sum = 0;
    for (let i = 0; i < points.length; i++) {
      const residual = Math.abs(targets[i]! - valueAt(basis, values, i));
      omega[i] = 1 / Math.max(residual, SMALLEST_RESIDUAL);
      sum += omega[i]!;
    }
    for (let i = 0; i < points.length; i++) omega[i]! *= points.length / sum;
  }
  return values;
}

function basisOf(
  knots: readonly (readonly number[])[],
  strides: readonly number[],
  points: ReadonlyArray<readonly number[]>,
): Basis {
  const corners = 1 << knots.length;
  const index = new Int32Array(points.length * corners);
  const weight = new Float64Array(points.length * corners);
  const fractions = new Float64Array(knots.length);
  points.forEach((point, i) => {
    let corner = 0;
    knots.forEach((axis, d) => {
      const x = Math.min(Math.max(point[d]!, axis[0]!), axis.at(-1)!);
      let at = 0;
      while (at < axis.length - 2 && axis[at + 1]! <= x) at++;
      fractions[d] = axis.length > 1 ? (x - axis[at]!) / (axis[at + 1]! - axis[at]!) : 0;
      corner += at * strides[d]!;
    });
    for (let vertex = 0; vertex < corners; vertex++) {
      let w = 1;
      let at = corner;
      for (let d = 0; d < knots.length; d++) {
        const isUpper = ((vertex >> d) & 1) === 1;
        w *= isUpper ? fractions[d]! : 1 - fractions[d]!;
        if (isUpper && w > 0) at += strides[d]!;
      }
      index[i * corners + vertex] = w > 0 ? at : corner;
      weight[i * corners + vertex] = w;
    }
  });
  return { corners, index, weight };
}

function valueAt(basis: Basis, values: Float64Array, i: number): number {
  let sum = 0;
  for (let c = i * basis.corners; c < (i + 1) * basis.corners; c++)
    sum += basis.weight[c]! * values[basis.index[c]!]!;
  return sum;
}

function solve(
  values: Float64Array,
  basis: Basis,
  omega: Float64Array,
  targets: readonly number[],
  sizes: readonly number[],
  strides: readonly number[],
): void {
  const { corners, index, weight } = basis;
  const product = (x: Float64Array, out: Float64Array): void => {
    out.fill(0);
    for (let i = 0; i < omega.length; i++) {
      const q = omega[i]! * valueAt(basis, x, i);
      for (let c = i * corners; c < (i + 1) * corners; c++) out[index[c]!]! += weight[c]! * q;
    }
    addPenalty(x, out, sizes, strides, (SMOOTHNESS * omega.length) / values.length);
  };
  const residual = new Float64Array(values.length);
  const image = new Float64Array(values.length);
  for (let i = 0; i < omega.length; i++)
    for (let c = i * corners; c < (i + 1) * corners; c++)
      residual[index[c]!]! += weight[c]! * omega[i]! * targets[i]!;
  product(values, image);
  for (let j = 0; j < values.length; j++) residual[j]! -= image[j]!;
  const direction = Float64Array.from(residual);
  let norm = dot(residual, residual);
  const target = norm * TOLERANCE;
  for (let iteration = 0; iteration < MAX_ITERATIONS && norm > target; iteration++) {
    product(direction, image);
    const step = norm / dot(direction, image);
    for (let j = 0; j < values.length; j++) {
      values[j]! += step * direction[j]!;
      residual[j]! -= step * image[j]!;
    }
    const next = dot(residual, residual);
    for (let j = 0; j < values.length; j++) direction[j] = residual[j]! + (next / norm) * direction[j]!;
    norm = next;
  }
}

function addPenalty(
  x: Float64Array,
  out: Float64Array,
  sizes: readonly number[],
  strides: readonly number[],
  scale: number,
): void {
  for (let j = 0; j < x.length; j++) out[j]! += RIDGE * scale * x[j]!;
  sizes.forEach((size, d) => {
    const stride = strides[d]!;
    for (let j = 0; j < x.length; j++) {
      const at = Math.floor(j / stride) % size;
      if (at === 0 || at === size - 1) continue;
      const bend = (x[j - stride]! - 2 * x[j]! + x[j + stride]!) * scale;
      out[j - stride]! += bend;
      out[j]! -= 2 * bend;
      out[j + stride]! += bend;
    }
  });
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let j = 0; j < a.length; j++) sum += a[j]! * b[j]!;
  return sum;
}

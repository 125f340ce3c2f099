/** Number formats that matrices are multiplied in, or KV and weights are stored in. */
export type Precision = "bf16" | "fp8" | "fp4" | "int8" | "int4";

/** Bytes that one element takes in memory, scale factors left out. */
export const BYTES_PER_ELEMENT: Readonly<Record<Precision, number>> = {
  bf16: 2,
  fp8: 1,
  fp4: 0.5,
  int8: 1,
  int4: 0.5,
};

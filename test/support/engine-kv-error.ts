import { detectLayout, type KvLayout } from "../../src/serve/engine/llama/kv-blob.ts";

const BLOCK_BYTES = 34;
const BLOCK_ELEMENTS = 32;
const BLOB_HEADER_BYTES = 16;
const CELL_BYTES = 12;
const LAYERS_HEADER_BYTES = 8;
const SECTION_HEADER_BYTES = 12;

/**
 * The largest relative error (Euclidean) of any token's K or V in any layer between two exports of one range in Q8_0.
 *
 * llama.cpp sums attention in order of cells. When the cells of a sequence are not in order of position, sums round differently, which
 * moves some values by a quantisation step; KV of another token or prefix is off by its whole size.
 */
export function largestRowError(oneCell: Uint8Array, actual: Uint8Array, expected: Uint8Array): number {
  const layout = detectLayout(oneCell);
  if (layout === null || actual.length !== expected.length)
    throw new Error("the exports are of different kinds");
  const numCells = cellsOf(actual, layout);
  const [a, b] = [viewOf(actual), viewOf(expected)];
  let at = BLOB_HEADER_BYTES + numCells * CELL_BYTES + LAYERS_HEADER_BYTES;
  let largest = 0;
  for (const { rowBytes } of layout.sections) {
    at += SECTION_HEADER_BYTES;
    for (let cell = 0; cell < numCells; cell++, at += rowBytes) {
      largest = Math.max(largest, rowError(a, b, at, rowBytes));
    }
  }
  return largest;
}

function cellsOf(bytes: Uint8Array, layout: KvLayout): number {
  const fixed = BLOB_HEADER_BYTES + LAYERS_HEADER_BYTES + layout.sections.length * SECTION_HEADER_BYTES;
  return (bytes.length - fixed) / (layout.bytesPerToken + CELL_BYTES);
}

function rowError(a: DataView, b: DataView, start: number, rowBytes: number): number {
  let squaredError = 0;
  let squaredNorm = 0;
  for (let block = start; block < start + rowBytes; block += BLOCK_BYTES) {
    const scaleA = halfFloat(a.getUint16(block, true));
    const scaleB = halfFloat(b.getUint16(block, true));
    for (let i = 0; i < BLOCK_ELEMENTS; i++) {
      const x = scaleA * a.getInt8(block + 2 + i);
      const y = scaleB * b.getInt8(block + 2 + i);
      squaredError += (x - y) ** 2;
      squaredNorm += y * y;
    }
  }
  return Math.sqrt(squaredError / squaredNorm);
}

/** IEEE 754 binary16. */
function halfFloat(bits: number): number {
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  const magnitude = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -magnitude : magnitude;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

import { EngineError, type KvPositions } from "../engine.ts";

/**
 * Layout of the bytes that `llama_state_seq_get_data` writes for a plain, unified KV cache with flash attention (read from
 * `llama-kv-cache.cpp` at llama.cpp v0.5.0). All integers are little-endian:
 *
 * ```
 *   u32 magic, i32 sequence, u32 streams = 1, u32 cells
 *   per cell:  i32 position, u32 number of sequences = 1, i32 sequence
 *   u32 V is transposed = 0, u32 layers
 *   per layer: i32 type of K, u64 bytes per row, rows (one per cell)
 *   per layer: i32 type of V, u64 bytes per row, rows (absent in models without V)
 * ```
 */
const MAGIC = 0xaf143cd8;
const HEADER_BYTES = 16;
const CELL_BYTES = 12;
const LAYERS_HEADER_BYTES = 8;
const SECTION_HEADER_BYTES = 12;
const MAX_LAYERS = 4096;

/** The rows of one layer's K or V. */
interface Section {
  readonly type: number;
  readonly rowBytes: number;
}

/** What a model's exported KV looks like, found by looking at the export of one token. */
export interface KvLayout {
  readonly numLayers: number;
  /** K of every layer, then V of every layer. */
  readonly sections: readonly Section[];
  /** Bytes of K and V per token. */
  readonly bytesPerToken: number;
}

/** Reads the layout off an export of exactly one cell, or returns null when it is of another kind. */
export function detectLayout(bytes: Uint8Array): KvLayout | null {
  const view = viewOf(bytes);
  const layersAt = HEADER_BYTES + CELL_BYTES;
  if (bytes.length < layersAt + LAYERS_HEADER_BYTES) return null;
  if (view.getUint32(0, true) !== MAGIC || view.getUint32(8, true) !== 1 || view.getUint32(12, true) !== 1)
    return null;
  const numLayers = view.getUint32(layersAt + 4, true);
  if (view.getUint32(layersAt, true) !== 0 || numLayers < 1 || numLayers > MAX_LAYERS) return null;
  const sections: Section[] = [];
  let at = layersAt + LAYERS_HEADER_BYTES;
  while (at + SECTION_HEADER_BYTES <= bytes.length && sections.length < 2 * numLayers) {
    const rowBytes = Number(view.getBigUint64(at + 4, true));
    sections.push({ type: view.getInt32(at, true), rowBytes });
    at += SECTION_HEADER_BYTES + rowBytes;
  }
  const isWhole = at === bytes.length && (sections.length === numLayers || sections.length === 2 * numLayers);
  if (!isWhole) return null;
  return { numLayers, sections, bytesPerToken: sections.reduce((sum, section) => sum + section.rowBytes, 0) };
}

/** Bytes of an export of so many cells. */
export function blobBytes(layout: KvLayout, numCells: number): number {
  const perCell = CELL_BYTES + layout.bytesPerToken;
  const fixed = HEADER_BYTES + LAYERS_HEADER_BYTES + layout.sections.length * SECTION_HEADER_BYTES;
  return fixed + numCells * perCell;
}

/**
 * Puts the rows in order of position and clears the name of the sequence, in place. libllama writes rows in order of cells, which
 * differs from engine to engine; afterwards equal KV means equal bytes. Throws when a position is missing.
 */
export function canonicalize(bytes: Uint8Array, layout: KvLayout, start: number, numCells: number): void {
  const view = viewOf(bytes);
  view.setInt32(4, 0, true);
  let isOrdered = true;
  const cellAt = new Int32Array(numCells).fill(-1);
  for (let i = 0; i < numCells; i++) {
    const at = HEADER_BYTES + i * CELL_BYTES;
    const index = view.getInt32(at, true) - start;
    if (index < 0 || index >= numCells || cellAt[index] !== -1) {
      throw new EngineError(
        "native_failure",
        `the exported KV has position ${index + start} twice or out of range`,
      );
    }
    cellAt[index] = i;
    isOrdered &&= index === i;
    view.setInt32(at, i + start, true);
    view.setInt32(at + 8, 0, true);
  }
  if (!isOrdered) permuteRows(bytes, layout, cellAt);
}

/** Row i of every section becomes what row `source[i]` was. */
function permuteRows(bytes: Uint8Array, layout: KvLayout, source: Int32Array): void {
  const numCells = source.length;
  let at = HEADER_BYTES + numCells * CELL_BYTES + LAYERS_HEADER_BYTES;
  for (const { rowBytes } of layout.sections) {
    at += SECTION_HEADER_BYTES;
    const rows = bytes.slice(at, at + numCells * rowBytes);
    for (let i = 0; i < numCells; ) {
      const from = source[i]!;
      let length = 1;
      while (i + length < numCells && source[i + length] === from + length) length++;
      bytes.set(rows.subarray(from * rowBytes, (from + length) * rowBytes), at + i * rowBytes);
      i += length;
    }
    at += numCells * rowBytes;
  }
}

/**
 * Checks every structural byte of an export against the range that it is to be written to, so that bytes which do not fit never
 * reach native code. Throws `EngineError` with code `bad_kv`.
 */
export function checkBlob(bytes: Uint8Array, layout: KvLayout, start: number, numCells: number): void {
  const expected = blobBytes(layout, numCells);
  if (bytes.length !== expected) fail(`${bytes.length} bytes for ${numCells} tokens, expected ${expected}`);
  const view = viewOf(bytes);
  expect(view.getUint32(0, true), MAGIC, "magic number");
  expect(view.getUint32(8, true), 1, "number of streams");
  expect(view.getUint32(12, true), numCells, "number of cells");
  for (let i = 0; i < numCells; i++) {
    const at = HEADER_BYTES + i * CELL_BYTES;
    expect(view.getInt32(at, true), start + i, "position");
    expect(view.getUint32(at + 4, true), 1, "number of sequences");
  }
  let at = HEADER_BYTES + numCells * CELL_BYTES;
  expect(view.getUint32(at, true), 0, "transposition of V");
  expect(view.getUint32(at + 4, true), layout.numLayers, "number of layers");
  at += LAYERS_HEADER_BYTES;
  for (const { type, rowBytes } of layout.sections) {
    expect(view.getInt32(at, true), type, "element type");
    expect(Number(view.getBigUint64(at + 4, true)), rowBytes, "row size");
    at += SECTION_HEADER_BYTES + numCells * rowBytes;
  }
}

/**
 * The rows of positions `part` of an export of `whole`, as an export of their own; all of it is returned as it is. Throws as
 * {@link checkBlob} does.
 */
export function sliceBlob(
  bytes: Uint8Array,
  layout: KvLayout,
  whole: KvPositions,
  part: KvPositions,
): Uint8Array {
  const numCells = whole.end - whole.start;
  checkBlob(bytes, layout, whole.start, numCells);
  const skipped = part.start - whole.start;
  const numKept = part.end - part.start;
  if (numKept === numCells) return bytes;
  const slice = new Uint8Array(blobBytes(layout, numKept));
  slice.set(bytes.subarray(0, HEADER_BYTES));
  viewOf(slice).setUint32(12, numKept, true);
  let from = HEADER_BYTES;
  let to = HEADER_BYTES;
  const copyRows = (rowBytes: number): void => {
    slice.set(bytes.subarray(from + skipped * rowBytes, from + (skipped + numKept) * rowBytes), to);
    from += numCells * rowBytes;
    to += numKept * rowBytes;
  };
  const copyHeader = (length: number): void => {
    slice.set(bytes.subarray(from, from + length), to);
    from += length;
    to += length;
  };
  copyRows(CELL_BYTES);
  copyHeader(LAYERS_HEADER_BYTES);
  for (const { rowBytes } of layout.sections) {
    copyHeader(SECTION_HEADER_BYTES);
    copyRows(rowBytes);
  }
  return slice;
}

function expect(actual: number, expected: number, what: string): void {
  if (actual !== expected) fail(`${what} is ${actual}, expected ${expected}`);
}

function fail(what: string): never {
  throw new EngineError("bad_kv", `the imported KV does not fit: ${what}`);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

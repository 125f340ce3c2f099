import { describe, expect, it } from "vitest";
import { blobBytes, canonicalize, checkBlob, detectLayout, type KvLayout } from "./kv-blob.ts";

/** Two layers with rows of 6 and 4 bytes. The byte of a row tells layer, K or V, and position. */
const ROWS = [6, 4] as const;

/** What libllama writes for cells at these positions, with another sequence id. */
function exportOf(positions: readonly number[], sequence: number): Uint8Array {
  const bytes = new Uint8Array(16 + 12 * positions.length + 8 + 4 * 12 + positions.length * 20);
  const view = new DataView(bytes.buffer);
  let at = 0;
  const u32 = (value: number) => {
    view.setUint32(at, value, true);
    at += 4;
  };
  for (const value of [0xaf143cd8, sequence, 1, positions.length]) u32(value);
  for (const position of positions) for (const value of [position, 1, sequence]) u32(value);
  u32(0);
  u32(2);
  for (let section = 0; section < 4; section++) {
    const rowBytes = ROWS[section % 2]!;
    for (const value of [8, rowBytes, 0]) u32(value);
    for (const position of positions) {
      bytes.fill(64 * section + position, at, at + rowBytes);
      at += rowBytes;
    }
  }
  return bytes;
}

const layout = detectLayout(exportOf([7], 3)) as KvLayout;

describe("KV blob", () => {
  it("finds the layout in the export of one cell", () => {
    expect(layout.numLayers).toBe(2);
    expect(layout.sections.map((section) => section.rowBytes)).toEqual([6, 4, 6, 4]);
    expect(layout.bytesPerToken).toBe(20);
    expect(blobBytes(layout, 5)).toBe(exportOf([1, 2, 3, 4, 5], 0).length);
  });

  it("knows no layout for other kinds of bytes", () => {
    const bytes = exportOf([7], 3);
    expect(detectLayout(new Uint8Array(10))).toBeNull();
    expect(detectLayout(exportOf([7, 8], 3))).toBeNull();
    expect(detectLayout(bytes.slice(0, -1))).toBeNull();
    expect(detectLayout(new Uint8Array([...bytes, 0]))).toBeNull();
    for (const at of [0, 8, 12, 28, 32]) {
      const altered = bytes.slice();
      altered[at]! ^= 0x10;
      expect(detectLayout(altered), `byte ${at}`).toBeNull();
    }
  });

  it.each([[[10, 11, 12, 13, 14]], [[14, 13, 12, 11, 10]], [[12, 13, 14, 10, 11]], [[11, 10, 13, 14, 12]]])(
    "makes the export of cells at %j what it would be in order of position",
    (positions) => {
      const bytes = exportOf(positions, 9);
      canonicalize(bytes, layout, 10, 5);
      expect(bytes).toEqual(exportOf([10, 11, 12, 13, 14], 0));
      expect(() => checkBlob(bytes, layout, 10, 5)).not.toThrow();
    },
  );

  it("refuses to order cells of which one is missing", () => {
    expect(() => canonicalize(exportOf([10, 11, 11], 0), layout, 10, 3)).toThrow(/twice or out of range/);
    expect(() => canonicalize(exportOf([10, 11, 13], 0), layout, 10, 3)).toThrow(/twice or out of range/);
  });

  it("refuses cells that are not in order of position when checked", () => {
    expect(() => checkBlob(exportOf([11, 10], 0), layout, 10, 2)).toThrow(/position is 11, expected 10/);
  });
});

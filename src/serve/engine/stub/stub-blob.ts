import { EngineError } from "../engine.ts";

/** Bytes of one cell's state. */
export const STATE_BYTES = 4;
/** "TFS1", then the first position and the number of positions, all u32 little-endian; the states follow. */
const MAGIC = 0x31534654;
const HEADER_BYTES = 12;

export function encodeStates(start: number, states: Int32Array): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + STATE_BYTES * states.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, start, true);
  view.setUint32(8, states.length, true);
  states.forEach((state, i) => {
    view.setInt32(HEADER_BYTES + STATE_BYTES * i, state, true);
  });
  return bytes;
}

/** Throws `EngineError` `bad_kv` when the bytes are not an export of exactly this range. */
export function decodeStates(bytes: Uint8Array, start: number, count: number): Int32Array {
  const expected = HEADER_BYTES + STATE_BYTES * count;
  if (bytes.length !== expected) fail(`${bytes.length} bytes for ${count} tokens, expected ${expected}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== MAGIC) fail("it was not exported by a stub engine");
  if (view.getUint32(4, true) !== start) fail(`it starts at ${view.getUint32(4, true)}, expected ${start}`);
  if (view.getUint32(8, true) !== count)
    fail(`it has ${view.getUint32(8, true)} positions, expected ${count}`);
  return Int32Array.from({ length: count }, (_, i) => view.getInt32(HEADER_BYTES + STATE_BYTES * i, true));
}

function fail(what: string): never {
  throw new EngineError("bad_kv", `the imported KV does not fit: ${what}`);
}

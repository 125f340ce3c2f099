/** Initialisation vector of BLAKE2s (RFC 7693, section 2.6). */
const IV = Uint32Array.of(
  0x6a09e667,
  0xbb67ae85,
  0x3c6ef372,
  0xa54ff53a,
  0x510e527f,
  0x9b05688c,
  0x1f83d9ab,
  0x5be0cd19,
);

/** Message schedule (RFC 7693, section 2.7), ten rounds of sixteen words. */
const SIGMA = Uint8Array.from(
  [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
  ].flat(),
);

const v = new Int32Array(16);

function mix(a: number, b: number, c: number, d: number, x: number, y: number): void {
  let va = v[a]!;
  let vb = v[b]!;
  let vc = v[c]!;
  let vd = v[d]!;
  va = (va + vb + x) | 0;
  vd ^= va;
  vd = (vd >>> 16) | (vd << 16);
  vc = (vc + vd) | 0;
  vb ^= vc;
  vb = (vb >>> 12) | (vb << 20);
  va = (va + vb + y) | 0;
  vd ^= va;
  vd = (vd >>> 8) | (vd << 24);
  vc = (vc + vd) | 0;
  vb ^= vc;
  vb = (vb >>> 7) | (vb << 25);
  v[a] = va;
  v[b] = vb;
  v[c] = vc;
  v[d] = vd;
}

/**
 * The compression function F of BLAKE2s (RFC 7693, section 3.2): absorbs one 64-byte message block into `state`.
 *
 * @param state eight 32-bit words, changed in place
 * @param message sixteen 32-bit words
 * @param counter bytes absorbed so far, this block included; below 2^53
 * @param last whether this is the last block of the message
 */
export function blake2sCompress(
  state: Int32Array,
  message: Int32Array,
  counter: number,
  last: boolean,
): void {
  for (let i = 0; i < 8; i++) {
    v[i] = state[i]!;
    v[i + 8] = IV[i]!;
  }
  v[12] = v[12]! ^ (counter | 0);
  v[13] = v[13]! ^ Math.floor(counter / 0x100000000);
  if (last) v[14] = ~v[14]!;
  for (let at = 0; at < 160; at += 16) {
    mix(0, 4, 8, 12, message[SIGMA[at]!]!, message[SIGMA[at + 1]!]!);
    mix(1, 5, 9, 13, message[SIGMA[at + 2]!]!, message[SIGMA[at + 3]!]!);
    mix(2, 6, 10, 14, message[SIGMA[at + 4]!]!, message[SIGMA[at + 5]!]!);
    mix(3, 7, 11, 15, message[SIGMA[at + 6]!]!, message[SIGMA[at + 7]!]!);
    mix(0, 5, 10, 15, message[SIGMA[at + 8]!]!, message[SIGMA[at + 9]!]!);
    mix(1, 6, 11, 12, message[SIGMA[at + 10]!]!, message[SIGMA[at + 11]!]!);
    mix(2, 7, 8, 13, message[SIGMA[at + 12]!]!, message[SIGMA[at + 13]!]!);
    mix(3, 4, 9, 14, message[SIGMA[at + 14]!]!, message[SIGMA[at + 15]!]!);
  }
  for (let i = 0; i < 8; i++) state[i] = state[i]! ^ v[i]! ^ v[i + 8]!;
}

/** Starts a BLAKE2s state for a digest of `digestBytes` (1 to 32) without a key. */
export function blake2sInit(state: Int32Array, digestBytes: number): void {
  for (let i = 0; i < 8; i++) state[i] = IV[i]!;
  state[0] = state[0]! ^ 0x01010000 ^ digestBytes;
}

/** BLAKE2s digest (RFC 7693) of bytes, as 32-bit words; for short texts such as salts and model ids. */
export function blake2s(bytes: Uint8Array, digestBytes: 16 | 32): Int32Array {
  const state = new Int32Array(8);
  const message = new Int32Array(16);
  const block = new Uint8Array(message.buffer);
  blake2sInit(state, digestBytes);
  let at = 0;
  do {
    const piece = bytes.subarray(at, at + 64);
    block.fill(0);
    block.set(piece);
    at += piece.length;
    blake2sCompress(state, message, at, at >= bytes.length);
  } while (at < bytes.length);
  return state.slice(0, digestBytes / 4);
}

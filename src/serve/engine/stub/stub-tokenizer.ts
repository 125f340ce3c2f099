import { setImmediate as nextTurn } from "node:timers/promises";
import { checkEncodable } from "../encode-limit.ts";
import { EngineError } from "../engine.ts";
import type { Tokenizer } from "../tokenizer.ts";
import {
  CONTROL_TOKENS,
  STUB_END_OF_GENERATION,
  STUB_MODEL_NAME,
  STUB_TOKENIZER_ID,
  STUB_VOCAB_SIZE,
  TOKEN_BYTES,
} from "./stub-vocabulary.ts";

/** Other work gets a turn after so many bytes: about a millisecond. */
const BYTES_PER_TURN = 1 << 16;
const LESS_THAN = 0x3c;

/** The template of ChatML, which the stub shares with many models. */
const CHAT_TEMPLATE =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

const CONTROL_BYTES = CONTROL_TOKENS.map(([text, token]) => ({
  bytes: new TextEncoder().encode(text),
  token,
}));

/** A byte trie of all tokens that have bytes. */
class TokenTrie {
  /** 256 successors per node; 0 for none, because the root is nobody's successor. */
  readonly #next: Uint16Array;
  /** Token that ends at a node, or -1. */
  readonly #tokens: Int16Array;

  constructor(pieces: readonly Uint8Array[]) {
    const maxNodes = 1 + pieces.reduce((sum, piece) => sum + piece.length, 0);
    this.#next = new Uint16Array(256 * maxNodes);
    this.#tokens = new Int16Array(maxNodes).fill(-1);
    let numNodes = 1;
    pieces.forEach((piece, token) => {
      if (piece.length === 0) return;
      let node = 0;
      for (const byte of piece) {
        if (this.#next[256 * node + byte] === 0) this.#next[256 * node + byte] = numNodes++;
        node = this.#next[256 * node + byte]!;
      }
      this.#tokens[node] = token;
    });
  }

  /** The token with the longest match at `at`. There is always one, because every byte is a token. */
  longestMatch(bytes: Uint8Array, at: number): number {
    let node = 0;
    let token = bytes[at]!;
    for (let i = at; i < bytes.length; i++) {
      node = this.#next[256 * node + bytes[i]!]!;
      if (node === 0) break;
      if (this.#tokens[node] !== -1) token = this.#tokens[node]!;
    }
    return token;
  }
}

let sharedTrie: TokenTrie | null = null;

/** The stub engine's tokenizer: greedy longest match over bytes and words. Round-trips every text. */
export class StubTokenizer implements Tokenizer {
  readonly id = STUB_TOKENIZER_ID;
  readonly modelName: string;
  readonly vocabSize = STUB_VOCAB_SIZE;
  readonly trainedContextTokens: number;
  readonly endOfGenerationTokens: ReadonlySet<number> = new Set(STUB_END_OF_GENERATION);
  readonly chatTemplate = CHAT_TEMPLATE;
  readonly bosText = "";
  readonly eosText = "<|im_end|>";
  /** No word has a character of theirs, so the longest match begins anew behind each. */
  readonly cutTokens: ReadonlyMap<string, number> = new Map(
    CONTROL_TOKENS.filter(([, token]) => STUB_END_OF_GENERATION.includes(token)),
  );
  readonly #trie: TokenTrie;
  #isClosed = false;

  constructor(options: { modelName?: string; trainedContextTokens: number }) {
    this.modelName = options.modelName ?? STUB_MODEL_NAME;
    this.trainedContextTokens = options.trainedContextTokens;
    sharedTrie ??= new TokenTrie(TOKEN_BYTES);
    this.#trie = sharedTrie;
  }

  /** `addSpecial` adds nothing: the stub has no token that starts a prompt. */
  async encode(text: string, options: { parseSpecial: boolean; addSpecial: boolean }): Promise<Int32Array> {
    if (this.#isClosed) throw new EngineError("closed", "the tokenizer has been closed");
    checkEncodable(text);
    const bytes = new TextEncoder().encode(text);
    const tokens = new Int32Array(bytes.length);
    let numTokens = 0;
    let turnEnd = BYTES_PER_TURN;
    for (let at = 0; at < bytes.length; ) {
      const control = options.parseSpecial && bytes[at] === LESS_THAN ? controlAt(bytes, at) : undefined;
      const token = control?.token ?? this.#trie.longestMatch(bytes, at);
      tokens[numTokens++] = token;
      at += control?.bytes.length ?? TOKEN_BYTES[token]!.length;
      if (at >= turnEnd) {
        turnEnd += BYTES_PER_TURN;
        await nextTurn();
      }
    }
    return tokens.slice(0, numTokens);
  }

  tokenBytes(token: number): Uint8Array {
    const bytes = TOKEN_BYTES[token];
    if (bytes === undefined) {
      throw new EngineError("bad_argument", `token ${token} is outside the vocabulary of ${STUB_VOCAB_SIZE}`);
    }
    return bytes;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
  }
}

function controlAt(bytes: Uint8Array, at: number): (typeof CONTROL_BYTES)[number] | undefined {
  return CONTROL_BYTES.find((control) => control.bytes.every((byte, i) => bytes[at + i] === byte));
}

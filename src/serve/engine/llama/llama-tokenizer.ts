import { ConcurrencyLimit } from "../concurrency-limit.ts";
import { cutTokens, type SpecialToken, splitAtCuts } from "../cut-tokens.ts";
import { checkEncodable } from "../encode-limit.ts";
import { EngineError } from "../engine.ts";
import type { Tokenizer } from "../tokenizer.ts";
import { callAsync, type ModelPointer, type VocabPointer } from "./bindings.ts";
import { type GgufFile, readGgufFile } from "./gguf-file.ts";
import { type LlamaLibrary, loadLibrary } from "./library.ts";
import { splitLongRuns } from "./long-runs.ts";
import { endOfGenerationTokens, loadModel } from "./open-llama-engine.ts";

/** One less than Node's thread pool has, so that files and names can be looked up beside. */
const MAX_RUNNING_ENCODES = 3;
const MAX_WAITING_ENCODES = 4096;

/** Characters of one kind in a row that `std::regex` can match within the native stack, four times over. */
const MAX_RUN_CHARS = 4096;
/** Pre-tokenizers that llama.cpp splits with loops of its own; checked with runs of a million characters. */
const LOOPING_PRE_TOKENIZERS: ReadonlySet<unknown> = new Set([
  "gpt-2",
  "llama-bpe",
  "qwen2",
  "smollm",
  "starcoder",
  "mpt",
  "chatglm-bpe",
  "jina-v2-code",
]);

/** Vocabularies in which what stands between two special tokens is tokenised by itself. */
const PIECEWISE_MODELS: ReadonlySet<unknown> = new Set(["gpt2", "llama"]);
/** `llama_token_attr` of `llama.h`: what makes a token special, and what makes it take white space away. */
const SPECIAL_ATTRIBUTES = (1 << 0) | (1 << 3) | (1 << 4);
const STRIPPING_ATTRIBUTES = (1 << 7) | (1 << 8) | (1 << 9);
/** Texts before and behind a cut token with which it is tried out. */
const CUT_PROBES = ["", "a", " b ", "\n", "\n\nc", "  1"];

/** Room for special tokens that a model adds around a text. */
const SPECIAL_TOKENS_ROOM = 16;
/** Text has seldom more tokens than this share of its bytes; one that does is encoded a second time. */
const EXPECTED_TOKENS_PER_BYTE = 0.5;
const MAX_TOKEN_BYTES = 1 << 16;
const CHAT_TEMPLATE_KEY = "tokenizer.chat_template";

/** Opens the tokenizer of a GGUF file without loading its weights. */
export async function openLlamaTokenizer(options: { readonly modelPath: string }): Promise<Tokenizer> {
  const file = readGgufFile(options.modelPath);
  const library = await loadLibrary();
  const model = await loadModel(library, file, { vocabOnly: true });
  try {
    const tokenizer = new LlamaTokenizer(library, file, model);
    await tokenizer.tryCuts();
    return tokenizer;
  } catch (error) {
    library.api.llama_model_free(model);
    throw error;
  }
}

class LlamaTokenizer implements Tokenizer {
  readonly id: string;
  readonly modelName: string;
  readonly vocabSize: number;
  readonly trainedContextTokens: number;
  readonly endOfGenerationTokens: ReadonlySet<number>;
  readonly chatTemplate: string | null;
  readonly bosText: string;
  readonly eosText: string;
  cutTokens: ReadonlyMap<string, number> = new Map();
  readonly #library: LlamaLibrary;
  readonly #model: ModelPointer;
  readonly #vocab: VocabPointer;
  readonly #pieces: TokenPieces;
  /** Whether a long run of characters of one kind would overflow the native stack. */
  readonly #mayRecurse: boolean;
  readonly #encodes = new ConcurrencyLimit({
    maxRunning: MAX_RUNNING_ENCODES,
    maxWaiting: MAX_WAITING_ENCODES,
  });
  #isClosed = false;

  constructor(library: LlamaLibrary, file: GgufFile, model: ModelPointer) {
    const { api } = library;
    this.#library = library;
    this.#model = model;
    this.#vocab = api.llama_model_get_vocab(model);
    this.id = file.tokenizerId;
    this.modelName = file.modelName;
    this.vocabSize = api.llama_vocab_n_tokens(this.#vocab);
    // The library does not read it when it loads the vocabulary alone.
    this.trainedContextTokens = Number(file.metadata.get(`${file.architecture}.context_length`) ?? 0);
    this.endOfGenerationTokens = new Set(endOfGenerationTokens(library, this.#vocab));
    const template = file.metadata.get(CHAT_TEMPLATE_KEY);
    this.chatTemplate = typeof template === "string" ? template : null;
    this.bosText = this.#textOf(api.llama_vocab_bos(this.#vocab));
    this.eosText = this.#textOf(api.llama_vocab_eos(this.#vocab));
    const isByteLevel = file.metadata.get("tokenizer.ggml.model") === "gpt2";
    this.#mayRecurse = isByteLevel && !LOOPING_PRE_TOKENIZERS.has(file.metadata.get("tokenizer.ggml.pre"));
    this.#pieces = readPieces(library, this.#vocab, this.vocabSize);
    if (PIECEWISE_MODELS.has(file.metadata.get("tokenizer.ggml.model")))
      this.cutTokens = new Map(
        cutTokens(this.#specialTokens(), this.endOfGenerationTokens).map(({ text, id }) => [text, id]),
      );
  }

  /** Keeps those cut tokens that hold what they promise when they are tried. */
  async tryCuts(): Promise<void> {
    const options = { parseSpecial: true, addSpecial: false };
    const proven = new Map<string, number>();
    for (const [text, id] of this.cutTokens) {
      let holds = true;
      for (const [i, before] of CUT_PROBES.entries()) {
        const behind = CUT_PROBES[(i * 5 + 2) % CUT_PROBES.length]!;
        const parts = [`${before}${text}`, `${behind}${text}`];
        const whole = await this.encode(parts.join(""), options);
        const [first, second] = await Promise.all(parts.map((part) => this.encode(part, options)));
        holds &&= first!.at(-1) === id && [...first!, ...second!].join() === whole.join();
      }
      if (holds) proven.set(text, id);
    }
    this.cutTokens = proven;
  }

  #specialTokens(): SpecialToken[] {
    const { api } = this.#library;
    const specials: SpecialToken[] = [];
    for (let id = 0; id < this.vocabSize; id++) {
      const attributes = api.llama_vocab_get_attr(this.#vocab, id);
      if ((attributes & SPECIAL_ATTRIBUTES) === 0) continue;
      const isStripping = (attributes & STRIPPING_ATTRIBUTES) !== 0;
      specials.push({ id, text: this.#textOf(id), isStripping });
    }
    return specials;
  }

  async encode(text: string, options: { parseSpecial: boolean; addSpecial: boolean }): Promise<Int32Array> {
    if (this.#isClosed) throw new EngineError("closed", "the tokenizer has been closed");
    checkEncodable(text);
    return this.#encodes.run(() => this.#encode(text, options));
  }

  tokenBytes(token: number): Uint8Array {
    return this.#pieces.get(token);
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#encodes.idle();
    this.#library.api.llama_model_free(this.#model);
  }

  async #encode(text: string, options: { parseSpecial: boolean; addSpecial: boolean }): Promise<Int32Array> {
    const pieces = this.#mayRecurse ? this.#splitLongRuns(text, options.parseSpecial) : [text];
    if (pieces.length === 1) return this.#encodePiece(text, options);
    // A byte-level vocabulary adds nothing but these two, so they can be added around the pieces.
    const { api } = this.#library;
    const isBosAdded = options.addSpecial && api.llama_vocab_get_add_bos(this.#vocab);
    const isEosAdded = options.addSpecial && api.llama_vocab_get_add_eos(this.#vocab);
    const parts: number[][] = [];
    if (isBosAdded) parts.push([api.llama_vocab_bos(this.#vocab)]);
    for (const piece of pieces) {
      parts.push(Array.from(await this.#encodePiece(piece, { ...options, addSpecial: false })));
    }
    if (isEosAdded) parts.push([api.llama_vocab_eos(this.#vocab)]);
    return Int32Array.from(parts.flat());
  }

  /**
   * Runs end at cut tokens, so that a text is cut in the same places whatever stands before such a token. What has no long run stays
   * together up to the next one that does: every piece is a call.
   */
  #splitLongRuns(text: string, parseSpecial: boolean): string[] {
    const pieces = splitLongRuns(text, MAX_RUN_CHARS);
    if (pieces.length === 1 || !parseSpecial || this.cutTokens.size === 0) return pieces;
    const joined: string[] = [];
    let isLastWhole = false;
    for (const part of splitAtCuts(text, [...this.cutTokens.keys()])) {
      const runs = splitLongRuns(part, MAX_RUN_CHARS);
      const isWhole = runs.length === 1;
      if (isWhole && isLastWhole) joined.push(`${joined.pop()}${part}`);
      else joined.push(...runs);
      isLastWhole = isWhole;
    }
    return joined;
  }

  async #encodePiece(
    text: string,
    options: { parseSpecial: boolean; addSpecial: boolean },
  ): Promise<Int32Array> {
    const bytes = new TextEncoder().encode(text);
    const { addSpecial, parseSpecial } = options;
    let room = Math.ceil(bytes.length * EXPECTED_TOKENS_PER_BYTE) + SPECIAL_TOKENS_ROOM;
    for (let attempt = 0; attempt < 2; attempt++) {
      const tokens = new Int32Array(room);
      const count = await callAsync(
        this.#library.api.llama_tokenize,
        ...([this.#vocab, bytes, bytes.length, tokens, room, addSpecial, parseSpecial] as const),
      );
      if (count >= 0) return tokens.slice(0, count);
      // A negative count is how many tokens there would have been.
      room = -count;
    }
    throw new EngineError(
      "native_failure",
      `llama_tokenize needs more room than it asked for (${room} tokens)`,
    );
  }

  #textOf(token: number): string {
    if (token < 0) return "";
    return this.#library.api.llama_vocab_get_text(this.#vocab, token) ?? "";
  }
}

/** The bytes of all tokens, one after the other. */
class TokenPieces {
  readonly #bytes: Uint8Array;
  readonly #ends: Int32Array;
  readonly #views: Array<Uint8Array | undefined>;

  constructor(bytes: Uint8Array, ends: Int32Array) {
    this.#bytes = bytes;
    this.#ends = ends;
    this.#views = new Array(ends.length);
  }

  get(token: number): Uint8Array {
    if (!Number.isInteger(token) || token < 0 || token >= this.#ends.length) {
      throw new EngineError(
        "bad_argument",
        `token ${token} is outside the vocabulary of ${this.#ends.length}`,
      );
    }
    let view = this.#views[token];
    if (view === undefined) {
      view = this.#bytes.subarray(token === 0 ? 0 : this.#ends[token - 1]!, this.#ends[token]!);
      this.#views[token] = view;
    }
    return view;
  }
}

function readPieces(library: LlamaLibrary, vocab: VocabPointer, vocabSize: number): TokenPieces {
  const ends = new Int32Array(vocabSize);
  let bytes = new Uint8Array(8 * vocabSize);
  let piece = new Uint8Array(256);
  let length = 0;
  for (let token = 0; token < vocabSize; token++) {
    let count = library.api.llama_token_to_piece(vocab, token, piece, piece.length, 0, false);
    if (count < 0 && -count <= MAX_TOKEN_BYTES) {
      piece = new Uint8Array(-count);
      count = library.api.llama_token_to_piece(vocab, token, piece, piece.length, 0, false);
    }
    if (count < 0) throw new EngineError("bad_model", `token ${token} has ${-count} bytes`);
    if (length + count > bytes.length) {
      const grown = new Uint8Array(2 * (length + count));
      grown.set(bytes);
      bytes = grown;
    }
    for (let i = 0; i < count; i++) bytes[length++] = piece[i]!;
    ends[token] = length;
  }
  return new TokenPieces(bytes.slice(0, length), ends);
}

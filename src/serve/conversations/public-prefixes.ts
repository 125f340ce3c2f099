import { MAX_SUBMITTED_HASHES } from "../../protocol/request-codec.ts";
import type { Tokenizer } from "../engine/tokenizer.ts";

/** Most tokens of a prefix: as many block hashes as go with a request, whatever the block size. */
export const MAX_PUBLIC_PREFIX_TOKENS = MAX_SUBMITTED_HASHES;

/** How a conversation is turned into text. */
export type RenderMessages = (
  messages: ReadonlyArray<{ readonly role: "system" | "user"; readonly content: string }>,
) => string;

/**
 * Beginnings of prompts that all tenants share: those of conversations with one of certain system messages. Whatever has the tokens of
 * one of them is public, block by block, for as long as it has them; what follows is the tenant's own.
 */
export class PublicPrefixes {
  readonly salt: string;
  readonly #sequences: readonly Int32Array[];

  /** @param salt that of the public blocks; no tenant has it */
  constructor(salt: string, sequences: readonly Int32Array[]) {
    this.salt = salt;
    this.#sequences = sequences;
  }

  /**
   * Works out the tokens that all conversations with each of these system messages begin with. Throws what `render` throws when the
   * template takes no system message.
   */
  static async open(
    systemMessages: readonly string[],
    options: { readonly salt: string; readonly tokenizer: Tokenizer; readonly render: RenderMessages },
  ): Promise<PublicPrefixes> {
    const { salt, tokenizer, render } = options;
    const sequences = systemMessages.map(async (content) => {
      const system = { role: "system", content } as const;
      const [a, b] = await Promise.all(
        ["a", "b"].map((question) =>
          tokenizer.encode(render([system, { role: "user", content: question }]), {
            parseSpecial: true,
            addSpecial: false,
          }),
        ),
      );
      return a!.slice(0, commonLength(a!, b!));
    });
    return new PublicPrefixes(salt, await Promise.all(sequences));
  }

  /** Tokens of each prefix. */
  get lengths(): readonly number[] {
    return this.#sequences.map(({ length }) => length);
  }

  /** How many leading blocks of a prompt are public. For any prompt that begins alike the same blocks are. */
  numBlocks(tokens: Int32Array, blockSizeTokens: number): number {
    let longest = 0;
    for (const sequence of this.#sequences) longest = Math.max(longest, commonLength(sequence, tokens));
    return Math.floor(longest / blockSizeTokens);
  }
}

function commonLength(a: Int32Array, b: Int32Array): number {
  const end = Math.min(a.length, b.length);
  let length = 0;
  while (length < end && a[length] === b[length]) length++;
  return length;
}

import { describe, expect, it } from "vitest";
import { FakeTokenizer } from "../../../test/support/fake-tokenizer.ts";
import { HASH_WORDS } from "../../core/tokens/block-hash.ts";
import { ChainHasher } from "./chain-hasher.ts";
import { Conversations } from "./conversations.ts";
import { PublicPrefixes, type RenderMessages } from "./public-prefixes.ts";
import { RenderedPrompt } from "./rendered-prompt.ts";

const SYSTEM = "You are the assistant of a public library.";
const SIZE = 4;
const render: RenderMessages = (messages) =>
  `${messages.map(({ role, content }) => `<|im_start|>${role}\n${content}<|im_end|>\n`).join("")}<|im_start|>assistant\n`;
const ask = (system: string, content: string) =>
  render([
    { role: "system", content: system },
    { role: "user", content },
  ]);

async function open(systemMessages: readonly string[]) {
  const tokenizer = new FakeTokenizer();
  const prefixes = await PublicPrefixes.open(systemMessages, { salt: "public", tokenizer, render });
  const hasher = new ChainHasher({ modelId: "m", blockSizeTokens: SIZE }, prefixes);
  return new Conversations({ tokenizer, chains: () => hasher, maxBytes: 1 << 20 });
}

/** The hashes of a prompt's blocks, one text each. */
async function blocksOf(conversations: Conversations, salt: string, text: string) {
  const { tokens, blocks } = await conversations.tokenise(salt, new RenderedPrompt([text]));
  const { hashes, publicBlocks } = blocks!;
  const texts = Array.from({ length: hashes.length / HASH_WORDS }, (_, i) =>
    hashes.slice(i * HASH_WORDS, (i + 1) * HASH_WORDS).join(),
  );
  return { texts, publicBlocks, tokens };
}

describe("public prefixes", () => {
  it("are shared by all tenants as far as their text goes, and nothing that follows is", async () => {
    const conversations = await open([SYSTEM, "another"]);
    const [a, b, other] = await Promise.all([
      blocksOf(conversations, "a", ask(SYSTEM, "What is a river?")),
      blocksOf(conversations, "b", ask(SYSTEM, "What is a river?")),
      blocksOf(conversations, "a", ask(SYSTEM, "Something else")),
    ]);
    // Every token of the frame is public up to where the user's words begin.
    const numPublicTokens = a.tokens.length - Buffer.byteLength("What is a river?\n\nassistant\n") - 2;
    expect(a.publicBlocks).toBe(Math.floor(numPublicTokens / SIZE));
    expect(b.texts.slice(0, a.publicBlocks)).toEqual(a.texts.slice(0, a.publicBlocks));
    expect(other.texts.slice(0, a.publicBlocks)).toEqual(a.texts.slice(0, a.publicBlocks));
    const own = [a, b, other].flatMap(({ texts, publicBlocks }) => texts.slice(publicBlocks));
    expect(new Set(own).size).toBe(own.length);
  });

  it("end where a prompt leaves their text, and are none in other prompts", async () => {
    const conversations = await open([SYSTEM]);
    const longer = await blocksOf(conversations, "a", ask(`${SYSTEM} My secret is 1234.`, "Hello"));
    const shared = `<|im_start|>system\n${SYSTEM}`.length - "<|im_start|>".length + 1;
    expect(longer.publicBlocks).toBe(Math.floor(shared / SIZE));
    const user = await blocksOf(conversations, "a", render([{ role: "user", content: SYSTEM }]));
    expect(user.publicBlocks).toBe(0);
  });

  it("give the same chain however much of a prompt was known", async () => {
    const conversations = await open([SYSTEM]);
    const turn = ask(SYSTEM, "one");
    const next = `${turn}answer<|im_end|>\n<|im_start|>user\ntwo<|im_end|>\n<|im_start|>assistant\n`;
    await blocksOf(conversations, "a", turn);
    expect(await blocksOf(conversations, "a", next)).toEqual(await blocksOf(await open([SYSTEM]), "a", next));
    conversations.checkInvariants();
  });
});

/**
 * The stub's vocabulary: 256 byte tokens, control tokens, then common English words, each with and without a leading space. Any text
 * can be spelt in it, and what the stub engine writes reads like words.
 */

const IM_START = 256;
const IM_END = 257;
const END_OF_TEXT = 258;
const FIRST_WORD = 259;

export const CONTROL_TOKENS: ReadonlyArray<readonly [text: string, token: number]> = [
  ["<|im_start|>", IM_START],
  ["<|im_end|>", IM_END],
  ["<|endoftext|>", END_OF_TEXT],
];

const WORDS =
  `the of and to in is that it for was on are as with they be at one have this from or had by not but what all were when we
  there can an your which their said if do will each about how up out them then she many some so these would other into has
  more her two like him see time could no make than first been its who now people my made over did down only way find use may
  water long little very after words called just where most know get through back much go good new write our me man too any
  day same right look think also around another came come work three must because does part even place well such here take why
  help put different away again off went old number great tell men say small every found still between name should home big
  give air line set own under read last never us left end along while might next sound below saw something thought both few
  those always show large often together asked house world going want school important until form food keep children feet land
  side without boy once animal life enough took four head above kind began almost live page got earth need far hand high year
  mother light country father let night picture being study second soon story since white ever paper hard near sentence better
  best across during today however sure knew trying young sun thing whole hear example heard several change answer room sea
  against top turned learn point city play toward five himself usually money seen car morning body upon family later turn move
  face door cut done group true half red fish plants living black eat short run book gave order open ground cold really table
  remember tree course front american space inside ago sad early learned brought close nothing though idea before lived became
  add become grow draw yet less wind behind cannot letter among able dog shown mean english rest perhaps certain six feel fire
  ready green yes built special ran full town complete oh person hot anything hold state list stood hundred ten fast felt
  kept notice strong voice probably area horse matter stand box start class piece surface river common stop am talk whether
  fine round dark past ball girl road blue instead either held already warm gone finally summer understand moon animals mind
  outside power problem longer winter deep heavy carefully follow beautiful everyone leave everything game system bring watch
  shell dry within floor ice ship themselves begin fact third quite carry distance although sat possible heart real simple snow
  rain suddenly easy leaves lay size wild weather miss pattern sky walked main someone center field stay itself boat question
  wide least tiny hour happened foot care low else gold build glass rock tall alone bottom check poor value token engine`
    .split(/\s+/)
    .filter((word, index, all) => all.indexOf(word) === index);

/** UTF-8 bytes of every token; empty for control tokens. */
export const TOKEN_BYTES: readonly Uint8Array[] = [
  ...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)),
  ...CONTROL_TOKENS.map(() => new Uint8Array(0)),
  ...WORDS.flatMap((word) => [word, ` ${word}`]).map((text) => new TextEncoder().encode(text)),
];

export const STUB_VOCAB_SIZE = TOKEN_BYTES.length;
export const STUB_TOKENIZER_ID = "stub-words-1";
export const STUB_MODEL_NAME = "stub";
export const STUB_END_OF_GENERATION: readonly number[] = [IM_END, END_OF_TEXT];

/** How many words there are to choose from when writing. */
export const NUM_WORDS = WORDS.length;

/** The token of a word with its leading space. */
export function spacedWord(index: number): number {
  return FIRST_WORD + 2 * index + 1;
}

/** Tokens of a comma and a full stop. */
export const COMMA = 0x2c;
export const FULL_STOP = 0x2e;

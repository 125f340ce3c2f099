import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { SyntaxKind } from "typescript/unstable/ast";
import { createScanner } from "typescript/unstable/ast/scanner";
import { describe, expect, it } from "vitest";

/** Rules of this repository that no linter checks, or that must hold even where one is switched off. */

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const MAX_SOURCE_LINES = 400;
const MAX_LISTING_BYTES = 16 * 1024 * 1024;

/** What is in the repository or about to be: tracked, or neither tracked nor ignored. Paths from the root, with `/`. */
const FILES: readonly string[] = execFileSync("git", ["ls-files", "-co", "-z", "--exclude-standard"], {
  cwd: ROOT,
  encoding: "utf8",
  maxBuffer: MAX_LISTING_BYTES,
})
  .split("\0")
  .filter((path) => path !== "" && existsSync(join(ROOT, path)));

const isCode = (path: string): boolean => /\.[cm]?tsx?$/.test(path);
const isTest = (path: string): boolean => /\.(test|suite)\.tsx?$/.test(path);
const isShipped = (path: string): boolean => path.startsWith("src/") && isCode(path) && !isTest(path);
/** Fitted numbers that a script writes: nobody reads or edits them line by line. */
const isGenerated = (path: string): boolean => path.startsWith("src/core/perf/coefficients/");
const isCore = (path: string): boolean => path.startsWith("src/core/") && isShipped(path);
const isText = (path: string): boolean => isCode(path) || /\.(py|sh|ya?ml|json)$|^\.ci\//.test(path);

const texts = new Map<string, string>();
function textOf(path: string): string {
  let text = texts.get(path);
  if (text === undefined) {
    text = readFileSync(join(ROOT, path), "utf8");
    texts.set(path, text);
  }
  return text;
}

/** A word, operator or literal of a source file; comments are left out. */
interface Token {
  readonly kind: SyntaxKind;
  /** The content of a string without its quotes, and of anything else the text itself. */
  readonly value: string;
  readonly line: number;
}

/** After one of these a slash divides; after anything else it begins a regular expression. */
const ENDS_OPERAND: ReadonlySet<SyntaxKind> = new Set([
  SyntaxKind.Identifier,
  SyntaxKind.PrivateIdentifier,
  SyntaxKind.NumericLiteral,
  SyntaxKind.BigIntLiteral,
  SyntaxKind.StringLiteral,
  SyntaxKind.RegularExpressionLiteral,
  SyntaxKind.NoSubstitutionTemplateLiteral,
  SyntaxKind.TemplateTail,
  SyntaxKind.CloseParenToken,
  SyntaxKind.CloseBracketToken,
  SyntaxKind.CloseBraceToken,
  SyntaxKind.ThisKeyword,
  SyntaxKind.SuperKeyword,
  SyntaxKind.TrueKeyword,
  SyntaxKind.FalseKeyword,
  SyntaxKind.NullKeyword,
]);

function tokensOf(text: string): Token[] {
  const scanner = createScanner(true);
  scanner.setText(text);
  const tokens: Token[] = [];
  /** Open braces; true for one that opened an expression inside a template. */
  const braces: boolean[] = [];
  let line = 1;
  let counted = 0;
  for (;;) {
    let kind = scanner.scan();
    if (kind === SyntaxKind.EndOfFile) return tokens;
    const isDivision = ENDS_OPERAND.has(tokens.at(-1)?.kind ?? SyntaxKind.Unknown);
    if ((kind === SyntaxKind.SlashToken || kind === SyntaxKind.SlashEqualsToken) && !isDivision)
      kind = scanner.reScanSlashToken();
    if (kind === SyntaxKind.CloseBraceToken && braces.pop() === true) {
      kind = scanner.reScanTemplateToken(false);
      if (kind === SyntaxKind.TemplateMiddle) braces.push(true);
    } else if (kind === SyntaxKind.TemplateHead) braces.push(true);
    else if (kind === SyntaxKind.OpenBraceToken) braces.push(false);
    const start = scanner.getTokenStart();
    for (; counted < start; counted++) if (text[counted] === "\n") line++;
    const isString = kind === SyntaxKind.StringLiteral;
    tokens.push({ kind, value: isString ? scanner.getTokenValue() : scanner.getTokenText(), line });
  }
}

/** Names and keywords of a source file, with what stands before and after each. */
function wordsOf(path: string): Array<{ word: string; before: string; after: string; line: number }> {
  const tokens = tokensOf(textOf(path));
  return tokens.flatMap(({ kind, value, line }, i) =>
    /^[\w$]+$/.test(value) && kind !== SyntaxKind.StringLiteral
      ? [{ word: value, before: tokens[i - 1]?.value ?? "", after: tokens[i + 1]?.value ?? "", line }]
      : [],
  );
}

/** What a source file imports, by `import`, `export … from` and `import()`. */
function importsOf(path: string): string[] {
  const tokens = tokensOf(textOf(path));
  return tokens.flatMap(({ kind, value }, i) => {
    if (kind !== SyntaxKind.StringLiteral) return [];
    const before = tokens[i - 1]?.value;
    const isImport =
      before === "from" || before === "import" || (before === "(" && tokens[i - 2]?.value === "import");
    return isImport ? [value] : [];
  });
}

/** Where a relative import leads, from the root; null for a package. */
function resolved(path: string, specifier: string): string | null {
  return /^\.\.?\//.test(specifier) ? normalize(join(dirname(path), specifier)) : null;
}

function chosen(choose: (path: string) => boolean): readonly string[] {
  const paths = FILES.filter(choose);
  // A rule that looks at nothing would pass for ever.
  expect(paths.length).toBeGreaterThan(0);
  return paths;
}

describe("the reading of source files by these rules", () => {
  it("sees words in code and templates, and none in comments, strings and regular expressions", () => {
    const text = `/* a */ b('c', "d", \`e \${f({ g: \`h\` })} i \${j} k\`); // l
m = n / o / 2; p(/'q\\/[/]/.test(r));`;
    const words = tokensOf(text).filter(({ kind }) => kind === SyntaxKind.Identifier);
    expect(words.map(({ value }) => value).join("")).toBe("bfgjmnoptestr");
    expect(words.map(({ line }) => line)).toEqual([1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
  });
});

describe("src/core", () => {
  it("waits for nothing and knows no clock, no chance, no process and no console", () => {
    const forbidden = new Set(
      "async await Promise Date performance setTimeout setInterval setImmediate queueMicrotask process console".split(
        " ",
      ),
    );
    const problems = chosen(isCore).flatMap((path) => {
      const tokens = tokensOf(textOf(path));
      const isDraw = (i: number): boolean =>
        tokens[i]?.value === "random" && tokens[i - 1]?.value === "." && tokens[i - 2]?.value === "Math";
      return tokens
        .filter(
          ({ kind, value }, i) => kind !== SyntaxKind.StringLiteral && (forbidden.has(value) || isDraw(i)),
        )
        .map(({ value, line }) => `${path}:${line}: ${value}`);
    });
    expect(problems).toEqual([]);
  });

  it("imports nothing but itself", () => {
    const problems = chosen(isCore).flatMap((path) =>
      importsOf(path)
        .filter((specifier) => resolved(path, specifier)?.startsWith("src/core/") !== true)
        .map((specifier) => `${path}: ${specifier}`),
    );
    expect(problems).toEqual([]);
  });
});

describe("src/serve", () => {
  it("imports neither the twin nor the command line", () => {
    const problems = chosen((path) => path.startsWith("src/serve/") && isCode(path)).flatMap((path) =>
      importsOf(path)
        .filter((specifier) => /^src\/(twin|cli)\//.test(resolved(path, specifier) ?? ""))
        .map((specifier) => `${path}: ${specifier}`),
    );
    expect(problems).toEqual([]);
  });
});

describe("source files", () => {
  it(`have at most ${MAX_SOURCE_LINES} lines`, () => {
    const problems = chosen((path) => isShipped(path) && !isGenerated(path))
      .map((path) => ({ path, numLines: textOf(path).split("\n").length - 1 }))
      .filter(({ numLines }) => numLines > MAX_SOURCE_LINES)
      .map(({ path, numLines }) => `${path}: ${numLines} lines`);
    expect(problems).toEqual([]);
  });

  it("hold no marks of unfinished work and switch no type check off", () => {
    // Spelled in pieces, or else this file would be the first to be found.
    const marks = new RegExp(`\\b(TO${"DO"}|FIX${"ME"}|XX${"X"}|HA${"CK"})\\b|@ts-${"(ignore|nocheck)"}`);
    const problems = chosen((path) => isText(path) && !isGenerated(path)).flatMap((path) =>
      textOf(path)
        .split("\n")
        .flatMap((text, i) => (marks.test(text) ? [`${path}:${i + 1}: ${text.trim()}`] : [])),
    );
    expect(problems).toEqual([]);
  });

  it("cast nothing to any", () => {
    const problems = chosen(isCode).flatMap((path) =>
      wordsOf(path)
        .filter(({ word, before }) => word === "any" && before === "as")
        .map(({ line }) => `${path}:${line}: ${lineOf(path, line).trim()}`),
    );
    expect(problems).toEqual([]);
  });
});

describe("tests", () => {
  it("are never run alone, and left out only with a comment that says why", () => {
    const leavesOut = new Set(["skip", "skipIf", "runIf", "todo", "fails"]);
    const problems = chosen((path) => path.startsWith("test/") || isTest(path))
      .filter(isCode)
      .flatMap((path) =>
        wordsOf(path)
          .filter(({ before, after }) => before === "." && (after === "(" || after === "."))
          .filter(({ word, line }) => word === "only" || (leavesOut.has(word) && !hasComment(path, line)))
          .map(({ line }) => `${path}:${line}: ${lineOf(path, line).trim()}`),
      );
    expect(problems).toEqual([]);
  });
});

function lineOf(path: string, line: number): string {
  return textOf(path).split("\n")[line - 1] ?? "";
}

/** Whether there is a comment on the line or the one above it. */
function hasComment(path: string, line: number): boolean {
  return [line - 1, line].some((one) => /\/\/|\*\/\s*$/.test(lineOf(path, one)));
}

/** `npm run NAME`, with or without flags of npm's own, and the verbs that are scripts themselves. */
const NPM_SCRIPT = /\bnpm (?:run(?:-script)? (?:--?\S+ )*([\w:-]+)|(test|start|stop|restart)\b)/g;

describe("documents", () => {
  const isMarkdown = (path: string): boolean => path.endsWith(".md");
  const isPublished = (path: string): boolean =>
    isMarkdown(path) && (/^(README|CONTRIBUTING)\.md$/.test(path) || path.startsWith("docs/"));

  it("name only npm scripts that exist", () => {
    const { scripts } = JSON.parse(textOf("package.json")) as { scripts: Record<string, string> };
    const mentions = chosen((path) => isMarkdown(path) || path === ".ci/run").flatMap((path) =>
      [...textOf(path).matchAll(NPM_SCRIPT)].map(([text, named, builtIn]) => ({
        path,
        text,
        name: named ?? builtIn ?? "",
      })),
    );
    expect(mentions.length).toBeGreaterThan(0);
    const isKnown = (name: string): boolean =>
      name.endsWith(":")
        ? // A family of scripts, as in `lint:<what>`.
          Object.keys(scripts).some((script) => script.startsWith(name))
        : Object.hasOwn(scripts, name);
    expect(mentions.filter(({ name }) => !isKnown(name))).toEqual([]);
  });

  it("link only to files that are in the repository", () => {
    const inRepository = new Set(["."]);
    for (const path of FILES) for (let one = path; one !== "."; one = dirname(one)) inRepository.add(one);
    const links = chosen(isPublished).flatMap((path) =>
      linksOf(textOf(path)).map((target) => ({ path, target })),
    );
    expect(links.length).toBeGreaterThan(0);
    const problems = links
      .filter(({ path, target }) => {
        const place = normalize(join(dirname(path), decodeURI(target.replace(/[?#].*$/s, "")))).replace(
          /\/$/,
          "",
        );
        return !inRepository.has(place);
      })
      .map(({ path, target }) => `${path}: ${target}`);
    expect(problems).toEqual([]);
  });
});

/** Targets of relative links and images in Markdown outside code: inline, by reference, and in HTML. */
function linksOf(markdown: string): string[] {
  const prose = markdown.replace(/^( *)(```|~~~)[\s\S]*?^\1\2/gm, "").replace(/`[^`\n]*`/g, "");
  const patterns = [/\]\(<?([^)>\s]+)/g, /^ {0,3}\[[^\]]+\]:\s*<?([^>\s]+)/gm, /\b(?:href|src)="([^"]+)"/g];
  return patterns
    .flatMap((pattern) => [...prose.matchAll(pattern)].map(([, target = ""]) => target))
    .filter((target) => !/^([a-z][a-z0-9+.-]*:|\/\/|#)/i.test(target));
}

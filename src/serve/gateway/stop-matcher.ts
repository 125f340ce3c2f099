/** Stop strings, prepared once for all choices of a request. None may be empty. */
export class StopPatterns {
  readonly patterns: readonly string[];
  /** Knuth-Morris-Pratt failure table per pattern: the longest border of each prefix. */
  readonly failures: readonly Int32Array[];

  constructor(patterns: readonly string[]) {
    this.patterns = patterns;
    this.failures = patterns.map(failureTable);
  }
}

function failureTable(pattern: string): Int32Array {
  const table = new Int32Array(pattern.length);
  let border = 0;
  for (let i = 1; i < pattern.length; i++) {
    while (border > 0 && pattern.charCodeAt(i) !== pattern.charCodeAt(border)) border = table[border - 1]!;
    if (pattern.charCodeAt(i) === pattern.charCodeAt(border)) border++;
    table[i] = border;
  }
  return table;
}

/**
 * Looks for stop strings in text that arrives in pieces. The text ends before the string whose last character comes
 * first; of several that end at the same character the longest counts. How the text is cut into pieces does not matter.
 *
 * Text is held back only while it is the beginning of a stop string.
 */
export class StopMatcher {
  readonly #patterns: StopPatterns;
  /** How many characters of each pattern the text seen so far ends with. */
  readonly #matchedChars: Int32Array;
  #held = "";
  #isMatched = false;

  constructor(patterns: StopPatterns) {
    this.#patterns = patterns;
    this.#matchedChars = new Int32Array(patterns.patterns.length);
  }

  /** Whether a stop string was found. Nothing may be pushed after it. */
  get isMatched(): boolean {
    return this.#isMatched;
  }

  /** The text that may be shown now: it cannot belong to a stop string any more. */
  push(text: string): string {
    const all = this.#held + text;
    for (let i = this.#held.length; i < all.length; i++) {
      const longest = this.#step(all.charCodeAt(i));
      if (longest > 0) {
        this.#isMatched = true;
        this.#held = "";
        return all.slice(0, i + 1 - longest);
      }
    }
    let keep = 0;
    for (const chars of this.#matchedChars) keep = Math.max(keep, chars);
    this.#held = all.slice(all.length - keep);
    return all.slice(0, all.length - keep);
  }

  /** What was held back, now that no more text comes. */
  flush(): string {
    const text = this.#held;
    this.#held = "";
    this.#matchedChars.fill(0);
    return text;
  }

  /** Advances every pattern by one code unit; returns the length of the longest one that is complete, or 0. */
  #step(unit: number): number {
    let longest = 0;
    for (const [p, pattern] of this.#patterns.patterns.entries()) {
      const failures = this.#patterns.failures[p]!;
      let chars = this.#matchedChars[p]!;
      while (chars > 0 && pattern.charCodeAt(chars) !== unit) chars = failures[chars - 1]!;
      if (pattern.charCodeAt(chars) === unit) chars++;
      if (chars === pattern.length) longest = Math.max(longest, chars);
      this.#matchedChars[p] = chars;
    }
    return longest;
  }
}

/** A token whose text a tokenizer looks for before it splits the rest into ordinary tokens. */
export interface SpecialToken {
  readonly id: number;
  readonly text: string;
  /** It takes white space beside it away, so what stands beside it matters. */
  readonly isStripping: boolean;
}

/**
 * Those of `candidates` behind which a text can be cut: the tokens of the whole are then the tokens of both parts, one after the
 * other. For a tokenizer that finds special tokens first, longest first, and tokenises what is between them piece by piece, as
 * llama.cpp does (`tokenizer_st_partition`), this holds for a token that no other special token can overlap: it is found wherever
 * its text stands, and nothing that is found can reach over its end.
 */
export function cutTokens(
  specials: readonly SpecialToken[],
  candidates: ReadonlySet<number>,
): SpecialToken[] {
  return specials.filter(
    (token) =>
      candidates.has(token.id) &&
      token.text.length > 1 &&
      !token.isStripping &&
      specials.every((other) => !canOverlap(token.text, other.text, other === token)),
  );
}

/** Whether there is a text in which `other` begins or ends inside `text`, or has `text` inside it. */
function canOverlap(text: string, other: string, isSame: boolean): boolean {
  if (other.length === 0) return false;
  if (!isSame && other.includes(text)) return true;
  for (let length = 1; length < Math.min(text.length, other.length); length++) {
    if (text.endsWith(other.slice(0, length)) || text.startsWith(other.slice(-length))) return true;
  }
  return false;
}

/** Splits a text behind every cut token. */
export function splitAtCuts(text: string, cuts: readonly string[]): string[] {
  const parts: string[] = [];
  let start = 0;
  for (const end of cutEnds(text, cuts)) {
    parts.push(text.slice(start, end));
    start = end;
  }
  if (start < text.length) parts.push(text.slice(start));
  return parts;
}

/** The places behind every cut token of a text, in order, from a place that is one itself or the beginning. */
export function cutEnds(text: string, cuts: readonly string[], from = 0): number[] {
  const ends: number[] = [];
  const nextAt = cuts.map((cut) => text.indexOf(cut, from));
  for (;;) {
    let first = -1;
    for (let i = 0; i < cuts.length; i++) {
      if (nextAt[i]! >= 0 && (first < 0 || nextAt[i]! < nextAt[first]!)) first = i;
    }
    if (first < 0) return ends;
    const end = nextAt[first]! + cuts[first]!.length;
    // Cut tokens cannot overlap, so the others' next places stay what they are.
    nextAt[first] = text.indexOf(cuts[first]!, end);
    ends.push(end);
  }
}

/** The most edits at which a word still counts as a slip of the hand. */
const MAX_EDITS = 2;

/** Words longer than this are not compared: they are no slip of the hand, and the table grows with the square. */
const MAX_WORD_LENGTH = 64;

/** The allowed word that `word` most likely was meant to be, or null when none is close. Case does not count. */
export function nearMiss(word: string, allowed: readonly string[]): string | null {
  if (word.length > MAX_WORD_LENGTH) return null;
  let best: string | null = null;
  let bestDistance = Math.min(MAX_EDITS, Math.floor(word.length / 2)) + 1;
  for (const candidate of allowed) {
    if (candidate.length > MAX_WORD_LENGTH) continue;
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours (Damerau, 1964). */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1];
      let cost = Math.min(last[column]! + 1, current[column - 1]! + 1, last[column - 1]! + (same ? 0 : 1));
      const swapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      if (swapped) cost = Math.min(cost, beforeLast[column - 2]! + 1);
      current.push(cost);
    }
    beforeLast = last;
    last = current;
  }
  return last[b.length]!;
}

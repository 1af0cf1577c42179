export type Edits = { readonly edits: number; readonly length: number };

/** The fewest insertions, deletions and replacements between two lists (Levenshtein's distance). */
export function editsBetween(expected: readonly string[], got: readonly string[]): number {
  let row = Array.from({ length: got.length + 1 }, (_, index) => index);
  for (const [at, wanted] of expected.entries()) {
    const next = [at + 1];
    for (const [column, has] of got.entries())
      next.push(
        Math.min(
          (next[column] ?? 0) + 1,
          (row[column + 1] ?? 0) + 1,
          (row[column] ?? 0) + (wanted === has ? 0 : 1),
        ),
      );
    row = next;
  }
  return row.at(-1) ?? 0;
}

/** Words are what stands between white space. */
export function wordEdits(expected: string, got: string): Edits {
  return editsOf(wordsOf(expected), wordsOf(got));
}

/** Characters as readers see them, as far as Unicode's code points go. */
export function characterEdits(expected: string, got: string): Edits {
  return editsOf([...expected], [...got]);
}

function editsOf(expected: readonly string[], got: readonly string[]): Edits {
  return { edits: editsBetween(expected, got), length: expected.length };
}

function wordsOf(text: string): readonly string[] {
  return text.split(/\s+/).filter((word) => word !== "");
}

/** Edits of all texts by the length of all expected ones; `null`: none of them has anything in it. */
export function createErrorRates() {
  const words = { edits: 0, length: 0 };
  const characters = { edits: 0, length: 0 };
  const rate = ({ edits, length }: Edits) => (length === 0 ? null : edits / length);
  return {
    add: (expected: readonly string[], got: readonly string[]): void => {
      for (const [at, wanted] of expected.entries()) {
        add(words, wordEdits(wanted, got[at] ?? ""));
        add(characters, characterEdits(wanted, got[at] ?? ""));
      }
    },
    found: () => ({ words: rate(words), characters: rate(characters) }),
  };
}

function add(sum: { edits: number; length: number }, more: Edits): void {
  sum.edits += more.edits;
  sum.length += more.length;
}

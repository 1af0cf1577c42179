import type { Classification } from "./classification.ts";

// How often which class was found for which, where classes are known by what they are called: pure.

export type ClassCounts = Pick<
  Classification,
  "classes" | "names" | "samples" | "correct" | "byClass" | "confused" | "worst"
>;

const MOST_CONFUSED = 10;
/** What is found where a score is no number: no class. */
export const NAN = "NaN";

export function createClassCounts() {
  let worst: ClassCounts["worst"] = null;
  const words: string[] = [];
  const numbers = new Map<string, number>();
  const byClass = new Map<number, { samples: number; correct: number }>();
  const confused = new Map<string, { expected: number; got: number; samples: number }>();

  function numberOf(word: string): number {
    if (word === NAN) return -1;
    const known = numbers.get(word);
    if (known !== undefined) return known;
    numbers.set(word, words.length);
    words.push(word);
    return words.length - 1;
  }

  return {
    /** @param margin by how much the class that was found was preferred to the expected one. */
    add: (index: number, expectedWord: string, gotWord: string, margin: number): void => {
      const [expected, got] = [numberOf(expectedWord), numberOf(gotWord)];
      const count = byClass.get(expected) ?? { samples: 0, correct: 0 };
      byClass.set(expected, count);
      count.samples += 1;
      if (expected === got) {
        count.correct += 1;
        return;
      }
      const pair = confused.get(`${expected}/${got}`) ?? { expected, got, samples: 0 };
      confused.set(`${expected}/${got}`, { ...pair, samples: pair.samples + 1 });
      if (worst === null || margin > worst.margin) worst = { index, expected, got, margin };
    },
    /** @param classes how many there are, where they have no names. */
    found: (classes: number): ClassCounts => {
      const order = ordered(words);
      const place = (number: number) => (number < 0 ? -1 : (order.places[number] ?? -1));
      const counts = [...byClass].map(([number, count]) => ({ label: place(number), ...count }));
      return {
        classes: order.names === null ? Math.max(classes, 1 + Math.max(-1, ...order.places)) : words.length,
        names: order.names,
        samples: counts.reduce((sum, one) => sum + one.samples, 0),
        correct: counts.reduce((sum, one) => sum + one.correct, 0),
        byClass: counts.sort((x, y) => x.label - y.label),
        confused: [...confused.values()]
          .map((pair) => ({ ...pair, expected: place(pair.expected), got: place(pair.got) }))
          .sort((x, y) => y.samples - x.samples)
          .slice(0, MOST_CONFUSED),
        worst: worst === null ? null : { ...worst, expected: place(worst.expected), got: place(worst.got) },
      };
    },
  };
}

/** Words that are whole numbers are their own numbers; others have names. */
function ordered(words: readonly string[]): {
  readonly names: readonly string[] | null;
  readonly places: readonly number[];
} {
  if (words.every((word) => /^\d{1,6}$/.test(word))) return { names: null, places: words.map(Number) };
  return { names: words, places: words.map((_, index) => index) };
}

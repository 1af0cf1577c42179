import type { Classification, Misclassified } from "./classification.ts";
import type { Head } from "./heads.ts";
import type { ConfusionCell, ResolvedLabels } from "./resolved-labels.ts";
import type { Chosen, ScoringOptions } from "./scored-output.ts";

// How often which class was found for which: pure.

const MOST_CONFUSED = 10;

export function tally(
  { label, scores }: Chosen,
  cells: readonly ConfusionCell[],
  { names, expectedOf, gotOf, amongScores }: ResolvedLabels,
  { options, notNumbers }: { readonly options: ScoringOptions; readonly notNumbers: number },
): Classification {
  const byClass = new Map<number, { samples: number; correct: number }>();
  const confused = new Map<string, { expected: number; got: number; samples: number }>();
  let worst: Misclassified | null = null;
  let samples = 0;
  let among = 0;
  for (const cell of cells) {
    const [expected, got] = [expectedOf(cell), gotOf(cell)];
    const count = byClass.get(expected) ?? { samples: 0, correct: 0 };
    byClass.set(expected, count);
    count.samples += cell.samples;
    samples += cell.samples;
    among += cell.among;
    if (got === expected) {
      count.correct += cell.samples;
      continue;
    }
    const pair = confused.get(`${expected}/${got}`) ?? { expected, got, samples: 0 };
    confused.set(`${expected}/${got}`, { ...pair, samples: pair.samples + cell.samples });
    const { index, margin } = cell.surest;
    if (worst === null || margin > worst.margin || (margin === worst.margin && index < worst.index))
      worst = { index, expected, got, margin };
  }
  const counts = [...byClass].map(([number, ofClass]) => ({ label: number, ...ofClass }));
  const numbers = [...byClass.keys(), ...[...confused.values()].map(({ got }) => got)];
  return {
    output: label?.output ?? scores?.output ?? "",
    reading: readingOf(label ?? scores, options.threshold),
    classes: names?.length ?? Math.max(scores?.classes ?? 0, 1 + Math.max(...numbers)),
    names,
    samples,
    correct: counts.reduce((sum, { correct }) => sum + correct, 0),
    topK: options.topK ?? 0,
    correctTopK: options.topK === null || amongScores === null || scores?.kind !== "scores" ? null : among,
    notNumbers,
    byClass: counts.sort((a, b) => a.label - b.label),
    confused: [...confused.values()].sort((a, b) => b.samples - a.samples).slice(0, MOST_CONFUSED),
    worst,
  };
}

function readingOf(head: Head | null, threshold: number): string {
  if (head?.kind === "score") return `by the threshold ${threshold}`;
  return head?.kind === "classes" ? "which answers the class itself" : "";
}

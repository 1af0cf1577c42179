import { decimalText } from "../../../base/decimal.ts";

// How often the class that a model finds is the right one, and how that is written: pure.

/** A label that was not found; `got` is -1 where a score was NaN. */
export type Misclassified = {
  /** Which sample. */
  readonly index: number;
  readonly expected: number;
  readonly got: number;
  /** By how much the score of the wrong class was above that of the right one. */
  readonly margin: number;
};

export type ClassCount = { readonly label: number; readonly samples: number; readonly correct: number };
export type Confusion = { readonly expected: number; readonly got: number; readonly samples: number };

export type Classification = {
  readonly output: string;
  /** How the output was read, such as `by the threshold 0.5`; empty for its most probable class. */
  readonly reading: string;
  readonly classes: number;
  /** By number, where classes have names; `null`: they are numbers. */
  readonly names: readonly string[] | null;
  /** Labels: one for each sample, or for each of several things in it. */
  readonly samples: number;
  readonly correct: number;
  readonly topK: number;
  /** Labels among the `topK` largest scores; `null`: it was not asked for, or is not known. */
  readonly correctTopK: number | null;
  /** Labels for which a score was NaN: none of them counts as found. */
  readonly notNumbers: number;
  /** Of each label that occurs, in order. */
  readonly byClass: readonly ClassCount[];
  /** The pairs that are taken for each other most often, most often first; at most ten. */
  readonly confused: readonly Confusion[];
  /** The mistake that the model was surest about. */
  readonly worst: Misclassified | null;
};

/** The class of which the smallest share is right; the first of equal ones. */
export function weakestClass({ byClass }: Classification): ClassCount | null {
  let weakest: ClassCount | null = null;
  for (const count of byClass)
    if (weakest === null || count.correct / count.samples < weakest.correct / weakest.samples)
      weakest = count;
  return weakest;
}

export function classText({ names }: Pick<Classification, "names">, label: number): string {
  if (label < 0) return "NaN";
  return names === null ? `class ${label}` : `class "${names[label] ?? label}"`;
}

/** `7 for 9 (12), 3 for 5 (4)`: how often which class was taken for which. */
export function confusedText({ confused, names }: Classification): string {
  const name = (label: number) => names?.[label] ?? String(label);
  return confused
    .slice(0, 3)
    .map(({ expected, got, samples }) => `${got < 0 ? "NaN" : name(got)} for ${name(expected)} (${samples}×)`)
    .join(", ");
}

/** Two shares that differ must not look the same. */
export function shareText(share: number, bound: number): string {
  const [a, b] = [decimalText(share), decimalText(bound)];
  return a === b ? `${share}, less than ${bound}` : `${a}, less than ${b}`;
}

import { err, ok, type Result } from "../../../base/result.ts";
import { listed, placesOf } from "./heads.ts";
import type { Chosen } from "./scored-output.ts";
import { ambiguous, misfit, strangeLabels, type Unfit } from "./unfit.ts";

// What labels and answers mean, once all of them are known: pure.

/** Labels of which the same was expected and the same was found. */
export type ConfusionCell = {
  /** Place in the vocabulary, or the column of one-hot labels. */
  readonly expected: number;
  /** Of the most probable class; -1: a score is NaN, or there are no scores. */
  readonly index: number;
  /** Place among the classes that the label output has answered; -1: there is none. */
  readonly answer: number;
  samples: number;
  among: number;
  surest: { readonly index: number; readonly margin: number };
};

export type ResolvedLabels = {
  /** `null`: classes are their indices. */
  readonly names: readonly string[] | null;
  readonly expectedOf: (cell: Pick<ConfusionCell, "expected">) => number;
  readonly gotOf: (cell: ConfusionCell) => number;
  /** Where each label stands among the scores; `null`: that is not known. */
  readonly amongScores: ((expected: number) => number) | null;
};

export function resolveLabels(
  chosen: Chosen,
  cells: readonly ConfusionCell[],
  answers: readonly string[],
): Result<ResolvedLabels, Unfit> {
  const { label, scores, columns, places, vocabulary } = chosen;
  const oneHot = columns !== null;
  const placeOf = (id: number) => (oneHot ? id : (places?.[id] ?? -1));
  if (label === null) {
    const signs = chosen.names === null && scores?.classes === 2 && vocabulary.includes("-1") && !oneHot;
    return ok({
      names: signs ? ["-1", "1"] : chosen.names,
      expectedOf: (cell) => placeOf(cell.expected),
      gotOf: ({ index }) => index,
      amongScores: placeOf,
    });
  }
  const paired = scores === null ? null : pairing(cells, answers);
  // Scores that labels cannot be held against are not what they are about.
  const meant = scores !== null && (places !== null || oneHot);
  if (meant && chosen.names === null && paired === null) return err(ambiguous([label, scores]));
  const complete = paired !== null && scores !== null && paired.size === scores.classes;
  const learned = complete
    ? Array.from({ length: paired.size }, (_, index) => paired.get(index) ?? "")
    : null;
  const names = chosen.names ?? learned;
  if (names === null) return resolveByText(chosen, answers, paired);
  const got = placesOf(answers, names, names.length);
  const expected = oneHot ? null : placesOf(vocabulary, names, names.length);
  if (got === null)
    return err(
      scores === null || chosen.names !== scores.keys
        ? strangeLabels(answers, names, { output: label.output, classes: names.length })
        : ambiguous([label, scores]),
    );
  if (expected === null && !oneHot)
    return err(strangeLabels(vocabulary, names, { output: label.output, classes: names.length }));
  const expectedOf = (one: number) => (oneHot ? one : (expected?.[one] ?? -1));
  return ok({
    names,
    expectedOf: (cell) => expectedOf(cell.expected),
    gotOf: ({ answer }) => got[answer] ?? -1,
    // What stands among the scores was counted by `places`: it must be the same.
    amongScores:
      scores !== null && vocabulary.every((_, id) => oneHot || placeOf(id) === expectedOf(id))
        ? expectedOf
        : null,
  });
}

/** Which class each place of the scores stands for, by what was answered beside it; `null`: for more than one. */
function pairing(
  cells: readonly ConfusionCell[],
  answers: readonly string[],
): ReadonlyMap<number, string> | null {
  const pairs = new Map<number, string>();
  for (const { index, answer } of cells) {
    const word = answers[answer] ?? "";
    if (index < 0) continue;
    if ((pairs.get(index) ?? word) !== word) return null;
    pairs.set(index, word);
  }
  return new Set(pairs.values()).size === pairs.size ? pairs : null;
}

/** Labels and answers as they are written; -1 and 1 on one side are 0 and 1 on the other. */
function resolveByText(
  { columns: count, vocabulary, label, places }: Chosen,
  answers: readonly string[],
  paired: ReadonlyMap<number, string> | null,
): Result<ResolvedLabels, Unfit> {
  const within = (all: readonly string[], ...of: readonly string[]) => all.every((one) => of.includes(one));
  const columns = count === null ? null : columnNames(count, answers);
  if (count !== null && columns === null)
    return err(
      misfit(
        `output "${label?.output}" answers ${listed(answers)}, and golden.classes must say which column of the labels each of them is`,
      ),
    );
  const written = (word: string): string => {
    if (word === "0" && within(vocabulary, "0", "1") && answers.includes("-1") && within(answers, "-1", "1"))
      return "-1";
    if (word === "-1" && within(vocabulary, "-1", "1") && within(answers, "0", "1")) return "0";
    return word;
  };
  const expectedText = (expected: number) =>
    columns === null ? written(vocabulary[expected] ?? "") : (columns[expected] ?? "");
  const words = [...new Set([...answers, ...(columns ?? vocabulary.map((_, id) => expectedText(id)))])].sort(
    byNumberThenText,
  );
  const indices = words.every((word) => /^\d{1,6}$/.test(word));
  const numberOf = (word: string) => (indices ? Number(word) : words.indexOf(word));
  const identity = paired !== null && [...paired].every(([index, word]) => word === String(index));
  return ok({
    names: indices ? null : words,
    expectedOf: ({ expected }) => numberOf(expectedText(expected)),
    gotOf: ({ answer }) => numberOf(answers[answer] ?? ""),
    amongScores: identity && places !== null ? (expected) => places[expected] ?? -1 : null,
  });
}

/** Which class each column of one-hot labels is, by what a model has answered; `null`: that is not known. */
function columnNames(columns: number, answers: readonly string[]): readonly string[] | null {
  if (answers.length === columns) return [...answers].sort(byNumberThenText);
  const within = (of: readonly string[]) => answers.every((word) => of.includes(word));
  if (columns === 2 && answers.includes("-1") && within(["-1", "1"])) return ["-1", "1"];
  // Without 0, they may as well begin at 1.
  const indices = Array.from({ length: columns }, (_, index) => String(index));
  return answers.includes("0") && within(indices) ? indices : null;
}

function byNumberThenText(a: string, b: string): number {
  const [x, y] = [Number(a), Number(b)];
  if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
  return a < b ? -1 : Number(a > b);
}

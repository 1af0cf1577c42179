import { decimalText } from "../../../base/decimal.ts";
import { err, ok, type Result } from "../../../base/result.ts";
import { createVocabulary, type Labels, labelText } from "../../golden/labels.ts";
import {
  type Datum,
  elementCount,
  numberAt,
  type TensorInfo,
  type TensorValue,
  type Value,
} from "../../onnx/tensor.ts";
import { averagePrecision } from "./average-precision.ts";
import { type Head, headIn, isBinary, listed, placesOf } from "./heads.ts";
import { rocAuc } from "./roc-auc.ts";

// How often the class that a model finds is the right one: pure, and added up run by run.

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
  /** Labels among the `topK` largest scores; `null`: it was not asked for, or cannot be told. */
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

/** How well scores order the samples; `null` where a class has no samples, or has them all: then none does. */
export type Ranking = {
  readonly output: string;
  readonly rocAuc: number | null;
  readonly averagePrecision: number | null;
  /** Why not, where it is `null`. */
  readonly undefinedFor: string;
};

export type Scored = { readonly classification: Classification; readonly ranking: Ranking | null };

/** What is wrong with what was asked, and not with the model. */
export type Unfit = { readonly because: "misfit" | "ambiguous" | "bound"; readonly message: string };

export type ScoringOptions = {
  /** `null`: the only one that can be meant. */
  readonly output: string | null;
  readonly classes: readonly string[] | null;
  readonly threshold: number;
  /** How many of the largest scores count; `null`: not asked for. */
  readonly topK: number | null;
  /** Whether ROC AUC or average precision are asked for. */
  readonly ranking: boolean;
};

export type Scoring = {
  /** Adds one run, or says what is wrong with it. */
  readonly add: (outputs: ReadonlyMap<string, Datum>, labels: Labels, samples: number) => Unfit | null;
  readonly found: () => Result<Scored, Unfit>;
};

const MOST_CONFUSED = 10;

/** The output that labels are held against, and the scores beside it where it answers the class itself. */
type Chosen = {
  readonly label: Head | null;
  readonly scores: Head | null;
  /** Names of the classes in the order of the scores; `null`: they have none. */
  readonly names: readonly string[] | null;
  /** Columns of one-hot labels; `null`: labels are classes themselves. */
  readonly columns: number | null;
  /** Where each word of the vocabulary stands among the scores, as far as that is known. */
  readonly places: readonly number[] | null;
  readonly vocabulary: readonly string[];
};

/** Labels of which the same was expected and the same was found. */
type Cell = {
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

/** @param infos of the outputs: the names of classes that scores are for, where they have any. */
export function createScoring(options: ScoringOptions, infos: readonly TensorInfo[]): Scoring {
  const { threshold, topK } = options;
  // The output is chosen once: the last run may be a smaller one.
  let chosen: Chosen | null = null;
  let samples = 0;
  let notNumbers = 0;
  const cells = new Map<string, Cell>();
  const answers = createVocabulary();
  const ranked: RankedRun[] = [];

  function addPlace(
    { label, scores, places, columns }: Chosen,
    tensors: { readonly label: Value | null; readonly scores: TensorValue | null },
    place: { readonly sample: number; readonly at: number; readonly of: number; readonly expected: number },
  ): void {
    const { expected } = place;
    const known = columns === null ? (places?.[expected] ?? -1) : expected;
    const row = scores === null || tensors.scores === null ? null : rowOf(tensors.scores, scores, place);
    const index = row === null ? -1 : mostProbable(row, scores, threshold);
    if (row !== null && index < 0) notNumbers += 1;
    const answered = label === null || tensors.label === null ? null : labelText(tensors.label, place.at);
    const answer = label === null ? -1 : answers.idOf(answered ?? "NaN");
    const key = `${expected}/${index}/${answer}`;
    const cell = cells.get(key) ?? {
      ...{ expected, index, answer, samples: 0, among: 0 },
      surest: { index: place.sample, margin: Number.NEGATIVE_INFINITY },
    };
    cells.set(key, cell);
    cell.samples += 1;
    if (row !== null && topK !== null && known >= 0 && isAmong(row, known, topK)) cell.among += 1;
    const margin = marginOf(row, index, known, threshold);
    if (margin > cell.surest.margin) cell.surest = { index: place.sample, margin };
  }

  return {
    add: (outputs, labels, count) => {
      if (labels.fault !== null) return misfit(labels.fault);
      if (chosen === null) {
        const choice = choose(outputs, labels, count, options, infos);
        if (!choice.ok) return choice.error;
        chosen = choice.value;
      }
      const { label, scores, columns } = chosen;
      for (const head of [label, scores]) {
        const now =
          head === null
            ? null
            : headIn(head.output, outputs.get(head.output) ?? NOTHING, count, labels, infos);
        if (head !== null && (now === null || now.classes !== head.classes))
          return misfit(`output "${head.output}" has another shape in one run than in another`);
      }
      const tensors = {
        label: label === null ? null : ((outputs.get(label.output) ?? null) as Value | null),
        scores: scores === null ? null : ((outputs.get(scores.output) ?? null) as TensorValue | null),
      };
      const of = columns === null ? elementCount(labels.rest) : 1;
      const expected = columns === null ? [...labels.ids] : columnsOf(labels, count);
      for (const [at, id] of expected.entries())
        addPlace(chosen, tensors, { sample: samples + Math.floor(at / of), at, of, expected: id });
      if (options.ranking && tensors.scores !== null) ranked.push({ scores: tensors.scores, expected, of });
      samples += count;
      return null;
    },
    found: () => {
      if (chosen === null) return err(unfit("misfit", "the golden set has no labels"));
      const resolved = resolve(chosen, [...cells.values()], answers.words);
      if (!resolved.ok) return resolved;
      const classification = tally(chosen, [...cells.values()], resolved.value, { options, notNumbers });
      const ranking = options.ranking ? rankingOf(chosen, resolved.value, ranked) : ok(null);
      return ranking.ok ? ok({ classification, ranking: ranking.value }) : ranking;
    },
  };
}

/** Scores of a run, and what was expected of each of its labels; `of`: labels of each sample. */
type RankedRun = { readonly scores: TensorValue; readonly expected: readonly number[]; readonly of: number };

const NOTHING: Datum = { type: "none" };

function unfit(because: Unfit["because"], message: string): Unfit {
  return { because, message };
}

function misfit(message: string): Unfit {
  return unfit("misfit", message);
}

// ── which output

function choose(
  outputs: ReadonlyMap<string, Datum>,
  labels: Labels,
  samples: number,
  { output, classes, topK, ranking }: ScoringOptions,
  infos: readonly TensorInfo[],
): Result<Chosen, Unfit> {
  const { vocabulary } = labels;
  const all = [...outputs].flatMap(([name, tensor]) => {
    const head = headIn(name, tensor, samples, labels, infos);
    return head === null ? [] : [head];
  });
  if (output !== null) {
    const named = all.find((head) => head.output === output);
    if (named !== undefined) return chosenOf([named], labels, classes);
    if (!outputs.has(output))
      return err(misfit(`the model has no output "${output}"; it has ${listed([...outputs.keys()])}`));
    return err(
      misfit(
        `output "${output}" has neither one class nor one score nor one score for each class of each label: labels are ${labelsText(labels)}`,
      ),
    );
  }
  const meant = all.filter((head) => canBeMeant(head, vocabulary, classes));
  // One-hot labels are one class of each sample wherever an output has that.
  const heads = meant.some(({ oneHot }) => oneHot) ? meant.filter(({ oneHot }) => oneHot) : meant;
  const scores = heads.filter(({ kind }) => kind !== "classes");
  const answering = heads.filter(({ kind }) => kind === "classes");
  if (heads.length === 0)
    return err(
      misfit(
        `no output has one class, one score, or one score for each class of each label: labels are ${labelsText(labels)}`,
      ),
    );
  if (scores.length > 1 || answering.length > 1)
    return err(ambiguous(scores.length > 1 ? scores : answering));
  if ((topK !== null || ranking) && scores.length === 0)
    return err(
      unfit(
        "bound",
        `output "${answering[0]?.output}" answers the class alone: what needs scores cannot be judged by it`,
      ),
    );
  return chosenOf(heads, labels, classes);
}

function ambiguous(heads: readonly Head[]): Unfit {
  return unfit(
    "ambiguous",
    `several outputs can be meant: ${listed(heads.map((head) => head.output))}; name the one that is scored (golden.output, --golden-output)`,
  );
}

function canBeMeant(head: Head, vocabulary: readonly string[], classes: readonly string[] | null): boolean {
  if (head.kind === "score") return isBinary(vocabulary, classes);
  return true;
}

function chosenOf(
  heads: readonly Head[],
  labels: Labels,
  declared: readonly string[] | null,
): Result<Chosen, Unfit> {
  const label = heads.find(({ kind }) => kind === "classes") ?? null;
  const scores = heads.find(({ kind }) => kind !== "classes") ?? null;
  const names = declared ?? scores?.keys ?? null;
  const { vocabulary } = labels;
  const oneHot = heads[0]?.oneHot ?? false;
  if (scores !== null && names !== null && names.length !== scores.classes)
    return err(
      misfit(
        `golden.classes has ${names.length} classes, output "${scores.output}" ${scores.kind === "score" ? "is one score, for 2 of them" : `has ${scores.classes} scores`}`,
      ),
    );
  const columns = oneHot ? elementCount(labels.rest) : null;
  const places = scores === null || oneHot ? null : placesOf(vocabulary, names, scores.classes);
  if (label === null && scores !== null && places === null && !oneHot)
    return err(strangeLabels(vocabulary, names, scores));
  return ok({ label, scores, names, columns, places, vocabulary });
}

function strangeLabels(
  vocabulary: readonly string[],
  names: readonly string[] | null,
  { output, classes }: Pick<Head, "output" | "classes">,
): Unfit {
  const strange = vocabulary.filter((word) =>
    names === null ? !(/^\d{1,9}$/.test(word) && Number(word) < classes) : !names.includes(word),
  );
  const known = names === null ? `0 to ${classes - 1}` : listed(names);
  const hint = names === null ? "; golden.classes says which labels the classes have" : "";
  return misfit(
    `label ${listed(strange).replaceAll('"', "")} is none of the ${classes} classes of output "${output}" (${known})${hint}`,
  );
}

function labelsText({ rest, vocabulary }: Labels): string {
  const of = rest.length === 0 ? "one for each sample" : `[${rest.join(",")}] for each sample`;
  return `${of}, such as ${listed(vocabulary.slice(0, 3)).replaceAll('"', "")}`;
}

// ── one label

function columnsOf({ raw }: Labels, samples: number): readonly number[] {
  const columns = raw.data.length / samples;
  return Array.from({ length: samples }, (_, row) => {
    for (let column = 0; column < columns; column += 1)
      if (numberAt(raw as TensorValue, row * columns + column) === 1) return column;
    return -1;
  });
}

/** Scores of one label; one number where the output is one score. */
function rowOf(
  tensor: TensorValue,
  { kind, classes, classesFirst }: Head,
  { at, of }: { readonly at: number; readonly of: number },
): readonly number[] {
  if (kind === "score") return [numberAt(tensor, at)];
  const start = classesFirst ? Math.floor(at / of) * of * classes + (at % of) : at * classes;
  const step = classesFirst ? of : 1;
  return Array.from({ length: classes }, (_, index) => numberAt(tensor, start + index * step));
}

/** Place of the first largest score; -1 where one of them is NaN. */
function mostProbable(row: readonly number[], head: Head | null, threshold: number): number {
  if (row.some(Number.isNaN)) return -1;
  if (head?.kind === "score") return (row[0] ?? 0) > threshold ? 1 : 0;
  let place = 0;
  for (const [index, value] of row.entries()) if (value > (row[place] ?? 0)) place = index;
  return place;
}

/** Whether fewer than `k` scores come before that of `label`; of equal ones the first comes first, NaN never. */
function isAmong(row: readonly number[], label: number, k: number): boolean {
  const own = row[label] ?? Number.NaN;
  if (row.some(Number.isNaN)) return false;
  let before = 0;
  for (const [index, value] of row.entries())
    if (value > own || (value === own && index < label)) before += 1;
  return before < k;
}

function marginOf(row: readonly number[] | null, index: number, known: number, threshold: number): number {
  if (row === null || (index >= 0 && known < 0)) return 0;
  if (index < 0) return Number.POSITIVE_INFINITY;
  if (row.length === 1) return Math.abs((row[0] ?? 0) - threshold);
  const margin = (row[index] ?? 0) - (row[known] ?? 0);
  return Number.isNaN(margin) ? Number.POSITIVE_INFINITY : margin;
}

// ── what labels and answers mean, once all of them are known

type Resolved = {
  /** `null`: classes are their indices. */
  readonly names: readonly string[] | null;
  readonly expectedOf: (cell: Pick<Cell, "expected">) => number;
  readonly gotOf: (cell: Cell) => number;
  /** Where each label stands among the scores; `null`: that cannot be told. */
  readonly amongScores: ((expected: number) => number) | null;
};

function resolve(
  chosen: Chosen,
  cells: readonly Cell[],
  answers: readonly string[],
): Result<Resolved, Unfit> {
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
  if (names === null) return resolvedByText(chosen, answers, paired);
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
function pairing(cells: readonly Cell[], answers: readonly string[]): ReadonlyMap<number, string> | null {
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
function resolvedByText(
  { columns: count, vocabulary, label, places }: Chosen,
  answers: readonly string[],
  paired: ReadonlyMap<number, string> | null,
): Result<Resolved, Unfit> {
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

/** Which class each column of one-hot labels is, by what a model has answered; `null`: that cannot be told. */
function columnNames(columns: number, answers: readonly string[]): readonly string[] | null {
  if (answers.every((word) => word === "-1" || word === "1") && answers.includes("-1")) return ["-1", "1"];
  if (answers.every((word) => /^\d{1,6}$/.test(word) && Number(word) < columns))
    return Array.from({ length: columns }, (_, index) => String(index));
  return answers.length === columns ? [...answers].sort(byNumberThenText) : null;
}

function byNumberThenText(a: string, b: string): number {
  const [x, y] = [Number(a), Number(b)];
  if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
  return a < b ? -1 : Number(a > b);
}

// ── counts

function tally(
  { label, scores }: Chosen,
  cells: readonly Cell[],
  { names, expectedOf, gotOf, amongScores }: Resolved,
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

function rankingOf(
  { scores }: Chosen,
  { amongScores, names }: Resolved,
  runs: readonly RankedRun[],
): Result<Ranking, Unfit> {
  if (scores === null || amongScores === null)
    return err(
      unfit(
        "bound",
        "which class each score is for is not known: ROC AUC and average precision need golden.classes",
      ),
    );
  const places = runs.flatMap(({ expected }) => expected.map(amongScores));
  const columns = scores.classes === 2 ? [1] : Array.from({ length: scores.classes }, (_, index) => index);
  const areas: number[] = [];
  const precisions: number[] = [];
  let undefinedFor = "";
  for (const column of columns) {
    const positive = Uint8Array.from(places, (place) => Number(place === column));
    const ofClass = Float64Array.from(
      runs.flatMap(({ scores: tensor, expected, of: each }) =>
        expected.map((_, at) => {
          const row = rowOf(tensor, scores, { at, of: each });
          return row[scores.kind === "score" ? 0 : column] ?? Number.NaN;
        }),
      ),
    );
    const found = positive.reduce((sum, one) => sum + one, 0);
    if (found === 0 || found === positive.length)
      undefinedFor ||= `class ${names?.[column] ?? column} has ${found === 0 ? "no sample" : "every sample"}`;
    areas.push(rocAuc(ofClass, positive));
    precisions.push(averagePrecision(ofClass, positive));
  }
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const { output } = scores;
  return ok(
    undefinedFor === ""
      ? { output, rocAuc: mean(areas), averagePrecision: mean(precisions), undefinedFor }
      : { output, rocAuc: null, averagePrecision: null, undefinedFor },
  );
}

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

import { err, ok, type Result } from "../../../base/result.ts";
import type { Labels } from "../../golden/labels.ts";
import { type Datum, elementCount, type TensorInfo } from "../../onnx/tensor.ts";
import { type Head, headIn, isBinary, isWhole, listed, placesOf } from "./heads.ts";
import { ambiguous, misfit, strangeLabels, type Unfit, unfit } from "./unfit.ts";

// Which output is scored: the one that is named, or the only one that can be meant. Pure.

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

/** The output that labels are held against, and the scores beside it where it answers the class itself. */
export type Chosen = {
  readonly label: Head | null;
  readonly scores: Head | null;
  /** Names of the classes in the order of the scores; `null`: they have none. */
  readonly names: readonly string[] | null;
  /** Columns of one-hot labels; `null`: labels are classes themselves. */
  readonly columns: number | null;
  /** Where each word of the vocabulary stands among the scores, as far as that is known. */
  readonly places: readonly number[] | null;
  readonly vocabulary: readonly string[];
  /** Axes of the labels behind that of the samples. */
  readonly rest: readonly number[];
};

export function choose(
  outputs: ReadonlyMap<string, Datum>,
  labels: Labels,
  samples: number,
  { output, classes, topK, ranking }: ScoringOptions,
  infos: readonly TensorInfo[],
): Result<Chosen, Unfit> {
  const { vocabulary } = labels;
  const pick = (picked: readonly Head[]): Result<Chosen, Unfit> => {
    const open = openReading(picked, outputs, classes);
    return open === null ? chosenOf(picked, labels, classes) : err(open);
  };
  const all = [...outputs].flatMap(([name, tensor]) => {
    const head = headIn(name, tensor, samples, labels, infos);
    return head === null ? [] : [head];
  });
  if (output !== null) {
    const named = all.find((head) => head.output === output);
    if (named !== undefined) return pick([named]);
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
  return pick(heads);
}

/** What is both a column for each class and a class for each of several things; `null`: it is not open which it is. */
function openReading(
  heads: readonly Head[],
  outputs: ReadonlyMap<string, Datum>,
  classes: readonly string[] | null,
): Unfit | null {
  const open = heads.find(({ output, oneHot, kind, keys }) => {
    const type = outputs.get(output)?.type ?? "none";
    return oneHot && kind === "scores" && classes === null && keys === null && isWhole({ type });
  });
  return open === undefined
    ? null
    : misfit(
        `output "${open.output}" answers ${open.classes} whole numbers for each sample, and labels have a single 1 among as many: they may be one column for each of ${open.classes} classes (then say golden.classes) or a class for each of ${open.classes} things (then save them as texts, with .astype("U"))`,
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
  const twice = names?.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined)
    return err(misfit(`class "${twice}" is there twice: each score needs a class of its own`));
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
  return ok({ label, scores, names, columns, places, vocabulary, rest: labels.rest });
}

function labelsText({ rest, vocabulary }: Labels): string {
  return `${restText(rest)}, such as ${listed(vocabulary.slice(0, 3)).replaceAll('"', "")}`;
}

export function restText(rest: readonly number[]): string {
  return rest.length === 0 ? "one for each sample" : `[${rest.join(",")}] for each sample`;
}

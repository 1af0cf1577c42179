import { err, ok, type Result } from "../../../base/result.ts";
import type { Labels } from "../../golden/labels.ts";
import { type Datum, elementCount, type TensorInfo } from "../../onnx/tensor.ts";
import { type Head, headIn, isBinary, listed, placesOf } from "./heads.ts";
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
};

export function choose(
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

function labelsText({ rest, vocabulary }: Labels): string {
  const of = rest.length === 0 ? "one for each sample" : `[${rest.join(",")}] for each sample`;
  return `${of}, such as ${listed(vocabulary.slice(0, 3)).replaceAll('"', "")}`;
}

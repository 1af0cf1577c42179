import { err, ok, type Result } from "../../../base/result.ts";
import type { TensorValue } from "../../onnx/tensor.ts";
import { averagePrecision } from "./average-precision.ts";
import { rowOf } from "./label-scores.ts";
import type { ResolvedLabels } from "./resolved-labels.ts";
import { rocAuc } from "./roc-auc.ts";
import type { Chosen } from "./scored-output.ts";
import { type Unfit, unfit } from "./unfit.ts";

// How well scores order the samples of each class: pure.

/** How well scores order the samples; `null` where a class has no samples, or has them all: then none does. */
export type Ranking = {
  readonly output: string;
  readonly rocAuc: number | null;
  readonly averagePrecision: number | null;
  /** Why not, where it is `null`. */
  readonly undefinedFor: string;
};

/** Scores of a run, and what was expected of each of its labels; `of`: labels of each sample. */
export type RankedRun = {
  readonly scores: TensorValue;
  readonly expected: readonly number[];
  readonly of: number;
};

export function rankingOf(
  { scores }: Chosen,
  { amongScores, names }: ResolvedLabels,
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

import { err, ok, type Result } from "../../../base/result.ts";
import { createVocabulary, type Labels, labelText } from "../../golden/labels.ts";
import {
  type Datum,
  elementCount,
  type TensorInfo,
  type TensorValue,
  type Value,
} from "../../onnx/tensor.ts";
import type { Classification } from "./classification.ts";
import { headIn } from "./heads.ts";
import { columnsOf, isAmong, marginOf, mostProbable, rowOf } from "./label-scores.ts";
import { type RankedRun, type Ranking, rankingOf } from "./ranking.ts";
import { type ConfusionCell, resolveLabels } from "./resolved-labels.ts";
import { type Chosen, choose, restText, type ScoringOptions } from "./scored-output.ts";
import { tally } from "./tally.ts";
import { misfit, type Unfit, unfit } from "./unfit.ts";

// Scores a model's outputs against labels: pure, and added up run by run.

export type Scored = { readonly classification: Classification; readonly ranking: Ranking | null };

export type Scoring = {
  /** Adds one run, or says what is wrong with it. */
  readonly add: (outputs: ReadonlyMap<string, Datum>, labels: Labels, samples: number) => Unfit | null;
  readonly found: () => Result<Scored, Unfit>;
};

const NOTHING: Datum = { type: "none" };

/** @param infos of the outputs: the names of classes that scores are for, where they have any. */
export function createScoring(options: ScoringOptions, infos: readonly TensorInfo[]): Scoring {
  const { threshold, topK } = options;
  // The output is chosen once: the last run may be a smaller one.
  let chosen: Chosen | null = null;
  let samples = 0;
  let notNumbers = 0;
  const cells = new Map<string, ConfusionCell>();
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
      const { label, scores, columns, rest } = chosen;
      if (rest.join() !== labels.rest.join())
        return misfit(
          `labels are ${restText(rest)} in one part of the golden set, and ${restText(labels.rest)} in another`,
        );
      for (const head of [label, scores]) {
        const now =
          head === null
            ? null
            : headIn(head.output, outputs.get(head.output) ?? NOTHING, count, labels, infos);
        if (head !== null && (now === null || now.classes !== head.classes || now.kind !== head.kind))
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
      const resolved = resolveLabels(chosen, [...cells.values()], answers.words);
      if (!resolved.ok) return resolved;
      const classification = tally(chosen, [...cells.values()], resolved.value, { options, notNumbers });
      const ranking = options.ranking ? rankingOf(chosen, resolved.value, ranked) : ok(null);
      return ranking.ok ? ok({ classification, ranking: ranking.value }) : ranking;
    },
  };
}

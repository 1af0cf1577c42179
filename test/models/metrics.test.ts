import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createVocabulary, labelsOf } from "../../src/verifier/golden/labels.ts";
import { createBoxCounts } from "../../src/verifier/score/box-counts.ts";
import { averagePrecision } from "../../src/verifier/score/classes/average-precision.ts";
import { weakestClass } from "../../src/verifier/score/classes/classification.ts";
import { rocAuc } from "../../src/verifier/score/classes/roc-auc.ts";
import type { ScoringOptions } from "../../src/verifier/score/classes/scored-output.ts";
import { createScoring } from "../../src/verifier/score/classes/scoring.ts";
import { createErrorRates } from "../../src/verifier/score/error-rate.ts";
import { iouOf, overlapOf } from "../../src/verifier/score/mask-iou.ts";
import { createMeanErrors } from "../../src/verifier/score/mean-error.ts";
import { seededRandom } from "../builders/verifier/onnx-model.ts";
import { preparePython } from "../python/environment.ts";

// The verifier's metrics, held against scikit-learn's on random inputs: ties, one class alone, and nothing at all among
// them. What scikit-learn lacks (texts, boxes) is calculated in Python from its definition. MODELS_SEED repeats a seed that
// was printed.

const SEED = Number(process.env["MODELS_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
/** Of each metric; METRICS_INPUTS makes more of them, or fewer. */
const INPUTS = Number(process.env["METRICS_INPUTS"] ?? 1000);

type Case = { readonly asked: object; readonly own: number | null };
type Random = () => number;

const whole = (random: Random, from: number, to: number) => from + Math.floor(random() * (to - from + 1));
const listOf = <T>(count: number, one: () => T): T[] => Array.from({ length: count }, one);
/** Few different values make ties. */
const scoreOf = (random: Random, ties: boolean) => (ties ? whole(random, 0, 3) / 4 : random() * 2 - 1);

function scored(
  labels: readonly number[],
  scores: readonly (readonly number[])[],
  more: Partial<ScoringOptions>,
) {
  const [row = []] = scores;
  const options = { output: null, classes: null, threshold: 0.5, topK: null, ranking: false, ...more };
  const scoring = createScoring(options, []);
  const array = { type: "int64", shape: [labels.length], data: BigInt64Array.from(labels, BigInt) } as const;
  const read = labelsOf("labels", array, labels.length, createVocabulary());
  if (!read.ok) throw new Error(read.error);
  const tensor = {
    type: "float64",
    shape: [scores.length, row.length],
    data: Float64Array.from(scores.flat()),
  } as const;
  const problem = scoring.add(new Map([["y", tensor]]), read.value, labels.length);
  const found = scoring.found();
  if (problem !== null || !found.ok) throw new Error(JSON.stringify(problem ?? found));
  return found.value;
}

function binary(random: Random, metric: "rocAuc" | "averagePrecision"): Case {
  const ties = random() < 0.5;
  const share = [0, 0.1, 0.5, 1][whole(random, 0, 3)] ?? 0.5;
  const count = whole(random, 2, 60);
  const labels = listOf(count, () => Number(random() < share));
  const scores = listOf(count, () => scoreOf(random, ties));
  const of = metric === "rocAuc" ? rocAuc : averagePrecision;
  const own = of(Float64Array.from(scores), Uint8Array.from(labels));
  return { asked: { metric, labels, scores }, own: Number.isNaN(own) ? null : own };
}

function classes(random: Random, metric: string): Case {
  const [width, ties] = [whole(random, 3, 6), random() < 0.3];
  const count = whole(random, width, 40);
  // Each class has a sample, and none has them all: without that, macro averages are refused.
  const labels = listOf(count, () => whole(random, 0, width - 1)).map((label, at) =>
    at < width ? at : label,
  );
  const scores = listOf(count, () => listOf(width, () => scoreOf(random, ties)));
  const asked = { metric, labels, scores };
  if (metric === "macroRocAuc")
    return { asked, own: scored(labels, scores, { ranking: true }).ranking?.rocAuc ?? null };
  if (metric === "macroAveragePrecision")
    return { asked, own: scored(labels, scores, { ranking: true }).ranking?.averagePrecision ?? null };
  if (metric === "accuracy") {
    const { correct, samples } = scored(labels, scores, {}).classification;
    return { asked, own: correct / samples };
  }
  if (metric === "classAccuracy") {
    const weakest = weakestClass(scored(labels, scores, {}).classification);
    return { asked, own: weakest === null ? null : weakest.correct / weakest.samples };
  }
  // scikit-learn takes the last of equal scores, the verifier the first, as a device does: no ties here.
  const apart = listOf(count, () => listOf(width, () => random()));
  const k = whole(random, 2, width - 1);
  const { correctTopK, samples } = scored(labels, apart, { topK: k }).classification;
  return { asked: { metric, labels, scores: apart, k }, own: (correctTopK ?? Number.NaN) / samples };
}

function errors(random: Random, metric: "rootMeanSquaredError" | "meanAbsoluteError"): Case {
  const [rows, columns] = [whole(random, 1, 30), whole(random, 1, 5)];
  const values = () => listOf(rows, () => listOf(columns, () => scoreOf(random, random() < 0.5) * 10));
  const [expected, got] = [values(), values()];
  const sums = createMeanErrors();
  const cut = whole(random, 0, rows);
  const distances = expected.flatMap((row, at) =>
    row.map((value, column) => Math.abs(value - (got[at]?.[column] ?? 0))),
  );
  // In two runs, as batches come.
  sums.add(Float64Array.from(distances.slice(0, cut * columns)), columns);
  sums.add(Float64Array.from(distances.slice(cut * columns)), columns);
  const found = sums.found();
  const own = metric === "rootMeanSquaredError" ? found?.rootMeanSquared : found?.meanAbsolute;
  return { asked: { metric, expected, got }, own: own ?? null };
}

function mask(random: Random): Case {
  const count = whole(random, 1, 50);
  const share = [0, 0.2, 1][whole(random, 0, 2)] ?? 0;
  const side = () => listOf(count, () => (random() < share ? scoreOf(random, true) : 0));
  const [expected, got, threshold] = [side(), side(), 0.25];
  const overlap = overlapOf(
    (at) => expected[at] ?? 0,
    (at) => got[at] ?? 0,
    count,
    threshold,
  );
  return { asked: { metric: "maskIou", expected, got, threshold }, own: iouOf(overlap) };
}

function texts(random: Random, metric: "wordErrorRate" | "characterErrorRate"): Case {
  const letters = ["a", "b", "é", "\u{1f600}", " ", "  ", "\n"];
  const text = () =>
    listOf(whole(random, 0, 12), () => letters[whole(random, 0, letters.length - 1)]).join("");
  const count = whole(random, 1, 4);
  const [expected, got] = [listOf(count, text), listOf(count, text)];
  const rates = createErrorRates();
  rates.add(expected, got);
  const found = rates.found();
  return {
    asked: { metric, expected, got },
    own: metric === "wordErrorRate" ? found.words : found.characters,
  };
}

function boxes(random: Random): Case {
  const format = (["Corners", "CornerSize", "CenterSize"] as const)[whole(random, 0, 2)] ?? "Corners";
  const threshold = [0.1, 0.5, 0.75][whole(random, 0, 2)] ?? 0.5;
  // Few places, so that boxes overlap; now and then one without area.
  const side = (rows: number) =>
    listOf(rows, () => {
      const [x, y, width, height] = listOf(4, () => random() + 0.2) as [number, number, number, number];
      const size = random() < 0.1 ? [0, 0] : [width, height];
      return [x, y, ...(format === "Corners" ? [x + (size[0] ?? 0), y + (size[1] ?? 0)] : size)];
    });
  const samples = whole(random, 1, 3);
  const [wanted, has] = [whole(random, 0, 5), whole(random, 0, 5)];
  const [expected, got] = [listOf(samples, () => side(wanted)), listOf(samples, () => side(has))];
  const counts = createBoxCounts(format, threshold);
  const tensor = (of: readonly (readonly (readonly number[])[])[], rows: number) =>
    ({ type: "float64", shape: [samples, rows, 4], data: Float64Array.from(of.flat(2)) }) as const;
  if (!counts.add(samples, tensor(expected, wanted), tensor(got, has))) throw new Error("no boxes");
  return { asked: { metric: "boxMatch", expected, got, format, threshold }, own: counts.found().match };
}

const KINDS: readonly ((random: Random) => Case)[] = [
  (random) => binary(random, "rocAuc"),
  (random) => binary(random, "averagePrecision"),
  ...["macroRocAuc", "macroAveragePrecision", "accuracy", "classAccuracy", "topKAccuracy"].map(
    (metric) => (random: Random) => classes(random, metric),
  ),
  (random) => errors(random, "rootMeanSquaredError"),
  (random) => errors(random, "meanAbsoluteError"),
  mask,
  (random) => texts(random, "wordErrorRate"),
  (random) => texts(random, "characterErrorRate"),
  boxes,
];

test(`metrics are scikit-learn's on ${INPUTS} random inputs each (MODELS_SEED=${SEED})`, async () => {
  const { python } = await preparePython({
    requirements: join(import.meta.dirname, "python/requirements.txt"),
    sources: join(import.meta.dirname, "python/sources.txt"),
    whose: "real models",
  });
  const random = seededRandom(SEED);
  const cases = Array.from(
    { length: INPUTS * KINDS.length },
    (_, at) => KINDS[at % KINDS.length]?.(random) ?? mask(random),
  );
  const script = join(import.meta.dirname, "python/metrics.py");
  const input = JSON.stringify(cases.map(({ asked }) => asked));
  const answered = execFileSync(python, [script], { input, encoding: "utf8", maxBuffer: 2 ** 26 });
  const theirs = JSON.parse(answered) as readonly (number | null)[];
  for (const [at, { asked, own }] of cases.entries()) {
    const expected = theirs[at] ?? null;
    const close = own === null || expected === null ? own === expected : Math.abs(own - expected) < 1e-9;
    expect(close, JSON.stringify({ own, expected, asked })).toBe(true);
  }
  // One class alone is among them, and has no curve.
  expect(theirs).toContain(null);
}, 300_000);

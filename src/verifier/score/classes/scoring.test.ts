import fc from "fast-check";
import { expect, test } from "vitest";
import { createVocabulary, labelsOf } from "../../golden/labels.ts";
import type { Datum, TensorInfo, TensorValue, Value } from "../../onnx/tensor.ts";
import { classText, confusedText, weakestClass } from "./classification.ts";
import { shapeOfHead } from "./heads.ts";
import type { ScoringOptions } from "./scored-output.ts";
import { createScoring } from "./scoring.ts";

const floats = (shape: readonly number[], ...values: readonly number[]): TensorValue => ({
  type: "float32",
  shape,
  data: Float32Array.from(values),
});
const whole = (shape: readonly number[], ...values: readonly number[]): TensorValue => ({
  type: "int64",
  shape,
  data: BigInt64Array.from(values, BigInt),
});
const texts = (...data: readonly string[]): Value => ({ type: "string", shape: [data.length], data });
const outputs = (tensor: Datum) => new Map([["y", tensor]]);

const DEFAULTS: ScoringOptions = { output: null, classes: null, threshold: 0.5, topK: 2, ranking: false };

function arrayOf(given: readonly number[] | readonly string[] | Value): Value {
  if ("shape" in given) return given;
  const [first] = given;
  return typeof first === "string"
    ? texts(...given.map(String))
    : whole([given.length], ...given.map(Number));
}

/** Labels as arrays of numbers or texts, or as any tensor; the vocabulary is that of all runs, as it is of a set. */
function createCounting(
  options: Partial<ScoringOptions> = {},
  infos: readonly TensorInfo[] = [],
  words: readonly string[] = [],
) {
  const scoring = createScoring({ ...DEFAULTS, ...options }, infos);
  const vocabulary = createVocabulary();
  for (const word of words) vocabulary.idOf(word);
  return {
    add: (of: ReadonlyMap<string, Datum>, given: readonly number[] | readonly string[] | Value) => {
      const array = arrayOf(given);
      const samples = array.shape[0] ?? 0;
      const labels = labelsOf("labels", array, samples, vocabulary);
      if (!labels.ok) throw new Error(labels.error);
      return scoring.add(of, labels.value, samples)?.message ?? null;
    },
    found: () => {
      const found = scoring.found();
      if (!found.ok) throw new Error(`${found.error.because}: ${found.error.message}`);
      return found.value.classification;
    },
    ranking: () => {
      const found = scoring.found();
      return found.ok ? found.value.ranking : found.error;
    },
  };
}

test("a sample is right when its first largest score is that of the label", () => {
  const counting = createCounting();
  expect(counting.add(outputs(floats([3, 2], 0.9, 0.1, 0.5, 0.5, 0.2, 0.8)), [0, 0, 1])).toBeNull();
  expect(counting.found()).toMatchObject({ samples: 3, correct: 3, worst: null, confused: [] });
});

test("the most confident mistake is remembered over several runs, by its number in the set", () => {
  const counting = createCounting();
  counting.add(outputs(floats([2, 2], 0.6, 0.4, 0.9, 0.1)), [1, 1]);
  counting.add(outputs(floats([1, 2], 0.7, 0.3)), [1]);
  expect(counting.found()).toMatchObject({
    samples: 3,
    correct: 0,
    correctTopK: 3,
    byClass: [{ label: 1, samples: 3, correct: 0 }],
    confused: [{ expected: 1, got: 0, samples: 3 }],
    worst: { index: 1, expected: 1, got: 0 },
  });
});

test("a sample with a score that is NaN is never right, and its label is never among the first", () => {
  const counting = createCounting();
  counting.add(outputs(floats([2, 3], Number.NaN, 0, 1, 0, 0, 1)), [2, 2]);
  expect(counting.found()).toMatchObject({
    samples: 2,
    correct: 1,
    correctTopK: 1,
    notNumbers: 1,
    worst: { got: -1 },
  });
});

test("a label that is no class is said to be that, and what would make it one", () => {
  expect(createCounting().add(outputs(floats([1, 2], 0, 1)), [2])).toBe(
    'label 2 is none of the 2 classes of output "y" (0 to 1); golden.classes says which labels the classes have',
  );
});

test("of two classes the weaker one is found", () => {
  const counting = createCounting();
  counting.add(outputs(floats([4, 2], 1, 0, 1, 0, 0, 1, 1, 0)), [0, 0, 1, 1]);
  expect(weakestClass(counting.found())).toEqual({ label: 1, samples: 2, correct: 1 });
});

test.each<[string, TensorValue, number, string | null]>([
  ["one score for each class", floats([2, 3], 0, 0, 0, 0, 0, 0), 2, "scores"],
  ["the same without an axis for one sample", floats([3], 0, 0, 0), 1, "scores"],
  ["the same with axes of 1 around it", floats([2, 3, 1, 1], 0, 0, 0, 0, 0, 0), 2, "scores"],
  ["one number for each sample", floats([4, 1], 0, 0, 0, 0), 4, "score"],
  ["a whole number for each sample", whole([4], 0, 0, 0, 0), 4, "classes"],
  ["a picture", floats([1, 2, 2], 0, 0, 0, 0), 1, null],
  ["something for another number of samples", floats([3], 0, 0, 0), 2, null],
])("%s is recognized by its shape", (_what, tensor, samples, kind) => {
  expect(shapeOfHead(tensor, samples, [])?.kind ?? null).toBe(kind);
});

test("counts are those of a plain calculation, however the samples are cut into runs (property)", () => {
  const sample = fc.record({
    scores: fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 4, maxLength: 4 }),
    label: fc.integer({ min: 0, max: 3 }),
  });
  fc.assert(
    fc.property(fc.array(sample, { minLength: 1 }), fc.integer({ min: 1, max: 5 }), (samples, size) => {
      const counting = createCounting({}, [], ["0", "1", "2", "3"]);
      for (let from = 0; from < samples.length; from += size) {
        const run = samples.slice(from, from + size);
        const scores = floats([run.length, 4], ...run.flatMap((one) => one.scores));
        expect(
          counting.add(
            outputs(scores),
            run.map(({ label }) => label),
          ),
        ).toBeNull();
      }
      const ranks = samples.map(({ scores, label }) =>
        scores
          .map((score, index) => ({ score, index }))
          .sort((a, b) => b.score - a.score || a.index - b.index)
          .findIndex(({ index }) => index === label),
      );
      const found = counting.found();
      expect(found.samples).toBe(samples.length);
      expect(found.correct).toBe(ranks.filter((rank) => rank === 0).length);
      expect(found.correctTopK).toBe(ranks.filter((rank) => rank < 2).length);
      expect(found.byClass.reduce((sum, one) => sum + one.samples, 0)).toBe(samples.length);
    }),
  );
});

test("a model that answers with the class itself is judged by that: numbers", () => {
  const counting = createCounting({ topK: null });
  const answered = whole([4], 7, -1, 3, 7);
  expect(counting.add(outputs(answered), [7, 3, 3, 7])).toBeNull();
  expect(counting.found()).toMatchObject({ samples: 4, correct: 3, names: ["-1", "3", "7"] });
  expect(confusedText(counting.found())).toBe("-1 for 3 (1×)");
});

test("a model that answers with the class itself is judged by that: texts, over several runs", () => {
  const counting = createCounting();
  const answer = (...data: readonly string[]) =>
    new Map<string, Datum>([
      ["scores", floats([data.length, 2], ...data.flatMap(() => [1, 0]))],
      ["label", { type: "string", shape: [data.length], data }],
    ]);
  expect(counting.add(answer("cat", "dog"), ["cat", "cat"])).toBeNull();
  expect(counting.add(answer("cow"), ["cow"])).toBeNull();
  const found = counting.found();
  expect(found).toMatchObject({ output: "label", classes: 3, samples: 3, correct: 2 });
  expect(classText(found, weakestClass(found)!.label)).toBe('class "cat"');
  expect(found.worst).toMatchObject({ index: 1 });
});

test("labels are keys of the columns where an output has keys", () => {
  const infos = [{ name: "y", type: "sequence(map(string,float32))", shape: [], keys: ["no", "yes"] }];
  const counting = createCounting({}, infos);
  expect(counting.add(outputs(floats([2, 2], 0.9, 0.1, 0.2, 0.8)), ["no", "no"])).toBeNull();
  expect(counting.found()).toMatchObject({
    correct: 1,
    names: ["no", "yes"],
    worst: { expected: 0, got: 1 },
  });
  expect(createCounting({}, infos).add(outputs(floats([1, 2], 0, 1)), ["maybe"])).toBe(
    'label maybe is none of the 2 classes of output "y" ("no", "yes")',
  );
});

test("labels that no output answers are said to be that", () => {
  expect(createCounting().add(outputs(floats([1, 2], 0, 1)), ["cat"])).toMatch(
    /^label cat is none of the 2 classes/,
  );
  expect(createCounting().add(outputs(floats([1, 2, 2], 0, 1, 2, 3)), [0])).toMatch(
    /^no output has one class, one score, or one score for each class of each label: labels are one for each sample/,
  );
});

const heads = (...of: readonly [string, Datum][]) => new Map(of);
const SCORES = floats([4, 2], 0.9, 0.1, 0.2, 0.8, 0.7, 0.3, 0.4, 0.6);
/** What SCORES find: the first, the second, the first, the second. */
const right = (first: number, second: number) => [first, second, first, second];

test("where two outputs can be meant, none is chosen until one is named", () => {
  const two = heads(["aux", SCORES], ["logits", floats([4, 2], 0, 1, 1, 0, 0, 1, 1, 0)]);
  expect(createCounting().add(two, right(0, 1))).toMatch(
    /^more than one output is possible: "aux", "logits"; name/,
  );
  const named = createCounting({ output: "logits" });
  expect(named.add(two, right(0, 1))).toBeNull();
  expect(named.found()).toMatchObject({ output: "logits", correct: 0 });
  expect(createCounting({ output: "other" }).add(two, right(0, 1))).toBe(
    'the model has no output "other"; it has "aux", "logits"',
  );
});

test.each<[string, readonly [number, number], readonly number[]]>([
  ["from 1 on", [1, 2], right(1, 2)],
  ["with gaps", [3, 7], right(3, 7)],
  ["below zero", [-1, 1], right(-1, 1)],
])("labels %s are those that the model answers beside its scores", (_what, [first, second], labels) => {
  const answers = heads(["label", whole([4], ...right(first, second))], ["scores", SCORES]);
  const good = createCounting({ topK: null });
  expect(good.add(answers, labels)).toBeNull();
  expect(good.found()).toMatchObject({ output: "label", samples: 4, correct: 4 });
  const bad = createCounting({ topK: null });
  bad.add(heads(["label", whole([4], ...right(second, first))], ["scores", SCORES]), labels);
  expect(bad.found()).toMatchObject({ correct: 0 });
});

test("a label output that is not that of the scores beside it leaves open which is meant", () => {
  const counting = createCounting({ topK: null });
  counting.add(heads(["count", whole([4], 0, 1, 1, 0)], ["scores", SCORES]), right(0, 1));
  expect(() => counting.found()).toThrow('ambiguous: more than one output is possible: "count", "scores"');
});

test.each<[string, Value]>([
  ["whole numbers", whole([4], ...right(-1, 1))],
  ["floats", { ...floats([4], ...right(-1, 1)) }],
  ["a column of 0 and 1", whole([4, 1], ...right(0, 1))],
  ["one column for each class", whole([4, 2], 1, 0, 0, 1, 1, 0, 0, 1)],
  ["texts", texts(...right(-1, 1).map(String))],
])("of -1 and 1, labels may be %s, whatever the model answers", (_what, labels) => {
  const scores = heads(["scores", SCORES]);
  const label = heads(["label", whole([4], ...right(-1, 1))]);
  for (const answers of [scores, label, heads(...label, ...scores)]) {
    const counting = createCounting({ topK: null });
    expect(counting.add(answers, labels)).toBeNull();
    expect(counting.found()).toMatchObject({ samples: 4, correct: 4 });
  }
});

test("one score is held against the threshold, 0 and 1, -1 and 1 or the names of two classes", () => {
  const p = floats([4, 1], 0.2, 0.7, 0.5, 0.9);
  const share = (labels: readonly number[] | readonly string[], options: Partial<ScoringOptions> = {}) => {
    const counting = createCounting({ topK: null, ...options });
    expect(counting.add(outputs(p), labels)).toBeNull();
    return counting.found().correct;
  };
  expect(share([0, 1, 0, 1])).toBe(4);
  expect(share([0, 1, 0, 1], { threshold: 0.8 })).toBe(3);
  expect(share([-1, 1, -1, -1])).toBe(3);
  expect(share(["ok", "bad", "ok", "bad"], { classes: ["ok", "bad"] })).toBe(4);
  expect(createCounting({ topK: null }).add(outputs(p), [0, 1, 2, 1])).toMatch(/^no output has one class/);
});

test("classes that are declared give labels their places, and indices stay what they are", () => {
  const of = (labels: readonly number[] | readonly string[], classes: readonly string[]) => {
    const counting = createCounting({ classes, topK: null });
    expect(counting.add(outputs(SCORES), labels)).toBeNull();
    return counting.found();
  };
  expect(of(["cat", "dog", "cat", "dog"], ["cat", "dog"])).toMatchObject({
    correct: 4,
    names: ["cat", "dog"],
  });
  expect(of([5, 9, 5, 9], ["5", "9"])).toMatchObject({ correct: 4 });
  expect(of([0, 1, 0, 1], ["cat", "dog"])).toMatchObject({ correct: 4 });
  expect(createCounting({ classes: ["a", "b", "c"] }).add(outputs(SCORES), [0, 1, 0, 1])).toBe(
    'golden.classes has 3 classes, output "y" has 2 scores',
  );
});

test("labels of several things in a sample are held against each of them, wherever the classes stand", () => {
  // Two samples of three tokens, two classes.
  const labels = whole([2, 3], 0, 1, 1, 1, 0, 0);
  const last = floats([2, 3, 2], 1, 0, 0, 1, 0, 1, 0, 1, 1, 0, 0, 1);
  const first = floats([2, 2, 3], 1, 0, 0, 0, 1, 1, 0, 1, 0, 1, 0, 1);
  for (const answers of [
    last,
    first,
    whole([2, 3], 0, 1, 1, 1, 0, 1),
    floats([2, 3], 0.1, 0.9, 0.9, 0.8, 0, 0.9),
  ]) {
    const counting = createCounting({ topK: null });
    expect(counting.add(outputs(answers), labels)).toBeNull();
    expect(counting.found()).toMatchObject({ samples: 6, correct: 5, worst: { index: 1 } });
  }
});

test("what the scores stand for is known by the label output, or by names, or is asked for", () => {
  const answers = heads(["label", whole([4], ...right(3, 7))], ["scores", SCORES]);
  const learned = createCounting({ ranking: true });
  learned.add(answers, right(3, 7));
  expect(learned.ranking()).toMatchObject({
    because: "bound",
    message: expect.stringContaining("golden.classes"),
  });
  const named = createCounting({ ranking: true, classes: ["3", "7"] });
  named.add(answers, right(3, 7));
  expect(named.ranking()).toMatchObject({ output: "scores", rocAuc: 1, averagePrecision: 1 });
});

test("a class without samples, or with all of them, has no ROC curve, and is named", () => {
  const counting = createCounting({ ranking: true });
  counting.add(outputs(SCORES), [0, 0, 0, 0]);
  expect(counting.ranking()).toMatchObject({ rocAuc: null, undefinedFor: "class 1 has no sample" });
});

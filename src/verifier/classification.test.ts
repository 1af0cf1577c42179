import fc from "fast-check";
import { expect, test } from "vitest";
import { classText, confusedText, createCounting, scoresOutput, weakestClass } from "./classification.ts";
import type { Datum, TensorValue } from "./tensor.ts";

const floats = (shape: readonly number[], ...values: readonly number[]): TensorValue => ({
  type: "float32",
  shape,
  data: Float32Array.from(values),
});
const outputs = (tensor: TensorValue) => new Map([["y", tensor]]);

test("a sample is right when its first largest score is that of the label", () => {
  const counting = createCounting(2, []);
  expect(counting.add(outputs(floats([3, 2], 0.9, 0.1, 0.5, 0.5, 0.2, 0.8)), [0, 0, 1])).toBeNull();
  expect(counting.found()).toMatchObject({ samples: 3, correct: 3, worst: null, confused: [] });
});

test("the surest mistake is remembered over several runs, by its number in the set", () => {
  const counting = createCounting(2, []);
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

test("a score that is NaN never wins, and is never among the first", () => {
  const counting = createCounting(2, []);
  counting.add(outputs(floats([1, 3], Number.NaN, 0, 1)), [2]);
  expect(counting.found()).toMatchObject({ correct: 1, correctTopK: 1 });
  counting.add(outputs(floats([1, 3], Number.NaN, Number.NaN, Number.NaN)), [0]);
  expect(counting.found()).toMatchObject({ correct: 1, correctTopK: 1, worst: { got: -1 } });
});

test("a label that is no class is said to be that", () => {
  const counting = createCounting(2, []);
  expect(counting.add(outputs(floats([1, 2], 0, 1)), [2])).toBe(
    'label 2 is none of the 2 classes of output "y"',
  );
});

test("of two classes the weaker one is found", () => {
  const counting = createCounting(2, []);
  counting.add(outputs(floats([4, 2], 1, 0, 1, 0, 0, 1, 1, 0)), [0, 0, 1, 1]);
  expect(weakestClass(counting.found()!)).toEqual({ label: 1, samples: 2, correct: 1 });
});

test.each<[string, readonly [string, TensorValue][], number, string | null]>([
  [
    "the first of matching shape",
    [
      ["label", floats([2], 0, 1)],
      ["p", floats([2, 3], 0, 0, 0, 0, 0, 0)],
    ],
    2,
    "p",
  ],
  ["without an axis for one sample", [["p", floats([3], 0, 0, 0)]], 1, "p"],
  ["with axes of 1 around it", [["p", floats([2, 3, 1, 1], 0, 0, 0, 0, 0, 0)]], 2, "p"],
  ["none, where there is one number for each sample", [["p", floats([4, 1], 0, 0, 0, 0)]], 4, null],
  ["none, where an output is a picture", [["p", floats([1, 2, 2], 0, 0, 0, 0)]], 1, null],
])("the scores are taken from %s", (_what, given, batch, name) => {
  expect(scoresOutput(new Map(given), batch)?.output ?? null).toBe(name);
});

test("counts are those of a plain calculation, however the samples are cut into runs (property)", () => {
  const sample = fc.record({
    scores: fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 4, maxLength: 4 }),
    label: fc.integer({ min: 0, max: 3 }),
  });
  fc.assert(
    fc.property(fc.array(sample, { minLength: 1 }), fc.integer({ min: 1, max: 5 }), (samples, size) => {
      const counting = createCounting(2, []);
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
      const found = counting.found()!;
      expect(found.samples).toBe(samples.length);
      expect(found.correct).toBe(ranks.filter((rank) => rank === 0).length);
      expect(found.correctTopK).toBe(ranks.filter((rank) => rank < 2).length);
      expect(found.byClass.reduce((sum, one) => sum + one.samples, 0)).toBe(samples.length);
    }),
  );
});

test("a model that answers with the class itself is judged by that: numbers", () => {
  const counting = createCounting(2, []);
  const answered: TensorValue = { type: "int64", shape: [4], data: BigInt64Array.of(7n, -1n, 3n, 7n) };
  expect(counting.add(outputs(answered), [7, 3, 3, 7])).toBeNull();
  expect(counting.found()).toMatchObject({ samples: 4, correct: 3, correctTopK: 3, names: ["7", "3", "-1"] });
  expect(confusedText(counting.found()!)).toBe("-1 for 3 (1×)");
});

test("a model that answers with the class itself is judged by that: texts, over several runs", () => {
  const counting = createCounting(2, []);
  const answer = (...data: readonly string[]) =>
    new Map<string, Datum>([
      ["scores", floats([data.length, 2], ...data.flatMap(() => [1, 0]))],
      ["label", { type: "string", shape: [data.length], data }],
    ]);
  expect(counting.add(answer("cat", "dog"), ["cat", "cat"])).toBeNull();
  expect(counting.add(answer("cow"), ["cow"])).toBeNull();
  const found = counting.found()!;
  expect(found).toMatchObject({ output: "label", classes: 3, samples: 3, correct: 2 });
  expect(classText(found, weakestClass(found)!.label)).toBe('class "cat"');
  expect(found.worst).toMatchObject({ index: 1 });
});

test("labels are keys of the columns where an output has keys", () => {
  const infos = [{ name: "y", type: "sequence(map(string,float32))", shape: [], keys: ["no", "yes"] }];
  const counting = createCounting(2, infos);
  expect(counting.add(outputs(floats([2, 2], 0.9, 0.1, 0.2, 0.8)), ["no", "no"])).toBeNull();
  expect(counting.found()).toMatchObject({
    correct: 1,
    names: ["no", "yes"],
    worst: { expected: 0, got: 1 },
  });
  expect(createCounting(2, infos).add(outputs(floats([1, 2], 0, 1)), ["maybe"])).toBe(
    'label maybe is none of the 2 classes of output "y"',
  );
});

test("labels that no output answers are said to be that", () => {
  expect(createCounting(2, []).add(outputs(floats([1, 2], 0, 1)), ["cat"])).toBe(
    "labels are texts, and no output has one text for each sample",
  );
  expect(createCounting(2, []).add(outputs(floats([2], 0, 1)), [0, 1])).toBe(
    "no output has one score for each class of each sample",
  );
});

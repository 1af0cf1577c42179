import { expect, test } from "vitest";
import { type GoldenBounds, judgedGolden, judgedParity } from "../builders/verifier/judging.ts";
import { type NpyArray, npzFile } from "../builders/verifier/npz.ts";
import {
  floatTensor,
  integerTensor,
  type Message,
  modelFile,
  node,
  seededRandom,
  tensorInfo,
} from "../builders/verifier/onnx-model.ts";

// Random models and golden sets, changed in ways that mean nothing: the order of outputs, more heads, names, numbers of
// classes, a bound that is said twice. None of them changes a verdict. VERDICT_SEED repeats a seed that was printed.

const SEED = Number(process.env["VERDICT_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
const MODELS = 12;

type Random = () => number;
const whole = (random: Random, from: number, to: number) => from + Math.floor(random() * (to - from + 1));

type Model = {
  readonly weights: readonly number[];
  readonly inputs: number;
  readonly classes: number;
  readonly x: readonly number[];
  readonly samples: number;
  /** What the scores say, before anything else. */
  readonly best: readonly number[];
};

function drawModel(random: Random): Model {
  const [inputs, classes, samples] = [whole(random, 2, 4), whole(random, 2, 5), whole(random, 4, 20)];
  const weights = Array.from({ length: inputs * classes }, () => random() * 2 - 1);
  const x = Array.from({ length: inputs * samples }, () => random() * 2 - 1);
  const best = Array.from({ length: samples }, (_, row) => {
    const scores = Array.from({ length: classes }, (_one, column) =>
      weights.reduce(
        (sum, weight, at) =>
          at % classes === column ? sum + weight * (x[row * inputs + Math.floor(at / classes)] ?? 0) : sum,
        0,
      ),
    );
    return scores.indexOf(Math.max(...scores));
  });
  return { weights, inputs, classes, x, samples, best };
}

type Shape = {
  /** Output names, and which of them each is. */
  readonly scores: string;
  readonly label: { readonly name: string; readonly classes: readonly number[] } | null;
  /** Other heads, which look like scores. */
  readonly heads: readonly string[];
  readonly reversed: boolean;
};
const PLAIN: Shape = { scores: "scores", label: null, heads: [], reversed: false };

function fileOf({ weights, inputs, classes }: Model, { scores, label, heads, reversed }: Shape): Buffer {
  const nodes: Message[] = [node("MatMul", ["x", "W"], [scores])];
  const initializers = [floatTensor("W", [inputs, classes], weights)];
  const outputs: Message[] = [tensorInfo(scores, ["n", classes])];
  for (const head of heads) {
    nodes.push(node("Neg", [scores], [head]));
    outputs.push(tensorInfo(head, ["n", classes]));
  }
  if (label !== null) {
    nodes.push(
      node("ArgMax", [scores], ["place"], { axis: 1, keepdims: 0 }),
      node("Gather", ["names", "place"], [label.name]),
    );
    initializers.push(integerTensor("names", [classes], label.classes));
    outputs.push(tensorInfo(label.name, ["n"], "int64"));
  }
  return modelFile({
    nodes,
    initializers,
    inputs: [tensorInfo("x", ["n", inputs])],
    outputs: reversed ? outputs.reverse() : outputs,
  });
}

const setOf = ({ x, samples, inputs }: Model, arrays: Readonly<Record<string, NpyArray>>) =>
  npzFile({ x: { descr: "<f4", shape: [samples, inputs], values: x }, ...arrays });
const numbers = (values: readonly number[]): NpyArray => ({ descr: "<i8", shape: [values.length], values });
const texts = (values: readonly number[]): NpyArray => ({
  descr: "<U10",
  shape: [values.length],
  values: values.map(String),
});

test(`a verdict is about what the model answers, and about nothing else (VERDICT_SEED=${SEED})`, async () => {
  const random = seededRandom(SEED);
  for (let at = 0; at < MODELS; at += 1) {
    const model = drawModel(random);
    const { classes, samples, best } = model;
    const labels = best.map((label) => (random() < 0.7 ? label : whole(random, 0, classes - 1)));
    const correct = labels.filter((label, row) => label === best[row]).length;
    // As near to what is measured as can be: whatever moves the measurement turns the verdict.
    const [kept, broken] = [(correct - 0.5) / samples, (correct + 0.5) / samples].map((near) =>
      String(Math.min(1, Math.max(0, near)).toFixed(6)),
    );
    const share = `accuracy ${Number((correct / samples).toFixed(4))} (${correct} of ${samples})`;
    /** The same model and set in other clothes, and what must be said so that it is known what is meant. */
    const sameAs: readonly (readonly [string, Shape, Readonly<Record<string, NpyArray>>, GoldenBounds])[] = [
      ["as it is", PLAIN, { labels: numbers(labels) }, {}],
      ["renamed", { ...PLAIN, scores: "logits_7" }, { labels: numbers(labels) }, {}],
      ["named", PLAIN, { labels: numbers(labels) }, { output: "scores" }],
      [
        "with other heads",
        { ...PLAIN, heads: ["aux", "zzz"] },
        { labels: numbers(labels) },
        { output: "scores" },
      ],
      [
        "with other heads before it",
        { ...PLAIN, heads: ["aux"], reversed: true },
        { "labels:scores": numbers(labels) },
        { output: "scores" },
      ],
      ["with floats as labels", PLAIN, { labels: { ...numbers(labels), descr: "<f8" } }, {}],
      [
        "one-hot",
        PLAIN,
        {
          labels: {
            descr: "<i8",
            shape: [samples, classes],
            values: labels.flatMap((label) =>
              Array.from({ length: classes }, (_, column) => Number(column === label)),
            ),
          },
        },
        {},
      ],
      ...[1, -3, 10].flatMap((offset) => {
        const names = Array.from({ length: classes }, (_, index) => 2 * index + offset);
        const moved = labels.map((label) => names[label] ?? 0);
        const own = { name: "label", classes: names };
        return [
          [`labelled from ${offset}`, { ...PLAIN, label: own }, { labels: numbers(moved) }, {}] as const,
          [
            `labelled by texts from ${offset}`,
            { ...PLAIN, label: own, reversed: true },
            { labels: texts(moved) },
            {},
          ] as const,
          [
            `with classes from ${offset}`,
            PLAIN,
            { labels: texts(moved) },
            { classes: names.map(String) },
          ] as const,
        ];
      }),
    ];
    for (const [what, shape, arrays, more] of sameAs) {
      const file = fileOf(model, shape);
      const set = setOf(model, arrays);
      const good = await judgedGolden(file, set, { ...more, minimumAccuracy: kept ?? 0 });
      expect({ what, ...good }).toMatchObject({ what, because: null, measured: share, reason: null });
      if (correct === samples) continue;
      const bad = await judgedGolden(file, set, { ...more, minimumAccuracy: broken ?? 1 });
      expect({ what, ...bad }).toMatchObject({ what, reason: "AccuracyTooLow", measured: share });
    }

    // A head more, and no name: which one is meant is asked, and never guessed.
    const guessed = fileOf(model, { ...PLAIN, heads: ["aux"] });
    expect(
      await judgedGolden(guessed, setOf(model, { labels: numbers(labels) }), { minimumAccuracy: 0 }),
    ).toMatchObject({
      because: "ambiguous",
    });

    // Said once for all outputs, or for each of them: the same. A bound said again for another output adds to it.
    const known = {
      descr: "<f4",
      shape: [samples, classes],
      values: best.flatMap(() => new Array(classes).fill(0.1)),
    } as const;
    const file = fileOf(model, { ...PLAIN, heads: ["aux"] });
    const both = setOf(model, { "output:scores": known, "output:aux": known });
    for (const maximumAbsoluteError of ["0.05", "100"]) {
      const once = await judgedGolden(file, both, { maximumAbsoluteError });
      const outputs = ["aux", "scores"].map((name) => ({ name, maximumAbsoluteError }));
      const twice = await judgedGolden(file, both, { outputs });
      const mixed = await judgedGolden(file, both, { maximumAbsoluteError, outputs: outputs.slice(0, 1) });
      expect([twice.reason, mixed.reason]).toEqual([once.reason, once.reason]);
    }

    // Two models agree by name, in whatever order their outputs are, and whatever heads one of them has beside them.
    const other = fileOf(model, { ...PLAIN, heads: ["aux", "more"], reversed: true });
    const bounds = { minimumAgreement: 1, maximumAbsoluteError: "0.00001" };
    expect(await judgedParity(other, fileOf(model, PLAIN), null, bounds)).toMatchObject({
      reason: null,
      because: null,
    });
    const reversed = fileOf(model, { ...PLAIN, heads: ["aux"], reversed: true });
    for (const [one, two] of [
      [file, reversed],
      [reversed, file],
    ] as const)
      expect(await judgedParity(one, two, null, { maximumAbsoluteError: "0.00001" })).toMatchObject({
        reason: null,
        because: null,
      });
    expect(await judgedParity(file, reversed, null, { ...bounds, output: "aux" })).toMatchObject({
      reason: null,
    });
  }
}, 120_000);

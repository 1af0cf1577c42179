import { describe, expect, test } from "vitest";
import { judgedGolden, judgedParity } from "../builders/verifier/judging.ts";
import { type NpyArray, npyFile, npzFile, zipFile } from "../builders/verifier/npz.ts";
import {
  floatTensor,
  integerTensor,
  type Message,
  modelFile,
  node,
  tensorInfo,
} from "../builders/verifier/onnx-model.ts";
import { bytesOf, floatProto, tarFile, tarGzFile } from "../builders/verifier/test-data.ts";

// Models and golden sets that got a wrong verdict once, or none, and the right one.

const floats = (shape: readonly number[], values: readonly number[]): NpyArray => ({
  descr: "<f4",
  shape,
  values,
});
const whole = (shape: readonly number[], values: readonly number[]): NpyArray => ({
  descr: "<i8",
  shape,
  values,
});
/** Four samples, of which the first and the third are of the first class. */
const X = floats([4, 2], [1, 0, 0, 1, 2, 1, 1, 3]);
const turns = (first: number, second: number) => [first, second, first, second];

const output = (name: string, ...shape: readonly (number | string)[]) => tensorInfo(name, ["n", ...shape]);

/** One model of several heads: each a node or more that makes its output of `x` [n, 2]. */
function headed(
  outputs: readonly Message[],
  nodes: readonly Message[],
  initializers: readonly Message[] = [],
) {
  return modelFile({ nodes, initializers, inputs: [tensorInfo("x", ["n", 2])], outputs });
}

/** Answers one of two classes, and its scores: right where the first column is the larger. */
function labelled(classes: readonly [number, number], wrong = false) {
  return headed(
    [tensorInfo("label", ["n"], "int64"), output("scores", 2)],
    [
      node("Identity", ["x"], ["scores"]),
      node("ArgMax", ["scores"], ["place"], { axis: 1, keepdims: 0 }),
      node("Gather", ["classes", "place"], ["label"]),
    ],
    [integerTensor("classes", [2], wrong ? [...classes].reverse() : classes)],
  );
}

/** `p` [n, 1]: the difference of both columns, squeezed between 0 and 1. */
const sigmoid = (flat: boolean) =>
  headed(
    [flat ? output("p") : output("p", 1)],
    [
      node("MatMul", ["x", "w"], ["z"]),
      ...(flat
        ? [node("Sigmoid", ["z"], ["p2"]), node("Reshape", ["p2", "shape"], ["p"])]
        : [node("Sigmoid", ["z"], ["p"])]),
    ],
    [floatTensor("w", [2, 1], [-1, 1]), ...(flat ? [integerTensor("shape", [1], [-1])] : [])],
  );

describe("labels", () => {
  test.each<[string, readonly [number, number]]>([
    ["1 and 2", [1, 2]],
    ["3 and 7", [3, 7]],
    ["-1 and 1", [-1, 1]],
    ["0 and 1", [0, 1]],
  ])("%s: a model that is always right is, and one that is always wrong is not", async (_what, classes) => {
    const all = npzFile({ x: X, labels: whole([4], turns(...classes)) });
    const first = npzFile({ x: floats([2, 2], [1, 0, 2, 1]), labels: whole([2], [classes[0], classes[0]]) });
    for (const set of [all, first]) {
      expect(await judgedGolden(labelled(classes), set, { minimumAccuracy: 1 })).toMatchObject({
        reason: null,
      });
      expect(await judgedGolden(labelled(classes, true), set, { minimumAccuracy: "0.01" })).toMatchObject({
        reason: "AccuracyTooLow",
        measured: expect.stringContaining("accuracy 0 "),
        method: expect.stringContaining('scored: output "label"'),
      });
    }
  });

  test.each<[string, NpyArray]>([
    ["floats", { descr: "<f8", shape: [4], values: turns(0, 1) }],
    ["a column", whole([4, 1], turns(0, 1))],
    ["one-hot", whole([4, 2], [1, 0, 0, 1, 1, 0, 0, 1])],
    ["texts", { descr: "<U10", shape: [4], values: turns(-1, 1).map(String) }],
  ])("of a model with classes -1 and 1 may be %s", async (_what, labels) => {
    expect(
      await judgedGolden(labelled([-1, 1]), npzFile({ x: X, labels }), { minimumAccuracy: 1 }),
    ).toMatchObject({
      reason: null,
      measured: "accuracy 1 (4 of 4)",
    });
  });

  test.each([true, false])("of one score are held against the threshold (flat: %s)", async (flat) => {
    const labels = whole([4], turns(0, 1));
    const set = npzFile({ x: X, labels });
    expect(await judgedGolden(sigmoid(flat), set, { minimumAccuracy: 1 })).toMatchObject({
      reason: null,
      method: expect.stringContaining('scored: output "p" by the threshold 0.5'),
    });
    expect(
      await judgedGolden(sigmoid(flat), set, { minimumAccuracy: "0.51", threshold: "0.999" }),
    ).toMatchObject({
      reason: "AccuracyTooLow",
      measured: "accuracy 0.5 (2 of 4)",
    });
  });
});

describe("labels whose reading is open", () => {
  /** Answers the whole numbers that it is given. */
  const whole3 = modelFile({
    nodes: [node("Cast", ["x"], ["y"], { to: 7 })],
    inputs: [tensorInfo("x", ["n", 3])],
    outputs: [tensorInfo("y", ["n", 3], "int64")],
  });

  test("columns beside a model that only ever answers 1: the second of 0 and 1, or the first of 1 and 2", async () => {
    const ones = headed(
      [tensorInfo("label", ["n"], "int64")],
      [
        node("ArgMax", ["x"], ["place"], { axis: 1, keepdims: 0 }),
        node("Gather", ["ones", "place"], ["label"]),
      ],
      [integerTensor("ones", [2], [1, 1])],
    );
    for (const column of [0, 1]) {
      const rows = Array.from({ length: 4 }, () => [Number(column === 0), column]).flat();
      const set = npzFile({ x: X, labels: whole([4, 2], rows) });
      expect(await judgedGolden(ones, set, { minimumAccuracy: "0.1" })).toMatchObject({
        because: "misfit",
        message: expect.stringContaining("golden.classes must say which column"),
      });
      const from1 = await judgedGolden(ones, set, { minimumAccuracy: "0.1", classes: ["1", "2"] });
      expect(from1.measured).toBe(column === 0 ? "accuracy 1 (4 of 4)" : "accuracy 0 (0 of 4)");
    }
  });

  test("three columns beside -1 and 1", async () => {
    const set = npzFile({ x: X, labels: whole([4, 3], [1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1]) });
    expect(await judgedGolden(labelled([-1, 1]), set, { minimumAccuracy: "0.1" })).toMatchObject({
      because: "misfit",
    });
  });

  test("a single 1 in each sample beside as many whole numbers: one class, or a class for each of three things", async () => {
    // Of three things in each sample, the model answers 2 where 1 is right.
    const x = floats([2, 3], [0, 2, 0, 2, 0, 0]);
    const marks = [0, 1, 0, 1, 0, 0];
    const set = npzFile({ x, labels: whole([2, 3], marks) });
    expect(await judgedGolden(whole3, set, { minimumAccuracy: "0.9" })).toMatchObject({
      because: "misfit",
      message: expect.stringContaining("they may be one column for each of 3 classes"),
    });
    const classes = ["a", "b", "c"];
    expect(await judgedGolden(whole3, set, { minimumAccuracy: "0.9", classes })).toMatchObject({
      measured: "accuracy 1 (2 of 2)",
    });
    const each = npzFile({ x, labels: { descr: "<U10", shape: [2, 3], values: marks.map(String) } });
    expect(await judgedGolden(whole3, each, { minimumAccuracy: "0.9" })).toMatchObject({
      reason: "AccuracyTooLow",
      measured: "accuracy 0.6667 (4 of 6)",
    });
  });

  test("columns in one data set, and classes in another", async () => {
    const sets = async (second: NpyArray) =>
      tarFile({
        "test_data_set_0/input_0.pb": floatProto([4, 2], X.values as readonly number[]),
        "test_data_set_0/labels.npy": npyFile(whole([4, 2], [1, 0, 0, 1, 1, 0, 0, 1])),
        "test_data_set_1/input_0.pb": floatProto([4, 2], X.values as readonly number[]),
        "test_data_set_1/labels.npy": npyFile(second),
      });
    const same = headed([output("y", 2)], [node("Identity", ["x"], ["y"])]);
    expect(
      await judgedGolden(same, await sets(whole([4, 2], [1, 0, 0, 1, 1, 0, 0, 1])), { minimumAccuracy: 1 }),
    ).toMatchObject({ reason: null, measured: "accuracy 1 (8 of 8)" });
    expect(
      await judgedGolden(same, await sets(whole([4], turns(0, 1))), { minimumAccuracy: "0.1" }),
    ).toMatchObject({
      because: "misfit",
      message:
        "labels are [2] for each sample in one part of the golden set, and one for each sample in another",
    });
  });

  test("indices beside classes that are other numbers", async () => {
    const same = headed([output("y", 2)], [node("Identity", ["x"], ["y"])]);
    const classes = ["1", "2"];
    const judged = (labels: NpyArray) =>
      judgedGolden(same, npzFile({ x: X, labels }), { minimumAccuracy: "0.1", classes });
    expect(await judged(whole([4], turns(1, 2)))).toMatchObject({ measured: "accuracy 1 (4 of 4)" });
    expect(await judged(whole([4], turns(0, 1)))).toMatchObject({
      because: "misfit",
      message: expect.stringContaining("label 0 is none of the 2 classes"),
    });
    const spaced: NpyArray = { descr: "<U10", shape: [4], values: ["1 ", "2", "1 ", "2"] };
    expect((await judged(spaced)).message).toContain('label "1 " is none of the 2 classes');
    expect(
      await judgedGolden(same, npzFile({ x: X, labels: whole([4], turns(0, 1)) }), {
        minimumAccuracy: 0,
        classes: ["cat", "cat"],
      }),
    ).toMatchObject({
      because: "misfit",
      message: 'class "cat" is there twice: each score needs a class of its own',
    });
  });
});

describe("the output that is scored", () => {
  const heads = headed(
    [output("aux_logits", 2), output("logits", 2)],
    [node("Identity", ["x"], ["aux_logits"]), node("Neg", ["x"], ["logits"])],
  );
  const set = npzFile({ x: X, labels: whole([4], turns(0, 1)) });

  test("is named where two can be meant", async () => {
    expect(await judgedGolden(heads, set, { minimumAccuracy: "0.9" })).toMatchObject({
      because: "ambiguous",
      message: expect.stringContaining('"aux_logits", "logits"'),
    });
    expect(await judgedGolden(heads, set, { minimumAccuracy: "0.9", output: "logits" })).toMatchObject({
      reason: "AccuracyTooLow",
      message: expect.stringContaining('not judged: output "aux_logits"'),
    });
    expect(await judgedGolden(heads, set, { minimumAccuracy: 1, output: "aux_logits" })).toMatchObject({
      reason: null,
      message: 'not judged: output "logits"',
    });
  });

  test("is the one that the only labels are for", async () => {
    const labels = whole([4], turns(0, 1));
    const judged = (name: string, bounds: { readonly output?: string }) =>
      judgedGolden(heads, npzFile({ x: X, [`labels:${name}`]: labels }), { minimumAccuracy: 1, ...bounds });
    expect(await judged("aux_logits", {})).toMatchObject({
      reason: null,
      method: expect.stringContaining('scored: output "aux_logits"'),
    });
    expect(await judged("logits", {})).toMatchObject({ reason: "AccuracyTooLow" });
    expect(await judged("logits", { output: "aux_logits" })).toMatchObject({
      because: "misfit",
      message: 'the golden set has no labels of output "aux_logits"; it has labels of "logits"',
    });
  });

  test("without a name is none of those that have bounds of their own", async () => {
    const bounds = { minimumAccuracy: "0.1", outputs: [{ name: "aux_logits", minimumAccuracy: 1 }] };
    expect(await judgedGolden(heads, set, bounds)).toMatchObject({
      reason: "AccuracyTooLow",
      method: expect.stringMatching(/scored: output "logits".*scored: output "aux_logits"/),
    });
  });

  test("may have bounds of its own beside others, and each of them binds", async () => {
    const known = npzFile({ x: X, labels: whole([4], turns(0, 1)), "output:logits": X });
    const accurate = { name: "aux_logits", minimumAccuracy: 1 };
    expect(await judgedGolden(heads, known, { outputs: [accurate] })).toMatchObject({ reason: null });
    const both = { outputs: [accurate, { name: "logits", maximumAbsoluteError: 1 }] };
    expect(await judgedGolden(heads, known, both)).toMatchObject({
      reason: "OutputsDiffer",
      measured: 'accuracy of "aux_logits" 1 (4 of 4), maximum absolute error of "logits" 6',
    });
    expect(
      await judgedGolden(heads, known, { outputs: [{ name: "boxes", minimumAccuracy: 1 }] }),
    ).toMatchObject({
      because: "misfit",
      message: 'the model has no output "boxes"; it has aux_logits, logits',
    });
  });

  test("of two models is named too: negated logits beside the same embedding are found", async () => {
    const model = (operator: string) =>
      headed(
        [output("embedding", 2), output("logits", 2)],
        [node("Identity", ["x"], ["embedding"]), node(operator, ["x"], ["logits"])],
      );
    const [reference, negated] = [model("Identity"), model("Neg")];
    expect(await judgedParity(negated, reference, null, { minimumAgreement: "0.98" })).toMatchObject({
      because: "ambiguous",
      message: expect.stringContaining('"embedding", "logits"'),
    });
    expect(
      await judgedParity(negated, reference, null, { minimumAgreement: "0.98", output: "logits" }),
    ).toMatchObject({ reason: "ParityTooLow", measured: "agreement 0 (0 of 64)" });
  });

  test("is matched by name between two models, in any order", async () => {
    const outputs = [output("a", 2), output("b", 2)];
    const nodes = [node("Identity", ["x"], ["a"]), node("Neg", ["x"], ["b"])];
    const [one, other] = [headed(outputs, nodes), headed([...outputs].reverse(), nodes)];
    const bounds = { maximumAbsoluteError: 0, minimumAgreement: 1, output: "b" };
    expect(await judgedParity(one, other, null, bounds)).toMatchObject({ reason: null });
  });
});

describe("a bound binds or is refused:", () => {
  const sum = headed(
    [output("y", 1)],
    [node("MatMul", ["x", "w"], ["y"])],
    [floatTensor("w", [2, 1], [1, 1])],
  );
  const same = headed([output("y", 2)], [node("Identity", ["x"], ["y"])]);

  test("the cosine of one number", async () => {
    const wrong = npzFile({ x: X, "output:y": floats([4, 1], [-100, -100, -300, -400]) });
    expect(await judgedGolden(sum, wrong, { minimumCosineSimilarity: "0.9" })).toMatchObject({
      reason: "BoundUnusable",
      message: expect.stringContaining("two numbers or more"),
    });
  });

  test("the top 5 of two classes", async () => {
    const set = npzFile({ x: X, labels: whole([4], turns(1, 0)) });
    expect(await judgedGolden(same, set, { minimumTopKAccuracy: 1 })).toMatchObject({
      reason: "BoundUnusable",
      message: expect.stringContaining("a topK below 2"),
    });
  });

  test("a threshold where there is no single score", async () => {
    const set = npzFile({ x: X, labels: whole([4], turns(0, 1)) });
    const bounds = { minimumAccuracy: 1, threshold: "0.2" };
    for (const [model, says] of [
      [same, "has one score for each class"],
      [labelled([0, 1]), "answers the class itself"],
    ] as const)
      expect(await judgedGolden(model, set, bounds)).toMatchObject({
        reason: "BoundUnusable",
        message: expect.stringContaining(says),
      });
    expect(await judgedGolden(sigmoid(true), set, bounds)).not.toMatchObject({ reason: "BoundUnusable" });
    expect(await judgedParity(same, same, set, { minimumAgreement: 1, threshold: "0.2" })).toMatchObject({
      because: "bound",
      message: expect.stringContaining("threshold is for one score"),
    });
    expect(
      await judgedParity(sigmoid(true), sigmoid(true), null, {
        minimumAgreement: 1,
        threshold: "0.2",
        output: "p",
      }),
    ).toMatchObject({ reason: null });
  });

  test("a batch of none", async () => {
    const none = await tarFile({
      "test_data_set_0/input_0.pb": floatProto([0, 2], []),
      "test_data_set_0/output_0.pb": floatProto([0, 2], []),
    });
    expect(await judgedGolden(same, none, { maximumAbsoluteError: 1 })).toMatchObject({ because: "misfit" });
  });

  test("an expected output of another type", async () => {
    const wide = npzFile({ x: X, "output:y": { ...X, descr: "<f8" } });
    expect(await judgedGolden(same, wide, { maximumAbsoluteError: 0 })).toMatchObject({
      because: "misfit",
      message: expect.stringContaining('.astype("float32")'),
    });
  });

  test("finite values, in outputs that nothing is known of, and beside labels", async () => {
    const logs = headed(
      [output("a", 2), output("b", 2)],
      [node("Identity", ["x"], ["a"]), node("Log", ["x"], ["b"])],
    );
    const negative = floats([1, 2], [-1, -2]);
    const known = npzFile({ x: negative, "output:a": negative });
    const bounds = { maximumAbsoluteError: 0, nonFinite: "Never" } as const;
    expect(await judgedGolden(logs, known, bounds)).toMatchObject({
      reason: "NonFinite",
      message: expect.stringContaining('2 in output "b"'),
    });
    const log = headed([output("p", 2)], [node("Log", ["x"], ["p"])]);
    const labels = npzFile({ x: floats([2, 2], [2, -1, 2, -1]), labels: whole([2], [0, 0]) });
    expect(await judgedGolden(log, labels, { minimumAccuracy: "0.9", nonFinite: "Never" })).toMatchObject({
      reason: "NonFinite",
    });
    // A sample whose scores hold a NaN is not right, whatever the others are.
    expect(await judgedGolden(log, labels, { minimumAccuracy: "0.9" })).toMatchObject({
      reason: "AccuracyTooLow",
    });
    const half = npzFile({ x: floats([2, 2], [2, -1, 2, 1]), labels: whole([2], [0, 0]) });
    expect(await judgedGolden(log, half, { minimumAccuracy: "0.5" })).toMatchObject({
      reason: null,
      message: 'a score of output "p" is NaN in 1 of 2 samples, and none of these counts as right',
    });
  });

  test("an average precision of one class alone", async () => {
    const one = npzFile({ x: X, labels: whole([4], [1, 1, 1, 1]) });
    expect(await judgedGolden(sigmoid(true), one, { minimumAveragePrecision: "0.5" })).toMatchObject({
      reason: "BoundUnusable",
      message: expect.stringContaining("class 1 has every sample"),
    });
  });
});

describe("what is expected", () => {
  test("may have another number of rows than the model answers: that is a difference", async () => {
    const rows = modelFile({
      nodes: [node("NonZero", ["x"], ["places"])],
      inputs: [tensorInfo("x", [4])],
      outputs: [tensorInfo("places", [1, "k"], "int64")],
    });
    const none = { "test_data_set_0/input_0.pb": floatProto([4], [0, 1, 0, 1]) };
    const places = (...values: readonly number[]) => integerTensor("", [1, values.length], values);
    const judged = async (...expected: readonly number[]) =>
      judgedGolden(rows, await tarFile({ ...none, "test_data_set_0/output_0.pb": places(...expected) }), {
        maximumAbsoluteError: 0,
      });
    expect(await judged(1, 3)).toMatchObject({ reason: null });
    expect(await judged()).toMatchObject({
      reason: "OutputsDiffer",
      message: expect.stringContaining("expected [1,0], the model answers [1,2]"),
    });
  });

  test("goes by names that the model has, and not by numbers where only some names are old", async () => {
    const two = headed(
      [output("a", 2), output("b", 2)],
      [node("Identity", ["x"], ["a"]), node("Neg", ["x"], ["b"])],
    );
    const values = X.values as readonly number[];
    const judged = async (first: readonly [string, number], second: readonly [string, number]) => {
      const proto = ([name, sign]: readonly [string, number]) =>
        floatProto(
          [4, 2],
          values.map((value) => sign * value),
          name,
        );
      const files = {
        "test_data_set_0/input_0.pb": floatProto([4, 2], values),
        "test_data_set_0/output_0.pb": proto(first),
        "test_data_set_0/output_1.pb": proto(second),
      };
      return judgedGolden(two, await tarFile(files), { maximumAbsoluteError: 0 });
    };
    expect(await judged(["b", -1], ["a", 1])).toMatchObject({ reason: null, message: "" });
    expect(await judged(["a", 1], ["old_b", -1])).toMatchObject({
      reason: null,
      message: expect.stringContaining("are taken by their numbers"),
    });
    // By their numbers, this would be for "a".
    expect(await judged(["b", -1], ["old_a", 1])).toMatchObject({
      because: "misfit",
      message: expect.stringContaining('output_1.pb is for output "old_a"'),
    });
  });

  test("is shown with digits enough to see the difference", async () => {
    const double = modelFile({
      nodes: [node("Identity", ["x"], ["y"])],
      inputs: [tensorInfo("x", ["n", 2], "float64")],
      outputs: [tensorInfo("y", ["n", 2], "float64")],
    });
    const row = (first: number): NpyArray => ({ descr: "<f8", shape: [1, 2], values: [first, 2] });
    const set = npzFile({ x: row(1), "output:y": row(1.000000000001) });
    expect(await judgedGolden(double, set, { maximumAbsoluteError: "0.0000000000001" })).toMatchObject({
      reason: "OutputsDiffer",
      message: expect.stringContaining("expected 1.000000000001, got 1"),
    });
  });

  test("is read from an archive with backslashes, as PowerShell writes it, and nothing leads out of it", async () => {
    const same = headed([output("y", 2)], [node("Identity", ["x"], ["y"])]);
    const files = (directory: string): readonly (readonly [string, Uint8Array])[] =>
      ["input", "output"].map(
        (side) => [`${directory}${side}_0.pb`, bytesOf(floatProto([1, 2], [1, 2]))] as const,
      );
    const bounds = { maximumAbsoluteError: 0 };
    expect(await judgedGolden(same, zipFile(files("test_data_set_0\\"), true), bounds)).toMatchObject({
      reason: null,
    });
    for (const outside of ["..\\test_data_set_0\\", "C:\\test_data_set_0\\", "\\test_data_set_0\\"])
      expect(await judgedGolden(same, zipFile(files(outside), true), bounds)).toMatchObject({
        because: "golden",
        message: expect.stringContaining("is not a safe name for a file in an archive"),
      });
  });
});

describe("an archive that macOS has made", () => {
  const same = headed([output("y", 2)], [node("Identity", ["x"], ["y"])]);
  const bounds = { maximumAbsoluteError: 0 };
  const ownData = Buffer.from("\u0000\u0005\u0016\u0007Mac OS X        ", "latin1");
  const data = ["input", "output"].map(
    (side) => [`golden/test_data_set_0/${side}_0.pb`, bytesOf(floatProto([1, 2], [1, 2]))] as const,
  );

  test("has files of its own beside those of test data, in a zip", async () => {
    const beside = data.map(([name]) => [`__MACOSX/${name.replace(/([^/]+)$/, "._$1")}`, ownData] as const);
    const zip = zipFile([...data, ["golden/.DS_Store", ownData], ...beside], true);
    expect(await judgedGolden(same, zip, bounds)).toMatchObject({ reason: null });
  });

  test("has files of its own beside those of test data, in a tar.gz", async () => {
    const beside = data.map(([name]) => [name.replace(/([^/]+)$/, "._$1"), ownData] as const);
    const tar = await tarGzFile(Object.fromEntries([...beside, ...data]));
    expect(await judgedGolden(same, tar, bounds)).toMatchObject({ reason: null });
  });

  test("has files of its own beside arrays", async () => {
    const arrays = ["x", "output:y"].map((name) => [`${name}.npy`, npyFile(floats([1, 2], [1, 2]))] as const);
    const beside = arrays.map(([name]) => [`__MACOSX/._${name}`, ownData] as const);
    expect(await judgedGolden(same, zipFile([...arrays, ...beside], true), bounds)).toMatchObject({
      reason: null,
    });
  });
});

describe("metrics of other models", () => {
  const same = headed([output("y", 2)], [node("Identity", ["x"], ["y"])]);

  test("are errors over all samples", async () => {
    const set = npzFile({ x: X, "output:y": floats([4, 2], [1, 0, 0, 1, 2, 1, 1, 5]) });
    const good = { maximumRootMeanSquaredError: "0.5", maximumMeanAbsoluteError: "0.25" };
    expect(await judgedGolden(same, set, good)).toMatchObject({
      reason: null,
      measured: "root mean squared error 0.5, mean absolute error 0.25",
      method: expect.stringContaining('measured: output "y"'),
    });
    expect(await judgedGolden(same, set, { maximumRootMeanSquaredError: "0.49" })).toMatchObject({
      reason: "OutputsDiffer",
    });
  });

  test("are of outputs whose first axis counts the samples", async () => {
    const turned = modelFile({
      nodes: [node("Transpose", ["x"], ["y"], { perm: [1, 0] })],
      inputs: [tensorInfo("x", ["n", 2])],
      outputs: [tensorInfo("y", [2, "n"])],
    });
    const set = npzFile({ x: X, labels: X });
    expect(await judgedGolden(turned, set, { maximumMeanAbsoluteError: 9 })).toMatchObject({
      because: "misfit",
    });
    expect(await judgedGolden(same, set, { maximumMeanAbsoluteError: 0 })).toMatchObject({ reason: null });
  });

  test("are masks and boxes", async () => {
    const mask = npzFile({ x: X, "output:y": floats([4, 2], [1, 0, 0, 1, 1, 1, 0, 1]) });
    expect(await judgedGolden(same, mask, { minimumMaskIou: "0.83" })).toMatchObject({
      reason: null,
      measured: "mask IoU 0.833333",
    });
    const broken = npzFile({ x: floats([1, 2], [1, Number.NaN]), "output:y": floats([1, 2], [1, 0]) });
    expect(await judgedGolden(same, broken, { minimumMaskIou: "0.51" })).toMatchObject({
      reason: "OutputsDiffer",
      measured: "mask IoU 0.5",
    });
    const box = modelFile({
      nodes: [node("Identity", ["x"], ["boxes"])],
      inputs: [tensorInfo("x", ["n", 2, 4])],
      outputs: [tensorInfo("boxes", ["n", 2, 4])],
    });
    const set = npzFile({
      x: floats([1, 2, 4], [0, 0, 10, 10, 20, 20, 30, 30]),
      "output:boxes": floats([1, 2, 4], [20, 20, 30, 31, 50, 50, 60, 60]),
    });
    expect(await judgedGolden(box, set, { minimumBoxMatch: "0.5" })).toMatchObject({
      reason: null,
      measured: "box match 0.5 (1 pairs of 2 expected and 2 found boxes)",
    });
    expect(await judgedGolden(box, set, { minimumBoxMatch: "0.5", iouThreshold: "0.95" })).toMatchObject({
      reason: "OutputsDiffer",
    });
  });

  test("are words and characters", async () => {
    const echo = modelFile({
      nodes: [node("Identity", ["x"], ["text"])],
      inputs: [tensorInfo("x", ["n"], "string")],
      outputs: [tensorInfo("text", ["n"], "string")],
    });
    const texts = (...values: readonly string[]): NpyArray => ({
      descr: "<U10",
      shape: [values.length],
      values,
    });
    const set = npzFile({ x: texts("a bee", "sea"), "output:text": texts("a bed", "sea") });
    expect(
      await judgedGolden(echo, set, { maximumWordErrorRate: "0.34", maximumCharacterErrorRate: "0.125" }),
    ).toMatchObject({
      reason: null,
      measured: "word error rate 0.333333, character error rate 0.125",
    });
    expect(await judgedGolden(echo, set, { maximumCharacterErrorRate: "0.1" })).toMatchObject({
      reason: "OutputsDiffer",
    });
    expect(
      await judgedGolden(same, npzFile({ x: X, "output:y": X }), { maximumWordErrorRate: 0 }),
    ).toMatchObject({
      because: "misfit",
    });
  });

  test("are the order of scores", async () => {
    const set = npzFile({ x: X, labels: whole([4], [0, 1, 1, 1]) });
    expect(
      await judgedGolden(sigmoid(true), set, { minimumRocAuc: 1, minimumAveragePrecision: 1 }),
    ).toMatchObject({
      measured: "ROC AUC 0.833333, average precision 0.916667",
      reason: "AccuracyTooLow",
    });
  });
});

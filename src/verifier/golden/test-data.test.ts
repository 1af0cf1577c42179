import { describe, expect, test } from "vitest";
import { npyFile, zipFile } from "../../../test/builders/verifier/npz.ts";
import {
  bytesOf,
  type Files,
  floatProto,
  mapsProto,
  optionalProto,
  rawProto,
  sequenceProto,
  tarFile,
  tarGzFile,
  textProto,
} from "../../../test/builders/verifier/test-data.ts";
import type { Signature, TensorInfo } from "../onnx/tensor.ts";
import { readGoldenSet } from "./read.ts";
import type { GoldenSet, GoldenWants } from "./types.ts";

const LIMIT = 1_000_000;
const OUTPUTS: GoldenWants = { labels: false, outputs: true };
const LABELS: GoldenWants = { labels: true, outputs: false };

const info = (name: string, shape: TensorInfo["shape"], type = "float32"): TensorInfo => ({
  name,
  type,
  shape,
});
const model = (inputs: readonly TensorInfo[], outputs: readonly TensorInfo[]): Signature => ({
  inputs,
  outputs,
});
const PLAIN = model([info("x", ["n", 2])], [info("y", ["n", 1])]);
const X = floatProto([3, 2], [1, 2, 3, 4, 5, 6]);
const Y = floatProto([3, 1], [7, 8, 9]);
const one = (x = X, y = Y): Files => ({ "test_data_set_0/input_0.pb": x, "test_data_set_0/output_0.pb": y });

async function read(files: Files, of = PLAIN, wants = OUTPUTS): Promise<GoldenSet> {
  const set = await readGoldenSet(await tarFile(files), of, wants, LIMIT);
  if (!set.ok) throw new Error(set.error.message);
  return set.value;
}

async function refused(files: Files, of = PLAIN, wants = OUTPUTS): Promise<string> {
  const set = await readGoldenSet(await tarFile(files), of, wants, LIMIT);
  return set.ok ? "it was read" : set.error.message;
}

describe("test data", () => {
  const files: Files = {
    "model/model.onnx": Buffer.from("whatever it is"),
    "model/test_data_set_10/input_0.pb": floatProto([1, 2], [7, 8]),
    "model/test_data_set_10/output_0.pb": floatProto([1, 1], [1]),
    "model/test_data_set_2/input_0.pb": X,
    "model/test_data_set_2/output_0.pb": Y,
  };

  test.each([
    ["tar", () => tarFile(files)],
    ["tar.gz", () => tarGzFile(files)],
    [
      "zip",
      async () =>
        zipFile(
          Object.entries(files).map(([name, file]) => [name, bytesOf(file)] as const),
          true,
        ),
    ],
  ])("is read from a %s, in the order of its numbers, beside other files", async (_kind, archive) => {
    const set = await readGoldenSet(await archive(), PLAIN, OUTPUTS, LIMIT);
    if (!set.ok) throw new Error(set.error.message);
    expect(set.value).toMatchObject({ samples: 4, runs: 2 });
    expect(set.value.runAt(0)).toMatchObject({
      from: 0,
      samples: 3,
      feeds: { x: { type: "float32", shape: [3, 2], data: Float32Array.of(1, 2, 3, 4, 5, 6) } },
      labels: new Map(),
      expected: new Map([["y", { type: "float32", shape: [3, 1], data: Float32Array.of(7, 8, 9) }]]),
    });
    expect(set.value.runAt(1)).toMatchObject({ from: 3, samples: 1 });
  });

  test("is repeated for a larger batch where the model takes any number of samples, else fed as it is", async () => {
    expect((await read(one())).feedsFor(4)).toEqual({
      feeds: { x: { type: "float32", shape: [4, 2], data: Float32Array.of(1, 2, 3, 4, 5, 6, 1, 2) } },
      batchSize: 4,
    });
    const fixed = model([info("x", [3, 2])], PLAIN.outputs);
    expect((await read(one(), fixed)).feedsFor(4)).toMatchObject({
      feeds: { x: { shape: [3, 2] } },
      batchSize: 1,
    });
  });

  test("finds inputs by the names in the files, where there are any", async () => {
    const two = model([info("a", []), info("b", [])], [info("y", [])]);
    const set = await read(
      {
        "test_data_set_0/input_0.pb": floatProto([], [1], "b"),
        "test_data_set_0/input_1.pb": floatProto([], [2], "a"),
        "test_data_set_0/output_0.pb": floatProto([], [3]),
      },
      two,
    );
    expect(set.runAt(0).feeds).toMatchObject({
      a: { data: Float32Array.of(2) },
      b: { data: Float32Array.of(1) },
    });
  });

  test("may have texts, sequences, optionals, maps and types that Node lacks", async () => {
    const all = model(
      [
        info("text", ["n"], "string"),
        info("many", [], "sequence(float32)"),
        info("none", [], "optional(float32)"),
        info("nibbles", [3], "int4"),
      ],
      [{ ...info("scores", [], "sequence(map(int64,float32))"), keys: ["7", "3"] }],
    );
    const set = await read(
      {
        "test_data_set_0/input_0.pb": textProto([2], ["a", ""]),
        "test_data_set_0/input_1.pb": sequenceProto([floatProto([2], [1, 2]), floatProto([0], [])]),
        "test_data_set_0/input_2.pb": optionalProto("tensor", null),
        "test_data_set_0/input_3.pb": rawProto("int4", [3], Uint8Array.of(0x8f, 0x07)),
        "test_data_set_0/output_0.pb": mapsProto([
          [
            [3, 0.25],
            [7, 0.75],
          ],
        ]),
      },
      all,
    );
    expect(set.runAt(0)).toMatchObject({
      samples: 1,
      feeds: {
        text: { type: "string", shape: [2], data: ["a", ""] },
        many: { type: "sequence", elements: [{ shape: [2] }, { shape: [0] }] },
        none: { type: "none" },
        nibbles: { type: "int8", data: Int8Array.of(-1, -8, 7) },
      },
    });
    expect(set.runAt(0).expected.get("scores")).toMatchObject({
      shape: [1, 2],
      data: Float32Array.of(0.75, 0.25),
    });
  });

  test("may have labels: numbers or names of classes, one for each sample", async () => {
    const labels = npyFile({ descr: "<i8", shape: [3], values: [0n, 1n, 0n] });
    const set = await read({ ...one(), "test_data_set_0/labels.npy": labels }, PLAIN, LABELS);
    expect(set.runAt(0).labels.get("")).toMatchObject({
      ids: Int32Array.of(0, 1, 0),
      vocabulary: ["0", "1"],
    });
    expect(set.runAt(0).expected.size).toBe(0);
  });
});

test("names of an older export are passed over where every file fits by its number, and that is noted", async () => {
  const stale = one(floatProto([1, 2], [1, 2], "data"), floatProto([1, 1], [3], "softmaxout"));
  const set = await read(stale);
  expect(set.runAt(0)).toMatchObject({
    feeds: { x: { shape: [1, 2] } },
    expected: new Map([["y", expect.anything()]]),
  });
  expect(set.notes).toEqual([
    'the inputs of the golden set are taken by their numbers: the model has no input "data"',
    'the outputs of the golden set are taken by their numbers: the model has no output "softmaxout"',
  ]);
  expect(await refused(one(floatProto([1, 3], [1, 2, 3], "data")))).toMatch(/is for input "data"/);
});

test("all that is wrong with the data sets is reported at once", async () => {
  const files = { ...one(floatProto([1, 3], [1, 2, 3])), "test_data_set_1/output_0.pb": Y };
  expect(await refused(files)).toBe(
    'test_data_set_0: input_0.pb is float32[1,3], the model has "x" as float32[n,2]; test_data_set_1: it has 0 inputs, and none for input "x"; the model takes x',
  );
});

test("without a sample nothing would be compared", async () => {
  expect(await refused(one(floatProto([0, 2], []), floatProto([0, 1], [])))).toMatch(
    /the golden set has no samples/,
  );
  const some = {
    ...one(),
    "test_data_set_1/input_0.pb": floatProto([0, 2], []),
    "test_data_set_1/output_0.pb": floatProto([0, 1], []),
  };
  expect((await read(some)).runs).toBe(2);
});

test("a size for batches is refused: each data set is one run", async () => {
  expect(await refused(one(), PLAIN, { ...OUTPUTS, batchSize: 2 })).toMatch(
    /each data set of a golden set is one run/,
  );
});

describe("test data that does not fit is refused with a sentence", () => {
  const IN = "test_data_set_0/input_0.pb";
  const OUT = "test_data_set_0/output_0.pb";
  test.each<[string, Files, GoldenWants, RegExp]>([
    ["there is none", { "readme.txt": Buffer.from("hello") }, OUTPUTS, /no test data: it needs directories/],
    [
      "an input is missing",
      { [OUT]: Y },
      OUTPUTS,
      /^test_data_set_0: it has 0 inputs, and none for input "x"/,
    ],
    ["outputs are missing", { [IN]: X }, OUTPUTS, /a bound on errors or cosine needs known outputs/],
    [
      "labels are missing",
      one(),
      LABELS,
      /a bound on accuracy needs class numbers, and it has no labels\.npy/,
    ],
    [
      "labels are too few",
      { ...one(), "test_data_set_0/labels.npy": npyFile({ descr: "<i8", shape: [1], values: [0n] }) },
      LABELS,
      /must have a first axis of 3, the samples, and a class for each of them/,
    ],
    [
      "labels are no array",
      { ...one(), "test_data_set_0/labels.npy": Buffer.from("0 1 0") },
      LABELS,
      /labels\.npy: it is not in numpy's/,
    ],
    [
      "there is an input too many",
      { ...one(), "test_data_set_0/input_1.pb": X },
      OUTPUTS,
      /input_1\.pb: the model has only 1 inputs: x/,
    ],
    [
      "a name is unknown",
      { ...one(floatProto([1, 2], [1, 2], "z")), "test_data_set_0/input_1.pb": X },
      OUTPUTS,
      /input_0\.pb is for input "z"; the model's inputs are x/,
    ],
    [
      "a name comes twice",
      { ...one(), "test_data_set_0/input_7.pb": floatProto([1, 2], [1, 2], "x") },
      OUTPUTS,
      /input_7\.pb: it has input "x" twice/,
    ],
    [
      "the type differs",
      one(rawProto("float64", [1, 2], Buffer.alloc(16))),
      OUTPUTS,
      /input_0\.pb is float64\[1,2\], the model has "x" as float32\[n,2\]/,
    ],
    ["a fixed axis differs", one(floatProto([1, 3], [1, 2, 3])), OUTPUTS, /is float32\[1,3\], the model has/],
    [
      "the type of an output differs",
      one(X, textProto([1], ["a"])),
      OUTPUTS,
      /output_0\.pb is string\[1\], the model has "y" as/,
    ],
    [
      "it is of two models",
      { ...one(), "other/test_data_set_1/input_0.pb": X },
      OUTPUTS,
      /test data of several models: in "" and in "other\/"/,
    ],
    [
      "two directories have one number",
      { ...one(), "test_data_set_00/input_0.pb": X },
      OUTPUTS,
      /two directories of one number: test_data_set_0 and test_data_set_00/,
    ],
    [
      "two files have one number",
      { ...one(), "test_data_set_0/input_00.pb": X },
      OUTPUTS,
      /test_data_set_0: it has input_0\.pb twice/,
    ],
    [
      "a file is no protobuf",
      { ...one(), [IN]: Buffer.from("hello") },
      OUTPUTS,
      /input_0\.pb: its protobuf is broken: at byte 2 of its 5 no field begins$/,
    ],
    [
      "a file is cut off",
      { ...one(), [IN]: bytesOf(X).subarray(0, -3) },
      OUTPUTS,
      /input_0\.pb: it is broken or cut off: it has \d+ bytes, and what is in it says that it has at least \d+$/,
    ],
    [
      "a file has something in the place of a field",
      { ...one(), [IN]: Buffer.from([0x08, 0x01, 0x07, 0x00]) },
      OUTPUTS,
      /input_0\.pb: its protobuf is broken: at byte 2 of its 4 no field begins$/,
    ],
  ])("because %s", async (_what, files, wants, message) => {
    expect(await refused(files, PLAIN, wants)).toMatch(message);
  });

  test("because a file is cut off in the middle of a number, with both sizes too", async () => {
    // A tag alone, and one whose number continues.
    for (const bytes of [Buffer.from([0x08]), Buffer.from([0x08, 0x80])])
      expect(await refused({ ...one(), [IN]: bytes })).toContain(
        `input_0.pb: it is broken or cut off: it has ${bytes.length} bytes, and what is in it says that it has at least ${bytes.length + 1}`,
      );
  });

  test("because what it has for a sequence or a map is another", async () => {
    const many = model([info("x", [], "sequence(float32)")], []);
    const wrong = { [IN]: sequenceProto([rawProto("int64", [1], Buffer.alloc(8))]) };
    expect(await refused(wrong, many, LABELS)).toMatch(
      /is sequence\(int64\), the model has "x" as sequence\(float32\)/,
    );
    const keyed = model([], [{ ...info("y", [], "sequence(map(string,float32))"), keys: ["a", "b"] }]);
    expect(await refused({ [OUT]: mapsProto([[["a", 1]]]) }, keyed)).toMatch(
      /has 1 keys in map 0, the model has 2/,
    );
    expect(
      await refused(
        {
          [OUT]: mapsProto([
            [
              ["a", 1],
              ["c", 1],
            ],
          ]),
        },
        keyed,
      ),
    ).toMatch(/has no key b in map 0/);
    expect(
      await refused({ [OUT]: mapsProto([[["a", 1]]]) }, model([], [info("y", [], "sequence(float32)")])),
    ).toMatch(/has maps, which the model's "y" has not/);
  });
});

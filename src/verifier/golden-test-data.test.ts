import { describe, expect, test } from "vitest";
import { npyFile, zipFile } from "../../test/builders/npz.ts";
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
} from "../../test/builders/test-data.ts";
import { type GoldenSet, type GoldenWants, readGoldenSet } from "./golden.ts";
import type { Signature, TensorInfo } from "./tensor.ts";

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
  if (!set.ok) throw new Error(set.error);
  return set.value;
}

async function refused(files: Files, of = PLAIN, wants = OUTPUTS): Promise<string> {
  const set = await readGoldenSet(await tarFile(files), of, wants, LIMIT);
  return set.ok ? "it was read" : set.error;
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
    if (!set.ok) throw new Error(set.error);
    expect(set.value).toMatchObject({ samples: 4, runs: 2 });
    expect(set.value.runAt(0)).toEqual({
      from: 0,
      samples: 3,
      feeds: { x: { type: "float32", shape: [3, 2], data: Float32Array.of(1, 2, 3, 4, 5, 6) } },
      labels: null,
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
    expect(set.runAt(0).labels).toEqual([0, 1, 0]);
    expect(set.runAt(0).expected.size).toBe(0);
  });
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
      /one class for each of 3 samples/,
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
      one(floatProto([1, 2], [1, 2], "z")),
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
      /input_0\.pb: its protobuf is broken/,
    ],
  ])("because %s", async (_what, files, wants, message) => {
    expect(await refused(files, PLAIN, wants)).toMatch(message);
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

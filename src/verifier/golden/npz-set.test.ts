import { describe, expect, test } from "vitest";
import { type NpyArray, type NpyType, npzFile } from "../../../test/builders/verifier/npz.ts";
import type { Signature, TensorInfo, TensorValue } from "../onnx/tensor.ts";
import { readGoldenSet } from "./read.ts";
import type { GoldenWants } from "./types.ts";

const LIMIT = 1_000_000;
const LABELS: GoldenWants = { labels: true, outputs: false };
const OUTPUTS: GoldenWants = { labels: false, outputs: true };

const array = (descr: NpyType, ...shape: readonly number[]): NpyArray => {
  const count = shape.reduce((product, size) => product * size, 1);
  return {
    descr,
    shape,
    values: Array.from({ length: count }, (_, index) =>
      descr.endsWith("8") && descr !== "<f8" ? BigInt(index % 3) : index % 3,
    ),
  };
};
const info = (name: string, ...shape: readonly (number | string)[]): TensorInfo => ({
  name,
  type: "float32",
  shape,
});
const model = (...inputs: readonly TensorInfo[]): Signature => ({ inputs, outputs: [info("y", "batch", 3)] });
const read = (arrays: Readonly<Record<string, NpyArray>>, of: Signature, wants = LABELS) =>
  readGoldenSet(npzFile(arrays), of, wants, LIMIT);

describe("samples are run", () => {
  test("64 at a time where the first axis is free, the last run with the rest", async () => {
    const set = await read(
      { x: array("<f4", 100, 4), labels: array("<i8", 100) },
      model(info("x", "batch", 4)),
    );
    if (!set.ok) throw new Error(set.error.message);
    expect(set.value).toMatchObject({ samples: 100, runs: 2 });
    const [first, last] = [set.value.runAt(0), set.value.runAt(1)];
    expect(first.labels.get("")?.ids.slice(0, 4)).toEqual(Int32Array.of(0, 1, 2, 0));
    expect((first.feeds["x"] as TensorValue).data.slice(4, 8)).toEqual(Float32Array.of(1, 2, 0, 1));
    expect(last).toMatchObject({ from: 64, samples: 36 });
    expect(last.labels.get("")?.ids).toHaveLength(36);
    expect(last.feeds["x"]).toMatchObject({ shape: [36, 4], data: { length: 144 } });
    expect(set.value.feedsFor(130)).toMatchObject({ batchSize: 130, feeds: { x: { shape: [130, 4] } } });
  });

  test("as many at a time as a fixed first axis says", async () => {
    const set = await read({ x: array("<f4", 6, 4), labels: array("<i8", 6) }, model(info("x", 2, 4)));
    if (!set.ok) throw new Error(set.error.message);
    expect(set.value).toMatchObject({ runs: 3 });
    expect(set.value.feedsFor(130)).toMatchObject({ batchSize: 2, feeds: { x: { shape: [2, 4] } } });
    const odd = await read({ x: array("<f4", 5, 4), labels: array("<i8", 5) }, model(info("x", 2, 4)));
    expect(odd).toMatchObject({
      ok: false,
      error: { message: expect.stringMatching(/5 is not a multiple/) },
    });
  });

  test("one at a time where an input has no axis for samples", async () => {
    const set = await read(
      {
        x: array("<f4", 3, 4),
        state: array("<f4", 3, 2, 1, 5),
        rate: array("<f4", 3),
        labels: array("<i8", 3),
      },
      model(info("x", "batch", 4), info("state", 2, "batch", 5), info("rate")),
    );
    if (!set.ok) throw new Error(set.error.message);
    expect(set.value).toMatchObject({ runs: 3 });
    const { feeds } = set.value.runAt(2);
    expect(Object.values(feeds).map((fed) => (fed as TensorValue).shape)).toEqual([[1, 4], [2, 1, 5], []]);
    expect((feeds["rate"] as TensorValue).data).toEqual(Float32Array.of(2));
  });
});

describe("a set that does not fit is refused with a sentence", () => {
  const x = array("<f4", 3, 4);
  const labels = array("<i8", 3);
  const plain = model(info("x", "batch", 4));
  test.each<[string, Readonly<Record<string, NpyArray>>, Signature, GoldenWants, RegExp]>([
    ["an input is missing", { labels }, plain, LABELS, /no array for input "x"/],
    [
      "there is an array that is not used",
      { x, labels, z: x },
      plain,
      LABELS,
      /"z" is neither an input of the model \(x\)/,
    ],
    ["the model has no such output", { x, "output:z": x }, plain, OUTPUTS, /no such output; it has y/],
    ["labels are missing", { x }, plain, LABELS, /needs an array `labels`/],
    ["outputs are missing", { x, labels }, plain, OUTPUTS, /needs an array `output:<name>`/],
    ["the type differs", { x: array("<f8", 3, 4), labels }, plain, LABELS, /\.astype\("float32"\)/],
    [
      "a fixed axis differs",
      { x: array("<f4", 3, 5), labels },
      plain,
      LABELS,
      /float32\[3,5\].*float32\[batch,4\]/,
    ],
    ["the rank differs", { x: array("<f4", 3), labels }, plain, LABELS, /float32\[3\]/],
    [
      "the numbers of samples differ",
      { x, labels: array("<i8", 2) },
      plain,
      LABELS,
      /2 samples where others have 3/,
    ],
    ["there are no samples", { x: array("<f4", 0, 4), labels: array("<i8", 0) }, plain, LABELS, /no samples/],
    [
      "one input takes two at once, another one",
      { x, z: array("<f4", 3, 4), labels },
      model(info("x", 3, 4), info("z", 4)),
      LABELS,
      /takes 3 samples at once/,
    ],
    [
      "two inputs take different numbers at once",
      { x, z: x, labels },
      model(info("x", 3, 4), info("z", 1, 4)),
      LABELS,
      /differ \(3, 1\)/,
    ],
  ])("because %s", async (_what, arrays, of, wants, message) => {
    expect(await read(arrays, of, wants)).toMatchObject({
      ok: false,
      error: { because: "misfit", message: expect.stringMatching(message) },
    });
  });

  test.each<[string, readonly number[], NpyType, RegExp]>([
    [
      "another type",
      [3, 3],
      "<f8",
      /"output:y" is float64\[3,3\], the model's output is float32\[batch,3\]; save it with/,
    ],
    ["another size", [3, 4], "<f4", /"output:y" is float32\[3,4\], the model's output is float32\[batch,3\]/],
    ["an axis of 1 more", [3, 3, 1], "<f4", /"output:y" is float32\[3,3,1\]/],
    ["an axis of 1 before", [3, 1, 3], "<f4", /"output:y" is float32\[3,1,3\]/],
  ])("because a known output has %s", async (_what, shape, descr, message) => {
    expect(await read({ x, "output:y": array(descr, ...shape) }, plain, OUTPUTS)).toMatchObject({
      ok: false,
      error: { because: "misfit", message: expect.stringMatching(message) },
    });
  });

  test("and all that is wrong is reported at once", async () => {
    const set = { x: array("<f8", 3, 4), z: x, "output:y": array("<f4", 2, 3) };
    const refused = await read(set, plain, { labels: true, outputs: true });
    expect(refused).toMatchObject({ ok: false, error: { because: "misfit" } });
    for (const part of [
      'array "z" is neither',
      "needs an array `labels`",
      '"output:y" has 2 samples',
      '.astype("float32")',
    ])
      expect(refused.ok ? "" : refused.error.message).toContain(part);
  });

  test("because it asks for another number at once than the model takes", async () => {
    const asked = { ...LABELS, batchSize: 3 };
    expect(
      await read({ x: array("<f4", 6, 4), labels: array("<i8", 6) }, model(info("x", 2, 4)), asked),
    ).toMatchObject({
      error: { message: "the model takes 2 samples at once, and batchSize is 3" },
    });
    const free = await read({ x: array("<f4", 6, 4), labels: array("<i8", 6) }, plain, asked);
    expect(free.ok && free.value).toMatchObject({ runs: 2, batch: { size: 3, free: true } });
  });

  test("because its output is a sequence", async () => {
    const sequences: Signature = { ...plain, outputs: [{ name: "y", type: "sequence(float32)", shape: [] }] };
    expect(await read({ x, "output:y": x }, sequences, OUTPUTS)).toMatchObject({
      ok: false,
      error: {
        message: expect.stringMatching(
          /sequence\(float32\), which an \.npz cannot hold; save ONNX test data/,
        ),
      },
    });
  });

  test("because it is no archive", async () => {
    expect(await readGoldenSet(Uint8Array.of(1, 2, 3), plain, LABELS, LIMIT)).toMatchObject({
      ok: false,
      error: { because: "golden", message: expect.stringMatching(/^the golden set cannot be read/) },
    });
  });
});

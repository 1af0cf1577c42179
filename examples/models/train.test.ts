import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { beforeAll, expect, test } from "vitest";
import { type Digest, digestOf } from "../../src/base/digest.ts";
import { readNpz } from "../../src/verifier/golden/numpy.ts";
import { type Digit, loadDigits, split } from "./digits.ts";
import { manifestsBelow, withDigests } from "./manifests.ts";
import { buildFiles, type ExampleFile } from "./train.ts";

const FILES = join(import.meta.dirname, "files");

let built: readonly ExampleFile[];
let heldOut: readonly Digit[];
beforeAll(async () => {
  built = await buildFiles();
  heldOut = split(await loadDigits(), 2024).heldOut;
}, 60_000);

test("training again gives the committed files, byte by byte", async () => {
  const committed: Record<string, Digest> = {};
  for (const { path } of built) committed[path] = digestOf(await readFile(join(FILES, path)));
  expect(Object.fromEntries(built.map(({ path, bytes }) => [path, digestOf(bytes)]))).toEqual(committed);
});

test("the data set holds 1,797 digits, and no held-out one was learned from", async () => {
  const digits = await loadDigits();
  const { training, heldOut: rest } = split(digits, 2024);
  expect([digits.length, training.length, rest.length]).toEqual([1797, 1198, 599]);
  expect(new Set([...training, ...rest]).size).toBe(1797);
});

test.each([
  { path: "digits/1.0.0/model.onnx", least: 0.94, most: 0.96 },
  { path: "digits/2.0.0/model.onnx", least: 0.97, most: 1 },
  { path: "digits/2.0.0/model-small.onnx", least: 0.96, most: 1 },
  { path: "digits/2.1.0/model.onnx", least: 0.97, most: 1 },
  { path: "digits/2.1.0/model-small.onnx", least: 0.96, most: 1 },
  { path: "digits/3.0.0/model.onnx", least: 0.7, most: 0.9 },
])(
  "$path reads $least to $most of the held-out digits, in ONNX Runtime too",
  async ({ path, least, most }) => {
    const answers = await run(path, heldOut);
    const right = heldOut.filter(({ label }, index) => highest(answers[index] ?? []) === label).length;
    expect(right / heldOut.length).toBeGreaterThanOrEqual(least);
    expect(right / heldOut.length).toBeLessThan(most);
    expect(right / heldOut.length).toBe(built.find((file) => file.path === path)?.accuracy);
  },
);

test("the slow release gives the answers of the one before it", async () => {
  const some = heldOut.slice(0, 20);
  const [fast, slow] = [
    await run("digits/2.0.0/model.onnx", some),
    await run("digits/2.1.0/model.onnx", some),
  ];
  const differences = fast.flat().map((value, index) => Math.abs(value - (slow.flat()[index] ?? Number.NaN)));
  expect(Math.max(...differences)).toBeLessThan(1e-5);
});

test("the golden sets hold held-out digits, and one holds what ONNX Runtime answers", async () => {
  const labels = await arraysOf("digits/golden.npz");
  expect([...labels.keys()]).toEqual(["image", "labels"]);
  expect([...labels.get("image")!.data]).toEqual(heldOut.flatMap(({ pixels }) => pixels));
  expect([...labels.get("labels")!.data].map(Number)).toEqual(heldOut.map(({ label }) => label));

  const numeric = await arraysOf("digits/1.0.0/golden.npz");
  const expected = [...numeric.get("output:probabilities")!.data].map(Number);
  const answers = (await run("digits/1.0.0/model.onnx", heldOut.slice(0, 100))).flat();
  expect(answers).toHaveLength(expected.length);
  expect(Math.max(...answers.map((value, index) => Math.abs(value - expected[index]!)))).toBeLessThan(1e-5);
});

test("the broken release is no ONNX file", async () => {
  const bytes = await readFile(join(FILES, "digits/3.0.2/model.onnx"));
  expect(bytes.toString()).toMatch(/^version https:\/\/git-lfs/);
  await expect(InferenceSession.create(bytes)).rejects.toThrow(/parsing failed/i);
});

test("only the lying release promises other bytes than it has", () => {
  const lying = built.filter(({ bytes, promised }) => !bytes.equals(promised)).map(({ path }) => path);
  expect(lying).toEqual(["digits/3.0.1/model.onnx"]);
});

test("the manifests name the digests that training gives", async () => {
  const digests = new Map(built.map(({ path, promised }) => [path, digestOf(promised)]));
  const examples = join(import.meta.dirname, "..");
  let named = 0;
  for (const manifest of await manifestsBelow(examples)) {
    const text = await readFile(join(examples, manifest), "utf8");
    named += text.match(/sha256:[0-9a-f]{64}$/gm)?.length ?? 0;
    expect(withDigests(text, digests, manifest)).toBe(text);
  }
  expect(named).toBeGreaterThan(15);
});

async function arraysOf(path: string) {
  const arrays = readNpz(await readFile(join(FILES, path)), 1_000_000);
  if (!arrays.ok) throw new Error(arrays.error);
  return arrays.value;
}

/** Probabilities for each digit, from the committed file. */
async function run(path: string, digits: readonly Digit[]): Promise<readonly (readonly number[])[]> {
  const session = await InferenceSession.create(join(FILES, path), { intraOpNumThreads: 1 });
  const pixels = Float32Array.from(digits.flatMap((digit) => digit.pixels));
  const outputs = await session.run({ image: new Tensor("float32", pixels, [digits.length, 1, 8, 8]) });
  const values = [...(outputs["probabilities"]!.data as Float32Array)];
  await session.release();
  return digits.map((_, index) => values.slice(index * 10, index * 10 + 10));
}

function highest(values: readonly number[]): number {
  return values.indexOf(Math.max(...values));
}

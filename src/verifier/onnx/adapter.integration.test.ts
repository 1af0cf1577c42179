import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type NpyArray, npzFile } from "../../../test/builders/verifier/npz.ts";
import {
  castModel,
  type ElementType,
  type Graph,
  mapsInfo,
  modelFile,
  node,
  optionalInfo,
  sequenceInfo,
  tensorInfo,
  zipMapNode,
} from "../../../test/builders/verifier/onnx-model.ts";
import {
  type Files,
  floatProto,
  optionalProto,
  sequenceProto,
  tarFile,
  textProto,
} from "../../../test/builders/verifier/test-data.ts";
import { seconds } from "../../base/time.ts";
import { type ModelProcess, startModelProcess } from "../process/model-process.ts";
import { buildSandbox, type SandboxSession } from "../process/sandbox.ts";
import type { Answer } from "../protocol/messages.ts";
import { adaptModel, needsAdapter } from "./adapter.ts";
import { readOnnxFile } from "./file.ts";

// Models whose inputs and outputs Node cannot hold, in the process that runs models: one for all of them.

const SIGNAL = new AbortController().signal;
const OPSET = { opset: 21, ir: 10 };
let directory: string;
let session: SandboxSession;
let child: ModelProcess;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "adapter-test-"));
  session = await (await buildSandbox()).prepare(directory);
  const limits = { memoryBytes: 2 ** 30, deadline: seconds(120), threads: 1 };
  const started = await startModelProcess(limits, session, SIGNAL);
  if (!started.ok) throw new Error(JSON.stringify(started.error));
  child = started.value;
});

afterAll(async () => {
  await child.end();
  await session.sweep();
  await rm(directory, { recursive: true, force: true });
});

async function put(name: string, content: Uint8Array): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, content);
  await chmod(path, 0o644);
  return `../${name}`;
}

type Question = Parameters<ModelProcess["ask"]>[0];
async function ask<Kind extends Answer["kind"]>(question: Question, kind: Kind) {
  const answered = await child.ask(question);
  if (!answered.ok) throw new Error(JSON.stringify(answered.error));
  if (answered.value.kind !== kind) throw new Error(JSON.stringify(answered.value));
  return answered.value as Extract<Answer, { readonly kind: Kind }>;
}

async function load(model: Uint8Array) {
  const path = await put("model.onnx", model);
  return (await ask({ kind: "load", path, threads: 1 }, "loaded")).signature;
}

async function golden(set: Uint8Array, wants: { readonly labels: boolean; readonly outputs: boolean }) {
  const path = await put("golden", set);
  const section = {
    ...{ output: null, except: [], metrics: null },
    scoring: wants.labels ? { output: null, classes: null, threshold: 0.5, topK: 2, ranking: false } : null,
    tolerance: wants.outputs ? { absolute: 0, relative: 0, finiteOnly: false } : null,
  };
  const question = { kind: "golden", path, limit: 1e7, batchSize: null, finiteOnly: false } as const;
  const { measured } = await ask({ ...question, sections: [section] }, "golden");
  const [{ classification, comparison } = { classification: null, comparison: null }] = measured.sections;
  return { classification, comparison };
}

const OUTPUTS = { labels: false, outputs: true };
const LABELS = { labels: true, outputs: false };
const testData = (files: Files) =>
  tarFile(
    Object.fromEntries(Object.entries(files).map(([name, file]) => [`test_data_set_0/${name}.pb`, file])),
  );

describe("an element type that Node lacks", () => {
  const floats: NpyArray = { descr: "<f4", shape: [2, 4], values: [1, -2, 0.5, 3, 0, 1.5, -1, 2] };
  const bytes = (descr: "|i1" | "|u1", values: readonly number[]): NpyArray => ({
    descr,
    shape: [2, 4],
    values,
  });
  test.each<[ElementType, ElementType, NpyArray, NpyArray]>([
    ["bfloat16", "float32", floats, floats],
    ["float32", "bfloat16", floats, floats],
    ["bfloat16", "float8e4m3fn", floats, floats],
    ["float8e5m2", "float32", floats, floats],
    ["int4", "int4", bytes("|i1", [-8, 7, 0, 1, 2, 3, 4, 5]), bytes("|i1", [-8, 7, 0, 1, 2, 3, 4, 5])],
    ["uint4", "int8", bytes("|u1", [15, 7, 0, 1, 2, 3, 4, 5]), bytes("|i1", [15, 7, 0, 1, 2, 3, 4, 5])],
  ])(
    "%s to %s is fed and read by a wider one, and the signature is the model's own",
    async (from, to, x, y) => {
      expect(await load(castModel(from, to))).toEqual({
        inputs: [{ name: "x", type: from, shape: ["batch", 4] }],
        outputs: [{ name: "y", type: to, shape: ["batch", 4] }],
      });
      const measured = await golden(npzFile({ x, "output:y": y }), OUTPUTS);
      expect(measured.comparison).toMatchObject({ elements: 8, beyond: 0, worst: null });
      await ask({ kind: "latency", warmup: 0, samples: 2, batchSize: 3 }, "latency");
      // The comparison can fail.
      const wrong = { ...y, values: y.values.map((value, index) => (index === 6 ? 1 : value)) };
      expect((await golden(npzFile({ x, "output:y": wrong }), OUTPUTS)).comparison).toMatchObject({
        beyond: 1,
      });
    },
  );
});

describe("a sequence", () => {
  const identity: Graph = {
    nodes: [node("Identity", ["many"], ["same"]), node("SequenceLength", ["many"], ["length"])],
    inputs: [sequenceInfo("many")],
    outputs: [sequenceInfo("same"), tensorInfo("length", [], "int64")],
  };
  const elements = (...sizes: readonly number[]) =>
    sequenceProto(
      sizes.map((size) =>
        floatProto(
          [size, 2],
          Array.from({ length: 2 * size }, (_, at) => at),
        ),
      ),
    );

  test.each([
    ["of tensors of different sizes", elements(1, 3, 2)],
    ["with an empty tensor in it", elements(2, 0)],
    ["with a tensor of no columns in it", sequenceProto([floatProto([2, 0], []), floatProto([], [1])])],
    ["that is empty", elements()],
  ])("%s is fed and read", async (_what, many) => {
    expect(await load(modelFile(identity, OPSET))).toMatchObject({
      inputs: [{ name: "many", type: "sequence(float32)" }],
      outputs: [{ name: "same", type: "sequence(float32)" }, { name: "length" }],
    });
    const measured = await golden(await testData({ input_0: many, output_0: many }), OUTPUTS);
    expect(measured.comparison).toMatchObject({ beyond: 0 });
  });

  test("of another length, of another shape or with another value differs", async () => {
    await load(modelFile(identity, OPSET));
    const differs = async (expected: ReturnType<typeof elements>) =>
      (await golden(await testData({ input_0: elements(1, 2), output_0: expected }), OUTPUTS)).comparison;
    expect(await differs(elements(1))).toMatchObject({
      beyond: 1,
      worst: { expected: "a sequence of 1", got: "a sequence of 2" },
    });
    expect(await differs(elements(1, 3))).toMatchObject({ beyond: 1, worst: { output: "same[1]" } });
    const other = sequenceProto([floatProto([1, 2], [0, 1]), floatProto([2, 2], [0, 1, 2, 9])]);
    expect(await differs(other)).toMatchObject({ beyond: 1, worst: { output: "same[1]", element: 3 } });
  });
});

test.each([
  ["with a value", optionalProto("tensor", floatProto([2], [1, 2]))],
  ["without a value", optionalProto("tensor", null)],
])("an optional %s is fed and read", async (_what, maybe) => {
  const graph: Graph = {
    nodes: [node("Identity", ["maybe"], ["same"])],
    inputs: [optionalInfo("maybe", "tensor")],
    outputs: [optionalInfo("same", "tensor")],
  };
  await load(modelFile(graph, OPSET));
  const same = await golden(await testData({ input_0: maybe, output_0: maybe }), OUTPUTS);
  expect(same.comparison).toMatchObject({ beyond: 0 });
  const other = optionalProto("tensor", floatProto([2], [1, 3]));
  const differs = await golden(await testData({ input_0: maybe, output_0: other }), OUTPUTS);
  expect(differs.comparison).toMatchObject({ beyond: 1 });
});

describe("a classifier as scikit-learn exports it", () => {
  const classifier = (keys: readonly (number | string)[]) =>
    modelFile(
      {
        nodes: [node("Identity", ["x"], ["scores"]), zipMapNode("scores", "output_probability", keys)],
        inputs: [tensorInfo("x", ["n", 2])],
        outputs: [mapsInfo("output_probability", typeof keys[0] === "string" ? "string" : "int64")],
      },
      { functions: [] },
    );
  const x: NpyArray = { descr: "<f4", shape: [3, 2], values: [0.9, 0.1, 0.2, 0.8, 0.6, 0.4] };

  test("is compared by the table behind its maps", async () => {
    expect(await load(classifier([7, 3]))).toMatchObject({
      outputs: [{ name: "output_probability", type: "sequence(map(int64,float32))", keys: ["7", "3"] }],
    });
    const measured = await golden(npzFile({ x, "output:output_probability": x }), OUTPUTS);
    expect(measured.comparison).toMatchObject({ elements: 6, beyond: 0 });
  });

  test("is judged by labels that are its keys", async () => {
    await load(classifier([7, 3]));
    const labels: NpyArray = { descr: "<i8", shape: [3], values: [7n, 3n, 3n] };
    expect((await golden(npzFile({ x, labels }), LABELS)).classification).toMatchObject({
      correct: 2,
      samples: 3,
      names: ["7", "3"],
      worst: { index: 2, expected: 1, got: 0 },
    });
  });
});

test.each<[string, NpyArray]>([
  ["its keys", { descr: "<i8", shape: [3], values: [-1n, 1n, 1n] }],
  ["its keys as texts", texts(["-1", "1", "1"])],
  ["a column of indices", { descr: "<i8", shape: [3, 1], values: [0n, 1n, 1n] }],
  ["one-hot", { descr: "<f4", shape: [3, 2], values: [1, 0, 0, 1, 0, 1] }],
])("a classifier with keys -1 and 1 is judged by labels that are %s", async (_what, labels) => {
  const model = modelFile(
    {
      nodes: [node("Identity", ["x"], ["scores"]), zipMapNode("scores", "probabilities", [-1, 1])],
      inputs: [tensorInfo("x", ["n", 2])],
      outputs: [mapsInfo("probabilities", "int64")],
    },
    { functions: [] },
  );
  await load(model);
  const x: NpyArray = { descr: "<f4", shape: [3, 2], values: [0.9, 0.1, 0.2, 0.8, 0.6, 0.4] };
  expect((await golden(npzFile({ x, labels }), LABELS)).classification).toMatchObject({
    ...{ correct: 2, samples: 3, names: ["-1", "1"] },
    worst: { index: 2, expected: 1, got: 0 },
  });
});

test("a logistic regression on six irises (scikit-learn 1, skl2onnx 1.20) agrees with scikit-learn", async () => {
  const model = Buffer.from(
    "CAoSCHNrbDJvbm54GgYxLjIwLjAiB2FpLm9ubngoADIAOpcFCqgCCgFYEgVsYWJlbBIScHJvYmFiaWxpdHlfdGVuc29yGhBMaW5lYXJDbGFzc2lmaWVyIhBMaW5lYXJDbGFzc2lmaWVyKjcKE2NsYXNzbGFiZWxzX3N0cmluZ3NKBnNldG9zYUoKdmVyc2ljb2xvckoJdmlyZ2luaWNhoAEIKk0KDGNvZWZmaWNpZW50cz3L59i+PX+jeD89h/sgwD243Im/PamgCT89IGajvj2dvFK+PZhtcb89YGXpvT1Z8Ca/PVUnLkA9wEkBQKABBioeCgppbnRlcmNlcHRzPXU7HUE9fCYNQD0OhUDBoAEGKhIKC211bHRpX2NsYXNzGAGgAQIqHAoOcG9zdF90cmFuc2Zvcm0iB1NPRlRNQVigAQM6CmFpLm9ubngubWwKKwoFbGFiZWwSDG91dHB1dF9sYWJlbBoISWRlbnRpdHkiCElkZW50aXR5OgAKVgoScHJvYmFiaWxpdHlfdGVuc29yEg1wcm9iYWJpbGl0aWVzGgpOb3JtYWxpemVyIgpOb3JtYWxpemVyKg0KBG5vcm0iAkwxoAEDOgphaS5vbm54Lm1sCngKDXByb2JhYmlsaXRpZXMSEm91dHB1dF9wcm9iYWJpbGl0eRoGWmlwTWFwIgZaaXBNYXAqNwoTY2xhc3NsYWJlbHNfc3RyaW5nc0oGc2V0b3NhSgp2ZXJzaWNvbG9ySgl2aXJnaW5pY2GgAQg6CmFpLm9ubngubWwSGE9OTlgoTG9naXN0aWNSZWdyZXNzaW9uKVoRCgFYEgwKCggBEgYKAAoCCARiGAoMb3V0cHV0X2xhYmVsEggKBggIEgIKAGIkChJvdXRwdXRfcHJvYmFiaWxpdHkSDiIMCgoqCAgIEgQKAggBQg4KCmFpLm9ubngubWwQAUIECgAQFQ==",
    "base64",
  );
  expect((await load(model)).outputs).toMatchObject([
    { name: "output_label", type: "string" },
    { name: "output_probability", type: "sequence(map(string,float32))" },
  ]);
  const labels = ["setosa", "versicolor", "versicolor", "versicolor", "virginica", "virginica"];
  const answers = ["setosa", "versicolor", "virginica", "virginica", "virginica", "virginica"];
  const measured = await golden(
    npzFile({
      X: {
        descr: "<f4",
        shape: [6, 4],
        values: [
          ...[5.1, 3.5, 1.4, 0.2, 5, 2, 3.5, 1, 5.9, 3.2, 4.8, 1.8],
          ...[6, 2.7, 5.1, 1.6, 6.3, 3.3, 6, 2.5, 6.3, 2.8, 5.1, 1.5],
        ],
      },
      labels: texts(labels),
      "output:output_label": texts(answers),
      "output:output_probability": {
        descr: "<f4",
        shape: [6, 3],
        values: [
          ...[0.981572866, 0.018427128, 1.47811443e-8, 0.0558093749, 0.937577307, 0.00661328062],
          ...[0.00231649494, 0.440396845, 0.55728668, 0.000449524872, 0.349130273, 0.650420189],
          ...[9.18657179e-7, 0.00395796122, 0.996041179, 0.000529093784, 0.475496203, 0.523974717],
        ],
      },
    }),
    { labels: true, outputs: true },
  );
  expect(measured.classification).toMatchObject({ output: "output_label", samples: 6, correct: 4 });
  expect(measured.comparison?.elements).toBe(24);
  expect(measured.comparison?.largestAbsolute).toBeLessThan(1e-6);
});

/** Ten characters are enough for each. */
function texts(values: readonly string[]): NpyArray {
  return { descr: "<U10", shape: [values.length], values };
}

test("texts go in and come out", async () => {
  await load(
    modelFile(
      {
        nodes: [node("Identity", ["x"], ["y"])],
        inputs: [tensorInfo("x", ["n"], "string")],
        outputs: [tensorInfo("y", ["n"], "string")],
      },
      OPSET,
    ),
  );
  const set = (y: readonly string[]) =>
    testData({ input_0: textProto([2], ["ä", ""]), output_0: textProto([2], y) });
  expect((await golden(await set(["ä", ""]), OUTPUTS)).comparison).toMatchObject({ beyond: 0 });
  expect((await golden(await set(["a", ""]), OUTPUTS)).comparison).toMatchObject({
    beyond: 1,
    worst: { expected: '"a"', got: '"ä"' },
  });
});

test("maps with more keys than are reported are ignored", () => {
  const adapted = (count: number) => {
    const keys = Array.from({ length: count }, (_, index) => index);
    const graph: Graph = {
      nodes: [zipMapNode("x", "y", keys)],
      inputs: [tensorInfo("x", ["n", count])],
      outputs: [mapsInfo("y", "int64")],
    };
    const model = modelFile(graph, { functions: [] });
    const file = readOnnxFile(model);
    return file.ok ? adaptModel(model, file.value) : file;
  };
  expect(adapted(4096)).toMatchObject({ value: { outputs: new Map([["y", { kind: "table" }]]) } });
  expect(adapted(4097)).toMatchObject({ value: { outputs: new Map() } });
});

test("a model that needs nothing of this is left alone", () => {
  const plain = readOnnxFile(castModel("float32", "int64"));
  const other = readOnnxFile(castModel("float32", "int4"));
  if (!plain.ok || !other.ok) throw new Error("not read");
  expect([needsAdapter(plain.value), needsAdapter(other.value)]).toEqual([false, true]);
  expect(adaptModel(castModel("float32", "int4"), other.value)).toMatchObject({
    ok: true,
    value: { inputs: new Map(), outputs: new Map([["y", { kind: "cast" }]]) },
  });
});

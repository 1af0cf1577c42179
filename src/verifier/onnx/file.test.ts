import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  externalDataModel,
  floatTensor,
  type Graph,
  linearClassifier,
  type Message,
  message,
  modelFile,
  node,
  sequenceInfo,
  tensorInfo,
} from "../../../test/builders/verifier/onnx-model.ts";
import { readOnnxFile } from "./file.ts";

const LAYER = {
  weights: [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
    [0, 0, 0],
  ],
  bias: [0, 0, 0],
};
const good = linearClassifier(LAYER);

describe("a model file", () => {
  test("says what it declares", () => {
    expect(readOnnxFile(good)).toEqual({
      ok: true,
      value: {
        irVersion: 9,
        producer: "edge-fleet-operator",
        opsets: [{ domain: "", version: 17 }],
        inputs: [{ name: "x", type: "float32", shape: ["batch", 4] }],
        outputs: [{ name: "probabilities", type: "float32", shape: ["batch", 3] }],
        externalTensors: [],
        operators: [
          { domain: "", name: "MatMul", count: 1 },
          { domain: "", name: "Add", count: 1 },
          { domain: "", name: "Softmax", count: 1 },
        ],
        nodes: 3,
        parameters: 15,
      },
    });
  });

  test("leaves out inputs that have an initializer, as ONNX Runtime does", () => {
    const old = modelFile({
      nodes: [node("Add", ["x", "b"], ["y"])],
      initializers: [floatTensor("b", [1], [1])],
      inputs: [tensorInfo("x", [1]), tensorInfo("b", [1])],
      outputs: [tensorInfo("y", [1])],
    });
    expect(readOnnxFile(old)).toMatchObject({ ok: true, value: { inputs: [{ name: "x" }] } });
  });

  test("counts operators, and leaves out the functions that it brings itself", () => {
    const own = message()
      .text(1, "Twice")
      .text(10, "acme")
      .message(7, node("Add", ["a", "a"], ["b"]));
    const graph = modelFile({
      nodes: [
        node("Twice", ["x"], ["t"]).text(7, "acme"),
        node("Twice", ["t"], ["u"]).text(7, "other"),
        node("Relu", ["u"], ["v"]),
        node("Relu", ["v"], ["y"]),
      ],
      inputs: [tensorInfo("x", [1])],
      outputs: [tensorInfo("y", [1])],
    });
    const read = readOnnxFile(Buffer.concat([graph, message().message(25, own).encode()]));
    expect(read.ok && read.value).toMatchObject({
      nodes: 5,
      operators: [
        { domain: "", name: "Relu", count: 2 },
        { domain: "other", name: "Twice", count: 1 },
        { domain: "", name: "Add", count: 1 },
      ],
    });
  });

  test("counts weights that are kept in constants, as some exporters do, like those in initializers", () => {
    const weights = message().varint(1, 3).varint(1, 5).varint(2, 1).text(8, "W");
    const constant = node("Constant", [], ["W"]).message(5, message().text(1, "value").message(5, weights));
    const read = readOnnxFile(
      modelFile({ nodes: [constant], inputs: [tensorInfo("x", [1])], outputs: [tensorInfo("W", [3, 5])] }),
    );
    expect(read.ok && read.value.parameters).toBe(15);
  });

  test("a constant that is named like an input does not take its place", () => {
    const constant = node("Constant", [], ["c"]).message(
      5,
      message().text(1, "value").message(5, message().varint(2, 1).text(8, "x")),
    );
    const read = readOnnxFile(
      modelFile({ nodes: [constant], inputs: [tensorInfo("x", [1])], outputs: [tensorInfo("c", [])] }),
    );
    expect(read.ok && read.value.inputs.map(({ name }) => name)).toEqual(["x"]);
  });

  test("may have outputs that are no tensors", () => {
    const file = modelFile({ nodes: [], inputs: [tensorInfo("x", [])], outputs: [sequenceInfo("many")] });
    const read = readOnnxFile(file);
    expect(read.ok && read.value.outputs).toEqual([{ name: "many", type: "sequence(float32)", shape: [] }]);
    expect(read.ok && read.value.inputs).toEqual([{ name: "x", type: "float32", shape: [] }]);
  });

  test.each(["outer", "nested"] as const)("with data in another file is seen, %s", (place) => {
    const read = readOnnxFile(externalDataModel("weights.bin", place));
    expect(read.ok && read.value.externalTensors).toContain("W");
    // Inputs and outputs of inner graphs are not the model's.
    expect(read.ok && read.value.inputs.map(({ name }) => name)).toEqual(["x"]);
    expect(read.ok && read.value.outputs.map(({ name }) => name)).toEqual(["y"]);
  });

  test.each<[string, Message]>([
    ["a constant", node("Constant", [], ["c"])],
    ["a function", message()],
    ["a sparse initializer", message()],
    ["a training graph", message()],
  ])("with external data in %s is seen", (place) => {
    const tensor = message().text(8, "hidden").varint(14, 1);
    const inside: Readonly<Record<string, () => Buffer>> = {
      "a constant": () =>
        fileWith((graph) => graph.message(1, message().message(5, message().message(5, tensor)))),
      "a function": () =>
        Buffer.concat([
          good,
          message()
            .message(25, message().message(7, message().message(5, message().message(10, tensor))))
            .encode(),
        ]),
      "a sparse initializer": () => fileWith((graph) => graph.message(15, message().message(1, tensor))),
      "a training graph": () =>
        Buffer.concat([
          good,
          message()
            .message(20, message().message(1, message().message(5, tensor)))
            .encode(),
        ]),
    };
    const read = readOnnxFile(inside[place]?.() ?? Buffer.alloc(0));
    expect(read.ok && read.value.externalTensors).toEqual(["hidden"]);
  });

  function fileWith(fill: (graph: Message) => Message): Buffer {
    return message().varint(1, 9).message(7, fill(message())).message(8, message().varint(2, 17)).encode();
  }
});

describe("what is no model is refused with a sentence", () => {
  test.each<[string, Uint8Array, RegExp]>([
    ["nothing", Buffer.alloc(0), /empty/],
    ["a zip archive", Buffer.from("PK\u0003\u0004rest"), /zip/],
    ["HDF5", Buffer.from("\u0089HDF\r\n", "latin1"), /HDF5/],
    ["gzip", Buffer.from([0x1f, 0x8b, 8, 0]), /gzip/],
    ["TensorFlow Lite", Buffer.from("\u001c\u0000\u0000\u0000TFL3"), /TensorFlow Lite/],
    ["ONNX Runtime's own format", Buffer.from("\u001c\u0000\u0000\u0000ORTM"), /own format/],
    ["a web page", Buffer.from("<html>"), /HTML/],
    ["JSON", Buffer.from('{"a": 1}'), /JSON/],
    ["a pointer of git LFS", Buffer.from("version https://git-lfs.github.com/spec/v1\n"), /git LFS/],
    ["another protobuf", message().text(3, "hello").encode(), /no IR version/],
    ["a header alone", message().varint(1, 9).encode(), /0 graphs/],
    ["two graphs", Buffer.concat([good, message().message(7, message()).encode()]), /2 graphs/],
    ["no operator set", message().varint(1, 9).message(7, message()).encode(), /no operator set/],
    ["groups", Buffer.from([0x0b, 0x0c]), /broken/],
    ["a varint without end", Buffer.alloc(40, 0xff), /broken/],
  ])("%s", (_what, bytes, reason) => {
    expect(readOnnxFile(bytes)).toMatchObject({ ok: false, error: expect.stringMatching(reason) });
  });

  test("nesting without end", () => {
    let graph: Graph = { nodes: [], inputs: [], outputs: [] };
    for (let depth = 0; depth < 200; depth += 1)
      graph = { nodes: [node("If", ["c"], ["y"], { then_branch: { graph } })], inputs: [], outputs: [] };
    expect(readOnnxFile(modelFile(graph))).toMatchObject({
      ok: false,
      error: expect.stringMatching(/nested/),
    });
  });

  test("inputs without end", () => {
    const axis = message().message(1, message().varint(1, 1)).encode();
    const shape = message().bytes(2, Buffer.concat(new Array(20_000).fill(axis)));
    const input = message().text(1, "x").message(2, message().message(1, shape));
    const file = message().varint(1, 9).message(7, message().message(11, input));
    expect(readOnnxFile(file.encode())).toMatchObject({
      ok: false,
      error: expect.stringMatching(/more than/),
    });
  });
});

describe("hostile bytes end in an answer (property)", () => {
  test("random ones", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 500 }), (bytes) => {
        expect(typeof readOnnxFile(bytes).ok).toBe("boolean");
      }),
      { numRuns: 1000 },
    );
  });

  test("a model with some bytes changed, cut out or doubled", () => {
    const nested = externalDataModel("w.bin", "nested");
    const place = fc.nat({ max: nested.length - 1 });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(place, fc.nat({ max: 255 })), { maxLength: 6 }),
        place,
        place,
        (edits, a, b) => {
          const bytes = Buffer.from(nested);
          for (const [at, value] of edits) bytes[at] = value;
          const [from, to] = [Math.min(a, b), Math.max(a, b)];
          for (const candidate of [
            bytes,
            bytes.subarray(from, to),
            Buffer.concat([bytes.subarray(0, to), bytes.subarray(from)]),
          ]) {
            const read = readOnnxFile(candidate);
            if (!read.ok) expect(read.error).toMatch(/^not an ONNX model: /);
          }
        },
      ),
      { numRuns: 1000 },
    );
  });

  test("lengths inside lengths, as deep as they go", () => {
    // Fields 7, 1, 5, 6 are graph, node, attribute, graph: the longest chain for each byte.
    const fields = [0x3a, 0x0a, 0x2a, 0x32];
    for (const length of [0, 1, 127]) {
      const bytes = Buffer.from(
        Array.from({ length: 50_000 }, (_, index) =>
          index % 2 === 0 ? (fields[(index / 2) % 4] ?? 0) : length,
        ),
      );
      expect(readOnnxFile(bytes).ok).toBe(false);
    }
  });
});

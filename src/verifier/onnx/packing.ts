import type { Buffer } from "node:buffer";
import {
  emptyTensor,
  graph,
  int64Tensor,
  integer,
  nodeProto,
  optionalType,
  sequenceInfo,
  typeNumber,
  valueInfo,
} from "./writer.ts";

// Sequences and optionals as tensors, and back, in operators of ONNX: all elements one after the other in `data`, their
// sizes in `dims`, and how many elements and axes each has.

type Node = readonly Buffer[];

export type Packing = {
  /** Prefix of all names that are generated here. */
  readonly prefix: string;
  /** Element type in the model, and in the packed tensor. */
  readonly element: string;
  readonly carrier: string;
  readonly sequence: boolean;
  /** The version of ONNX's own operators that the model imports. */
  readonly opset: number;
};

/** Names of the tensors that stand for an output or an input called `prefix`. */
export function packedNames(prefix: string): {
  readonly present: string;
  readonly data: string;
  readonly dims: string;
  /** Of outputs: axes of each element. */
  readonly ranks: string;
  /** Of inputs: where in `data` and `dims` each element starts, and where the last ends. */
  readonly starts: string;
  readonly dimStarts: string;
  readonly count: string;
} {
  const name = (part: string) => `${prefix}/${part}`;
  return {
    present: name("present"),
    data: name("data"),
    dims: name("dims"),
    ranks: name("ranks"),
    starts: name("starts"),
    dimStarts: name("dimStarts"),
    count: name("count"),
  };
}

/** Nodes that pack an output of the graph. */
export function packed(output: string, packing: Packing, optional: boolean): readonly Node[] {
  const { prefix, carrier, sequence } = packing;
  const names = packedNames(prefix);
  const results = [names.data, names.dims, names.ranks];
  if (!optional) return packSequence(output, packing, results);
  const inside = `${prefix}/value`;
  const inner = results.map((name) => `${name}/then`);
  const nothing = results.map((name) => `${name}/else`);
  const get = nodeProto("OptionalGetElement", [output], [inside]);
  const pack = sequence ? packSequence(inside, packing, inner) : packTensor(inside, packing, inner);
  return [
    nodeProto("OptionalHasElement", [output], [names.present]),
    nodeProto("If", [names.present], results, [
      graph("then_branch", { nodes: [get, ...pack], outputs: inner }),
      graph("else_branch", {
        nodes: nothing.map((name, index) => constant(name, emptyTensor(index === 0 ? carrier : "int64"))),
        outputs: nothing,
      }),
    ]),
  ];
}

function packTensor(
  name: string,
  packing: Packing,
  [data = "", dims = "", ranks = ""]: readonly string[],
): readonly Node[] {
  const { prefix, element, carrier } = packing;
  const one = `${prefix}/one`;
  const minusOne = `${prefix}/all`;
  return [
    constant(minusOne, int64Tensor([1], [-1])),
    ...(element === carrier
      ? [nodeProto("Identity", [name], [one])]
      : [nodeProto("Cast", [name], [one], [integer("to", typeNumber(carrier))])]),
    nodeProto("Reshape", [one, minusOne], [data]),
    nodeProto("Shape", [name], [dims]),
    nodeProto("Shape", [dims], [ranks]),
  ];
}

/** A loop over the elements that joins each to those before. */
function packSequence(name: string, packing: Packing, results: readonly string[]): readonly Node[] {
  const { prefix, carrier } = packing;
  const before = results.map((_, index) => `${prefix}/before/${index}`);
  const own = results.map((_, index) => `${prefix}/own/${index}`);
  const after = results.map((_, index) => `${prefix}/after/${index}`);
  const none = results.map((_, index) => `${prefix}/none/${index}`);
  const [step, goOn, goneOn, element] = ["step", "goOn", "goneOn", "element"].map(
    (part) => `${prefix}/${part}`,
  ) as [string, string, string, string];
  const body = graph("body", {
    inputs: [
      valueInfo(step, "int64", []),
      valueInfo(goOn, "bool", []),
      ...before.map((one, index) => valueInfo(one, index === 0 ? carrier : "int64", [""])),
    ],
    nodes: [
      nodeProto("Identity", [goOn], [goneOn]),
      nodeProto("SequenceAt", [name, step], [element]),
      ...packTensor(element, packing, own),
      ...after.map((joined, index) =>
        nodeProto("Concat", [before[index] ?? "", own[index] ?? ""], [joined], [integer("axis", 0)]),
      ),
    ],
    outputs: [goneOn, ...after],
  });
  return [
    nodeProto("SequenceLength", [name], [`${prefix}/length`]),
    ...none.map((empty, index) => constant(empty, emptyTensor(index === 0 ? carrier : "int64"))),
    nodeProto("Loop", [`${prefix}/length`, "", ...none], results, [body]),
  ];
}

/** Nodes that make an input of the graph out of what was packed. */
export function unpacked(input: string, packing: Packing, optional: boolean): readonly Node[] {
  const { prefix, element, sequence } = packing;
  const names = packedNames(prefix);
  if (!optional) return unpackSequence(input, packing);
  const [value, some, none] = ["value", "some", "none"].map((part) => `${prefix}/${part}`) as [
    string,
    string,
    string,
  ];
  const make = sequence
    ? unpackSequence(value, packing)
    : unpackTensor(names.data, names.dims, value, packing);
  return [
    nodeProto(
      "If",
      [names.present],
      [input],
      [
        graph("then_branch", { nodes: [...make, nodeProto("Optional", [value], [some])], outputs: [some] }),
        graph("else_branch", {
          nodes: [nodeProto("Optional", [], [none], [optionalType(element, sequence)])],
          outputs: [none],
        }),
      ],
    ),
  ];
}

function unpackTensor(data: string, dims: string, name: string, packing: Packing): readonly Node[] {
  const { prefix, element, carrier, opset } = packing;
  const shaped = `${prefix}/shaped`;
  // Without it, a size of 0 would mean that of the packed tensor.
  const zeros = opset >= ZEROS_IN_RESHAPE ? [integer("allowzero", 1)] : [];
  return element === carrier
    ? [nodeProto("Reshape", [data, dims], [name], zeros)]
    : [
        nodeProto("Reshape", [data, dims], [shaped], zeros),
        nodeProto("Cast", [shaped], [name], [integer("to", typeNumber(element))]),
      ];
}

const ZEROS_IN_RESHAPE = 14;

function unpackSequence(name: string, packing: Packing): readonly Node[] {
  const { prefix, element } = packing;
  const names = packedNames(prefix);
  const part = (of: string) => `${prefix}/${of}`;
  const slice = (of: string, starts: string, result: string) => [
    nodeProto("Gather", [starts, part("place")], [`${result}/from`]),
    nodeProto("Gather", [starts, part("next")], [`${result}/to`]),
    nodeProto("Slice", [of, `${result}/from`, `${result}/to`], [result]),
  ];
  const body = graph("body", {
    inputs: [
      valueInfo(part("step"), "int64", []),
      valueInfo(part("goOn"), "bool", []),
      sequenceInfo(part("before"), element),
    ],
    nodes: [
      nodeProto("Identity", [part("goOn")], [part("goneOn")]),
      constant(part("1"), int64Tensor([1], [1])),
      nodeProto("Reshape", [part("step"), part("1")], [part("place")]),
      nodeProto("Add", [part("place"), part("1")], [part("next")]),
      ...slice(names.data, names.starts, part("values")),
      ...slice(names.dims, names.dimStarts, part("sizes")),
      ...unpackTensor(part("values"), part("sizes"), part("element"), packing),
      nodeProto("SequenceInsert", [part("before"), part("element")], [part("after")]),
    ],
    outputs: [part("goneOn"), part("after")],
  });
  return [
    nodeProto("SequenceEmpty", [], [part("empty")], [integer("dtype", typeNumber(element))]),
    nodeProto("Loop", [names.count, "", part("empty")], [name], [body]),
  ];
}

function constant(name: string, value: Buffer): Node {
  return nodeProto("Constant", [], [name], [value]);
}

import { Buffer } from "node:buffer";
import { bytes, nested, number, text } from "./protobuf.ts";
import { ONNX_ELEMENT_TYPES } from "./tensor.ts";

// Parts of a graph, written (onnx/onnx: onnx.proto; field numbers are its).

const TYPE_NUMBERS = new Map(Object.entries(ONNX_ELEMENT_TYPES).map(([id, type]) => [type, Number(id)]));

/** Of an element type, in a TensorProto or an attribute. */
export function typeNumber(type: string): number {
  return TYPE_NUMBERS.get(type) ?? 0;
}

/** The fields of a NodeProto. */
export function nodeProto(
  operator: string,
  inputs: readonly string[],
  outputs: readonly string[],
  attributes: readonly Buffer[] = [],
): readonly Buffer[] {
  return [
    ...inputs.map((name) => text(1, name)),
    ...outputs.map((name) => text(2, name)),
    text(4, operator),
    ...attributes.map((one) => bytes(5, one)),
  ];
}

export function integer(name: string, value: number): Buffer {
  return joined([text(1, name), number(3, value), number(20, 2)]);
}

/** A small tensor of int64, as an attribute of Constant. */
export function int64Tensor(shape: readonly number[], values: readonly number[]): Buffer {
  const data = BigInt64Array.from(values, BigInt);
  return tensorAttribute("int64", shape, new Uint8Array(data.buffer));
}

/** A tensor without elements, as an attribute of Constant. */
export function emptyTensor(type: string): Buffer {
  return tensorAttribute(type, [0], new Uint8Array());
}

function tensorAttribute(type: string, shape: readonly number[], data: Uint8Array): Buffer {
  const tensor = [...shape.map((size) => number(1, size)), number(2, typeNumber(type))];
  // Texts are never raw; there are none here.
  const raw = type === "string" ? [] : [bytes(9, data)];
  return joined([text(1, "value"), nested(5, [...tensor, ...raw]), number(20, 4)]);
}

/** Of an optional that may be empty. */
export function optionalType(element: string, sequence: boolean): Buffer {
  const tensor = nested(1, [number(1, typeNumber(element))]);
  return joined([
    text(1, "type"),
    nested(14, sequence ? [nested(4, [nested(1, [tensor])])] : [tensor]),
    number(20, 13),
  ]);
}

type Subgraph = {
  readonly nodes: readonly (readonly Buffer[])[];
  /** ValueInfoProtos. */
  readonly inputs?: readonly (readonly Buffer[])[];
  readonly outputs: readonly string[];
};

/** The graph of a Loop or an If; types of its outputs are left to be inferred. */
export function graph(name: string, { nodes, inputs = [], outputs }: Subgraph): Buffer {
  const fields = [
    ...nodes.map((one) => nested(1, one)),
    text(2, name),
    ...inputs.map((one) => nested(11, one)),
    ...outputs.map((one) => nested(12, [text(1, one)])),
  ];
  return joined([text(1, name), nested(6, fields), number(20, 5)]);
}

type Shape = readonly (number | string)[];

/** The fields of a ValueInfoProto of a tensor; `null`: of any shape. */
export function valueInfo(name: string, type: string, shape: Shape | null): readonly Buffer[] {
  const axes = (shape ?? []).map((axis) => nested(1, axisFields(axis)));
  const tensor = [number(1, typeNumber(type)), ...(shape === null ? [] : [nested(2, axes)])];
  return [text(1, name), nested(2, [nested(1, tensor)])];
}

/** The same of a sequence of tensors. */
export function sequenceInfo(name: string, element: string): readonly Buffer[] {
  const tensor = nested(1, [number(1, typeNumber(element))]);
  return [text(1, name), nested(2, [nested(4, [nested(1, [tensor])])])];
}

function axisFields(axis: number | string): readonly Buffer[] {
  if (typeof axis === "number") return [number(1, axis)];
  return axis === "" ? [] : [text(2, axis)];
}

function joined(fields: readonly Buffer[]): Buffer {
  return Buffer.concat(fields);
}

import { Buffer } from "node:buffer";
import { type Graph, type Message, message, modelFile, node, tensorInfo } from "./onnx-model.ts";

// Models that are not made by accident. What they take and answer is `x` and `y`, float32 [batch, 4], where nothing
// else is said.

const SHAPE = ["batch", 4];
const X = [tensorInfo("x", SHAPE)];
const Y = [tensorInfo("y", SHAPE)];

function integers(name: string, shape: readonly (number | bigint)[], values: readonly bigint[]): Message {
  const tensor = message();
  for (const size of shape) tensor.varint(1, size);
  const raw = new Uint8Array(BigInt64Array.from(values).buffer);
  return tensor.varint(2, 7).text(8, name).bytes(9, raw);
}

/** A Loop that never ends and keeps what each of its rounds gives: small pieces, without end. */
export function growingModel(): Buffer {
  const body: Graph = {
    nodes: [
      node("Identity", ["go"], ["goOn"]),
      node("Identity", ["had"], ["has"]),
      node("Expand", ["had", "wide"], ["kept"]),
    ],
    initializers: [integers("wide", [2], [256n, 4n])],
    inputs: [tensorInfo("trip", [], "int64"), tensorInfo("go", [], "bool"), tensorInfo("had", [1, 4])],
    outputs: [tensorInfo("goOn", [], "bool"), tensorInfo("has", [1, 4]), tensorInfo("kept", [256, 4])],
  };
  return modelFile({
    nodes: [node("Loop", ["trips", "", "x"], ["y", "all"], { body: { graph: body } })],
    initializers: [integers("trips", [], [2n ** 62n])],
    inputs: [tensorInfo("x", [1, 4])],
    outputs: [tensorInfo("y", [1, 4])],
  });
}

/** If within If within If. */
export function nestedModel(depth: number): Buffer {
  const branch = message()
    .message(1, node("Identity", ["x"], ["inner"]))
    .text(2, "g")
    .message(12, tensorInfo("inner", SHAPE));
  const otherwise = message()
    .message(5, message().text(1, "else_branch").message(6, branch).varint(20, 5))
    .encode();
  // From the inside out, without copying what is inside at each level.
  const heads: Buffer[] = [];
  const tails: Buffer[] = [branch.encode()];
  let length = tails[0]?.length ?? 0;
  const within = (before: Message, field: number, after: Buffer) => {
    const head = Buffer.concat([before.encode(), lengthOf(field, length)]);
    heads.push(head);
    tails.push(after);
    length += head.length + after.length;
  };
  for (let level = 0; level < depth; level += 1) {
    const output = level === depth - 1 ? "y" : "inner";
    within(message().text(1, "then_branch"), 6, message().varint(20, 5).encode());
    within(node("If", ["yes"], [output]), 5, otherwise);
    within(message(), 1, message().text(2, "g").message(12, tensorInfo(output, SHAPE)).encode());
  }
  const yes = message().varint(2, 9).text(8, "yes").bytes(9, Uint8Array.of(1));
  const rest = message().message(5, yes).message(11, tensorInfo("x", SHAPE)).encode();
  return fileOf(Buffer.concat([...heads.reverse(), ...tails, rest]));
}

function lengthOf(field: number, length: number): Buffer {
  const written = message().varint(1, length).encode().subarray(1);
  return Buffer.concat([Buffer.of((field << 3) | 2), written]);
}

function fileOf(graph: Uint8Array): Buffer {
  return message().varint(1, 9).bytes(7, graph).message(8, opset("", 17)).encode();
}

/** One operator after the other; their names have seven digits. */
export function longModel(nodes: number): Buffer {
  const first = link(0, 1);
  const all = Buffer.alloc(first.length * nodes);
  for (let index = 0; index < nodes; index += 1) {
    first.copy(all, index * first.length);
    all.write(digits(index), index * first.length + 4, "latin1");
    all.write(digits(index + 1), index * first.length + 13, "latin1");
  }
  const ends = message()
    .text(2, "g")
    .message(11, tensorInfo(digits(0), SHAPE))
    .message(12, tensorInfo(digits(nodes), SHAPE));
  return fileOf(Buffer.concat([all, ends.encode()]));
}

function link(from: number, to: number): Buffer {
  const one = message().text(1, digits(from)).text(2, digits(to)).text(4, "Neg");
  return message().message(1, one).encode();
}

function digits(index: number): string {
  return String(index).padStart(7, "0");
}

/** Functions of the model's own; the graph calls the first. Each calls, so many times over, the one that `next` names. */
function functionsModel(count: number, next: (index: number) => number | null, calls: number): Buffer {
  const file = message();
  for (let index = 0; index < count; index += 1) {
    const callee = next(index);
    const written = message().text(1, `f${index}`).text(4, "a").text(5, "b").text(10, "own");
    for (let call = 0; call < calls; call += 1) {
      const from = call === 0 ? "a" : `c${call}`;
      const to = call === calls - 1 ? "b" : `c${call + 1}`;
      written.message(7, callee === null ? node("Neg", [from], [to]) : called(callee, from, to));
    }
    file.message(25, written.message(9, opset("", 17)).message(9, opset("own", 1)));
  }
  const main = modelFile({ nodes: [called(0, "x", "y")], inputs: X, outputs: Y });
  return Buffer.concat([main, file.message(8, opset("own", 1)).encode()]);
}

function called(index: number, from: string, to: string): Message {
  return node(`f${index}`, [from], [to]).text(7, "own");
}

function opset(domain: string, version: number): Message {
  return message().text(1, domain).varint(2, version);
}

/** Functions that call each other in a circle. */
export function recursiveModel(count: number): Buffer {
  return functionsModel(count, (index) => (index + 1) % count, 1);
}

/** Each function calls the next twice: 2^depth operators in a few kilobytes. */
export function doublingModel(depth: number): Buffer {
  return functionsModel(depth, (index) => (index === depth - 1 ? null : index + 1), 2);
}

/** A model whose operator, output, or both have a name of so many bytes. */
export function longNamesModel(what: "operator" | "output" | "node", length: number): Buffer {
  const long = "n".repeat(length);
  const output = what === "output" ? long : "y";
  const only = node(what === "operator" ? long : "Neg", ["x"], [output]);
  if (what === "node") only.text(3, long);
  return modelFile({ nodes: [only], inputs: X, outputs: [tensorInfo(output, SHAPE)] });
}

export function manyInputsModel(count: number): Buffer {
  const input = message().message(11, tensorInfo("x", SHAPE)).encode();
  const rest = message()
    .message(1, node("Neg", ["x"], ["y"]))
    .text(2, "g")
    .message(12, tensorInfo("y", SHAPE));
  return fileOf(Buffer.concat([rest.encode(), Buffer.alloc(input.length * count, input)]));
}

/** Weights whose axes, multiplied, are more than 64 bits can count; the data is a few bytes. */
export function overflowingModel(axes: readonly (number | bigint)[]): Buffer {
  return modelFile({
    nodes: [
      node("Shape", ["W"], ["s"]),
      node("Cast", ["s"], ["c"], { to: 1 }),
      node("Identity", ["x"], ["y"]),
    ],
    initializers: [integers("W", axes, [1n])],
    inputs: X,
    outputs: Y,
  });
}

/** Zeros in a shape that is made when the model runs. */
export function madeShapeModel(axes: readonly bigint[]): Buffer {
  return modelFile({
    nodes: [
      node("ConstantOfShape", ["size"], ["zeros"]),
      node("ReduceSum", ["zeros"], ["sum"], { keepdims: 0 }),
      node("Add", ["x", "sum"], ["y"]),
    ],
    initializers: [integers("size", [axes.length], axes)],
    inputs: X,
    outputs: Y,
  });
}

/** Answers NaN, whatever it is asked. */
export function nanModel(): Buffer {
  return modelFile({
    nodes: [node("Sub", ["x", "x"], ["zero"]), node("Div", ["zero", "zero"], ["y"])],
    inputs: X,
    outputs: Y,
  });
}

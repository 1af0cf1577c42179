import {
  floatTensor,
  type Message,
  message,
  modelFile,
  node,
  tensorInfo,
} from "../../test/builders/verifier/onnx-model.ts";
import { CLASSES, INK, SIDE } from "./digits.ts";
import type { Layer } from "./network.ts";

export type Export = {
  /** Written into the file's metadata. */
  readonly version: string;
  /**
   * `heavy` enlarges the image, sends it through large windows that hand every pixel on as it is, and shrinks it again:
   * the same answers, at more than a hundred times the work.
   */
  readonly reading: "plain" | "heavy";
};

/** What each layer of a network becomes in a graph. */
export type Described =
  | { readonly kind: "dense"; readonly inputs: number; readonly outputs: number; readonly layer: Layer }
  | { readonly kind: "relu"; readonly layer: Layer }
  | { readonly kind: "convolution"; readonly channels: number; readonly layer: Layer }
  | { readonly kind: "maxPool"; readonly layer: Layer };

const ENLARGEMENT = 8;
const WINDOW = 15;
const WINDOWS = 2;

/**
 * The bytes of an ONNX file with input `image`, float32 [batch, 1, 8, 8] of pixels from 0 to 16, and output
 * `probabilities`, float32 [batch, 10].
 */
export function exportModel(network: readonly Described[], { version, reading }: Export): Buffer {
  const nodes: Message[] = [];
  const initializers: Message[] = [];
  let current = "image";
  let flat = false;
  const then = (operator: string, more: readonly string[], attributes: Parameters<typeof node>[3] = {}) => {
    const output = `${operator.toLowerCase()}${nodes.length}`;
    nodes.push(node(operator, [current, ...more], [output], attributes));
    current = output;
  };
  const constant = (name: string, shape: readonly number[], values: Iterable<number>) => {
    initializers.push(floatTensor(name, shape, values));
    return name;
  };

  if (reading === "heavy") {
    then("Resize", ["", constant("enlargement", [4], [1, 1, ENLARGEMENT, ENLARGEMENT])]);
    const window = constant("window", [1, 1, WINDOW, WINDOW], handOn());
    const pad = (WINDOW - 1) / 2;
    for (let count = 0; count < WINDOWS; count += 1)
      then("Conv", [window], { pads: [pad, pad, pad, pad], kernel_shape: [WINDOW, WINDOW] });
    then("AveragePool", [], {
      kernel_shape: [ENLARGEMENT, ENLARGEMENT],
      strides: [ENLARGEMENT, ENLARGEMENT],
    });
  }
  then("Div", [constant("ink", [], [INK])]);
  for (const [index, part] of network.entries()) {
    const [weights = new Float64Array(), bias = new Float64Array()] = part.layer.weights.map(
      ({ values }) => values,
    );
    if (part.kind === "relu") then("Relu", []);
    if (part.kind === "maxPool") then("MaxPool", [], { kernel_shape: [2, 2], strides: [2, 2] });
    if (part.kind === "convolution")
      then(
        "Conv",
        [
          constant(`kernels${index}`, [part.channels, 1, 3, 3], weights),
          constant(`bias${index}`, [part.channels], bias),
        ],
        { pads: [1, 1, 1, 1], kernel_shape: [3, 3] },
      );
    if (part.kind === "dense") {
      if (!flat) then("Flatten", []);
      flat = true;
      then("Gemm", [
        constant(`weights${index}`, [part.inputs, part.outputs], weights),
        constant(`bias${index}`, [part.outputs], bias),
      ]);
    }
  }
  nodes.push(node("Softmax", [current], ["probabilities"], { axis: -1 }));

  const file = modelFile({
    nodes,
    initializers,
    inputs: [tensorInfo("image", ["batch", 1, SIDE, SIDE])],
    outputs: [tensorInfo("probabilities", ["batch", CLASSES])],
  });
  // Messages that are joined are one message in protobuf: this adds metadata_props.
  const metadata = message().message(14, message().text(1, "version").text(2, version));
  return Buffer.concat([file, metadata.encode()]);
}

/** One in the middle, zeros around it. */
function handOn(): readonly number[] {
  const middle = (WINDOW * WINDOW - 1) / 2;
  return Array.from({ length: WINDOW * WINDOW }, (_, index) => (index === middle ? 1 : 0));
}

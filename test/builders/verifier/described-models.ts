import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { AWKWARD_TEXTS, HOSTILE_TEXTS } from "../random-manifest.ts";
import { longNamesModel, nanModel, nestedModel } from "./hostile-models.ts";
import {
  castModel,
  endlessModel,
  floatTensor,
  linearClassifier,
  type Message,
  mapsInfo,
  message,
  modelFile,
  node,
  optionalInfo,
  randomPerceptron,
  seededRandom,
  sequenceInfo,
  tensorInfo,
  zipMapNode,
} from "./onnx-model.ts";
import { randomModels } from "./random-model.ts";

// Models whose manifest is to be written: what they say of themselves is not always what ONNX Runtime makes of it, and
// their names are not always what YAML takes for a text.

/** An output whose type has no shape. */
function shapeless(name: string): Message {
  return message()
    .text(1, name)
    .message(2, message().message(1, message().varint(1, 1)));
}

const WEIGHTS = floatTensor(
  "W",
  [8, 3],
  Array.from({ length: 24 }, (_, index) => index / 24),
);

function product(x: Message, ...outputs: readonly Message[]): Buffer {
  return modelFile({
    nodes: [node("MatMul", ["x", "W"], ["p"])],
    initializers: [WEIGHTS],
    inputs: [x],
    outputs,
  });
}

/** The model says of its output that it has any number of rows; it always has one. */
export const declaredFreeModel = product(tensorInfo("x", [1, 8]), tensorInfo("p", ["N", 3]));
/** The model says nothing of the shape of its output. */
export const withoutShapeModel = product(tensorInfo("x", ["N", 8]), shapeless("p"));

/** Hands its inputs on, under names of our choice. */
export function namesModel(names: readonly string[], axes: readonly string[] = names): Buffer {
  return modelFile({
    nodes: names.map((name) => node("Identity", [name], [`${name} out`])),
    inputs: names.map((name, index) => tensorInfo(name, [axes[index] ?? "batch", 2])),
    outputs: names.map((name, index) => tensorInfo(`${name} out`, [axes[index] ?? "batch", 2])),
  });
}

/** A pointer of Git Large File Storage. */
const NO_MODEL = join("digits", "3.0.2", "model.onnx");

function examples(): readonly (readonly [string, Buffer])[] {
  const directory = join(import.meta.dirname, "../../../examples/models/files");
  return globSync("**/*.onnx", { cwd: directory })
    .filter((file) => file !== NO_MODEL)
    .sort()
    .map((file) => [file, readFileSync(join(directory, file))] as const);
}

/** Every model has a name, for tests; the bytes are those of a file that a release can be made of. */
export const DESCRIBED_MODELS: readonly (readonly [string, Buffer])[] = [
  ...examples(),
  ["an output of free size that is not", declaredFreeModel],
  ["an output without a shape", withoutShapeModel],
  [
    "a linear classifier",
    linearClassifier({
      weights: [
        [1, 2],
        [3, 4],
      ],
      bias: [0, 1],
    }),
  ],
  ["a perceptron", randomPerceptron([4, 6, 3])],
  ["four bits", castModel("float32", "int4")],
  ["eight bits", castModel("float8e4m3fn", "float32")],
  ["text", castModel("int64", "string")],
  ["a scalar", castModel("float32", "float64", [])],
  ["more axes than a release can say", castModel("float32", "int32", Array(20).fill(1) as number[])],
  ["a model that never ends", endlessModel()],
  ["branches in branches", nestedModel(3)],
  ["answers that are no numbers", nanModel()],
  ["a long name", longNamesModel("output", 900)],
  [
    "a sequence",
    modelFile({
      nodes: [node("SequenceConstruct", ["x"], ["s"])],
      inputs: [tensorInfo("x", ["n", 2])],
      outputs: [sequenceInfo("s")],
    }),
  ],
  [
    "an optional",
    modelFile({
      nodes: [node("Optional", ["x"], ["o"])],
      inputs: [tensorInfo("x", ["y", 2])],
      outputs: [optionalInfo("o", "tensor")],
    }),
  ],
  [
    "maps",
    modelFile(
      {
        nodes: [zipMapNode("x", "maps", ["yes", "no"])],
        inputs: [tensorInfo("x", ["N", 2])],
        outputs: [mapsInfo("maps", "string")],
      },
      { functions: [] },
    ),
  ],
  ["names that YAML takes for something else", namesModel([...HOSTILE_TEXTS, ...AWKWARD_TEXTS])],
  ...[1, 2, 3, 4, 5, 6].map((seed) => {
    const [{ bytes }] = randomModels(seededRandom(seed), { samples: 2, steps: 5, broken: false });
    return [`a chain of operators, seed ${seed}`, bytes] as const;
  }),
];

import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { digestOf } from "../../src/base/digest.ts";
import { npzFile } from "../../test/builders/verifier/npz.ts";
import { seededRandom } from "../../test/builders/verifier/onnx-model.ts";
import { CLASSES, type Digit, INK, loadDigits, PIXELS, SIDE, split } from "./digits.ts";
import { type Described, exportModel } from "./export.ts";
import { writeDigests } from "./manifests.ts";
import {
  convolution,
  dense,
  maxPool,
  predict,
  relu,
  roundWeights,
  type Sample,
  type Training,
  train,
} from "./network.ts";

// Trains every model of the examples on real handwritten digits, writes the models and the golden sets to files/ and
// their digests into the manifests. Run it with: node examples/models/train.ts

const FILES = join(import.meta.dirname, "files");
const EXAMPLES = join(import.meta.dirname, "..");
const SPLIT_SEED = 2024;
/** Samples of the golden set that also holds outputs: enough to see that a runtime computes what we computed. */
const NUMERIC_SAMPLES = 100;
/** Digits that the inaccurate release was trained on: too few to learn from. */
const HASTY_SAMPLES = 60;

export type ExampleFile = {
  /** Where it lies under files/, and its blob's path. */
  readonly path: string;
  readonly bytes: Buffer;
  /** The bytes whose digest the manifests name: others than `bytes` for the one release that lies. */
  readonly promised: Buffer;
  /** Share of the held-out digits that the network reads rightly; `null` for what is no network. */
  readonly accuracy: number | null;
};

type Network = readonly Described[];

/** All of files/, from nothing but the data set and seeds: equal bytes each time, on every machine. */
export async function buildFiles(): Promise<readonly ExampleFile[]> {
  const { training, heldOut } = split(await loadDigits(), SPLIT_SEED);
  const samples = training.map(sampleOf);
  const tests = heldOut.map(sampleOf);

  const linear = trained(linearNetwork(), samples, { ...CAREFUL, epochs: 20, learningRate: 0.01, decay: 0 });
  const convolutional = trained(convolutionalNetwork(), samples, CAREFUL);
  const small = trained(smallNetwork(), samples, { ...CAREFUL, epochs: 25 });
  const hasty = trained(convolutionalNetwork(), samples.slice(0, HASTY_SAMPLES), {
    ...CAREFUL,
    epochs: 60,
  });

  const model = (
    file: string,
    network: Network,
    reading: "plain" | "heavy" = "plain",
    reviewed: Network = network,
  ): ExampleFile => {
    const version = dirname(file);
    return {
      path: `digits/${file}`,
      bytes: exportModel(network, { version, reading }),
      promised: exportModel(reviewed, { version, reading }),
      accuracy: accuracyOf(network, tests),
    };
  };
  const other = (file: string, bytes: Buffer): ExampleFile => {
    return { path: `digits/${file}`, bytes, promised: bytes, accuracy: null };
  };
  return [
    model("1.0.0/model.onnx", linear),
    model("2.0.0/model.onnx", convolutional),
    model("2.0.0/model-small.onnx", small),
    model("2.1.0/model.onnx", convolutional, "heavy"),
    model("2.1.0/model-small.onnx", small, "heavy"),
    model("3.0.0/model.onnx", hasty),
    // Another training run was uploaded over the bytes that were reviewed.
    model("3.0.1/model.onnx", small, "plain", convolutional),
    other(
      "3.0.2/model.onnx",
      largeFilePointer(exportModel(convolutional, { version: "3.0.2", reading: "plain" })),
    ),
    other("golden.npz", goldenSet(heldOut)),
    other("1.0.0/golden.npz", goldenSet(heldOut.slice(0, NUMERIC_SAMPLES), linear)),
  ];
}

type Recipe = Training & { readonly seed: number };
const CAREFUL: Recipe = { seed: 1, epochs: 15, batchSize: 16, learningRate: 0.005, decay: 0.03 };

function linearNetwork(): (random: () => number) => Network {
  return (random) => [denseLayer(PIXELS, CLASSES, random)];
}

function smallNetwork(): (random: () => number) => Network {
  return (random) => [denseLayer(PIXELS, 32, random), reluLayer(), denseLayer(32, CLASSES, random)];
}

function convolutionalNetwork(): (random: () => number) => Network {
  const channels = 12;
  const pooled = channels * (SIDE / 2) ** 2;
  return (random) => [
    { kind: "convolution", channels, layer: convolution(SIDE, channels, random) },
    reluLayer(),
    { kind: "maxPool", layer: maxPool(SIDE, channels) },
    denseLayer(pooled, 32, random),
    reluLayer(),
    denseLayer(32, CLASSES, random),
  ];
}

function denseLayer(inputs: number, outputs: number, random: () => number): Described {
  return { kind: "dense", inputs, outputs, layer: dense(inputs, outputs, random) };
}

function reluLayer(): Described {
  return { kind: "relu", layer: relu() };
}

function trained(
  make: (random: () => number) => Network,
  samples: readonly Sample[],
  recipe: Recipe,
): Network {
  const random = seededRandom(recipe.seed);
  const network = make(random);
  const layers = layersOf(network);
  train(layers, samples, recipe, random);
  roundWeights(layers);
  return network;
}

function layersOf(network: Network) {
  return network.map(({ layer }) => layer);
}

function sampleOf({ pixels, label }: Digit): Sample {
  return { input: Float64Array.from(pixels, (pixel) => pixel / INK), label };
}

function accuracyOf(network: Network, samples: readonly Sample[]): number {
  const right = samples.filter(({ input, label }) => {
    const probabilities = predict(layersOf(network), input);
    return probabilities.indexOf(Math.max(...probabilities)) === label;
  });
  return right.length / samples.length;
}

/** The digits as `image` and `labels`; with a network, also what it must answer, as `output:probabilities`. */
function goldenSet(digits: readonly Digit[], network?: Network): Buffer {
  const count = digits.length;
  const answers = (answering: Network) =>
    digits.flatMap((digit) => [...predict(layersOf(answering), sampleOf(digit).input)]);
  return npzFile({
    image: { descr: "<f4", shape: [count, 1, SIDE, SIDE], values: digits.flatMap(({ pixels }) => pixels) },
    labels: { descr: "<i8", shape: [count], values: digits.map(({ label }) => label) },
    ...(network === undefined
      ? {}
      : { "output:probabilities": { descr: "<f4", shape: [count, CLASSES], values: answers(network) } }),
  });
}

/** What Git Large File Storage leaves in place of a file that was not pulled. */
function largeFilePointer(file: Buffer): Buffer {
  const lines = [
    "version https://git-lfs.github.com/spec/v1",
    `oid ${digestOf(file)}`,
    `size ${file.length}`,
  ];
  return Buffer.from(`${lines.join("\n")}\n`);
}

const HELP = `usage: npx node examples/models/train.ts

Trains every model of the examples, writes models and golden sets to examples/models/files and their digests into the
manifests. Equal seeds give equal bytes: without a change of this code nothing changes.
`;

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { help: { type: "boolean", short: "h" } } });
  if (values.help) return void process.stdout.write(HELP);
  const files = await buildFiles();
  for (const { path, bytes, accuracy } of files) {
    await mkdir(dirname(join(FILES, path)), { recursive: true });
    await writeFile(join(FILES, path), bytes);
    const read = accuracy === null ? "" : `  accuracy ${accuracy.toFixed(4)}`;
    console.log(`${path.padEnd(30)} ${String(bytes.length).padStart(7)} bytes${read}`);
  }
  const digests = new Map(files.map(({ path, promised }) => [path, digestOf(promised)]));
  for (const manifest of await writeDigests(EXAMPLES, digests)) console.log(`wrote digests into ${manifest}`);
}

if (import.meta.main) await main();

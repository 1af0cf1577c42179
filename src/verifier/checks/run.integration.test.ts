import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { npzFile } from "../../../test/builders/verifier/npz.ts";
import {
  floatTensor,
  integerTensor,
  linearClassifier,
  message,
  modelFile,
  node,
  randomPerceptron,
  tensorInfo,
} from "../../../test/builders/verifier/onnx-model.ts";
import { startVerifying, type Verifying } from "../../../test/builders/verifier/verification.ts";
import type { CheckResult } from "../../api/model-release.ts";
import { type Digest, digestOf } from "../../base/digest.ts";
import type { Duration } from "../../base/time.ts";
import type { Verified } from "./run.ts";

// Checks that compare or measure, in real child processes; files come from memory.

const MIB = 2 ** 20;
let workdir: string;
let fileOf: Verifying["fileOf"];
let verdictOn: Verifying["verdictOn"];
beforeAll(async () => {
  workdir = await mkdtemp(join(tmpdir(), "verify-test-"));
  ({ fileOf, verdictOn } = await startVerifying(workdir, 512 * MIB));
});
afterAll(() => rm(workdir, { recursive: true, force: true }));

const perceptron = (seed: number) => randomPerceptron([4, 8, 3], seed);
const reference = (bytes: Uint8Array) => ({ ...fileOf(bytes), name: "digits-1.0.0" });
const named = ({ full }: Verified, name: CheckResult["name"]) =>
  full?.checks.find((check) => check.name === name);

test("a model that answers the same input in the same way is deterministic", async () => {
  const verified = await verdictOn(perceptron(1), { determinism: { runs: 3 } });
  expect(named(verified, "Determinism")).toMatchObject({
    outcome: "Passed",
    measured: "maximum difference 0",
  });
});

test("a model that throws dice is not", async () => {
  const dice = modelFile({
    nodes: [node("RandomUniformLike", ["x"], ["y"])],
    inputs: [tensorInfo("x", ["n", 4])],
    outputs: [tensorInfo("y", ["n", 4])],
  });
  const verified = await verdictOn(dice, { determinism: { runs: 3 } });
  expect(verified.report).toMatchObject({ kind: "failed", reason: "NotDeterministic" });
  expect(named(verified, "Determinism")?.worst).toMatchObject({
    where: expect.stringContaining('output "y"'),
  });
});

test("a model that answers another number of rows each time is not", async () => {
  const rows = modelFile({
    nodes: [
      node("RandomUniformLike", ["x"], ["chance"]),
      node("Greater", ["chance", "half"], ["high"]),
      node("NonZero", ["high"], ["places"]),
    ],
    initializers: [floatTensor("half", [1], [0.5])],
    inputs: [tensorInfo("x", ["n", 4])],
    outputs: [tensorInfo("places", [2, "k"], "int64")],
  });
  const verified = await verdictOn(rows, { determinism: { runs: 5 } });
  expect(verified.report).toMatchObject({ kind: "failed", reason: "NotDeterministic" });
  expect(named(verified, "Determinism")).toMatchObject({
    worst: { where: 'output "places", its shape' },
    message: expect.stringMatching(
      /run \d answered int64\[2,\d+\] in output "places", its shape, the first run int64\[2,\d+\]/,
    ),
  });
});

test("a model is in parity with itself, on synthetic samples as on golden ones", async () => {
  const parity = { with: "previous", minimumAgreement: 1, maximumAbsoluteError: 0 };
  const made = await verdictOn(perceptron(1), { parity }, { parity: reference(perceptron(1)) });
  expect(named(made, "Parity")).toMatchObject({
    outcome: "Passed",
    measured: "agreement 1 (64 of 64), maximum absolute error 0",
    method:
      '64 synthetic samples, compared with digits-1.0.0; agreement by output "probabilities"; compared: output "probabilities"',
  });
  const golden = fileOf(npzFile({ x: { descr: "<f4", shape: [5, 4], values: Array(20).fill(0.5) } }));
  const real = await verdictOn(perceptron(1), { parity }, { golden, parity: reference(perceptron(1)) });
  expect(named(real, "Parity")?.method).toMatch(/^5 golden samples, compared with digits-1\.0\.0; /);
});

test("a model is not in parity with another one, and the sample that differs most is named", async () => {
  const verified = await verdictOn(
    perceptron(1),
    { parity: { with: "digits-1.0.0", maximumAbsoluteError: "0.0001" } },
    { parity: reference(perceptron(2)) },
  );
  expect(verified.report).toMatchObject({ kind: "failed", reason: "ParityTooLow" });
  expect(named(verified, "Parity")?.worst).toMatchObject({ index: expect.any(Number) });
});

test("models that take different inputs cannot be compared", async () => {
  const other = linearClassifier({ weights: [[1, 0]], bias: [0, 0] });
  const verified = await verdictOn(
    perceptron(1),
    { variantParity: { reference: "fp32", minimumAgreement: 1 } },
    { variantParity: reference(other) },
  );
  expect(verified.report).toMatchObject({ kind: "failed", reason: "NotComparable" });
});

test("a reference that the golden set does not fit cannot be compared with", async () => {
  const golden = fileOf(npzFile({ x: { descr: "<f4", shape: [5, 4], values: Array(20).fill(0.5) } }));
  const wider = randomPerceptron([6, 8, 3]);
  const verified = await verdictOn(
    perceptron(1),
    { parity: { with: "previous", minimumAgreement: 1 } },
    { golden, parity: reference(wider) },
  );
  expect(verified.report).toMatchObject({ kind: "failed", reason: "NotComparable" });
});

test("determinism takes no more samples at once than the golden set has", async () => {
  const x = { descr: "<f4", shape: [5, 4], values: Array(20).fill(0.5) } as const;
  const golden = fileOf(npzFile({ x, labels: { descr: "<i8", shape: [5], values: [0, 0, 1, 1, 2] } }));
  const set = {
    blob: { container: "models", path: "golden.npz" },
    digest: golden.digest,
    minimumAccuracy: 0,
  };
  const verified = await verdictOn(perceptron(1), { determinism: { runs: 2 }, golden: set }, { golden });
  expect(named(verified, "Determinism")?.method).toBe("2 runs, batch 5 of golden samples");
});

test("a reference that does not load is no fault of the model", async () => {
  const verified = await verdictOn(
    perceptron(1),
    { parity: { with: "previous", minimumAgreement: 1 } },
    { parity: reference(Buffer.from("no model")) },
  );
  expect(verified).toMatchObject({ report: { kind: "error", reason: "ReferenceUnavailable" }, full: null });
});

test("with nothing to compare with, parity is skipped and the other checks continue", async () => {
  const verified = await verdictOn(perceptron(1), { parity: { with: "previous", minimumAgreement: 1 } });
  expect(verified.report.kind).toBe("passed");
  expect(named(verified, "Parity")).toMatchObject({ outcome: "Skipped" });
});

describe("how many samples are run at once", () => {
  /** What is left of a sample when the mean of its batch is gone. */
  const centred = modelFile({
    nodes: [
      node("ReduceMean", ["x"], ["mean"], { axes: [0], keepdims: 1 }),
      node("Sub", ["x", "mean"], ["y"]),
    ],
    inputs: [tensorInfo("x", ["n", 1])],
    outputs: [tensorInfo("y", ["n", 1])],
  });
  const values = Array.from({ length: 70 }, (_, row) => row % 7);
  const column = (of: readonly number[]) => ({ descr: "<f4", shape: [of.length, 1], values: of }) as const;
  const bounds = (digest: Digest) => ({
    ...{ blob: { container: "models", path: "golden.npz" }, digest },
    maximumAbsoluteError: "0.0001",
  });

  test("is a part of what the set means: a model that depends on it is reported, with the size that is right", async () => {
    const golden = fileOf(
      npzFile({ x: column(values), "output:y": column(values.map((value) => value - 3)) }),
    );
    const differs = await verdictOn(centred, { golden: bounds(golden.digest) }, { golden });
    expect(differs.report).toMatchObject({
      reason: "OutputsDiffer",
      message: expect.stringContaining(
        "the model's answers depend on the batch: in batches of 70 they are as expected",
      ),
    });
    const asked = { golden: { ...bounds(golden.digest), batchSize: 70 } };
    expect((await verdictOn(centred, asked, { golden })).report.kind).toBe("passed");
    const alone = fileOf(npzFile({ x: column(values), "output:y": column(values.map(() => 0)) }));
    const oneByOne = await verdictOn(centred, { golden: bounds(alone.digest) }, { golden: alone });
    expect(oneByOne.report).toMatchObject({
      message: expect.stringContaining("in batches of 1 they are as expected"),
    });
  });

  test("is one where more need too much memory, and no batch size is given", async () => {
    // Each sample takes 12 MB on the way, and 64 of them more than there is.
    const wide = modelFile({
      nodes: [
        node("ConstantOfShape", ["size"], ["zeros"]),
        node("MatMul", ["x", "zeros"], ["large"]),
        node("ReduceMax", ["large"], ["y"], { axes: [1], keepdims: 1 }),
      ],
      initializers: [integerTensor("size", [2], [1, 3_000_000])],
      inputs: [tensorInfo("x", ["n", 1])],
      outputs: [tensorInfo("y", ["n", 1])],
    });
    const golden = fileOf(npzFile({ x: column(values), "output:y": column(values.map(() => 0)) }));
    const verified = await verdictOn(
      wide,
      { golden: bounds(golden.digest), determinism: { runs: 2 } },
      { golden },
    );
    expect(verified.report.kind).toBe("passed");
    expect(named(verified, "Golden")?.method).toContain(
      "one at a time, because more at once need too much memory",
    );
    const forced = { golden: { ...bounds(golden.digest), batchSize: 64 } };
    expect((await verdictOn(wide, forced, { golden })).report).toMatchObject({ reason: "OutOfMemory" });
  });
});

/** ONNX Runtime's own, where a model names none. */
const DEFAULT_LOCALE = "en_US.UTF-8";

test("the image has the locale that StringNormalizer asks for", async () => {
  const dockerfile = await readFile("Dockerfile", "utf8");
  const [build, image] = dockerfile.split(/^FROM /m).slice(1);
  const [language, charset] = DEFAULT_LOCALE.split(".");
  expect(build).toContain(`localedef -i ${language} -f ${charset} ${DEFAULT_LOCALE}`);
  expect(image).toContain("COPY --from=build /usr/lib/locale /usr/lib/locale");
});

test("a locale that this machine lacks is no fault of the model", async () => {
  const upper = message().text(1, "case_change_action").text(4, "UPPER").varint(20, 3);
  const normalizer = modelFile({
    nodes: [node("StringNormalizer", ["x"], ["y"]).message(5, upper)],
    inputs: [tensorInfo("x", ["n"], "string")],
    outputs: [tensorInfo("y", ["m"], "string")],
  });
  const { report } = await verdictOn(normalizer, {});
  const lacking = {
    kind: "error",
    reason: "LocaleMissing",
    message: expect.stringContaining(DEFAULT_LOCALE),
  };
  expect(report).toMatchObject(report.kind === "passed" ? {} : lacking);
});

test("throughput counts inferences, not runs", async () => {
  const throughput = { minimumPerSecond: 1, batchSize: 16, duration: "200ms" as Duration };
  const verified = await verdictOn(perceptron(1), { throughput });
  const details = named(verified, "Throughput")!.details as { readonly inferences: number };
  expect(details.inferences % 16).toBe(0);
  const refused = await verdictOn(perceptron(1), { throughput: { ...throughput, minimumPerSecond: 1e12 } });
  expect(refused.report).toMatchObject({ kind: "failed", reason: "ThroughputTooLow" });
});

test("memory is that of the model: a large one is found to be large, a small one small", async () => {
  // 1024 × 4096 weights and as many again: 32 MiB of floats.
  const large = randomPerceptron([1024, 4096, 1024]);
  const found = await verdictOn(large, { memory: { maximum: "1Gi" } });
  const { bytes } = named(found, "Memory")!.details as { readonly bytes: number };
  expect(bytes).toBeGreaterThan(32 * MIB);
  expect(bytes).toBeLessThan(200 * MIB);
  const small = await verdictOn(perceptron(1), { memory: { maximum: "16Mi" } });
  expect(named(small, "Memory")).toMatchObject({ outcome: "Passed" });
  const refused = await verdictOn(large, { memory: { maximum: "32Mi" } });
  expect(refused.report).toMatchObject({ kind: "failed", reason: "MemoryTooHigh" });
});

test("the full report has the file's facts, times and figures; the short one has none of the figures", async () => {
  const verified = await verdictOn(perceptron(1), {
    latency: { p99: "1m" as Duration, warmup: 1, samples: 20, batchSize: 1, threads: 1 },
    throughput: { minimumPerSecond: 1, batchSize: 1, duration: "100ms" as Duration },
  });
  expect(verified.full).toMatchObject({
    format: "edgefleet.dev/verification-report/v1",
    verdict: "Passed",
    model: { digest: digestOf(perceptron(1)), opsets: [{ domain: "" }], inputs: [{ name: "x" }] },
  });
  expect(named(verified, "Latency")?.details).toMatchObject({
    timing: { runs: 20, p99: { value: expect.any(Number) } },
    atRate: { perSecond: 1 },
  });
  expect(JSON.stringify(verified.report)).not.toContain("details");
});

import { globSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, readlink, rename, rm, stat, writeFile } from "node:fs/promises";
import { request as httpRequest } from "node:http";
import { createServer, type Server } from "node:net";
import { platform, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Verification } from "../../src/api/model-release.ts";
import type { Digest } from "../../src/base/digest.ts";
import { millis, seconds } from "../../src/base/time.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import type { Fields, Log } from "../../src/telemetry/telemetry.ts";
import { createVerifierClient } from "../../src/verification/client.ts";
import { keyOf } from "../../src/verification/key.ts";
import type {
  Download,
  VerificationKey,
  Verifier,
  VerifyReport,
  VerifyRequest,
} from "../../src/verification/verification.ts";
import type { Settings } from "../../src/verifier/service/settings.ts";
import { type Sidecar, type SidecarDeps, startSidecar } from "../../src/verifier/service/sidecar.ts";
import {
  type BlobServer,
  cutAfter,
  refuseWith,
  SIGNATURE,
  serveBlob,
  startBlobServer,
} from "../builders/verifier/blob-server.ts";
import { type NpyArray, npzFile, zipFile } from "../builders/verifier/npz.ts";
import {
  castModel,
  endlessModel,
  externalDataModel,
  hugeAllocationModel,
  type LinearLayer,
  linearClassifier,
  localFunction,
  mapsInfo,
  modelFile,
  node,
  randomPerceptron,
  sequenceInfo,
  slowClassifier,
  tensorInfo,
  zipMapNode,
} from "../builders/verifier/onnx-model.ts";
import { floatProto, rawProto, tarFile, tarGzFile } from "../builders/verifier/test-data.ts";

// The whole sidecar: a real socket, real downloads over loopback, real child processes with ONNX Runtime.

const MEMORY = 512 * 2 ** 20;
const SIGNAL = new AbortController().signal;
const DOWNLOADS = { deadline: seconds(20), idle: millis(300), attempts: 3, pause: millis(1) };
/** Class `i` is the place of the largest of the first three inputs. */
const LAYER: LinearLayer = {
  weights: [
    [4, 0, 0],
    [0, 4, 0],
    [0, 0, 4],
    [0, 0, 0],
  ],
  bias: [0, 0, 0],
};
const X: NpyArray = {
  descr: "<f4",
  shape: [4, 4],
  values: [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0.9, 0.1, 0, 0],
};
const labels = (...values: readonly number[]): NpyArray => ({ descr: "<i8", shape: [values.length], values });

type Bench = {
  readonly client: Verifier;
  readonly sidecar: Sidecar;
  readonly blobs: BlobServer;
  readonly socket: string;
  readonly workdir: string;
  readonly logged: () => string;
};

let directory: string;
let bench: Bench;
let asked = 0;
let stopAll: () => Promise<void>;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "verifier-test-"));
  const blobs = await startBlobServer();
  const started = await startBench("main", blobs);
  bench = started.bench;
  stopAll = async () => {
    await started.stop();
    await blobs.stop();
    await rm(directory, { recursive: true, force: true });
  };
});

afterAll(() => stopAll());

describe("a good model", () => {
  test("passes every check that its release asks for, with figures", async () => {
    const model = bench.blobs.put(linearClassifier(LAYER));
    const { golden, goldenChecks } = goldenSet(
      { x: X, labels: labels(0, 1, 2, 0) },
      { minimumAccuracy: "0.95" },
    );
    const report = await verdictOn({
      ...ALONE,
      model,
      golden,
      checks: {
        timeout: duration("1m"),
        signature: {
          inputs: [{ name: "x", type: "float32", shape: ["n", 4] }],
          outputs: [{ name: "probabilities", type: "float32", shape: ["n", 3] }],
        },
        golden: goldenChecks,
        latency: { p95: duration("5s"), warmup: 2, samples: 20, batchSize: 2, threads: 1 },
      },
    });
    expect(report).toMatchObject({ kind: "passed", verifierVersion: bench.sidecar.version });
    expect(outcomesOf(report)).toEqual({
      Digest: "Passed",
      Load: "Passed",
      Signature: "Passed",
      Golden: "Passed",
      Latency: "Passed",
    });
    const checks = checksOf(report);
    expect(checks.find(({ name }) => name === "Golden")).toMatchObject({
      measured: "accuracy 1 (4 of 4)",
      bound: "accuracy ≥ 0.95",
    });
    expect(checks.find(({ name }) => name === "Latency")).toMatchObject({
      measured: expect.stringMatching(/^p50 [0-9.e-]+ ms, p95 [0-9.e-]+ ms, p99 [0-9.e-]+ ms$/),
      method: expect.stringMatching(
        /^20 runs after 2 more, batch 2 of golden samples, 1 thread, no run left out/,
      ),
    });
  });

  test("passes with nothing asked for: its bytes are right and it loads", async () => {
    const report = await verdictOn(requestFor(linearClassifier(LAYER)));
    expect(outcomesOf(report)).toEqual({
      Digest: "Passed",
      Load: "Passed",
    });
  });

  test("passes with float16 inputs and outputs that are compared", async () => {
    const { golden, goldenChecks } = goldenSet(
      {
        x: { descr: "<f2", shape: [2, 4], values: [1, 2, 3, -0.5, 0, 0, 0, 65504] },
        "output:y": { descr: "<f4", shape: [2, 4], values: [1, 2, 3, -0.5, 0, 0, 0, 65504] },
      },
      { maximumAbsoluteError: 0 },
    );
    const model = bench.blobs.put(castModel("float16", "float32"));
    const there = await verdictOn({
      ...ALONE,
      model,
      golden,
      checks: { timeout: duration("1m"), golden: goldenChecks },
    });
    expect(there).toMatchObject({ kind: "passed" });
    const back = goldenSet(
      {
        x: { descr: "<f4", shape: [2, 4], values: [1, 2, 3, -0.5, 0, 0, 0, 65504] },
        "output:y": { descr: "<f2", shape: [2, 4], values: [1, 2, 3, -0.5, 0, 0, 0, 65504] },
      },
      { maximumAbsoluteError: 0 },
    );
    expect(
      await verdictOn({
        ...ALONE,
        model: bench.blobs.put(castModel("float32", "float16")),
        golden: back.golden,
        checks: {
          timeout: duration("1m"),
          golden: back.goldenChecks,
          latency: { p95: duration("5s"), warmup: 0, samples: 20, batchSize: 3, threads: 2 },
        },
      }),
    ).toMatchObject({ kind: "passed" });
  });

  test("may have an output that is a sequence", async () => {
    const both = modelFile(
      {
        nodes: [node("Identity", ["x"], ["y"]), node("SequenceConstruct", ["x", "x"], ["many"])],
        inputs: [tensorInfo("x", ["batch", 4])],
        outputs: [sequenceInfo("many"), tensorInfo("y", ["batch", 4])],
      },
      { opset: 21, ir: 10 },
    );
    const latency = { p95: duration("5s"), warmup: 0, samples: 20, batchSize: 1, threads: 1 };
    expect(await verdictOn(requestFor(both, { latency }))).toMatchObject({ kind: "passed" });
  });
});

describe("a bad model is Failed, with the reason", () => {
  test("when its bytes are not those of the release", async () => {
    const model = bench.blobs.put(linearClassifier(LAYER));
    const wrong = { ...model, digest: `sha256:${"0".repeat(64)}` };
    const report = await verdictOn({ ...requestFor(linearClassifier(LAYER)), model: wrong });
    expect(report).toMatchObject({ kind: "failed", reason: "DigestMismatch" });
    expect(checksOf(report)[0]).toMatchObject({
      outcome: "Failed",
      measured: model.digest,
      bound: wrong.digest,
    });
    expect(checksOf(report)[1]).toEqual({
      name: "Load",
      outcome: "Skipped",
      message: "not run, because Digest failed",
    });
  });

  const single = (...nodes: readonly ReturnType<typeof node>[]) => ({
    nodes,
    inputs: [tensorInfo("x", ["n", 4])],
    outputs: [tensorInfo("y", ["n", 4])],
  });

  test.each<[string, Uint8Array, string, RegExp]>([
    ["a zip archive", npzFile({ x: X }), "LoadFailed", /zip archive/],
    ["a web page", Buffer.from("<!DOCTYPE html><html></html>"), "LoadFailed", /HTML/],
    ["nothing", Buffer.alloc(0), "LoadFailed", /empty/],
    ["cut off", linearClassifier(LAYER).subarray(0, 120), "LoadFailed", /broken or cut off/],
    [
      "a circle",
      modelFile(single(node("Relu", ["y"], ["z"]), node("Relu", ["z"], ["y"]))),
      "LoadFailed",
      /not acyclic/,
    ],
    [
      "of unknown operators",
      modelFile(
        single(
          node("Unknown", ["x"], ["a"]),
          node("Relu", ["a"], ["b"]),
          node("Fork", ["b"], ["c"]).text(7, "com.acme"),
          node("Unknown", ["c"], ["y"]),
        ),
      ),
      "OperatorUnsupported",
      /does not know Unknown \(2×\), com\.acme\.Fork \(1×\): /,
    ],
    [
      "of an operator that is too old",
      modelFile(single(node("Relu", ["x"], ["y"])), { opset: 1 }),
      "OperatorUnsupported",
      /Could not find an implementation for Relu\(1\)/,
    ],
    [
      "of a later opset",
      modelFile(single(node("Relu", ["x"], ["y"])), { opset: 99 }),
      "OpsetUnsupported",
      /^ONNX Runtime only .* Opset 99 is under development/,
    ],
    [
      "of a later IR version",
      modelFile(single(node("Relu", ["x"], ["y"])), { ir: 99 }),
      "OpsetUnsupported",
      /^Unsupported model IR version: 99/,
    ],
    ["in two files", externalDataModel("weights.bin"), "ExternalData", /"W" is kept in another file/],
    [
      "in two files, deep inside",
      externalDataModel("../../etc/passwd", "nested"),
      "ExternalData",
      /"W" is kept in another file/,
    ],
    [
      "one whose only output is maps that no table stands for",
      modelFile(
        {
          nodes: [node("Mapped", ["x"], ["y"]).text(7, "local")],
          inputs: [tensorInfo("x", ["n", 2])],
          outputs: [mapsInfo("y", "int64")],
        },
        { functions: [localFunction("Mapped", ["table"], ["maps"], [zipMapNode("table", "maps", [0, 1])])] },
      ),
      "LoadFailed",
      /none of the outputs can be read: y sequence\(map\(int64,float32\)\)$/,
    ],
  ])("when it is %s", async (_what, bytes, reason, message) => {
    const report = await verdictOn(requestFor(bytes));
    expect(report).toMatchObject({ kind: "failed", reason, message: expect.stringMatching(message) });
  });

  test("when its signature differs, naming every difference", async () => {
    const report = await verdictOn(
      requestFor(linearClassifier(LAYER), {
        signature: {
          inputs: [
            { name: "x", type: "float64", shape: ["n", 5] },
            { name: "h", type: "float32", shape: [1] },
          ],
          outputs: [{ name: "probabilities", type: "float32", shape: [1, 3] }],
        },
      }),
    );
    expect(report).toMatchObject({ kind: "failed", reason: "SignatureMismatch" });
    expect(messageOf(report)).toContain('input "h" (float32[1]) is missing');
    expect(messageOf(report)).toContain('input "x" is float32, the release specifies float64');
    expect(messageOf(report)).toContain('output "probabilities" differs in axis 0');
  });

  test("when it classifies too little rightly", async () => {
    const { golden, goldenChecks } = goldenSet(
      { x: X, labels: labels(0, 1, 2, 2) },
      { minimumAccuracy: "0.8" },
    );
    const report = await verdictOn({
      ...requestFor(linearClassifier(LAYER)),
      golden,
      checks: { timeout: duration("1m"), golden: goldenChecks },
    });
    expect(report).toMatchObject({
      kind: "failed",
      reason: "AccuracyTooLow",
      message:
        '3 of 4 samples are classified correctly by output "probabilities", which is 0.75, less than 0.8; the most confident mistake is sample 3: expected class 2, got class 0; confused most often: 0 for 2 (1×)',
    });
  });

  test("when its outputs differ", async () => {
    const { golden, goldenChecks } = goldenSet(
      { x: X, "output:probabilities": { descr: "<f4", shape: [4, 3], values: new Array(12).fill(1 / 3) } },
      { maximumAbsoluteError: "0.001" },
    );
    const report = await verdictOn({
      ...requestFor(linearClassifier(LAYER)),
      golden,
      checks: { timeout: duration("1m"), golden: goldenChecks },
    });
    expect(report).toMatchObject({
      kind: "failed",
      reason: "OutputsDiffer",
      message: expect.stringMatching(
        /^12 of 12 values are outside the tolerance; the worst is in output "probabilities": sample \d, element \d: expected 0.333333, got 0.9\d+$/,
      ),
    });
  });

  test("when the golden set does not fit it", async () => {
    const { golden, goldenChecks } = goldenSet(
      { x: { ...X, descr: "<f8" }, labels: labels(0, 1, 2, 0) },
      { minimumAccuracy: 1 },
    );
    const report = await verdictOn({
      ...requestFor(linearClassifier(LAYER)),
      golden,
      checks: { timeout: duration("1m"), golden: goldenChecks },
    });
    expect(report).toMatchObject({
      kind: "failed",
      reason: "GoldenMismatch",
      message:
        'array "x" is float64[4,4], the model\'s input is float32[batch,4]; save it with .astype("float32")',
    });
  });

  test("when it loads but cannot run what it is given", async () => {
    const divides = modelFile({
      nodes: [node("Sub", ["x", "x"], ["zero"]), node("Div", ["x", "zero"], ["y"])],
      inputs: [tensorInfo("x", ["batch"], "int32")],
      outputs: [tensorInfo("y", ["batch"], "int32")],
    });
    const latency = { p95: duration("5s"), warmup: 0, samples: 20, batchSize: 4, threads: 1 };
    const x: NpyArray = { descr: "<i4", shape: [4], values: [1, 2, 3, 4] };
    const { golden, goldenChecks } = goldenSet({ x }, {});
    const request = requestFor(divides, { latency });
    const checks = { ...request.checks, golden: goldenChecks };
    expect(await verdictOn({ ...request, golden, checks })).toMatchObject({
      kind: "failed",
      reason: "RunFailed",
    });
    // Synthetic input proves nothing about the model: it may be right to refuse it.
    expect(await verdictOn(request)).toMatchObject({
      kind: "error",
      reason: "InputNeeded",
      message: expect.stringContaining("provide a golden set"),
    });
  });

  test("when it is too slow", async () => {
    const slow = slowClassifier(LAYER, { trips: 40, width: 192 });
    const latency = { p95: duration("1ms"), warmup: 1, samples: 20, batchSize: 1, threads: 1 };
    const report = await verdictOn(requestFor(slow, { latency }));
    expect(report).toMatchObject({ kind: "failed", reason: "LatencyTooHigh" });
  });

  test("when it never ends; the sidecar continues to serve", async () => {
    const latency = { p95: duration("1s"), warmup: 0, samples: 20, batchSize: 1, threads: 1 };
    const report = await verdictOn({
      ...requestFor(endlessModel()),
      checks: { timeout: duration("700ms"), latency },
    });
    expect(report).toMatchObject({ kind: "failed", reason: "TimedOut" });
    expect(outcomesOf(report)).toMatchObject({ Load: "Passed", Latency: "Failed" });
    expect(await verdictOn(requestFor(randomPerceptron([4, 8, 3], 5)))).toMatchObject({ kind: "passed" });
  });

  test.each([
    ["at once more than the kernel gives", 2_000_000_000, /^the model needs too much memory/],
    [
      "little by little more than it may use",
      75_000_000,
      /it used \d+ MiB of 512 MiB$|^the model needs too much memory: /,
    ],
  ])("when it asks for %s; the sidecar continues to serve", async (_what, elements, message) => {
    const latency = { p95: duration("20s"), warmup: 0, samples: 20, batchSize: 1, threads: 1 };
    const report = await verdictOn(requestFor(hugeAllocationModel(elements), { latency }));
    expect(report).toMatchObject({
      kind: "failed",
      reason: "OutOfMemory",
      message: expect.stringMatching(message),
    });
    expect(await verdictOn(requestFor(randomPerceptron([4, 8, 3], 6)))).toMatchObject({ kind: "passed" });
  });

  test("when its file alone is larger than the memory it may use: it is not even downloaded", async () => {
    const request = requestFor(linearClassifier(LAYER));
    const report = await verdictOn({ ...request, model: { ...request.model, sizeBytes: MEMORY + 1 } });
    expect(report).toMatchObject({ kind: "failed", reason: "OutOfMemory" });
    expect(bench.blobs.requests(request.model)).toBe(0);
  });

  test.each(["SIGSEGV", "SIGABRT"] as const)("when its process is ended by %s", async (how) => {
    const latency = { p95: duration("1s"), warmup: 0, samples: 20, batchSize: 1, threads: 1 };
    const key = await begin(requestFor(endlessModel(), { latency }));
    await until(key, "Latency");
    process.kill(await theChild(), how);
    expect(await verdict(key)).toMatchObject({
      kind: "failed",
      reason: "Crashed",
      message: `the model crashed in check Latency: its process was ended by ${how}`,
    });
  });
});

describe("a golden set as ONNX test data", () => {
  const set = (output: readonly number[]) => ({
    "test_data_set_0/input_0.pb": floatProto([1, 4], [1, 0, 0, 0]),
    "test_data_set_0/output_0.pb": floatProto([1, 4], output),
  });
  const checkedWith = async (bytes: Uint8Array) => {
    const golden = bench.blobs.put(bytes);
    const { goldenChecks } = goldenSet({ x: X }, { maximumAbsoluteError: "0.001" });
    const checks = { timeout: duration("1m"), golden: { ...goldenChecks, digest: golden.digest as Digest } };
    return verdictOn({ ...requestFor(castModel("float32", "bfloat16")), golden, checks });
  };

  test("judges a model of a type that Node lacks", async () => {
    expect(await checkedWith(await tarGzFile(set([1, 0, 0, 0])))).toMatchObject({ kind: "failed" });
    const bfloat16 = {
      ...set([]),
      "test_data_set_0/output_0.pb": rawProto("bfloat16", [1, 4], ONE_IN_BFLOAT16),
    };
    const report = await checkedWith(await tarGzFile(bfloat16));
    expect(report).toMatchObject({ kind: "passed" });
    expect(checksOf(report).find(({ name }) => name === "Load")?.measured).toBe(
      "x float32[batch,4] → y bfloat16[batch,4]",
    );
  });

  test("that was made to do harm is GoldenUnreadable, again and again; a good one still passes", async () => {
    const bomb = zipFile([["test_data_set_0/input_0.pb", Buffer.alloc(1)]], true);
    bomb.writeUInt32LE(MEMORY + 1, bomb.lastIndexOf(Buffer.from([0x50, 0x4b, 0x01, 0x02])) + 24);
    // Members of a gzip file are joined: 17 times 32 MiB of zeros.
    const member = gzipSync(Buffer.alloc(32 * 2 ** 20));
    const zeros = Buffer.concat(Array.from({ length: 17 }, () => member));
    const link = await tarFile([[{ name: "x", type: "symlink", linkname: "/etc/passwd" }, Buffer.alloc(0)]]);
    const up = await tarFile({ ...set([1]), "../../etc/passwd": Buffer.from("root") });
    const huge = { "test_data_set_0/input_0.pb": rawProto("float32", [2 ** 40], Buffer.alloc(4)) };
    for (const [bytes, message] of [
      [bomb, /it would take 536870913 bytes/],
      [zeros, /it would take more than the 536870912 bytes/],
      [link, /"x" is a link/],
      [up, /is not a safe name for a file/],
      [await tarFile(huge), /would take more than 536870912 bytes/],
      [bomb, /it would take 536870913 bytes/],
      [link, /"x" is a link/],
    ] as const)
      expect(await checkedWith(bytes)).toMatchObject({
        kind: "failed",
        reason: "GoldenUnreadable",
        message: expect.stringMatching(message),
      });
    const good = { ...set([]), "test_data_set_0/output_0.pb": rawProto("bfloat16", [1, 4], ONE_IN_BFLOAT16) };
    expect(await checkedWith(await tarFile(good))).toMatchObject({ kind: "passed" });
  });
});

const ONE_IN_BFLOAT16 = Uint8Array.of(0x80, 0x3f, 0, 0, 0, 0, 0, 0);

describe.runIf(platform() === "linux")("the process of a model", () => {
  test("has nothing of ours, and limits", async () => {
    process.env["EDGEFLEET_TEST_SECRET"] = "hidden";
    const latency = { p95: duration("1s"), warmup: 0, samples: 20, batchSize: 1, threads: 3 };
    const key = await begin(requestFor(endlessModel(), { latency }));
    await until(key, "Latency");
    const child = await theChild();
    const variables = readFileSync(`/proc/${child}/environ`, "utf8")
      .split("\0")
      .filter((one) => one !== "");
    expect(variables.map((one) => one.split("=")[0]).sort()).toEqual([
      "MALLOC_TRIM_THRESHOLD_",
      "ORT_DISABLE_TELEMETRY",
      "PWD",
    ]);
    const limits = readFileSync(`/proc/${child}/limits`, "utf8");
    const data = MEMORY + (768 + 3 * 16) * 2 ** 20;
    expect(limits).toMatch(new RegExp(`^Max data size +${data} +${data} +bytes`, "m"));
    expect(limits).toMatch(/^Max core file size +0 +0 /m);
    expect(limits).toMatch(/^Max cpu time +24\d +24\d +seconds/m);
    expect(readFileSync(`/proc/${child}/oom_score_adj`, "utf8")).toBe("1000\n");
    expect(await readlink(`/proc/${child}/fd/0`)).toBe("/dev/null");
    expect(await readlink(`/proc/${child}/fd/1`)).toBe("/dev/null");
    await bench.client.cancel(key, SIGNAL);
  });
});

describe("what is not the model's fault is an Error", () => {
  test("when its process is killed", async () => {
    const latency = { p95: duration("1s"), warmup: 0, samples: 20, batchSize: 1, threads: 1 };
    const key = await begin(requestFor(endlessModel(), { latency }));
    await until(key, "Latency");
    process.kill(await theChild(), "SIGKILL");
    expect(await verdict(key)).toMatchObject({ kind: "error", reason: "VerificationError" });
  });

  test.each<[string, Parameters<BlobServer["put"]>[1], string, RegExp]>([
    ["forbids", refuseWith(403, "AuthenticationFailed"), "StoreDenied", /answered 403 AuthenticationFailed$/],
    ["does not know the blob", refuseWith(404, "BlobNotFound"), "BlobMissing", /answered 404 BlobNotFound$/],
    [
      "is ill",
      refuseWith(503, "ServerBusy"),
      "StoreUnavailable",
      /answered 503 ServerBusy \(3 connections tried\)$/,
    ],
    ["cuts every connection", cutAfter(10), "StoreUnavailable", /connection to the store failed/],
    ["says nothing", () => undefined, "StoreUnavailable", /failed after 0 bytes: ETIMEDOUT/],
    [
      "sends more than was said",
      (_request, response, content) => response.end(Buffer.concat([content, Buffer.alloc(1)])),
      "VerificationError",
      /larger than the \d+ bytes/,
    ],
    [
      "redirects",
      (_request, response) => response.writeHead(302, { location: "http://127.0.0.1:1/" }).end(),
      "StoreUnavailable",
      /answered 302/,
    ],
  ])("when the store %s", async (_what, handler, reason, message) => {
    const bytes = linearClassifier(LAYER);
    const model = bench.blobs.put(bytes, handler);
    const report = await verdictOn({ ...requestFor(bytes), model });
    expect(report).toMatchObject({ kind: "error", reason, message: expect.stringMatching(message) });
  });

  test("and is tried again on the next request", async () => {
    const bytes = linearClassifier(LAYER);
    let ill = true;
    const model = bench.blobs.put(bytes, (...args) =>
      ill ? refuseWith(403, "AuthorizationFailure")(...args) : serveBlob(...args),
    );
    const request = { ...requestFor(bytes), model };
    const key = await begin(request);
    expect(await verdict(key)).toMatchObject({ kind: "error", reason: "StoreDenied" });
    ill = false;
    await begin(request);
    expect(await verdict(key)).toMatchObject({ kind: "passed" });
  });
});

describe("a download", () => {
  test("is resumed where the connection was lost", async () => {
    const bytes = linearClassifier(LAYER, { padding: new Uint8Array(300_000).fill(7) });
    let connections = 0;
    const ranges: (string | undefined)[] = [];
    const model = bench.blobs.put(bytes, (request, response, content) => {
      connections += 1;
      ranges.push(request.headers.range);
      if (connections === 1) return cutAfter(100_000)(request, response, content);
      serveBlob(request, response, content);
    });
    const report = await verdictOn({ ...requestFor(bytes), model });
    expect(report).toMatchObject({ kind: "passed" });
    expect(ranges).toEqual([undefined, expect.stringMatching(/^bytes=[1-9]\d*-$/)]);
  });

  test("starts over when the store does not know what it is asked to resume", async () => {
    const bytes = linearClassifier(LAYER, { padding: new Uint8Array(200_000).fill(8) });
    let connections = 0;
    const model = bench.blobs.put(bytes, (request, response, content) => {
      connections += 1;
      if (connections === 1) return cutAfter(100_000)(request, response, content);
      if (request.headers.range !== undefined)
        return refuseWith(412, "ConditionNotMet")(request, response, content);
      serveBlob(request, response, content);
    });
    expect(await verdictOn({ ...requestFor(bytes), model })).toMatchObject({ kind: "passed" });
    expect(connections).toBe(3);
  });
});

describe("a blob in the state that was looked at", () => {
  test("is what the verdict is about: one that was replaced since is not verified", async () => {
    const bytes = linearClassifier(LAYER);
    const model = bench.blobs.put(bytes, (request, response, content) => {
      // Only a condition reveals it: this store says nothing of the state that it sends.
      if (request.headers["if-match"] !== '"old"') {
        response.writeHead(200, { "content-length": content.length });
        return void response.end(content);
      }
      return refuseWith(412, "ConditionNotMet")(request, response, content);
    });
    const report = await verdictOn({ ...requestFor(bytes), model: { ...model, etag: '"old"' } });
    expect(report).toMatchObject({ kind: "error", reason: "StoreUnavailable" });
    expect(bench.blobs.requests(model)).toBe(1);
  });

  test("is held against what a store that ignores conditions sends", async () => {
    const bytes = linearClassifier({ ...LAYER }, { padding: new Uint8Array(7) });
    const model = { ...bench.blobs.put(bytes), etag: '"old"' };
    expect(await verdictOn({ ...requestFor(bytes), model })).toMatchObject({
      kind: "error",
      reason: "StoreUnavailable",
    });
  });

  test("has a verdict of its own, although the same bytes have one elsewhere", async () => {
    const bytes = linearClassifier({ ...LAYER }, { padding: new Uint8Array(9) });
    expect(await verdictOn({ ...requestFor(bytes), model: bench.blobs.put(bytes) })).toMatchObject({
      kind: "passed",
    });
    const garbage = bench.blobs.put(new Uint8Array(bytes.length));
    const etag = `"${garbage.digest.slice(7, 23)}"`;
    const { digest } = requestFor(bytes).model;
    const report = await verdictOn({ ...requestFor(bytes), model: { ...garbage, digest, etag } });
    expect(report).toMatchObject({ kind: "failed", reason: "DigestMismatch" });
  });
});

describe("the wire", () => {
  test("knows nothing of what was never asked", async () => {
    expect(await bench.client.look("unknown" as VerificationKey, SIGNAL)).toEqual({ ok: true, value: null });
  });

  test("reports the version of the verifier and of ONNX Runtime", async () => {
    expect(await bench.client.version(SIGNAL)).toEqual({ ok: true, value: bench.sidecar.version });
    expect(bench.sidecar.version).toMatch(/^edgefleet-verifier\/\d+\.\d+\.\d+ onnxruntime\/1\.\d+\.\d+$/);
  });

  test("runs a model once, however often it is asked for", async () => {
    const request = requestFor(randomPerceptron([4, 8, 3], 11));
    const key = await begin(request);
    await Promise.all([begin(request), begin(request)]);
    expect(await verdict(key)).toMatchObject({ kind: "passed" });
    await begin(request);
    expect(await verdict(key)).toMatchObject({ kind: "passed" });
    expect(bench.blobs.requests(request.model)).toBe(1);
  });

  test("measures one model at a time", async () => {
    const latency = { p95: duration("5s"), warmup: 0, samples: 200, batchSize: 1, threads: 1 };
    const slow = slowClassifier(LAYER, { trips: 10, width: 64 });
    const keys = [];
    for (let count = 0; count < 3; count += 1) keys.push(await begin(requestFor(slow, { latency })));
    const seen = new Set<string>();
    for (;;) {
      const reports = await Promise.all(keys.map((key) => lookAt(key, bench.client)));
      const running = reports.filter((report) => report.kind === "running" && report.check !== "Waiting");
      expect(running.length).toBeLessThanOrEqual(1);
      expect(children().length).toBeLessThanOrEqual(1);
      for (const report of reports) seen.add(report.kind === "running" ? report.check : report.kind);
      if (reports.every((report) => report.kind === "passed")) break;
      await sleep(2);
    }
    expect([...seen]).toEqual(expect.arrayContaining(["Waiting", "Latency", "passed"]));
  });

  test("stops and forgets what is cancelled", async () => {
    const latency = { p95: duration("1s"), warmup: 0, samples: 20, batchSize: 1, threads: 1 };
    const key = await begin(requestFor(endlessModel(), { latency }));
    await until(key, "Latency");
    const child = await theChild();
    expect(await bench.client.cancel(key, SIGNAL)).toEqual({ ok: true, value: undefined });
    expect(children()).not.toContain(child);
    expect(await bench.client.look(key, SIGNAL)).toEqual({ ok: true, value: null });
    expect(await bench.client.cancel(key, SIGNAL)).toEqual({ ok: true, value: undefined });
  });

  test.each<[string, unknown, RegExp]>([
    ["is not JSON", "{", /the body is not JSON/],
    [
      "lacks fields",
      { model: {} },
      /must have required properties tenant, golden, parity, variantParity, checks/,
    ],
    [
      "has an unknown field",
      { ...bodyFor(), checks: { timeout: "1m", energy: {} } },
      /\/checks must not have additional properties/,
    ],
    [
      "has a golden set but no check for it",
      { ...bodyFor(), golden: bodyFor().model },
      /\/golden and \/checks\/golden must be given together/,
    ],
  ])("refuses a request that %s, and says why without quoting it", async (_what, body, message) => {
    const answer = await raw(
      "PUT",
      "/v1/verifications/bad",
      typeof body === "string" ? body : JSON.stringify(body),
    );
    expect(answer.status).toBe(400);
    expect(answer.body).toMatch(message);
    expect(answer.body).not.toContain("sig=");
  });

  test("refuses a body without end, other methods and other paths", async () => {
    const large = "x".repeat(2_000_000);
    expect((await raw("PUT", "/v1/verifications/large", large)).status).toBe(413);
    const chunked = { "transfer-encoding": "chunked" };
    expect((await raw("PUT", "/v1/verifications/large", large, chunked)).status).toBe(413);
    expect((await raw("POST", "/v1/verifications/bad", "")).status).toBe(405);
    expect((await raw("GET", "/v1/verifications/..%2f..", "")).status).toBe(404);
    expect((await raw("GET", "/", "")).status).toBe(404);
    expect((await raw("GET", "/healthz", "")).body).toContain('"status":"ok"');
  });

  test("lets the group of the socket in, and no one else", async () => {
    expect((await stat(bench.socket)).mode & 0o777).toBe(0o660);
  });
});

describe("a run of the sidecar", () => {
  test("leaves no process, no file and no socket when it is stopped in the middle", async () => {
    const { bench: own, stop } = await startBench("stopped", bench.blobs);
    const latency = { p95: duration("1s"), warmup: 0, samples: 20, batchSize: 1, threads: 1 };
    const request = requestFor(endlessModel(), { latency });
    const key = await begin(request, own.client);
    await until(key, "Latency", own.client);
    expect(children().length).toBe(1);
    expect(await workOf(own.workdir)).toHaveLength(1);
    await stop();
    expect(children()).toEqual([]);
    expect(await workOf(own.workdir)).toEqual([]);
    await expect(stat(own.socket)).rejects.toMatchObject({ code: "ENOENT" });
    expect(await own.client.look(key, SIGNAL)).toMatchObject({ ok: false, error: { kind: "unavailable" } });
  });

  test("begins by removing what an earlier one has left, and nothing else", async () => {
    const workdir = join(directory, "crashed");
    await mkdir(join(workdir, "verification-abc123"), { recursive: true });
    await writeFile(join(workdir, "verification-abc123", "model.onnx"), "x");
    await writeFile(join(workdir, "keep.me"), "x");
    const stale = join(directory, "crashed.sock");
    await leaveStaleSocket(stale);
    const { stop } = await startBench("crashed", bench.blobs);
    expect((await readdir(workdir)).sort()).toEqual(["blobs", "keep.me", "results"]);
    await stop();
  });

  test("does not begin while another one serves the socket, or where a file is in its place", async () => {
    const settings = settingsFor(bench.socket, join(directory, "second"));
    const deps = { clock: systemClock(), log: recordingLog([]) };
    expect(await startSidecar(settings, deps)).toEqual({
      ok: false,
      error: `another process listens on ${bench.socket}`,
    });
    const file = join(directory, "a-file");
    await writeFile(file, "precious");
    expect(await startSidecar({ ...settings, socket: file }, deps)).toMatchObject({ ok: false });
    expect(await readFile(file, "utf8")).toBe("precious");
  });

  test("has a queue with an end, and says when to come back", async () => {
    const { bench: own, stop } = await startBench("full", bench.blobs, {
      waiting: { perTenant: 1, inAll: 9 },
    });
    const latency = { p95: duration("1s"), warmup: 0, samples: 20, batchSize: 1, threads: 1 };
    const first = requestFor(endlessModel(), { latency });
    const key = await begin(first, own.client);
    await until(key, "Latency", own.client);
    await begin(requestFor(randomPerceptron([4, 8, 3], 21)), own.client);
    const third = requestFor(randomPerceptron([4, 8, 3], 22));
    const refused = await own.client.start(keyOf(third, own.sidecar.version), third, SIGNAL);
    expect(refused).toMatchObject({ ok: false, error: { kind: "throttled", retryAfter: 5000 } });
    await stop();
  });

  test("never lets a signature of a URL out, in reports or in logs", async () => {
    // All tests of this file share the log; this one adds its own failures, so that it means something alone.
    for (const handler of [refuseWith(403, "AuthenticationFailed"), cutAfter(3)]) {
      const bytes = randomPerceptron([4, 8, 3], 31);
      const report = await verdictOn({ ...requestFor(bytes), model: bench.blobs.put(bytes, handler) });
      expect(JSON.stringify(report)).not.toMatch(/sig=|http:/);
    }
    expect(bench.logged()).toContain("verification finished");
    expect(bench.logged()).not.toMatch(/sig=|http:/);
    expect(bench.logged()).not.toContain(SIGNATURE);
  });
});

async function startBench(
  name: string,
  blobs: BlobServer,
  more: Partial<SidecarDeps> = {},
): Promise<{ readonly bench: Bench; readonly stop: () => Promise<void> }> {
  const socket = join(directory, `${name}.sock`);
  const workdir = join(directory, name);
  const lines: string[] = [];
  const sidecar = await startSidecar(settingsFor(socket, workdir), {
    clock: systemClock(),
    log: recordingLog(lines),
    downloads: DOWNLOADS,
    ...more,
  });
  if (!sidecar.ok) throw new Error(sidecar.error);
  const client = createVerifierClient({ socketPath: socket });
  return {
    bench: { client, sidecar: sidecar.value, blobs, socket, workdir, logged: () => lines.join("\n") },
    stop: sidecar.value.stop,
  };
}

function settingsFor(socket: string, workdir: string): Settings {
  // Without a cache: tests that say what the store answers ask for the same bytes as others.
  const cache = { cacheDir: join(workdir, "blobs"), cacheBytes: 0 };
  return { socket, workdir, memoryBytes: MEMORY, ...cache, probes: null };
}

/** Directories of verifications that run. */
async function workOf(workdir: string): Promise<readonly string[]> {
  return (await readdir(workdir)).filter((name) => name.startsWith("verification-"));
}

/** Everything that is logged, before any redaction. */
function recordingLog(lines: string[]): Log {
  const write = (message: string, fields: Fields = {}) =>
    void lines.push(JSON.stringify({ message, ...fields }));
  return {
    debug: write,
    info: write,
    warn: write,
    error: (message, cause, fields) => write(message, { ...fields, cause: String(cause) }),
    with: () => recordingLog(lines),
  };
}

function duration(written: string): Verification["timeout"] {
  return written as Verification["timeout"];
}

/** A model with nothing beside it. */
const ALONE = { tenant: "plant-a", golden: null, parity: null, variantParity: null } as const;

/** Never the same twice, so that no test is answered with the verdict of another one. */
function requestFor(bytes: Uint8Array, checks: Partial<Verification> = {}): VerifyRequest {
  asked += 1;
  const timeout = duration(`${60_000 + asked}ms`);
  return { ...ALONE, model: bench.blobs.put(bytes), checks: { timeout, ...checks } };
}

function bodyFor(): typeof ALONE & { readonly model: Download; readonly checks: unknown } {
  const digest = `sha256:${"1".repeat(64)}`;
  const model = { url: "http://127.0.0.1/x?sig=abc", digest, sizeBytes: 1 };
  return { ...ALONE, model, checks: { timeout: "1m" } };
}

function goldenSet(
  arrays: Readonly<Record<string, NpyArray>>,
  bounds: Pick<NonNullable<Verification["golden"]>, "minimumAccuracy" | "maximumAbsoluteError">,
): { readonly golden: Download; readonly goldenChecks: NonNullable<Verification["golden"]> } {
  const golden = bench.blobs.put(npzFile(arrays, { compress: true }));
  const digest = golden.digest as NonNullable<Verification["golden"]>["digest"];
  return { golden, goldenChecks: { blob: { container: "models", path: "golden.npz" }, digest, ...bounds } };
}

async function begin(request: VerifyRequest, client = bench.client): Promise<VerificationKey> {
  const key = keyOf(request, bench.sidecar.version);
  expect(await client.start(key, request, SIGNAL)).toEqual({ ok: true, value: undefined });
  return key;
}

async function lookAt(key: VerificationKey, client: Verifier): Promise<VerifyReport> {
  const found = await client.look(key, SIGNAL);
  if (!found.ok || found.value === null) throw new Error(`no report: ${JSON.stringify(found)}`);
  return found.value;
}

/** Real processes are waited for in real time; how long does not matter. */
async function until(key: VerificationKey, check: string, client = bench.client): Promise<void> {
  for (;;) {
    const report = await lookAt(key, client);
    if (report.kind === "running" && report.check === check) return;
    if (report.kind !== "running") throw new Error(`ended before ${check}: ${JSON.stringify(report)}`);
    await sleep(5);
  }
}

async function verdict(key: VerificationKey): Promise<VerifyReport> {
  for (;;) {
    const report = await lookAt(key, bench.client);
    if (report.kind !== "running") return report;
    await sleep(5);
  }
}

async function verdictOn(request: VerifyRequest): Promise<VerifyReport> {
  const key = await begin(request);
  const report = await verdict(key);
  // Its files and its process are gone when the verdict is there.
  expect(await workOf(bench.workdir)).toEqual([]);
  expect(children()).toEqual([]);
  // Other tests ask for the same bytes, elsewhere.
  await bench.client.cancel(key, SIGNAL);
  return report;
}

type Check = Extract<VerifyReport, { readonly kind: "passed" }>["checks"][number];

function checksOf(report: VerifyReport): readonly Check[] {
  return report.kind === "passed" || report.kind === "failed" ? report.checks : [];
}

function outcomesOf(report: VerifyReport): Readonly<Record<string, string>> {
  return Object.fromEntries(checksOf(report).map(({ name, outcome }) => [name, outcome]));
}

function messageOf(report: VerifyReport): string {
  return "message" in report ? report.message : "";
}

/** Processes of models that this process has started. */
function children(): readonly number[] {
  return globSync("/proc/[0-9]*/cmdline").flatMap((path) => {
    try {
      const pid = path.split("/")[2];
      const parent = / \d+ (\d+)/.exec(
        readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) \S/, " 0"),
      )?.[1];
      const ours =
        readFileSync(path, "utf8").includes("verifier/child/main") && Number(parent) === process.pid;
      return ours ? [Number(pid)] : [];
    } catch {
      return [];
    }
  });
}

async function theChild(): Promise<number> {
  const [child, ...others] = children();
  expect(others).toEqual([]);
  expect(child).toBeDefined();
  return child ?? 0;
}

function raw(
  method: string,
  path: string,
  body: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<{ readonly status: number; readonly body: string }> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ socketPath: bench.socket, method, path, headers }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body: text }));
    });
    request.on("error", reject);
    request.end(body);
  });
}

/** What a killed process leaves: a socket file that no process listens on. */
async function leaveStaleSocket(path: string): Promise<void> {
  const hidden = `${path}.hidden`;
  const server: Server = createServer();
  await new Promise<void>((resolve) => server.listen(path, resolve));
  await rename(path, hidden);
  await new Promise<void>((resolve) => server.close(() => resolve()));
  await rename(hidden, path);
}

import { execFileSync } from "node:child_process";
import { globSync, readFileSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Verification } from "../../src/api/model-release.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { createVerifierClient } from "../../src/verification/client.ts";
import { keyOf } from "../../src/verification/key.ts";
import type { Verifier, VerifyReport, VerifyRequest } from "../../src/verification/verification.ts";
import { type Sidecar, startSidecar } from "../../src/verifier/service/sidecar.ts";
import { type BlobServer, startBlobServer } from "../builders/verifier/blob-server.ts";
import {
  doublingModel,
  growingModel,
  longModel,
  longNamesModel,
  madeShapeModel,
  manyInputsModel,
  nanModel,
  nestedModel,
  overflowingModel,
  recursiveModel,
} from "../builders/verifier/hostile-models.ts";
import { type NpyArray, npzFile, zipFile } from "../builders/verifier/npz.ts";
import {
  castModel,
  endlessModel,
  externalDataModel,
  hugeAllocationModel,
  modelFile,
  node,
  randomPerceptron,
  tensorInfo,
} from "../builders/verifier/onnx-model.ts";

// Models and golden sets that are made to do harm, twice in a row, against one sidecar that lives on: each ends
// with its own reason, leaves nothing behind, and a good model passes afterwards.

const MEMORY = 256 * 2 ** 20;
const SIGNAL = new AbortController().signal;
const quiet = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};
const log = { ...quiet, with: () => log };

let directory: string;
let workdir: string;
let fifo: string;
let blobs: BlobServer;
let sidecar: Sidecar;
let client: Verifier;
let asked = 0;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "hostile-test-"));
  workdir = join(directory, "work");
  fifo = join(directory, "fifo");
  execFileSync("mkfifo", [fifo]);
  blobs = await startBlobServer();
  const socket = join(directory, "verifier.sock");
  const started = await startSidecar(
    {
      socket,
      workdir,
      memoryBytes: MEMORY,
      cacheDir: join(workdir, "blobs"),
      cacheBytes: 2 ** 30,
      probes: null,
    },
    { clock: systemClock(), log },
  );
  if (!started.ok) throw new Error(started.error);
  sidecar = started.value;
  client = createVerifierClient({ socketPath: socket });
});

afterAll(async () => {
  await sidecar.stop();
  await blobs.stop();
  expect(children()).toEqual([]);
  await rm(directory, { recursive: true, force: true });
});

const written = <T>(text: string): T => text as T;
const LATENCY: Partial<Verification> = {
  latency: { p95: written("20s"), warmup: 0, samples: 20, batchSize: 1, threads: 1 },
};
const SHORT = "900ms";
const X: NpyArray = { descr: "<f4", shape: [2, 4], values: [1, 2, 3, 4, 5, 6, 7, 8] };
const NANS: NpyArray = { ...X, values: new Array(8).fill(Number.NaN) };
const LABELS: NpyArray = { descr: "<i8", shape: [2], values: [0, 1] };
const ORDINARY = npzFile({ x: X, labels: LABELS });
const ACCURATE = { minimumAccuracy: written<never>("0.5") };
const EXACT = { maximumAbsoluteError: 0 };

type Case = {
  readonly model: () => Uint8Array;
  readonly checks?: Partial<Verification>;
  readonly golden?: { readonly file: () => Uint8Array; readonly bounds: object };
  /** The model to compare with. */
  readonly other?: () => Uint8Array;
  readonly timeout?: string;
  readonly reason: string;
  readonly message: RegExp;
};

const good = () => randomPerceptron([4, 8, 3], 1);
const ofOne = (operator: string, domain: string) => () =>
  modelFile({
    nodes: [node(operator, ["x"], ["y"]).text(7, domain)],
    inputs: [tensorInfo("x", ["batch", 4])],
    outputs: [tensorInfo("y", ["batch", 4])],
  });
const external = (location: string | (() => string)): Case => ({
  model: () => externalDataModel(typeof location === "string" ? location : location()),
  reason: "ExternalData",
  message: /^tensor "W" is kept in another file/,
});
const endless = (check: string, more: Partial<Case>): Case => ({
  model: endlessModel,
  timeout: SHORT,
  reason: "TimedOut",
  message: new RegExp(`^the model did not finish within 900ms, in check ${check}, and was stopped$`),
  ...more,
});

const CASES: Readonly<Record<string, Case>> = {
  "a Loop without end, in Golden": endless("Golden", {
    golden: { file: () => npzFile({ x: X, "output:y": X }), bounds: EXACT },
  }),
  "a Loop without end, in Determinism": endless("Determinism", { checks: { determinism: { runs: 2 } } }),
  "a Loop without end, in Parity": endless("Parity", {
    other: () => castModel("float32", "float32"),
    checks: { parity: { with: written("previous"), minimumAgreement: written("0.5") } },
  }),
  "a Loop without end, in Latency": endless("Latency", { checks: LATENCY }),
  "a Loop without end, in Throughput": endless("Throughput", {
    checks: { throughput: { minimumPerSecond: 1, batchSize: 1, duration: written("100ms") } },
  }),
  "a Loop without end, in Memory": endless("Memory", { checks: { memory: { maximum: written("1Gi") } } }),
  "2^30 operators in three kilobytes of functions": endless("Load", { model: () => doublingModel(30) }),
  "100 GB in one piece": {
    model: () => hugeAllocationModel(25_000_000_000),
    checks: LATENCY,
    reason: "OutOfMemory",
    message: /^the model needs too much memory/,
  },
  "small pieces of memory without end": {
    model: growingModel,
    checks: LATENCY,
    reason: "OutOfMemory",
    message: /^the model needs too much memory/,
  },
  "a shape of 2^62 elements": {
    model: () => madeShapeModel([2n ** 62n]),
    golden: { file: () => npzFile({ x: X, "output:y": X }), bounds: EXACT },
    reason: "RunFailed",
    message: /ConstantOfShape/,
  },
  "a shape whose size overflows": {
    model: () => madeShapeModel([2n ** 33n, 2n ** 33n]),
    golden: { file: () => npzFile({ x: X, "output:y": X }), bounds: EXACT },
    reason: "RunFailed",
    message: /overflow/,
  },
  "weights whose size overflows": {
    model: () => overflowingModel([2 ** 31, 2 ** 31, 2 ** 31]),
    reason: "LoadFailed",
    message: /overflow/,
  },
  "weights of negative size": {
    model: () => overflowingModel([-1n]),
    reason: "LoadFailed",
    message: /Out of bounds dimensions/,
  },
  "weights that are not all there": {
    model: () => overflowingModel([2n ** 62n]),
    reason: "LoadFailed",
    message: /Invalid TensorProto/,
  },
  "If within If, 3000 deep": {
    model: () => nestedModel(3000),
    reason: "LoadFailed",
    message: /^not an ONNX model: its messages are nested more than 100 deep$/,
  },
  // ONNX Runtime needs more than a kilobyte for each: which of the two comes first, the machine decides.
  "a million operators": {
    model: () => MILLION,
    timeout: "4s",
    reason: "OutOfMemory|TimedOut",
    message:
      /^the model (needs too much memory in check Load: it used|did not finish within 4s, in check Load)/,
  },
  "a function that calls itself": {
    model: () => recursiveModel(1),
    reason: "LoadFailed",
    message: /recursi|cycl/i,
  },
  "functions that call each other in a circle": {
    model: () => recursiveModel(3),
    reason: "LoadFailed",
    message: /recursi|cycl/i,
  },
  "an operator whose name has 10 MB": {
    model: () => longNamesModel("operator", 10_000_000),
    reason: "LoadFailed|OperatorUnsupported",
    message: /^.{0,5000}$/s,
  },
  "an output whose name has 10 MB": {
    model: () => longNamesModel("output", 10_000_000),
    reason: "LoadFailed",
    message: /^the name "n{20}…" of an input, output or axis has 10000000 characters, more than 1024$/,
  },
  "a million inputs": {
    model: () => manyInputsModel(1_000_000),
    reason: "LoadFailed",
    message: /more than 10000 inputs, outputs and axes/,
  },
  "an operator of a foreign library": {
    model: ofOne("Fork", "com.acme"),
    reason: "OperatorUnsupported",
    message: /does not know com\.acme\.Fork \(1×\)/,
  },
  "a shared library in place of a model": {
    model: () => readFileSync(process.execPath).subarray(0, 5_000_000),
    reason: "LoadFailed",
    message: /^not an ONNX model: it is a program or a shared library$/,
  },
  "weights in /proc/self/mem": external("/proc/self/mem"),
  "weights in /etc/passwd": external("../../../../../../etc/passwd"),
  "weights in a FIFO": external(() => fifo),
  "answers of NaN alone, held against labels": {
    model: nanModel,
    golden: { file: () => ORDINARY, bounds: ACCURATE },
    reason: "AccuracyTooLow",
    message: /^0 of 2 samples .* got NaN/,
  },
  "answers of NaN alone, held against outputs": {
    model: nanModel,
    golden: { file: () => npzFile({ x: X, "output:y": X }), bounds: EXACT },
    reason: "OutputsDiffer",
    message: /^8 of 8 values .* got NaN/,
  },
  "answers of NaN alone, where they must be finite": {
    model: nanModel,
    golden: {
      file: () => npzFile({ x: X, "output:y": NANS }),
      bounds: { ...EXACT, nonFinite: written<never>("Never") },
    },
    reason: "OutputsDiffer",
    message: /; 8 of 8 values are NaN or infinite: 8 in output "y", from sample 0 on$/,
  },
  "golden samples of NaN alone": {
    model: good,
    golden: { file: () => npzFile({ x: NANS, labels: LABELS }), bounds: ACCURATE },
    reason: "AccuracyTooLow",
    message: /got NaN/,
  },
  "a golden set that is a zip bomb": {
    model: good,
    golden: { file: () => BOMB, bounds: ACCURATE },
    reason: "GoldenUnreadable",
    message: /./,
  },
  "a golden set whose files climb out": {
    model: good,
    golden: {
      file: () => zipFile([["../../../../tmp/x.npy", Buffer.from("x")]], false),
      bounds: ACCURATE,
    },
    reason: "GoldenUnreadable",
    message: /./,
  },
};
const MILLION = longModel(1_000_000);
/** 300 MB of zeros in a thousandth of it. */
const BOMB = zipFile(
  [
    ["x.npy", Buffer.alloc(300_000_000)],
    ["labels.npy", Buffer.alloc(10)],
  ],
  true,
);

test.each(Object.entries(CASES))("%s", async (_what, hostile) => {
  for (let time = 1; time <= 2; time += 1) {
    const report = await verdictOn(requestFor(hostile));
    expect(report).toMatchObject({
      kind: "failed",
      reason: expect.stringMatching(new RegExp(`^(${hostile.reason})$`)),
      message: expect.stringMatching(hostile.message),
    });
    expect((await readdir(workdir)).sort()).toEqual(["blobs", "results"]);
    expect(children()).toEqual([]);
  }
  expect(await verdictOn(requestFor({ model: good, checks: LATENCY }))).toMatchObject({ kind: "passed" });
});

/** Never the same twice, so that no verdict is that of an earlier one. */
function requestFor({
  model,
  checks = {},
  golden,
  other,
  timeout = "1m",
}: Pick<Case, "model" | "checks" | "golden" | "other" | "timeout">): VerifyRequest {
  asked += 1;
  const set = golden === undefined ? null : blobs.put(golden.file());
  return {
    tenant: `plant-${asked}`,
    model: blobs.put(model()),
    golden: set,
    parity: other === undefined ? null : { ...blobs.put(other()), name: "other" },
    variantParity: null,
    checks: {
      timeout: written(timeout),
      ...checks,
      ...(set === null
        ? {}
        : {
            golden: {
              blob: { container: "models", path: "golden.npz" },
              digest: written(set.digest),
              ...golden?.bounds,
            },
          }),
    },
  };
}

async function verdictOn(request: VerifyRequest): Promise<VerifyReport> {
  const key = keyOf(request, sidecar.version);
  expect(await client.start(key, request, SIGNAL)).toMatchObject({ ok: true });
  for (;;) {
    const found = await client.look(key, SIGNAL);
    if (!found.ok || found.value === null) throw new Error(JSON.stringify(found));
    if (found.value.kind !== "running") {
      await client.cancel(key, SIGNAL);
      return found.value;
    }
    await sleep(10);
  }
}

/** Of this process, whatever they run; zombies count. */
function children(): readonly string[] {
  return globSync(`/proc/${process.pid}/task/*/children`).flatMap((path) =>
    readFileSync(path, "utf8")
      .split(" ")
      .filter((pid) => pid !== ""),
  );
}

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { modelReleaseSpecSchema } from "../../src/api/model-release.ts";
import { digestOf } from "../../src/base/digest.ts";
import { AWKWARD_TEXTS, HOSTILE_TEXTS } from "../../test/builders/random-manifest.ts";
import {
  declaredFreeModel,
  namesModel,
  withoutShapeModel,
} from "../../test/builders/verifier/described-models.ts";
import { manyInputsModel } from "../../test/builders/verifier/hostile-models.ts";
import { npzFile } from "../../test/builders/verifier/npz.ts";
import {
  castModel,
  endlessModel,
  externalDataModel,
  randomPerceptron,
} from "../../test/builders/verifier/onnx-model.ts";
import type { Json } from "../json-pointer.ts";
import { problemsIn, withDefaults } from "../spec/check.ts";
import { runCommand } from "../testing/run-command.ts";
import { verifyCommand } from "../verify/command.ts";
import { documentsIn } from "../yaml/documents.ts";
import { releaseCommand } from "./command.ts";
import { RELEASE_FLAGS } from "./flags.ts";

const FILES = join(import.meta.dirname, "../../examples/models/files/digits");
const MODEL = join(FILES, "2.0.0/model.onnx");
const SMALL = join(FILES, "2.0.0/model-small.onnx");
const GOLDEN = join(FILES, "golden.npz");

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "edgefleet-release-test-"));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

async function file(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, content);
  return path;
}

type Manifest = { readonly metadata: Json; readonly spec: { readonly [field: string]: Json } };

const run = (command: typeof releaseCommand, ...args: readonly string[]) => runCommand(command, args);

const write = (...args: readonly string[]) =>
  run(releaseCommand, "new", ...args, "--model", "digits", "--version", "2.0.0");

async function manifestOf(...args: readonly string[]): Promise<Manifest> {
  const { out, status } = await write(...args);
  expect(status).toBe(0);
  const manifest = parse(out) as Manifest;
  expect(problemsIn(modelReleaseSpecSchema, withDefaults(modelReleaseSpecSchema, manifest.spec))).toEqual([]);
  return manifest;
}

describe("the manifest of a release", () => {
  test("has digest and signature of the file, and is what people would write", async () => {
    const { out, err, status } = await write(MODEL, "--p95", "20ms");
    expect({ err, status }).toEqual({ err: "", status: 0 });
    expect(
      out,
    ).toBe(`# A release is immutable: another file, or another bound, is a new object with a new version.
# Its files must be in the store before it is applied.

apiVersion: edgefleet.dev/v1alpha1
kind: ModelRelease
metadata:
  name: digits-2.0.0
spec:
  model: digits
  version: 2.0.0
  variants:
    - name: default
      blob:
        container: models
        path: digits/2.0.0/model.onnx
      digest: ${digestOf(await readFile(MODEL))} # of model.onnx, 27286 bytes
  verification:
    # As ONNX Runtime reports it; a name in a shape is an axis of any size.
    signature:
      inputs:
        - {name: image, type: float32, shape: [batch, 1, 8, 8]}
      outputs:
        - {name: probabilities, type: float32, shape: [batch, 10]}
    latency:
      p95: 20ms

# Not asked for: golden, memory. kubectl explain modelrelease.spec.verification lists all of them.
`);
  });

  test("has every variant, where it lies and which devices it is for", async () => {
    const variants = ["--variant", `fp32=${MODEL}`, "--variant", `small=${SMALL}`];
    const where = [
      "--container",
      "weights",
      "--path",
      "small=tiny/a.onnx",
      "--device-class=small=jetson-nano",
    ];
    const { spec, metadata } = await manifestOf(
      ...variants,
      ...where,
      "--device-class",
      "small=door",
      "--namespace",
      "plant-a",
    );
    expect(metadata).toEqual({ name: "digits-2.0.0", namespace: "plant-a" });
    expect(spec["variants"]).toMatchObject([
      { name: "fp32", blob: { container: "weights", path: "digits/2.0.0/model.onnx" } },
      {
        name: "small",
        blob: { container: "weights", path: "tiny/a.onnx" },
        deviceClasses: ["jetson-nano", "door"],
      },
    ]);
    expect(spec["variants"]).not.toMatchObject([{ deviceClasses: expect.anything() }, {}]);
  });

  test("quotes what YAML would take for a number", async () => {
    const { out } = await run(
      releaseCommand,
      "new",
      MODEL,
      "--model",
      "digits",
      "--version",
      "2.0",
      "--golden",
      GOLDEN,
      "--minimum-accuracy",
      "0.90",
    );
    expect(parse(out)).toMatchObject({
      metadata: { name: "digits-2.0" },
      spec: { version: "2.0", verification: { golden: { minimumAccuracy: "0.90" } } },
    });
  });

  test("is one that verify understands, with its golden set", async () => {
    const path = join(directory, "release.yaml");
    const bounds = [
      "--minimum-accuracy",
      "0.9",
      "--parity-cosine-similarity",
      "0.9",
      "--parity-with",
      "digits-1.0.0",
      "--determinism",
      "3",
    ];
    expect(await write(MODEL, "--golden", GOLDEN, ...bounds, "-o", path)).toEqual({
      out: "",
      err: "",
      status: 0,
    });
    const { out, status } = await run(verifyCommand, MODEL, "--release", path, "--golden", GOLDEN, "-q");
    expect(out).toMatch(
      /passed +Signature[\s\S]*passed +Golden[\s\S]*passed +Determinism[\s\S]*skipped +Parity/,
    );
    expect(status).toBe(0);
  });

  test.each([
    ["of a free axis that is none", declaredFreeModel, [1, 8], [1, 3]],
    ["of an output without a shape", withoutShapeModel, ["N", 8], ["N", 3]],
  ])(
    "has the signature that ONNX Runtime finds, as %s, and verify finds the same",
    async (_, model, x, p) => {
      const path = await file("inferred.onnx", model);
      const release = join(directory, "inferred.yaml");
      const { spec } = await manifestOf(path);
      expect(spec["verification"]).toMatchObject({
        signature: { inputs: [{ name: "x", shape: x }], outputs: [{ name: "p", shape: p }] },
      });
      expect(await write(path, "-o", release, "--force")).toMatchObject({ status: 0 });
      expect(await run(verifyCommand, path, "--release", release, "-q")).toMatchObject({ status: 0 });
    },
  );

  test("is read as it was meant by YAML 1.1, by YAML 1.2 and by kubectl, whatever things are called", async () => {
    const names = [...HOSTILE_TEXTS, ...AWKWARD_TEXTS];
    const path = await file("names.onnx", namesModel(names));
    const { out, status } = await run(
      releaseCommand,
      ...["new", path, "--model", "0100", "--version", "1e3", "--name", "0x10", "--namespace", "null"],
      ...["--path", "2001-01-01", "--container", "yes", "--device-class", "on", "--device-class", "1_000"],
    );
    expect(status).toBe(0);
    const meant = parse(out) as Manifest;
    expect(meant).toMatchObject({
      metadata: { name: "0x10", namespace: "null" },
      spec: {
        model: "0100",
        version: "1e3",
        variants: [{ blob: { container: "yes", path: "2001-01-01" }, deviceClasses: ["on", "1_000"] }],
        verification: { signature: { inputs: names.map((name) => ({ name, shape: [name, 2] })) } },
      },
    });
    expect(parse(out, { version: "1.1" })).toEqual(meant);
    const kubectl = documentsIn("release.yaml", out);
    expect(kubectl.ok && kubectl.value.documents.map(({ value }) => value)).toEqual([meant]);
  });

  test("comes with a note where the model does not keep its bounds on the golden set", async () => {
    const { err, out, status } = await write(MODEL, "--golden", GOLDEN, "--minimum-accuracy", "1");
    expect(status).toBe(0);
    expect(err).toMatch(/^the model does not pass its golden set: /);
    expect(out).toContain('minimumAccuracy: "1"');
  });

  test("takes bounds from a measurement, and keeps those that were said", async () => {
    const { spec } = await manifestOf(MODEL, "--measure", "--margin", "3");
    expect(spec["verification"]).toMatchObject({
      latency: { p95: expect.stringMatching(/^\d+ms$/) },
      memory: { maximum: expect.stringMatching(/^\d+Mi$/) },
    });
    const kept = await manifestOf(
      SMALL,
      "--measure",
      "--p50",
      "1s",
      "--samples",
      "20",
      "--maximum-memory",
      "1Gi",
    );
    expect(kept.spec["verification"]).toMatchObject({
      latency: { p50: "1s", samples: 20 },
      memory: { maximum: "1Gi" },
    });
    expect(kept.spec["verification"]).not.toMatchObject({ latency: { p95: expect.anything() } });
  });

  test("has no signature where a release cannot say it, or variants differ, and says so", async () => {
    const shape = Array(20).fill(1) as number[];
    const odd = await file("odd.onnx", castModel("float32", "int4", shape));
    const { out, err } = await write(odd);
    expect(parse(out)).not.toMatchObject({ spec: { verification: expect.anything() } });
    expect(err).toBe(
      "no signature, because a release cannot express it: inputs[0].shape must not have more than 16 items\n",
    );
    const [one, two] = [
      await file("one.onnx", randomPerceptron([4, 3], 1)),
      await file("two.onnx", randomPerceptron([5, 3], 1)),
    ];
    const both = await write("--variant", `a=${one}`, "--variant", `b=${two}`, "--device-class", "b=nano");
    expect(both.err).toContain('no signature: variant b differs from a: input "x" ');
  });
});

describe("it is not written", () => {
  test("with a golden set that does not fit: every way in which it does not is named, and every other mistake", async () => {
    const floats = (shape: readonly number[]) => ({
      descr: "<f4" as const,
      shape,
      values: Array(shape.reduce((a, b) => a * b, 1)).fill(0) as number[],
    });
    const golden = await file(
      "misfit.npz",
      npzFile({ image: floats([4, 1, 8, 9]), stranger: floats([4]), "output:nothing": floats([3, 10]) }),
    );
    const bounds = ["--minimum-accuracy", "0.9", "--maximum-absolute-error", "0.1"];
    const { out, err, status } = await write(MODEL, "--golden", golden, ...bounds, "--p95", "20");
    expect({ out, status }).toEqual({ out: "", status: 2 });
    for (const mistake of [
      "--p95 must be a duration such as 90s, 10m or 1h30m: here 20ms?",
      "--golden misfit.npz does not fit the model: ",
      'array "stranger" is neither an input of the model',
      'array "output:nothing": the model has no such output',
      "a bound on accuracy needs an array `labels`",
      'array "output:nothing" has 3 samples where others have 4',
      'array "image" is float32[4,1,8,9], the model\'s input is float32[batch,1,8,8]',
    ])
      expect(err).toContain(mistake);
    const named = await write(
      MODEL,
      "--golden",
      GOLDEN,
      "--minimum-accuracy",
      "0.9",
      "--golden-output",
      "logits",
    );
    expect(named).toMatchObject({
      status: 2,
      err: expect.stringContaining('the model has no output "logits"'),
    });
  });

  test("of a model that ONNX Runtime does not load: then it is the model that fails", async () => {
    const { out, err, status } = await write(await file("twice.onnx", manyInputsModel(20)));
    expect({ out, status }).toEqual({ out: "", status: 1 });
    expect(err).toContain("the model could not be loaded: ");
  });

  test("over a file that is there, unless that is meant", async () => {
    const path = await file("precious.yaml", "precious");
    expect(await write(MODEL, "-o", path)).toEqual({
      out: "",
      err: `--output ${path}: it exists already; --force overwrites it\n`,
      status: 2,
    });
    expect(await readFile(path, "utf8")).toBe("precious");
    expect(await write(MODEL, "-o", path, "--force")).toMatchObject({ status: 0 });
    expect(await readFile(path, "utf8")).toContain("kind: ModelRelease");
    expect(await write(MODEL, "-o", join(directory, "none/release.yaml"))).toMatchObject({ status: 3 });
  });

  test("with mistakes: all of them are reported", async () => {
    const { out, err, status } = await run(
      releaseCommand,
      ...["new", MODEL, SMALL, "--variant", "fp32", "--variant", `small=none.onnx`, "--model", "di gits"],
      ...[
        "--p95",
        "fast",
        "--minimum-accuracy",
        "0.9",
        "--golden-path",
        "x",
        "--margin",
        "2",
        "--container",
        "A",
      ],
    );
    expect({ out, status }).toEqual({ out: "", status: 2 });
    expect(err.trimEnd().split("\n")).toEqual([
      "--version is needed",
      `one MODEL.onnx is the variant default: name the others, as in --variant int8=${SMALL}`,
      "--variant fp32: write it like fp32=model.onnx",
      "--golden-path needs --golden FILE",
      "--margin needs --measure",
      "none.onnx: there is no such file",
      "--minimum-accuracy needs --golden FILE",
      expect.stringContaining("--model must match pattern"),
      "--p95 must be a duration such as 90s, 10m or 1h30m",
      "see edgefleet release new --help",
    ]);
  });

  test.each([
    [[], "a file is missing: edgefleet release new MODEL.onnx, or --variant NAME=FILE"],
    [
      [MODEL, "--golden", "none.npz", "--minimum-accuracy", "0.9"],
      "--golden none.npz: there is no such file",
    ],
  ])("one mistake is reported once: %j", async (args, problem) => {
    const { err, status } = await write(...args);
    expect({ lines: err.trimEnd().split("\n"), status }).toEqual({
      lines: [problem, "see edgefleet release new --help"],
      status: 2,
    });
  });

  test.each([
    [
      ["--variant", `a=${MODEL}`, "--variant", `b=${SMALL}`],
      "--device-class: at most one variant may omit deviceClasses",
    ],
    [
      ["--variant", `a=${MODEL}`, "--variant", `b=${SMALL}`, "--path", "x"],
      "--path x: say of which variant, as in a=x",
    ],
    [["--variant", `a=${MODEL}`, "--variant", `a=${SMALL}`], "--variant: there is more than one called a"],
    [[MODEL, "--path", "../x"], "--path: the path must be relative to the container, without .."],
    [[MODEL, "--path", "a", "--path", "b"], "--path: variant default has more than one"],
    [[MODEL, "--golden", GOLDEN], "--golden: the golden set is not used; add a bound"],
    [[MODEL, "--parity-with", "digits-1.0.0"], "--parity-with: at least one bound is required"],
    [
      [MODEL, "--name", "Digits"],
      "--name must be lower-case letters, digits, - and . with a letter or digit at both ends",
    ],
    [[MODEL, "--name", "digits..2"], "and around every . (as in digits-2.1.0): digits..2"],
    [[MODEL, "--namespace", "plant.a"], "--namespace must be lower-case letters, digits and - with a letter"],
  ])("%j", async (args, problem) => {
    const { err, status } = await write(...args);
    expect(err).toContain(problem);
    expect(status).toBe(2);
  });

  test("of a file that is no model, or has its weights elsewhere", async () => {
    const text = await file("text.onnx", "hello");
    expect((await write(text)).err).toContain(`${text}: not an ONNX model`);
    const external = await file("external.onnx", externalDataModel("weights.bin"));
    expect((await write(external)).err).toContain(`tensor "W" is kept in another file`);
    expect((await write(directory)).err).toContain(`${directory}: is a directory`);
  });

  test("when the model cannot be measured: then it is the model that fails", async () => {
    const endless = await file("endless.onnx", endlessModel());
    const { out, err, status } = await write(endless, "--measure", "--timeout", "500ms");
    expect({ out, status }).toEqual({ out: "", status: 1 });
    expect(err).toContain("variant default could not be measured: the model did not finish within 500ms");
  });
});

test("an unknown verb is reported with the one that exists; the help names every flag", async () => {
  expect(await run(releaseCommand, "nwe")).toMatchObject({
    status: 2,
    err: expect.stringContaining("release nwe is not a command"),
  });
  for (const args of [["--help"], ["new", "--help"]]) {
    const { out, status } = await run(releaseCommand, ...args);
    expect(status).toBe(0);
    for (const flags of Object.values(RELEASE_FLAGS.groups))
      for (const flag of Object.keys(flags)) expect(out).toMatch(new RegExp(`--${flag}\\b`));
    for (const line of out.split("\n")) expect(line.length).toBeLessThanOrEqual(120);
  }
});

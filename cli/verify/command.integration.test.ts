import { writeFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import type { FullReport } from "../../src/api/verification-report.ts";
import { digestOf } from "../../src/base/digest.ts";
import { type NpyArray, npzFile } from "../../test/builders/verifier/npz.ts";
import {
  endlessModel,
  floatTensor,
  hugeAllocationModel,
  integerTensor,
  modelFile,
  node,
  randomPerceptron,
  tensorInfo,
} from "../../test/builders/verifier/onnx-model.ts";
import { parseXml } from "../../test/builders/verifier/xml.ts";
import { runCommand } from "../testing/run-command.ts";
import { verifyCommand } from "./command.ts";
import { VERIFY_FLAGS } from "./flags.ts";
import { startProgress } from "./progress.ts";

// `edgefleet verify` on real models, in real child processes.

const FILES = join(import.meta.dirname, "../../examples/models/files/digits");
const MODEL = join(FILES, "1.0.0/model.onnx");
const GOLDEN = join(FILES, "1.0.0/golden.npz");
const RELEASE = join(import.meta.dirname, "../../examples/plant/20-release-1.0.0.yaml");

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "edgefleet-verify-test-"));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

async function file(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(directory, name);
  await mkdir(join(path, ".."), { recursive: true });
  await writeFile(path, content);
  return path;
}

const run = (...args: readonly string[]) => runCommand(verifyCommand, args);

const lines = (text: string) => text.trimEnd().split("\n");

/** Figures that differ from one time to the next. */
function masked(text: string): string {
  return text
    .replaceAll(FILES, "digits")
    .replaceAll(/p(50|95|99)( ≤)? [\d.]+ ms/g, "p$1$2 N ms")
    .replaceAll(/ \d+ ms$/gm, " N ms")
    .replaceAll(/\d+ outliers/g, "N outliers")
    .replaceAll(/[\d.]+ MiB$/gm, "N MiB")
    .replaceAll(/absolute error [\d.e-]+$/gm, "absolute error N")
    .replaceAll(/(worst {2}).*$/gm, "$1W");
}

describe("a model that is good", () => {
  test("is reported with its digest, its inputs and outputs, and what each check found", async () => {
    const before = await stat(MODEL);
    const bounds = ["--minimum-accuracy", "0.9", "--maximum-absolute-error=0.001", "--determinism", "3"];
    const { out, err, status } = await run(MODEL, "--golden", GOLDEN, ...bounds, "--p95", "10s");
    expect(masked(out)).toBe(await readFile(join(import.meta.dirname, "testing/verified.txt"), "utf8"));
    expect(status).toBe(0);
    expect(lines(err)).toEqual(["Digest …", "Load …", "Golden …", "Determinism …", "Latency …"]);
    expect(await stat(MODEL)).toMatchObject({
      ino: before.ino,
      mtimeMs: before.mtimeMs,
      nlink: before.nlink,
    });
  });

  test("passes what its release asks for, and the report says so to machines, in every format at once", async () => {
    const reports = ["json", "yaml", "xml", "txt", "html"].map((end) => join(directory, `report.${end}`));
    const flags = reports.flatMap((path) => ["--report", path]);
    const checks = ["--release", RELEASE, "--golden", GOLDEN, "--output", "json", "--quiet"];
    const { out, err, status } = await run(MODEL, ...checks, ...flags);
    expect({ err, status }).toEqual({ err: "", status: 0 });
    const report = JSON.parse(out) as FullReport;
    expect(report).toMatchObject({
      format: "edgefleet.dev/verification-report/v1",
      verdict: "Passed",
      model: { digest: digestOf(await readFile(MODEL)), opsets: [{ domain: "", version: 17 }] },
      golden: { digest: digestOf(await readFile(GOLDEN)) },
    });
    expect(report.checks.map(({ name }) => name)).toEqual([
      "Digest",
      "Load",
      "Signature",
      "Golden",
      "Latency",
    ]);
    const [json = "", yaml = "", xml = "", text = "", page = ""] = await Promise.all(
      reports.map((path) => readFile(path, "utf8")),
    );
    expect(JSON.parse(json)).toEqual(report);
    expect(parse(yaml)).toEqual(report);
    expect(parseXml(xml).attributes).toMatchObject({ tests: "5", failures: "0" });
    expect(text).toContain("passed every check");
    expect(page).toContain("<title>digits-1.0.0 (fp32): Passed</title>");
  });

  test("is found beside its manifest, as is its golden set", async () => {
    const manifest = await file("repo/release.yaml", await readFile(RELEASE));
    await file("repo/models/digits/1.0.0/model.onnx", await readFile(MODEL));
    await file("repo/golden.npz", await readFile(GOLDEN));
    const { out, status } = await run("--release", manifest, "--quiet");
    expect(out).toContain("(digits-1.0.0, variant fp32)");
    expect(status).toBe(0);
  });
});

describe("a model that is not", () => {
  test("fails with the reason, and CI can read it", async () => {
    const { out, status } = await run(
      MODEL,
      "--golden",
      GOLDEN,
      "--minimum-accuracy=0.99",
      "-o",
      "junit",
      "-q",
    );
    expect(status).toBe(1);
    const [suite] = parseXml(out).children;
    const failed = suite?.children.find(({ attributes }) => attributes["name"] === "Golden");
    expect(failed?.children[0]).toMatchObject({ name: "failure", attributes: { type: "AccuracyTooLow" } });
  });

  test("is not the one that the release names", async () => {
    const other = join(FILES, "3.0.0/model.onnx");
    const { out, status } = await run(other, "--release", RELEASE, "--golden", GOLDEN, "-q");
    expect(out).toContain("FAILED: DigestMismatch: the model has digest sha256:");
    expect(status).toBe(1);
    const digest = digestOf(await readFile(MODEL));
    expect(await run(other, "--digest", digest, "-q")).toMatchObject({ status: 1 });
  });

  test("may be held against the bounds of a release that it is not", async () => {
    const model = join(FILES, "2.0.0/model.onnx");
    const { out, status } = await run(
      model,
      "--checks",
      RELEASE,
      "--golden",
      GOLDEN,
      "--maximum-absolute-error=1",
      "-q",
    );
    expect({ out, status }).toMatchObject({ status: 0, out: expect.stringContaining("passed   Golden") });
  });

  test("differs from a reference by more than was said", async () => {
    const [model, other] = await Promise.all(
      [1, 2].map((seed) => file(`seed-${seed}.onnx`, randomPerceptron([4, 8, 3], seed))),
    );
    const flags = ["--reference", other ?? "", "--parity-absolute-error", "0.0001", "-q"];
    const { out, status } = await run(model ?? "", ...flags);
    expect(out).toContain("FAILED: ParityTooLow:");
    expect(out).toContain("compared with seed-2.onnx");
    expect(status).toBe(1);
  });

  test("hangs, and is stopped", async () => {
    const model = await file("endless.onnx", endlessModel());
    const { out, status } = await run(model, "--p95", "1s", "--timeout", "500ms", "-q");
    expect(out).toContain("FAILED: TimedOut: the model did not finish within 500ms, in check Latency");
    expect(status).toBe(1);
  });

  test("takes more memory than it may", async () => {
    const model = await file("huge.onnx", hugeAllocationModel(2_000_000_000));
    const { out, status } = await run(model, "--p95", "1s", "--memory-limit", "256Mi", "-q");
    expect(out).toContain("FAILED: OutOfMemory");
    expect(status).toBe(1);
  });

  test("is no model at all, or has nothing in it", async () => {
    const text = await file("text.onnx", "hello");
    expect(await run(text, "-q")).toMatchObject({
      status: 1,
      out: expect.stringContaining("FAILED: LoadFailed: not an ONNX model"),
    });
    const empty = await file("empty.onnx", "");
    expect(await run(empty, "-q")).toMatchObject({
      status: 1,
      out: expect.stringContaining("the file is empty"),
    });
  });
});

describe("without a verdict it ends with 3", () => {
  test("when a file changes under it", async () => {
    const model = await file("changing.onnx", endlessModel());
    const flags = ["--p95", "1s", "--timeout", "1s", "-o", "json"];
    const { out, status } = await runCommand(verifyCommand, [model, ...flags], (text) => {
      if (text.startsWith("Latency")) writeFileSync(model, randomPerceptron([4, 8, 3], 3));
    });
    expect(JSON.parse(out)).toMatchObject({
      verdict: "Error",
      message: expect.stringContaining("changing.onnx was changed while it was verified"),
    });
    expect(status).toBe(3);
  });

  test("when a reference cannot be run, and CI sees an error, not a failure", async () => {
    const reference = await file("reference.onnx", "no model");
    const model = await file("good.onnx", randomPerceptron([4, 8, 3], 1));
    const page = join(directory, "report.html");
    const flags = [
      "--reference",
      reference,
      "--minimum-agreement",
      "1",
      "-o",
      "junit",
      "-q",
      "--report",
      page,
    ];
    const { out, status } = await run(model, ...flags);
    expect(parseXml(out).attributes).toMatchObject({ failures: "0", errors: "1" });
    expect(out).toContain("ReferenceUnavailable");
    expect(await readFile(page, "utf8")).toContain("no verdict in check Parity: ReferenceUnavailable");
    expect(status).toBe(3);
  });

  test("when a report cannot be written, whatever the model was", async () => {
    const model = await file("good.onnx", randomPerceptron([4, 8, 3], 1));
    const { err, status } = await run(model, "--report", join(directory, "no/such/report.json"), "-q");
    expect(err).toContain("report.json: there is no such file");
    expect(status).toBe(3);
  });
});

describe("all mistakes are reported at once, with status 2", () => {
  const mistakes = async (...args: readonly string[]) => {
    const { out, err, status } = await run(...args);
    expect({ out, status }).toEqual({ out: "", status: 2 });
    return lines(err).slice(0, -1);
  };

  test("of flags", async () => {
    expect(
      await mistakes(
        MODEL,
        "--goldn",
        "x",
        "--p95",
        "5",
        "--samples=1",
        "-o",
        "toml",
        "--memory-limit",
        "1Mi",
      ),
    ).toEqual([
      "--goldn is not known; did you mean --golden?",
      "--memory-limit must be a size of at least 128Mi, such as 512Mi or 2Gi",
      "--output must be one of text, json, yaml, junit",
      "--p95 must be a duration such as 90s, 10m or 1h30m: here 5ms?",
      "--samples must be >= 20",
    ]);
    expect(await mistakes()).toEqual(["a model is missing: edgefleet verify MODEL.onnx, or --release FILE"]);
    expect(await mistakes(MODEL, MODEL, "--variant", "fp32", "--report", "x.pdf", "--digest", "abc")).toEqual(
      [
        `only one model at a time, unexpected: ${MODEL}`,
        "--variant needs --release",
        "--report x.pdf: the name must end in .html, .json, .yaml, .xml or .txt, which says its format",
        "--digest must be sha256: and 64 lower-case hexadecimal digits; sha256sum FILE prints them",
      ],
    );
  });

  test("of bounds that lack what they are about", async () => {
    expect(await mistakes(MODEL, "--threshold", "0.5")).toEqual([
      "--threshold: requires minimumAccuracy, minimumClassAccuracy or minimumMaskIou",
      "a bound on golden samples needs --golden FILE",
    ]);
    expect(
      await mistakes(MODEL, "--minimum-accuracy", "0.9", "--threads", "2", "--minimum-agreement", "1"),
    ).toEqual([
      expect.stringMatching(/^--minimum-agreement needs --reference FILE$/),
      "--threads: latency requires at least one bound: p50, p95 or p99",
      "a bound on golden samples needs --golden FILE",
    ]);
    expect(await mistakes(MODEL, "--golden", GOLDEN)).toEqual([
      expect.stringMatching(/^--golden: the golden set is not used; add a bound, such as minimumAccuracy/),
    ]);
    expect(await mistakes(MODEL, "--reference", MODEL)).toEqual([
      expect.stringMatching(/^--reference: at least one bound is required/),
    ]);
    expect(await mistakes(MODEL, "--golden", GOLDEN, "--minimum-accuracy", "95")).toEqual([
      '--minimum-accuracy must be between 0 and 1: write "0.95" for 95 %',
    ]);
  });

  test("of files: missing, a directory, not to be read, none at all", async () => {
    const closed = await file("closed.onnx", "x");
    await chmod(closed, 0);
    expect(await mistakes("none.onnx", "--golden", directory, "--minimum-accuracy", "1")).toEqual([
      "none.onnx: there is no such file",
      `--golden ${directory}: is a directory`,
    ]);
    expect(await mistakes("/dev/null")).toEqual(["/dev/null: is not a file"]);
    expect(await mistakes(MODEL, "--checks", "none.yaml")).toEqual(["none.yaml: there is no such file"]);
    // Nothing is closed to root.
    if (process.getuid?.() !== 0)
      expect(await mistakes(closed)).toEqual([`${closed}: permission denied for this user`]);
  });

  test("of checks, by line and column", async () => {
    const checks = await file(
      "checks.yaml",
      `# what good means
timeout: soon
golden:
  minimumAccuracy: 0.95
  fooo: 1
latency: { p95: 20ms, sample: 3 }
determinism:
signature:
  inputs: [{ name: x, type: float, shape: [n, 1.5] }]
`,
    );
    expect(await mistakes(MODEL, "--checks", checks, "--golden", GOLDEN)).toEqual([
      `${checks}:2:1: timeout must be a duration such as 90s, 10m or 1h30m`,
      `${checks}:4:3: golden.minimumAccuracy must be in quotes, as a decimal: "0.95"`,
      `${checks}:5:3: golden.fooo is not a field`,
      `${checks}:6:23: latency.sample is not a field; did you mean samples?`,
      `${checks}:8:1: signature needs outputs`,
      expect.stringContaining(
        `${checks}:9:23: signature.inputs[0].type is not known: Element type, for example float32`,
      ),
      `${checks}:9:44: signature.inputs[0].shape[0] must be a whole number or a string, and YAML reads false here: put it in quotes`,
      `${checks}:9:47: signature.inputs[0].shape[1] must be a whole number or a string, and YAML reads 1.5 here: put it in quotes`,
    ]);
  });

  test.each([
    ["broken.yaml", "a: [1\nb: 2\n", [/broken\.yaml:2:1: Flow sequence/]],
    ["comma.json", '{"timeout": "1m",, }', [/comma\.json:1:18: /]],
    ["empty.yaml", "# nothing\n", [/there is nothing in it/]],
    ["list.yaml", "- 1\n", [/list\.yaml:1:1: checks are fields/]],
    ["two.yaml", "timeout: 1m\n---\ntimeout: 2m\n", [/there are 2 documents in it, and checks are one/]],
    ["bomb.yaml", bomb(), [/bomb\.yaml:\d+:\d+: aliases make the document too large/]],
    ["kind.yaml", "apiVersion: v1\nkind: Pod\n", [/there is no ModelRelease in it, but Pod/]],
  ])("of a file of checks that is not one: %s", async (name, content, wanted) => {
    const found = await mistakes(MODEL, "--checks", await file(name, content));
    expect(found).toEqual(wanted.map((pattern) => expect.stringMatching(pattern)));
  });

  test("of manifests", async () => {
    const good = await readFile(RELEASE, "utf8");
    const two = await file(
      "two-releases.yaml",
      `${good}---\n${good.replace("digits-1.0.0", "digits-1.0.1")}`,
    );
    expect(await mistakes(MODEL, "--release", two)).toEqual([
      `${two}: there are 2 ModelReleases in it (digits-1.0.0, digits-1.0.1); keep the one to verify in a file of its own`,
    ]);
    const wrong = good.replace("version: 1.0.0", "wersion: 1.0.0").replace("v1alpha1", "v1");
    const path = await file("wrong.yaml", wrong.replace("- name: fp32", "- name: FP32"));
    expect(await mistakes(MODEL, "--release", path)).toEqual([
      `${path}:3:1: apiVersion must be edgefleet.dev/v1alpha1`,
      `${path}:8:1: spec needs version`,
      `${path}:10:3: spec.wersion is not a field; did you mean version?`,
      expect.stringContaining(`${path}:12:7: spec.variants[0].name must match pattern`),
    ]);
    const namespace = "apiVersion: v1\nkind: Namespace\n---\n";
    const several = await file(
      "several.yaml",
      `${namespace}${good.replace("  runtimeConfig", "    - { name: int8, deviceClasses: [a], blob: { container: models, path: b }, digest: sha256:f50ae2e71a7a183fec8c7f567eea6f775ba54b7a52a9cf58038941d74f63cd97 }\n  runtimeConfig")}`,
    );
    expect(await mistakes(MODEL, "--release", several, "--golden", GOLDEN)).toEqual([
      `${several}: there are several variants: choose one with --variant: fp32, int8`,
    ]);
    expect(await mistakes("--release", several, "--golden", GOLDEN, "--variant", "fp16")).toContain(
      `--variant fp16: ${several} has fp32, int8`,
    );
    expect(await mistakes("--release", RELEASE, "--golden", GOLDEN)).toEqual([
      expect.stringMatching(
        /^the model is not beside .*20-release-1.0.0.yaml \(looked for .*\): give it as MODEL.onnx$/,
      ),
    ]);
  });
});

test("on a terminal progress is one line, written over and taken away", () => {
  let err = "";
  const terminal = {
    out: () => undefined,
    err: (text: string) => {
      err += text;
    },
    colours: true,
    rewrites: true,
  };
  const progress = startProgress({ timeout: "1m" as never, memory: { maximum: "1Gi" } }, terminal);
  for (const check of ["Digest", "Load", "Memory"]) progress.begin(check);
  progress.end();
  expect(progress.check()).toBe("Memory");
  expect(err.split("\r\u001b[K")).toEqual([
    "",
    "[--------------------] 1/3 Digest",
    "[#######-------------] 2/3 Load",
    "[#############-------] 3/3 Memory",
    "",
  ]);
});

describe("a mistake in what was given is not one of the model:", () => {
  const heads = modelFile({
    nodes: [node("Identity", ["x"], ["aux"]), node("Neg", ["x"], ["logits"])],
    inputs: [tensorInfo("x", ["n", 2])],
    outputs: [tensorInfo("aux", ["n", 2]), tensorInfo("logits", ["n", 2])],
  });
  const x = { descr: "<f4", shape: [2, 2], values: [1, 0, 0, 1] } as const;
  const labels = { descr: "<i8", shape: [2], values: [0, 1] } as const;

  test("an output that is not named, in text and in JUnit; the one that is scored is said where it is", async () => {
    const model = await file("heads.onnx", heads);
    const golden = await file("heads.npz", npzFile({ x, labels }));
    const flags = [model, "--golden", golden, "--minimum-accuracy", "1", "--quiet"];
    const open = await run(...flags);
    expect(open).toMatchObject({
      status: 2,
      out: expect.stringContaining(
        'REFUSED: OutputAmbiguous: more than one output is possible: "aux", "logits"',
      ),
    });
    const xml = await run(...flags, "--output", "junit");
    expect(parseXml(xml.out).attributes).toMatchObject({ failures: "0", errors: "1" });
    const named = await run(...flags, "--golden-output", "aux", "--output", "junit");
    expect(named).toMatchObject({
      status: 0,
      out: expect.stringContaining("scored: output &quot;aux&quot;"),
    });
    expect(named.out).toContain("not judged: output &quot;logits&quot;");
    expect(await run(...flags, "--golden-output", "logits")).toMatchObject({ status: 1 });
  });

  test("a golden set that does not fit, with all that is wrong with it", async () => {
    const golden = await file("wide.npz", npzFile({ x: { ...x, descr: "<f8" }, y: x, labels }));
    const { out, status } = await run(
      await file("heads.onnx", heads),
      "--golden",
      golden,
      "--minimum-accuracy=1",
      "-q",
    );
    expect(status).toBe(2);
    expect(out).toContain("REFUSED: GoldenMismatch: ");
    expect(out).toContain('array "y" is neither an input of the model (x)');
    expect(out).toContain('save it with .astype("float32")');
  });

  test.each<[string, Buffer, NpyArray]>([
    [
      "texts",
      modelFile({
        nodes: [node("Identity", ["x"], ["y"])],
        inputs: [tensorInfo("x", ["n"], "string")],
        outputs: [tensorInfo("y", ["n"], "string")],
      }),
      { descr: "<U10", shape: [2], values: ["a", "b"] },
    ],
    [
      "rows of which the length is a multiple of 7",
      modelFile({
        nodes: [node("Reshape", ["x", "shape"], ["y"])],
        initializers: [integerTensor("shape", [2], [-1, 7])],
        inputs: [tensorInfo("x", ["n", "m"])],
        outputs: [tensorInfo("y", ["k", 7])],
      }),
      { descr: "<f4", shape: [2, 7], values: Array(14).fill(1) },
    ],
  ])("no samples for a model that takes %s", async (_what, bytes, samples) => {
    const model = await file("picky.onnx", bytes);
    const flags = [model, "--p95", "10s", "--samples", "20", "--quiet"];
    const { out, status } = await run(...flags);
    expect(out).toContain("no verdict in check Latency: InputNeeded: ");
    expect(out).toContain("provide a golden set");
    expect(status).toBe(2);
    const golden = await file("picky.npz", npzFile({ x: samples }));
    expect(await run(...flags, "--golden", golden)).toMatchObject({ status: 0 });
  });

  test("no samples for a model that does not accept synthetic ones; with samples alone it is measured", async () => {
    const table = modelFile({
      nodes: [node("Gather", ["rows", "x"], ["y"])],
      initializers: [floatTensor("rows", [1, 2], [1, 2])],
      inputs: [tensorInfo("x", ["n"], "int64")],
      outputs: [tensorInfo("y", ["n", 2])],
    });
    const model = await file("table.onnx", table);
    const flags = [model, "--p95", "10s", "--samples", "20", "--quiet"];
    const { out, status } = await run(...flags);
    expect(status).toBe(2);
    expect(out).toContain("no verdict in check Latency: InputNeeded: ");
    expect(out).toContain("provide a golden set");
    const golden = await file("rows.npz", npzFile({ x: { descr: "<i8", shape: [2], values: [0, 0] } }));
    const measured = await run(...flags, "--golden", golden);
    expect(measured).toMatchObject({ status: 0 });
    expect(measured.out).toContain("passed Digest, Load, Latency; not checked: Golden");
    expect(measured.out).toContain("no bound is about the 2 golden samples");
  });
});

test("where only the file was looked at, the verdict does not say that every check was passed", async () => {
  const { out, status } = await run(MODEL, "--quiet");
  expect(status).toBe(0);
  expect(out).toContain("passed Digest, Load: it loads, and nothing that it answers was checked");
  expect(out).not.toContain("every check");
});

test("the help names every flag, and colours are only where they are wanted", async () => {
  const { out, status } = await run("--help");
  expect(status).toBe(0);
  for (const flags of Object.values(VERIFY_FLAGS.groups))
    for (const flag of Object.keys(flags)) expect(out).toMatch(new RegExp(`--${flag}\\b`));
  for (const line of lines(out)) expect(line.length).toBeLessThanOrEqual(120);
  expect(out).toMatch(/--golden FILE .*inputs, labels and output:NAME/);
});

/** Ten lists of ten lists of … : a gigabyte once it is unfolded. */
function bomb(): string {
  const levels = Array.from({ length: 9 }, (_, at) => {
    const inner = at === 0 ? "x" : `*a${at - 1}`;
    return `a${at}: &a${at} [${Array(10).fill(inner).join(", ")}]`;
  });
  return `${levels.join("\n")}\n`;
}

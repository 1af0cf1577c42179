import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { randomPerceptron } from "../test/builders/verifier/onnx-model.ts";
import { preparePython } from "../test/python/environment.ts";
import { say } from "./shared/command.ts";
import { type Figure, publish } from "./shared/figures.ts";

// How long a user waits for `edgefleet verify` of a small model, most of which is the start of programs: beside a Python
// program that loads the same model, runs the same golden samples and compares. In turns, so that all see one machine.

const HELP = `node bench/verify-start.ts [--rounds 20]

The time that edgefleet verify of a model of 1 MB takes, as it is built and from its source, beside onnxruntime in Python.`;

const { values } = parseArgs({
  options: {
    help: { type: "boolean", short: "h", default: false },
    rounds: { type: "string", default: "20" },
  },
});
if (values.help) {
  console.log(HELP);
  process.exit(0);
}
const rounds = Number(values.rounds);
if (!(rounds > 0)) throw new Error("--rounds is a number above 0");

const ROOT = join(import.meta.dirname, "..");
const PYTHON = join(ROOT, "test/models/python");
/** Four bytes for each of 256 * 1000 weights. */
const LAYERS = [256, 1000];
const SAMPLES = 64;
const TOLERANCE = "0.00001";
const GOLDEN = "golden.npz";

/** Writes what the model answers as the golden set. */
const MAKE_GOLDEN = `
import sys, numpy, onnxruntime
model, golden, samples = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
[given] = session.get_inputs()
x = numpy.random.default_rng(1).random((int(samples), given.shape[1]), dtype=numpy.float32)
[y] = session.run(None, {given.name: x})
numpy.savez(golden, **{given.name: x, "output:" + session.get_outputs()[0].name: y})
`;
const COMPARE = `
import sys, numpy, onnxruntime
model, golden, tolerance = sys.argv[1:]
arrays = numpy.load(golden)
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
answers = session.run(None, {one.name: arrays[one.name] for one in session.get_inputs()})
for one, answer in zip(session.get_outputs(), answers):
    if not numpy.allclose(answer, arrays["output:" + one.name], rtol=0, atol=float(tolerance)):
        sys.exit(1)
`;

const run = promisify(execFile);
const figures: Figure[] = [];
const directory = await mkdtemp(join(tmpdir(), "verify-bench-"));
try {
  const file = (name: string) => join(directory, name);
  say("building");
  await run("npm", ["run", "--silent", "build"], { cwd: ROOT });
  const { python } = await preparePython({
    requirements: join(PYTHON, "requirements.txt"),
    sources: join(PYTHON, "sources.txt"),
    whose: "this benchmark",
  });
  const model = file("model.onnx");
  await writeFile(model, randomPerceptron(LAYERS));
  await run(python, ["-c", MAKE_GOLDEN, model, file(GOLDEN), String(SAMPLES)]);
  const flags = ["verify", "--quiet", model, "--golden", file(GOLDEN), "--maximum-absolute-error", TOLERANCE];
  const ways = {
    python: [python, "-c", COMPARE, model, file(GOLDEN), TOLERANCE],
    built: [process.execPath, join(ROOT, "dist/edgefleet.js"), ...flags],
    source: [process.execPath, join(ROOT, "cli/bin.js"), ...flags],
  } as const;
  const times = { python: [] as number[], built: [] as number[], source: [] as number[] };
  // The first of each fills caches.
  for (let round = -1; round < rounds; round += 1)
    for (const way of ["python", "built", "source"] as const) {
      const took = await timeOf(ways[way]);
      if (round >= 0) times[way].push(took);
    }
  const base = median(times.python);
  console.log(`${rounds} rounds in turns; milliseconds from start to end, median and least\n`);
  for (const [way, all] of Object.entries(times))
    console.log(
      `${way.padEnd(8)} ${median(all).toFixed(0).padStart(6)} ${Math.min(...all)
        .toFixed(0)
        .padStart(6)}   ratio ${(median(all) / base).toFixed(2)}`,
    );
  for (const way of ["built", "source"] as const)
    figures.push({
      what: `edgefleet verify, ${way === "built" ? "as built" : "from its source"}`,
      value: `${median(times[way]).toFixed(0)} ms, ratio ${(median(times[way]) / base).toFixed(2)}`,
      against: `Python: ${base.toFixed(0)} ms`,
    });
  publish("time of one verification, as a ratio to Python with onnxruntime", figures);
} finally {
  await rm(directory, { recursive: true, force: true });
}

async function timeOf([program, ...args]: readonly [string, ...string[]]): Promise<number> {
  const before = performance.now();
  await run(program, args);
  return performance.now() - before;
}

function median(all: readonly number[]): number {
  return [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)] ?? Number.NaN;
}

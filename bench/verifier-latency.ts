import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { seconds } from "../src/base/time.ts";

import { syntheticFeeds } from "../src/verifier/child/synthetic-inputs.ts";
import { type ModelProcess, startModelProcess } from "../src/verifier/process/model-process.ts";
import { buildSandbox } from "../src/verifier/process/sandbox.ts";
import { nearestRank } from "../src/verifier/score/timing.ts";
import { randomPerceptron } from "../test/builders/verifier/onnx-model.ts";
import { type Figure, publish } from "./shared/figures.ts";

// What the verifier's latency check adds to the latency that it measures: the same model and input, in the verifier's
// child process and in a bare loop over ONNX Runtime in this process, in turns, so that both see the same machine.
// A ratio of 1 is no overhead.

const HELP = `node bench/verifier-latency.ts [--rounds 25] [--samples 2000] [--warmup 200]

The latency that the verifier measures, beside a bare loop over ONNX Runtime with the same model and input.`;

const { values } = parseArgs({
  options: {
    help: { type: "boolean", short: "h", default: false },
    rounds: { type: "string", default: "25" },
    samples: { type: "string", default: "2000" },
    warmup: { type: "string", default: "200" },
  },
});
if (values.help) {
  console.log(HELP);
  process.exit(0);
}
const [rounds, samples, warmup] = [values.rounds, values.samples, values.warmup].map(Number);
if (!(Number(rounds) > 0 && Number(samples) > 0 && Number(warmup) >= 0))
  throw new Error("--rounds and --samples are numbers above 0, --warmup is one from 0 on");

const MODELS: readonly (readonly [string, readonly number[]])[] = [
  ["perceptron 4-16-3", [4, 16, 3]],
  ["perceptron 256-512-512-10", [256, 512, 512, 10]],
  ["perceptron 512-1024-1024-10", [512, 1024, 1024, 10]],
];

const figures: Figure[] = [];
const directory = await mkdtemp(join(tmpdir(), "verifier-bench-"));
try {
  console.log(
    `${rounds} rounds of ${samples} runs each, batch 1, 1 thread; milliseconds, median over rounds\n`,
  );
  console.log("model                          |  bare p50   ours p50   ratio |  bare p95   ours p95   ratio");
  for (const [name, sizes] of MODELS) {
    const { bare, ours } = await compare(randomPerceptron(sizes));
    const columns = [0.5, 0.95].map((share) => {
      const [a, b] = [medianOf(bare, share), medianOf(ours, share)];
      return `${a.toFixed(4).padStart(9)} ${b.toFixed(4).padStart(10)} ${(b / a).toFixed(3).padStart(7)}`;
    });
    console.log(`${name.padEnd(30)} | ${columns.join(" | ")}`);
    const ratios = [0.5, 0.95].map((share) => (medianOf(ours, share) / medianOf(bare, share)).toFixed(3));
    figures.push({ what: name, value: ratios.join(" / "), against: "goal ≤ 1.05" });
  }
  publish("latency in the verifier, as a ratio to a bare loop: p50 / p95", figures);
} finally {
  await rm(directory, { recursive: true, force: true });
}

type Rounds = readonly Float64Array[];

async function compare(model: Uint8Array): Promise<{ readonly bare: Rounds; readonly ours: Rounds }> {
  const own = await mkdtemp(join(directory, "model-"));
  await writeFile(join(own, "model.onnx"), model);
  const started = await startModelProcess(
    { memoryBytes: 2 ** 31, deadline: seconds(600), threads: 1 },
    await (await buildSandbox()).prepare(own),
    new AbortController().signal,
  );
  if (!started.ok) throw new Error(`the child did not start: ${JSON.stringify(started.error)}`);
  const child = started.value;
  const loaded = await child.ask({ kind: "load", path: "../model.onnx", threads: 1 });
  if (!loaded.ok || loaded.value.kind !== "loaded") throw new Error("the child did not load the model");
  const feeds = syntheticFeeds(loaded.value.signature.inputs, 1);
  if (!feeds.ok) throw new Error(feeds.error);
  const input = feeds.value["x"];
  if (input === undefined) throw new Error("the model has no input x");
  const session = await InferenceSession.create(model, { intraOpNumThreads: 1, interOpNumThreads: 1 });
  const x = new Tensor(input.type, input.data, [...input.shape]);
  const bare: Float64Array[] = [];
  const ours: Float64Array[] = [];
  for (let round = 0; round < Number(rounds); round += 1) {
    // Who goes first changes, because the second finds a warmer machine.
    if (round % 2 === 0) bare.push(await bareLoop(session, x));
    ours.push(await oursOf(child));
    if (round % 2 === 1) bare.push(await bareLoop(session, x));
  }
  await session.release();
  await child.end();
  return { bare, ours };
}

async function bareLoop(session: InferenceSession, x: Tensor): Promise<Float64Array> {
  const runs = new Float64Array(Number(samples));
  for (let index = 0; index < Number(warmup); index += 1) await session.run({ x });
  for (let index = 0; index < runs.length; index += 1) {
    const start = process.hrtime.bigint();
    await session.run({ x });
    runs[index] = Number(process.hrtime.bigint() - start) / 1e6;
  }
  return runs;
}

async function oursOf(child: ModelProcess): Promise<Float64Array> {
  const answer = await child.ask({
    kind: "latency",
    warmup: Number(warmup),
    samples: Number(samples),
    batchSize: 1,
  });
  if (!answer.ok || answer.value.kind !== "latency") throw new Error("the child did not measure");
  return answer.value.runs;
}

/** The median over rounds of each round's percentile. */
function medianOf(all: Rounds, share: number): number {
  const each = all.map((runs) => nearestRank(Float64Array.from(runs).sort(), share));
  return nearestRank(
    each.sort((a, b) => a - b),
    0.5,
  );
}

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { seconds } from "../src/base/time.ts";
import { type ModelProcess, startModelProcess } from "../src/verifier/process/model-process.ts";
import { buildSandbox } from "../src/verifier/process/sandbox.ts";
import { timingOf } from "../src/verifier/score/timing.ts";
import {
  floatTensor,
  modelFile,
  node,
  seededRandom,
  tensorInfo,
} from "../test/builders/verifier/onnx-model.ts";
import { type Figure, publish } from "./shared/figures.ts";

// A liquid network, as robots run them: one step of a closed-form continuous-time cell (Hasani et al., "Closed-form
// continuous-time neural networks", 2022), and how fast the verifier's own checks find it.

const HELP = `node bench/verifier-liquid.ts [--hidden 32] [--samples 20000]

Throughput and latency of a liquid network, by the verifier's own checks, one thread.`;

const { values } = parseArgs({
  options: {
    help: { type: "boolean", short: "h", default: false },
    hidden: { type: "string", default: "32" },
    samples: { type: "string", default: "20000" },
  },
});
if (values.help) {
  console.log(HELP);
  process.exit(0);
}
const [hidden, samples] = [Number(values.hidden), Number(values.samples)];
if (!(hidden >= 1 && samples >= 20))
  throw new Error("--hidden is a number from 1 on, --samples one from 20 on");

const SENSORS = 4;
const ACTUATORS = 2;
/** What a liquid network on an edge device is expected to reach by those who run such: inferences a second, and p99. */
const EXPECTED = { perSecond: 36_836, p99: 0.1 };

/** Inputs `x`, `state` and `elapsed`; outputs `y` and the next state. The backbone has one layer as wide as the state. */
function liquidCell(): Buffer {
  const random = seededRandom(1);
  const layer = (name: string, from: number, to: number) => [
    floatTensor(
      `${name}W`,
      [from, to],
      Array.from({ length: from * to }, () => (random() * 2 - 1) / Math.sqrt(from)),
    ),
    floatTensor(
      `${name}b`,
      [to],
      Array.from({ length: to }, () => random() * 0.2 - 0.1),
    ),
  ];
  const dense = (name: string, from: string) => node("Gemm", [from, `${name}W`, `${name}b`], [name]);
  return modelFile({
    nodes: [
      node("Concat", ["x", "state"], ["both"], { axis: 1 }),
      dense("backbone", "both"),
      node("Tanh", ["backbone"], ["felt"]),
      dense("fast", "felt"),
      node("Tanh", ["fast"], ["soon"]),
      dense("slow", "felt"),
      node("Tanh", ["slow"], ["late"]),
      dense("rate", "felt"),
      dense("shift", "felt"),
      node("Mul", ["rate", "elapsed"], ["grown"]),
      node("Add", ["grown", "shift"], ["when"]),
      node("Sigmoid", ["when"], ["gate"]),
      node("Sub", ["one", "gate"], ["rest"]),
      node("Mul", ["soon", "rest"], ["before"]),
      node("Mul", ["late", "gate"], ["after"]),
      node("Add", ["before", "after"], ["next"]),
      dense("y", "next"),
    ],
    initializers: [
      ...layer("backbone", SENSORS + hidden, hidden),
      ...["fast", "slow", "rate", "shift"].flatMap((name) => layer(name, hidden, hidden)),
      ...layer("y", hidden, ACTUATORS),
      floatTensor("one", [1], [1]),
    ],
    inputs: [
      tensorInfo("x", ["batch", SENSORS]),
      tensorInfo("state", ["batch", hidden]),
      tensorInfo("elapsed", ["batch", 1]),
    ],
    outputs: [tensorInfo("y", ["batch", ACTUATORS]), tensorInfo("next", ["batch", hidden])],
  });
}

const directory = await mkdtemp(join(tmpdir(), "verifier-bench-"));
try {
  await writeFile(join(directory, "liquid.onnx"), liquidCell());
  const started = await startModelProcess(
    { memoryBytes: 2 ** 30, deadline: seconds(600), threads: 1 },
    await (await buildSandbox()).prepare(directory),
    new AbortController().signal,
  );
  if (!started.ok) throw new Error(`the child did not start: ${JSON.stringify(started.error)}`);
  const child = started.value;
  const loaded = await child.ask({ kind: "load", path: "../liquid.onnx", threads: 1 });
  if (!loaded.ok || loaded.value.kind !== "loaded") throw new Error("the child did not load the model");
  const timing = await latencyOf(child);
  const rates = new Map<number, number>();
  for (const batchSize of [1, 32]) rates.set(batchSize, await rateOf(child, batchSize));
  await child.end();
  const figures: readonly Figure[] = [
    ...[...rates].map(([batch, rate]) => ({
      what: `throughput, batch ${batch}`,
      value: `${Math.floor(rate)}/s`,
      against: `expected ${EXPECTED.perSecond}/s`,
    })),
    { what: "p50, batch 1", value: `${timing.p50.value.toFixed(4)} ms` },
    {
      what: "p99, batch 1",
      value: `${timing.p99.value.toFixed(4)} ms`,
      against: `expected < ${EXPECTED.p99} ms`,
    },
    { what: "load of the machine", value: (loadavg()[0] ?? 0).toFixed(1) },
  ];
  publish(
    `a liquid network: ${SENSORS} inputs, ${hidden} hidden units, ${ACTUATORS} outputs; 1 thread`,
    figures,
  );
} finally {
  await rm(directory, { recursive: true, force: true });
}

async function latencyOf(child: ModelProcess) {
  const answer = await child.ask({ kind: "latency", warmup: 500, samples, batchSize: 1 });
  if (!answer.ok || answer.value.kind !== "latency") throw new Error("the child did not measure");
  return timingOf(answer.value.runs);
}

async function rateOf(child: ModelProcess, batchSize: number): Promise<number> {
  const answer = await child.ask({ kind: "throughput", milliseconds: 2000, batchSize });
  if (!answer.ok || answer.value.kind !== "throughput") throw new Error("the child did not measure");
  return (answer.value.inferences * 1000) / answer.value.milliseconds;
}

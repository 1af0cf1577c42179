import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, readFileSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, rm, stat } from "node:fs/promises";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { parseArgs } from "node:util";
import type { Digest } from "../src/base/digest.ts";
import { ok } from "../src/base/result.ts";
import type { Duration } from "../src/base/time.ts";
import { systemClock } from "../src/runtime/clock.ts";
import { verify } from "../src/verifier/checks/run.ts";
import { buildSandbox } from "../src/verifier/process/sandbox.ts";
import { floatTensor, modelFile, node, tensorInfo } from "../test/builders/verifier/onnx-model.ts";
import { type Figure, publish } from "./shared/figures.ts";

// What a large model takes: of the child process that runs it, and of the sidecar that only hands it on. A ratio of 1 is
// the model alone, without a copy of it.

const HELP = `node bench/verifier-memory.ts [--mebibytes 512]

Highest resident memory while a model of that size is verified: of the child, beyond ONNX Runtime itself, and of the sidecar.`;

const { values } = parseArgs({
  options: {
    help: { type: "boolean", short: "h", default: false },
    mebibytes: { type: "string", default: "512" },
    /** For this program itself: writes the model there and ends, so that the builder's memory is not the sidecar's. */
    write: { type: "string" },
  },
});
if (values.help) {
  console.log(HELP);
  process.exit(0);
}
const size = Number(values.mebibytes);
if (!(size >= 16)) throw new Error("--mebibytes is a number from 16 on");
if (values.write !== undefined) {
  await writeModel(values.write);
  process.exit(0);
}

/** Square matrices, one behind the other, of 16 MiB each. */
async function writeModel(path: string): Promise<void> {
  const width = 2048;
  const weights = new Float32Array(width * width).fill(1 / width);
  const layers = Array.from({ length: Math.round(size / 16) }, (_, layer) => layer);
  const file = modelFile({
    nodes: layers.map((layer) =>
      node("MatMul", [layer === 0 ? "x" : `h${layer}`, `W${layer}`], [`h${layer + 1}`]),
    ),
    // No two are equal: ONNX Runtime could keep one for both.
    initializers: layers.map((layer) => floatTensor(`W${layer}`, [width, width], weights.with(0, layer))),
    inputs: [tensorInfo("x", ["batch", width])],
    outputs: [tensorInfo(`h${layers.length}`, ["batch", width])],
  });
  await pipeline([file], createWriteStream(path));
}

const MIB = 2 ** 20;
const directory = await mkdtemp(join(tmpdir(), "verifier-bench-"));
try {
  const path = join(directory, "large.onnx");
  const workdir = join(directory, "work");
  await mkdir(workdir);
  const written = spawnSync(process.execPath, [
    import.meta.filename,
    "--write",
    path,
    "--mebibytes",
    String(size),
  ]);
  if (written.status !== 0) throw new Error(`the model could not be written: ${written.stderr}`);
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  const digest = `sha256:${hash.digest("hex")}` as Digest;
  const sizeBytes = (await stat(path)).size;

  let ofChild = 0;
  const watch = setInterval(() => {
    for (const pid of descendants(process.pid)) ofChild = Math.max(ofChild, highestOf(pid));
  }, 20);
  const before = highestOf(process.pid);
  const { full, report } = await verify(
    {
      tenant: "bench",
      model: { url: "file:", digest, sizeBytes },
      golden: null,
      parity: null,
      variantParity: null,
      checks: {
        timeout: "10m" as Duration,
        determinism: { runs: 2 },
        latency: { p50: "1m" as Duration, warmup: 2, samples: 20, batchSize: 1, threads: 1 },
        memory: { maximum: "16Gi" },
      },
    },
    () => undefined,
    {
      workdir,
      memoryBytes: 16 * 1024 * MIB,
      sandbox: await buildSandbox(),
      fetch: async (_from, to) => {
        await copyFile(path, to);
        return ok({ path: to, digest });
      },
      version: "bench",
      clock: systemClock(),
    },
    new AbortController().signal,
  );
  clearInterval(watch);
  const memory = full?.checks.find(({ name }) => name === "Memory")?.details as { readonly bytes: number };
  if (report.kind !== "passed") throw new Error(`the model should pass: ${JSON.stringify(report)}`);
  const shown = (bytes: number) => `${Math.round(bytes / MIB)} MiB, ${(bytes / sizeBytes).toFixed(2)}`;
  const figures: readonly Figure[] = [
    { what: "the model's file", value: `${Math.round(sizeBytes / MIB)} MiB` },
    {
      what: "child, above ONNX Runtime alone (check Memory)",
      value: shown(memory.bytes),
      against: "1: no copy",
    },
    { what: "child, all of it, Node and ONNX Runtime too", value: shown(ofChild) },
    {
      what: "sidecar, above its own start",
      value: shown(highestOf(process.pid) - before),
      against: "0: never in memory",
    },
    { what: "load of the machine", value: (loadavg()[0] ?? 0).toFixed(1) },
  ];
  publish("memory while a large model is verified, and as a ratio to its file", figures);
} finally {
  await rm(directory, { recursive: true, force: true });
}

/** Highest resident memory of a process so far, in bytes; 0 where it has ended. */
function highestOf(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

function descendants(pid: number): readonly number[] {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
    return children
      .split(" ")
      .flatMap((text) => (text === "" ? [] : [Number(text), ...descendants(Number(text))]));
  } catch {
    return [];
  }
}

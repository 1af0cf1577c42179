import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { seconds } from "../../src/base/time.ts";
import { type ModelProcess, startModelProcess } from "../../src/verifier/process/model-process.ts";
import { buildSandbox, type SandboxSession } from "../../src/verifier/process/sandbox.ts";
import type { RefusalKind } from "../../src/verifier/protocol/messages.ts";
import { zipFile } from "../builders/verifier/npz.ts";
import { type Files, tarFile, tarGzFile } from "../builders/verifier/test-data.ts";
import { type BackendTest, backendTests } from "./onnx-package.ts";

// ONNX's own tests of its operators, each as a golden set of its model, through the process that verifies models:
// archive, readers, adapter, ONNX Runtime and comparison. What ONNX Runtime itself does not pass stands here by name.

const MEMORY = 2 ** 30;
const LIMIT = 2 ** 28;
const KINDS = ["node", "simple"];
/** As ONNX's own runner has it; Fourier transforms in float32 lose more. */
const TOLERANCE = { absolute: 1e-5, relative: 1e-3, finiteOnly: false };
const COARSE = { ...TOLERANCE, absolute: 1e-3 };
const IS_COARSE = /^test_(dft|stft)/;

type Outcome = "passed" | "differs" | RefusalKind;

/** Facts about ONNX Runtime 1.30 on the CPU, or about ONNX's data. */
const KNOWN: readonly (readonly [RegExp, Outcome, string])[] = [
  [/^test_image_decoder_/, "operator", "it has no image decoders"],
  [/^test_(adagrad|adam|(nesterov_)?momentum|gradient_of)/, "operator", "it has no operators for training"],
  [/^test_bernoulli/, "operator", "it has no RandomUniformLike of opset 22"],
  [/^test_roialign_/, "operator", "it has no RoiAlign of opset 22"],
  [/FLOAT4E2M1|float4e2m1$/, "operator", "it has no operators for float4e2m1"],
  [/^test_(bitshift_(left|right)|max|min)_u?int16$/, "operator", "it has them for other integers alone"],
  [/^test_clip_default_int8_(max|min)_expanded$/, "operator", "it has no Where of int8"],
  [/^test_pow_types_float32_uint(32|64)$/, "operator", "it has no such Pow"],
  [/^test_top_k_uint64$/, "operator", "it has no such TopK"],
  [/^test_(gru|lstm|simple_rnn)_batchwise$/, "load", "it has only one layout of recurrent layers"],
  [/^test_convinteger_with_padding$/, "run", "it wants zero points of another shape"],
  [/^test_attention_4d_diff_heads_mask4d_padded_kv$/, "run", "it has no nonpad_kv_seqlen"],
  [
    /^test_attention_.*qk_matmul_(bias|softcap)(?!.*_expanded$)/,
    "differs",
    "it hands out scores of another stage",
  ],
  [/^test_l2normalization_axis_0$/, "differs", "it answers 0 for what is normalized from zero"],
  [/^test_maxunpool_export_with_output_shape$/, "differs", "it reads indices in the smaller shape"],
  [/^test_qlinearmatmul_.*_int8_/, "differs", "the sums leave int8, where it saturates"],
  [/^test_resize_downsample_scales_(cubic|linear)_align_corners$/, "differs", "it rounds the size otherwise"],
  [/^test_training_dropout(_default)?(_mask)?$/, "differs", "chance is its own"],
  [/^test_sequence_insert_at_/, "run", "sequences are fed from opset 13 on"],
];
/** StringNormalizer asks the machine for the locale en_US.UTF-8, which not every machine has. */
const OF_THE_MACHINE = /^test_strnorm.*_(lower|upper|empty_output|twodim)$/;

let directory: string;
let session: SandboxSession;
let child: ModelProcess | null = null;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "conformance-"));
  session = await (await buildSandbox()).prepare(directory);
});

afterAll(async () => {
  await child?.end();
  await session.sweep();
  rmSync(directory, { recursive: true, force: true });
});

test("what ONNX says of its operators is what the golden check finds", { timeout: 600_000 }, async () => {
  const tests = (await backendTests(KINDS)).filter(({ name }) => !OF_THE_MACHINE.test(name));
  expect(tests.length).toBeGreaterThan(1500);
  const surprises: string[] = [];
  const outcomes = new Map<string, Outcome>();
  for (const [index, one] of tests.entries()) {
    const { outcome, message } = await outcomeOf(one, index);
    outcomes.set(one.name, outcome);
    const expected = KNOWN.find(([name]) => name.test(one.name))?.[1] ?? "passed";
    if (outcome !== expected) surprises.push(`${one.name}: ${outcome}, expected ${expected}: ${message}`);
  }
  expect(surprises).toEqual([]);
  const idle = KNOWN.filter(([name]) => ![...outcomes.keys()].some((one) => name.test(one)));
  expect(idle).toEqual([]);
});

async function outcomeOf(
  one: BackendTest,
  index: number,
): Promise<{ readonly outcome: Outcome; readonly message: string }> {
  put("model.onnx", readFileSync(join(one.directory, "model.onnx")));
  put("golden", await archiveOf(one.directory, index));
  child ??= await start();
  const loaded = await child.ask({ kind: "load", path: "../model.onnx", threads: 1 });
  if (!loaded.ok) throw new Error(`${one.name} ended its process: ${JSON.stringify(loaded.error)}`);
  if (loaded.value.kind === "refused")
    return { outcome: loaded.value.because, message: loaded.value.message };
  const answered = await child.ask({
    kind: "golden",
    path: "../golden",
    limit: LIMIT,
    batchSize: null,
    sections: [
      {
        ...{ output: null, except: [], scoring: null, metrics: null },
        tolerance: IS_COARSE.test(one.name) ? COARSE : TOLERANCE,
      },
    ],
    finiteOnly: false,
  });
  if (!answered.ok) throw new Error(`${one.name} ended its process: ${JSON.stringify(answered.error)}`);
  if (answered.value.kind === "refused")
    return { outcome: answered.value.because, message: answered.value.message };
  if (answered.value.kind !== "golden") throw new Error(`${one.name}: ${JSON.stringify(answered.value)}`);
  const comparison = answered.value.measured.sections[0]?.comparison ?? null;
  if (comparison === null) throw new Error(`${one.name}: nothing was compared`);
  return {
    outcome: comparison.beyond === 0 ? "passed" : "differs",
    message: JSON.stringify(comparison.worst),
  };
}

function put(name: string, content: Uint8Array): void {
  const path = join(directory, name);
  writeFileSync(path, content);
  chmodSync(path, 0o644);
}

async function start(): Promise<ModelProcess> {
  const limits = { memoryBytes: MEMORY, deadline: seconds(600), threads: 1 };
  const started = await startModelProcess(limits, session, new AbortController().signal);
  if (!started.ok) throw new Error(JSON.stringify(started.error));
  return started.value;
}

/** In turn as each of the kinds of archives. */
async function archiveOf(from: string, index: number): Promise<Uint8Array> {
  const files: Record<string, Uint8Array> = {};
  for (const set of readdirSync(from).filter((name) => name.startsWith("test_data_set_")))
    for (const file of readdirSync(join(from, set)))
      files[`model/${set}/${file}`] = readFileSync(join(from, set, file));
  if (index % 3 === 0) return tarFile(files satisfies Files);
  return index % 3 === 1 ? tarGzFile(files) : zipFile(Object.entries(files), true);
}

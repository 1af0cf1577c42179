import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Verification } from "../../src/api/model-release.ts";
import { REASONS, type Reason } from "../../src/api/reasons.ts";
import { digestOf } from "../../src/base/digest.ts";
import { ok } from "../../src/base/result.ts";
import type { Duration } from "../../src/base/time.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { judgeGolden } from "../../src/verifier/checks/golden.ts";
import { judgeParity, type ParityWanted, paritySections } from "../../src/verifier/checks/parity.ts";
import { verify } from "../../src/verifier/checks/run.ts";
import { compareAnswers, measureGolden, rememberAnswers } from "../../src/verifier/child/measure.ts";
import { openModel } from "../../src/verifier/child/session.ts";
import { buildSandbox } from "../../src/verifier/process/sandbox.ts";
import { goldenSections } from "../../src/verifier/score/sections.ts";
import { npzFile } from "../builders/verifier/npz.ts";
import { seededRandom } from "../builders/verifier/onnx-model.ts";
import { type RandomModel, randomModels, STEP_NAMES } from "../builders/verifier/random-model.ts";
import type { Numbers } from "./reference.ts";

// Random models, random golden sets, random bounds: what the verdict must be is calculated here, without ONNX Runtime and
// without the verifier's own arithmetic. MODELS_RUNS makes more cases, MODELS_SEED repeats one that was printed.

const RUNS = Number(process.env["MODELS_RUNS"] ?? 150);
const SEED = process.env["MODELS_SEED"];
const first = SEED === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(SEED);
const runs = SEED === undefined ? RUNS : 1;
/** Of the cases, so many are verified as a release is, in child processes. */
const WHOLE = SEED === undefined ? 4 : 1;

/** How far float32 and float64 may be apart at `value`; nothing is asked that a difference of that size could turn. */
const toleranceAt = (value: number) => 1e-4 * (1 + Math.abs(value));
const MIB = 2 ** 20;

type Random = () => number;
type Bounds = Omit<NonNullable<Verification["golden"]>, "blob" | "digest">;
type Drawn<B> = { readonly bounds: B; readonly reason: Reason | null };

type Case = {
  readonly seed: number;
  readonly model: RandomModel;
  readonly other: RandomModel;
  readonly set: Buffer;
  readonly golden: Drawn<Bounds>;
  readonly parity: Drawn<ParityWanted>;
};

function drawCase(seed: number): Case {
  const random = seededRandom(seed);
  const whole = (from: number, to: number) => from + Math.floor(random() * (to - from + 1));
  const samples = random() < 0.1 ? whole(65, 90) : whole(3, 14);
  const broken = random() < 0.15;
  const [all, allOther] = randomModels(random, { samples, steps: whole(3, 14), broken });
  const clear = clearRows(all.outputs.scores).filter((row) =>
    clearRows(allOther.outputs.scores).includes(row),
  );
  // Where two classes are as good as equal, nobody can say which one is found.
  if (clear.length < 2) return drawCase(seed + 1_000_003);
  const [model, other] = [rowsOnly(all, clear), rowsOnly(allOther, clear)];
  const labels = drawLabels(random, model.outputs.scores);
  const known = perturbed(random, model);
  const golden = drawGolden(random, model, labels, known);
  const arrays = {
    x: npy(model.x),
    labels: { descr: "<i8", shape: [labels.length], values: labels } as const,
    "output:scores": npy(known.scores),
    "output:side": npy(known.side),
  };
  return { seed, model, other, set: npzFile(arrays), golden, parity: drawParity(random, model, other) };
}

const npy = ({ shape, data }: Numbers) => ({ descr: "<f4", shape, values: [...data] }) as const;

const widthOf = ({ shape, data }: Numbers) => data.length / (shape[0] ?? 1);
const rowOf = (tensor: Numbers, row: number) =>
  tensor.data.subarray(row * widthOf(tensor), (row + 1) * widthOf(tensor));

function clearRows(scores: Numbers): readonly number[] {
  return Array.from({ length: scores.shape[0] ?? 0 }, (_, row) => row).filter((row) => {
    const sorted = rowOf(scores, row).toSorted();
    return sorted.every((score, at) => at === 0 || score - (sorted[at - 1] ?? 0) > 4 * toleranceAt(score));
  });
}

function rowsOnly(model: RandomModel, rows: readonly number[]): RandomModel {
  const only = (tensor: Numbers): Numbers => ({
    shape: [rows.length, ...tensor.shape.slice(1)],
    data: Float32Array.from(rows.flatMap((row) => [...rowOf(tensor, row)])),
  });
  const { scores, side } = model.outputs;
  return { ...model, x: only(model.x), outputs: { scores: only(scores), side: only(side) } };
}

/** Classes of a sample, the most probable first. */
function rankedOf(scores: Numbers, row: number): readonly number[] {
  const of = rowOf(scores, row);
  return [...of.keys()].sort((a, b) => (of[b] ?? 0) - (of[a] ?? 0));
}

function drawLabels(random: Random, scores: Numbers): readonly number[] {
  const right = [1, 0.8, 0.4][Math.floor(random() * 3)] ?? 1;
  return Array.from({ length: scores.shape[0] ?? 0 }, (_, row) => {
    const ranked = rankedOf(scores, row);
    return ranked[random() < right ? 0 : Math.floor(random() * ranked.length)] ?? 0;
  });
}

/** Outputs as a golden set might have them: those of the model, some elements off by more or less. */
function perturbed(random: Random, { outputs }: RandomModel): RandomModel["outputs"] {
  const off = (tensor: Numbers): Numbers => {
    const data = tensor.data.slice();
    for (let times = Math.floor(random() * 5); times > 0; times -= 1) {
      const at = Math.floor(random() * data.length);
      const value = data[at] ?? 0;
      const size = 10 ** (random() * 2.5 - 2) * Math.max(1, Math.abs(value));
      if (Number.isFinite(value)) data[at] = value + (random() < 0.5 ? -size : size);
    }
    return { ...tensor, data };
  };
  return { scores: off(outputs.scores), side: off(outputs.side) };
}

/** A share of counts, and whether a bound near it is kept: at it, just below it, just above it. */
function nearShare(
  random: Random,
  count: number,
  total: number,
): { readonly bound: number; readonly kept: boolean } {
  const kinds = [
    { bound: count / total, kept: true },
    ...(count > 0 ? [{ bound: (count - 0.5) / total, kept: true }] : []),
    ...(count < total ? [{ bound: (count + 0.5) / total, kept: false }] : []),
  ];
  return kinds[Math.floor(random() * kinds.length)] ?? { bound: 0, kept: true };
}

function drawGolden(
  random: Random,
  { outputs }: RandomModel,
  labels: readonly number[],
  known: RandomModel["outputs"],
): Drawn<Bounds> {
  const bounds: Record<string, unknown> = {};
  let accurate = true;
  if (random() < 0.5) {
    const ranks = labels.map((label, row) => rankedOf(outputs.scores, row).indexOf(label));
    if (random() < 0.7) {
      const near = nearShare(random, ranks.filter((rank) => rank === 0).length, ranks.length);
      bounds["minimumAccuracy"] = near.bound;
      accurate &&= near.kept;
    }
    if (random() < 0.5) {
      const topK = 2 + Math.floor(random() * 3);
      const near = nearShare(random, ranks.filter((rank) => rank < topK).length, ranks.length);
      Object.assign(bounds, { topK, minimumTopKAccuracy: near.bound });
      accurate &&= near.kept;
    }
    if (random() < 0.5) {
      const shares = [...new Set(labels)].map((label) => {
        const own = ranks.filter((_, row) => labels[row] === label);
        return { right: own.filter((rank) => rank === 0).length, of: own.length };
      });
      const weakest = shares.toSorted((a, b) => a.right / a.of - b.right / b.of)[0] ?? { right: 0, of: 1 };
      const near = nearShare(random, weakest.right, weakest.of);
      bounds["minimumClassAccuracy"] = near.bound;
      accurate &&= near.kept;
    }
  }
  const finiteOnly = random() < 0.3;
  const pairs = (["scores", "side"] as const).map((name) => [outputs[name], known[name]] as const);
  const errors = drawErrors(random, pairs, finiteOnly, 1);
  const cosine = random() < 0.4 || errors === null ? drawCosine(random, pairs) : null;
  Object.assign(bounds, errors?.bounds, cosine?.bounds, finiteOnly ? { nonFinite: "Never" } : {});
  if (errors === null && cosine === null && Object.keys(bounds).length - (finiteOnly ? 1 : 0) === 0) {
    // Labels that all have some rank: the least that can be asked, and always kept.
    bounds["minimumAccuracy"] = 0;
  }
  const numbers = pairs.every(([own]) => own.data.every(Number.isFinite));
  const differ = errors?.kept === false || cosine?.kept === false;
  const { topK } = bounds;
  const verdicts = [
    // What is true of every model is refused.
    { broken: Number(topK ?? 0) >= widthOf(outputs.scores), reason: REASONS.BoundUnusable },
    { broken: !accurate, reason: REASONS.AccuracyTooLow },
    { broken: differ, reason: REASONS.OutputsDiffer },
    { broken: finiteOnly && !numbers, reason: REASONS.NonFinite },
  ];
  return {
    bounds: byOutput(bounds as Bounds, outputs),
    reason: verdicts.find(({ broken }) => broken)?.reason ?? null,
  };
}

/**
 * Accuracy is about the scores alone: `side` may look like scores, too. What is about both stands beside each, a cosine
 * only where there is one.
 */
function byOutput(bounds: Bounds, { side }: RandomModel["outputs"]): Bounds {
  if (!Object.keys(bounds).some((name) => name.endsWith("Accuracy") || name.endsWith("Agreement")))
    return bounds;
  const { nonFinite, minimumCosineSimilarity: cosine, ...own } = bounds;
  const errors = Object.fromEntries(Object.entries(own).filter(([name]) => name.endsWith("Error")));
  const ofSide = {
    ...errors,
    ...(cosine === undefined || widthOf(side) < 2 ? {} : { minimumCosineSimilarity: cosine }),
  };
  return {
    ...(nonFinite === undefined ? {} : { nonFinite }),
    outputs: [
      { name: "scores", ...own, ...(cosine === undefined ? {} : { minimumCosineSimilarity: cosine }) },
      ...(Object.keys(ofSide).length === 0 ? [] : [{ name: "side", ...ofSide }]),
    ],
  };
}

type Pairs = readonly (readonly [own: Numbers, known: Numbers])[];

/**
 * Bounds on errors near the largest error there is. `null` where after some tries a rounding error could still decide.
 * @param sides how many of the two are calculated, and may be off.
 */
function drawErrors(
  random: Random,
  pairs: Pairs,
  finiteOnly: boolean,
  sides: number,
): { readonly bounds: Bounds; readonly kept: boolean } | null {
  if (random() < 0.15) return null;
  const elements = pairs.flatMap(([own, known]) =>
    [...own.data].map((value, at) => {
      const expected = known.data[at] ?? 0;
      const bothNaN = Number.isNaN(value) && Number.isNaN(expected);
      const asExpected = finiteOnly ? Number.POSITIVE_INFINITY : 0;
      const error = bothNaN ? asExpected : Math.abs(value - expected);
      return { error, size: Math.abs(expected), unsure: bothNaN ? 0 : sides * toleranceAt(value) };
    }),
  );
  const finite = elements.filter(({ error }) => Number.isFinite(error));
  const absolute = Math.max(0, ...finite.map(({ error }) => error));
  const relative = Math.max(
    0,
    ...finite.filter(({ size }) => size > 0.01).map(({ error, size }) => error / size),
  );
  const near = (value: number) => (value + 1e-3) * (random() < 0.5 ? 1 + random() : 0.2 + random() * 0.75);
  for (let attempt = 0; attempt < 20; attempt += 1) {
    const kind = Math.floor(random() * 3);
    const bounds = {
      ...(kind !== 1 ? { maximumAbsoluteError: near(kind === 2 ? absolute / 2 : absolute) } : {}),
      ...(kind !== 0 ? { maximumRelativeError: near(kind === 2 ? relative / 2 : relative) } : {}),
    };
    const allowed = (size: number) =>
      (bounds.maximumAbsoluteError ?? 0) +
      (bounds.maximumRelativeError ?? 0) * (Number.isNaN(size) ? 0 : size);
    const within = elements.every(({ error, size, unsure }) => error + unsure <= allowed(size));
    const beyond = elements.some(({ error, size, unsure }) => error - unsure > allowed(size));
    if (within || beyond) return { bounds, kept: within };
  }
  return null;
}

function drawCosine(
  random: Random,
  pairs: Pairs,
): { readonly bounds: Bounds; readonly kept: boolean } | null {
  let lowest = 1;
  for (const [own, known] of pairs) {
    if (widthOf(own) < 2) continue;
    for (let row = 0; row < (own.shape[0] ?? 0); row += 1) {
      const two = [...rowOf(own, row)].map((value, at) => [value, rowOf(known, row)[at] ?? 0] as const);
      const real = two.filter((pair) => pair.every(Number.isFinite));
      // Where nothing is a number on either side, nothing points in another direction.
      if (real.length === 0) continue;
      const dot = real.reduce((sum, [x, y]) => sum + x * y, 0);
      const a = real.reduce((sum, [x]) => sum + x * x, 0);
      const b = real.reduce((sum, [, y]) => sum + y * y, 0);
      const unsure = Math.sqrt(real.reduce((sum, [x]) => sum + toleranceAt(x) ** 2, 0));
      if (unsure > 1e-3 * Math.sqrt(Math.min(a, b))) return null;
      lowest = Math.min(lowest, dot / Math.sqrt(a * b));
    }
  }
  const gap = 0.01 + random() * 0.3;
  const [below, above] = [Math.max(-1, lowest - gap), lowest + gap];
  if (random() < 0.5 || above > 1) return { bounds: { minimumCosineSimilarity: below }, kept: true };
  return { bounds: { minimumCosineSimilarity: above }, kept: false };
}

function drawParity(random: Random, model: RandomModel, other: RandomModel): Case["parity"] {
  const samples = model.x.shape[0] ?? 0;
  const top = (scores: Numbers, row: number) => rankedOf(scores, row)[0];
  const agreeing = Array.from({ length: samples }, (_, row) => row).filter(
    (row) => top(model.outputs.scores, row) === top(other.outputs.scores, row),
  );
  const agreement = nearShare(random, agreeing.length, samples);
  const pairs = (["scores", "side"] as const).map(
    (name) => [model.outputs[name], other.outputs[name]] as const,
  );
  const errors = random() < 0.5 ? drawErrors(random, pairs, false, 2) : null;
  const kept = agreement.kept && (errors?.kept ?? true);
  return {
    bounds: byOutput(
      { minimumAgreement: agreement.bound, ...errors?.bounds } as Bounds,
      model.outputs,
    ) as ParityWanted,
    reason: kept ? null : REASONS.ParityTooLow,
  };
}

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "random-models-"));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

type Came = { readonly golden: Reason | null | string; readonly parity: Reason | null | string };

/** The verifier's own measuring and judging, without processes around it. */
async function judged({ model, other, set, golden, parity }: Case): Promise<Came> {
  const path = join(directory, "golden.npz");
  await writeFile(path, set);
  const limit = 64 * MIB;
  const own = await openModel({ source: model.bytes, adapted: null }, 1);
  if (!own.ok) return { golden: own.error.message, parity: "" };
  const reference = await openModel({ source: other.bytes, adapted: null }, 1);
  if (!reference.ok) return { golden: reference.error.message, parity: "" };
  try {
    const { bounds } = golden;
    const wanted = { ...bounds, ...PLACE };
    const measured = await measureGolden(own.value, {
      ...{ kind: "golden", path, limit, batchSize: null },
      sections: goldenSections(wanted),
      finiteOnly: bounds.nonFinite === "Never",
    });
    const remembered = await rememberAnswers(reference.value, {
      kind: "remember",
      samples: { path, limit },
      limit,
      batchSize: null,
    });
    if (!remembered.ok) return { golden: null, parity: remembered.error.message };
    const compared = await compareAnswers(own.value, remembered.value, {
      kind: "compare",
      sections: paritySections(parity.bounds),
    });
    return {
      golden: measured.ok
        ? judgeGolden(wanted, measured.value.answer.measured).reason
        : measured.error.message,
      parity: compared.ok
        ? judgeParity("Parity", parity.bounds, compared.value.measured, "other").reason
        : compared.error.message,
    };
  } finally {
    await own.value.release();
    await reference.value.release();
  }
}

const PLACE = { blob: { container: "models", path: "golden.npz" }, digest: digestOf("") };

/** The same by the whole verifier: the golden set alone, then parity alone, each with its own verdict. */
async function verified({ model, other, set, golden, parity }: Case): Promise<Came> {
  const sandbox = await buildSandbox();
  const files = new Map<string, Uint8Array>(
    [model.bytes, other.bytes, set].map((bytes) => [digestOf(bytes), bytes] as const),
  );
  const fileOf = (bytes: Uint8Array) => ({
    url: "memory:",
    digest: digestOf(bytes),
    sizeBytes: bytes.length,
  });
  const ask = async (checks: Partial<Verification>) => {
    const request = {
      tenant: "plant-a",
      model: fileOf(model.bytes),
      golden: fileOf(set),
      parity: { ...fileOf(other.bytes), name: "other" },
      variantParity: null,
      checks: { timeout: "1m" as Duration, ...checks },
    };
    const deps = {
      workdir: directory,
      memoryBytes: 512 * MIB,
      sandbox,
      fetch: async (from: { readonly digest: string }, to: string) => {
        await writeFile(to, files.get(from.digest) ?? "");
        return ok({ path: to, digest: from.digest });
      },
      version: "test",
      clock: systemClock(),
    };
    const { report } = await verify(request, () => undefined, deps, new AbortController().signal);
    if (report.kind === "passed") return null;
    return report.kind === "failed" ? report.reason : JSON.stringify(report);
  };
  return {
    golden: await ask({ golden: { ...golden.bounds, ...PLACE } }),
    parity: await ask({ parity: { with: "other", ...parity.bounds } }),
  };
}

/** Whatever a case did, in one line: what repeats it, and what was asked. */
const told = ({ seed, model, golden, parity }: Case, came: Came) =>
  JSON.stringify({ seed, golden, parity, came, operators: model.operators.join(" ") });

test(`random models get the verdict that an independent calculation predicts (${runs} from MODELS_SEED=${first})`, async () => {
  const seen = new Map<string, number>();
  const operators = new Set<string>();
  for (let at = 0; at < runs; at += 1) {
    const one = drawCase(first + at);
    const came = await judged(one);
    expect(came, told(one, came)).toEqual({ golden: one.golden.reason, parity: one.parity.reason });
    if (at < WHOLE) expect(await verified(one), told(one, came)).toEqual(came);
    for (const operator of one.model.operators) operators.add(operator);
    for (const reason of Object.values(came)) seen.set(String(reason), (seen.get(String(reason)) ?? 0) + 1);
  }
  if (runs < 100) return;
  // The cases are of every kind: no operator, no verdict is left out.
  expect(operators.size).toBeGreaterThan(40);
  expect(STEP_NAMES.length).toBeGreaterThan(45);
  for (const reason of ["null", "AccuracyTooLow", "OutputsDiffer", "ParityTooLow"])
    expect(seen.get(reason) ?? 0, reason).toBeGreaterThan(runs / 50);
}, 600_000);

import { mkdtemp, rm } from "node:fs/promises";
import { join, relative as relativePath } from "node:path";
import type { CheckResult, Verification } from "../../api/model-release.ts";
import { passedText } from "../../api/passed-text.ts";
import { REASONS, type Reason } from "../../api/reasons.ts";
import type { CheckReport, FullReport, ModelFacts } from "../../api/verification-report.ts";
import { numberOf } from "../../base/decimal.ts";
import { bytesOf } from "../../base/quantity.ts";
import { err, ok, type Result, unreachable } from "../../base/result.ts";
import { type Clock, durationText, type Instant, millisOf, timestampOf } from "../../base/time.ts";
import type { Meter } from "../../telemetry/telemetry.ts";
import type { Reference, VerifyReport, VerifyRequest } from "../../verification/verification.ts";
import type { Fetch } from "../files/download.ts";
import { type Signature, sideText } from "../onnx/tensor.ts";
import { type ModelProcess, startModelProcess } from "../process/model-process.ts";
import type { ProcessEnd } from "../process/process-end.ts";
import type { Cell, Sandbox } from "../process/sandbox.ts";
import type { Answer, BatchFound, GoldenMeasured, Question, Refusal, Samples } from "../protocol/messages.ts";
import { goldenSections, toleranceOf } from "../score/sections.ts";
import {
  type Bytes,
  inputsDifference,
  judgeDeterminism,
  judgeDigests,
  judgeLatency,
  judgeMemory,
  judgeSignature,
  judgeThroughput,
} from "./checks.ts";
import { judgeGolden } from "./judge-golden.ts";
import { judgeParity, paritySections } from "./judge-parity.ts";
import { type CheckName, failed, type Judgement, passed, printable, skipped } from "./judgement.ts";

export type VerifyDeps = {
  /** Private to the sidecar; every verification has a directory in it while it runs. */
  readonly workdir: string;
  readonly memoryBytes: number;
  readonly sandbox: Sandbox;
  readonly fetch: Fetch;
  /** Goes into every verdict. */
  readonly version: string;
  readonly clock: Clock;
  /** Counts processes that end before they have answered. */
  readonly meter?: Meter;
};

/** The verdict, and everything that led to it: `null` where there is no verdict. */
export type Verified = { readonly report: VerifyReport; readonly full: FullReport | null };

/** Directories of verifications, so that those of an earlier life can be told from anything else. */
export const WORK_PREFIX = "verification-";

/** A check that was begun ends as a judgement, or as a fact about us. */
type Step =
  | { readonly kind: "judged"; readonly judgement: Judgement }
  /** It cannot be made; the rest goes on. */
  | { readonly kind: "skipped"; readonly because: string }
  | { readonly kind: "error"; readonly reason: Reason; readonly message: string };

type Asked<Name extends keyof Verification> = NonNullable<Verification[Name]>;
type Check = { readonly name: CheckName; readonly run: () => Promise<Step> };

/**
 * Runs all checks of one request, in order, and stops at the first that fails. It keeps its files in a directory of its
 * own and leaves neither file nor process behind.
 * @param begin is told the name of each check when it starts.
 */
export async function verify(
  request: VerifyRequest,
  begin: (check: string) => void,
  deps: VerifyDeps,
  signal: AbortSignal,
): Promise<Verified> {
  const startedAt = deps.clock.now();
  const directory = await mkdtemp(join(deps.workdir, WORK_PREFIX));
  let run: Run | null = null;
  const done: CheckReport[] = [];
  try {
    const cell = await deps.sandbox.prepare(directory);
    run = { request, deps, directory, cell, signal, files: new Map(), child: null, model: null };
    for (const { name, run: check } of checksOf(run)) {
      begin(name);
      const before = deps.clock.now();
      const step = await check();
      const took = deps.clock.now() - before;
      if (step.kind === "error") return broken(step.reason, step.message);
      if (step.kind === "skipped") {
        done.push({ ...skipped(name, step.because), took });
        continue;
      }
      const { result, reason, details } = step.judgement;
      done.push({ ...result, took, ...(details === undefined ? {} : { details }) });
      if (reason !== null) return verdict(run, startedAt, done, { reason, result });
    }
    return verdict(run, startedAt, done, null);
  } finally {
    await run?.child?.end();
    await run?.cell.sweep();
    await rm(directory, { recursive: true, force: true });
  }
}

type Run = {
  readonly request: VerifyRequest;
  readonly deps: VerifyDeps;
  readonly directory: string;
  readonly signal: AbortSignal;
  readonly cell: Cell;
  /** Where the child finds the files. */
  readonly files: Map<"model" | "golden", string>;
  /** The process that has the model loaded, from Load on. */
  child: ModelProcess | null;
  model: ModelFacts | null;
};

/** What the release asks for, in order. */
function checksOf(run: Run): readonly Check[] {
  const { checks, parity, variantParity } = run.request;
  const whenAsked = <T>(wanted: T | undefined, name: CheckName, check: (asked: T) => Promise<Step>) =>
    wanted === undefined ? [] : [{ name, run: () => check(wanted) }];
  return [
    { name: "Digest", run: () => digest(run) },
    { name: "Load", run: () => load(run) },
    ...whenAsked(checks.signature, "Signature", (wanted) => signatureOf(run, wanted)),
    ...whenAsked(checks.golden, "Golden", (wanted) => goldenOf(run, wanted)),
    ...whenAsked(checks.determinism, "Determinism", (wanted) => determinismOf(run, wanted)),
    ...whenAsked(checks.parity, "Parity", (wanted) => parityOf(run, "Parity", wanted, parity)),
    ...whenAsked(checks.variantParity, "VariantParity", (wanted) =>
      parityOf(run, "VariantParity", wanted, variantParity),
    ),
    ...whenAsked(checks.latency, "Latency", (wanted) => latencyOf(run, wanted)),
    ...whenAsked(checks.throughput, "Throughput", (wanted) => throughputOf(run, wanted)),
    ...whenAsked(checks.memory, "Memory", (wanted) => memoryOf(run, wanted)),
  ];
}

async function digest(run: Run): Promise<Step> {
  const { model, golden } = run.request;
  const tooLarge = oversized(run.request, run.deps.memoryBytes);
  if (tooLarge !== null) return tooLarge;
  const files: Bytes[] = [];
  for (const [what, from, name] of [
    ["model", model, "model.onnx"],
    ["golden", golden, "golden"],
  ] as const) {
    if (from === null) continue;
    const shown = what === "golden" ? "golden set" : what;
    const got = await run.deps.fetch(from, join(run.directory, name), run.signal);
    if (!got.ok) return error(got.error.reason, `downloading the ${shown}: ${got.error.message}`);
    run.files.set(what, relativePath(run.cell.cwd, got.value.path));
    files.push({ what: shown, expected: from.digest, got: got.value.digest });
  }
  return judged(judgeDigests(files));
}

function oversized({ model, golden }: VerifyRequest, memoryBytes: number): Step | null {
  const over = (bytes: number) =>
    `${bytes} bytes, more than the ${memoryBytes} bytes of memory it may use; it was not downloaded`;
  if (model.sizeBytes > memoryBytes)
    return judged(
      failed("Digest", REASONS.OutOfMemory, { message: `the model is ${over(model.sizeBytes)}` }),
    );
  if (golden !== null && golden.sizeBytes > memoryBytes)
    return judged(
      failed("Digest", REASONS.GoldenUnreadable, { message: `the golden set is ${over(golden.sizeBytes)}` }),
    );
  return null;
}

function threadsOf({ checks }: VerifyRequest): number {
  return checks.latency?.threads ?? 1;
}

function startProcess({ request, deps, cell, signal }: Run): Promise<Result<ModelProcess, ProcessEnd>> {
  const { memoryBytes } = deps;
  const limits = { memoryBytes, deadline: millisOf(request.checks.timeout), threads: threadsOf(request) };
  return startModelProcess(limits, cell, signal);
}

async function load(run: Run): Promise<Step> {
  const started = await startProcess(run);
  if (!started.ok) return error(REASONS.VerificationError, endText(started.error));
  run.child = started.value;
  const path = fileOf(run, "model");
  const loaded = await ask(run, run.child, "Load", { kind: "load", path, threads: threadsOf(run.request) });
  if (!loaded.ok) return loaded.error;
  const { signature, file } = loaded.value;
  const { digest: sha256, sizeBytes } = run.request.model;
  run.model = { digest: sha256, sizeBytes, ...file, ...signature };
  const opsets = file.opsets.map(({ domain, version }) => `${domain === "" ? "" : `${domain} `}${version}`);
  return judged({
    ...passed("Load", {
      measured: `${sideText(signature.inputs)} → ${sideText(signature.outputs)}`,
      method: `opset ${opsets.join(", ")}, IR version ${file.irVersion}, ${file.nodes} nodes of ${file.operators.length} operators, ${file.parameters} parameters`,
    }),
    details: file,
  });
}

/** Only checks behind one that was passed ask for what that one has found. */
function fileOf(run: Run, what: "model" | "golden"): string {
  const path = run.files.get(what);
  if (path === undefined) throw new Error(`the ${what} was not downloaded`);
  return path;
}

function childOf({ child }: Run): ModelProcess {
  if (child === null) throw new Error("the model was not loaded");
  return child;
}

function signatureFound({ model }: Run): Signature {
  if (model === null) throw new Error("the model was not loaded");
  return { inputs: model.inputs, outputs: model.outputs };
}

function signatureOf(run: Run, wanted: Asked<"signature">): Promise<Step> {
  return Promise.resolve(judged(judgeSignature(wanted, signatureFound(run))));
}

function isOutOfMemory(step: Step): boolean {
  return step.kind === "judged" && step.judgement.reason === REASONS.OutOfMemory;
}

/**
 * Asks, and where as many samples at once as suits need too much memory, asks again for one at a time, in a new process.
 * @param free whether nobody has said how many there are to be.
 */
async function withLessMemory<Value>(
  run: Run,
  free: boolean,
  attempt: (child: ModelProcess, batchSize: number | null) => Promise<Asking<Value>>,
): Promise<{ readonly answered: Asking<Value>; readonly remark: string }> {
  const first = await attempt(childOf(run), null);
  if (first.ok || !free || !isOutOfMemory(first.error)) return { answered: first, remark: "" };
  const child = await reload(run);
  const again = child.ok ? await attempt(child.value, 1) : child;
  if (!again.ok && isOutOfMemory(again.error)) return { answered: first, remark: "" };
  return { answered: again, remark: "one at a time, because more at once need too much memory" };
}

async function goldenOf(run: Run, bounds: Asked<"golden">): Promise<Step> {
  const sections = goldenSections(bounds);
  const finiteOnly = bounds.nonFinite === "Never";
  const { memoryBytes: limit } = run.deps;
  const path = fileOf(run, "golden");
  const isFree = bounds.batchSize === undefined;
  const { answered, remark } = await withLessMemory(run, isFree, (child, least) => {
    const batchSize = least ?? bounds.batchSize ?? null;
    return ask(run, child, "Golden", { kind: "golden", path, limit, batchSize, sections, finiteOnly });
  });
  if (!answered.ok) return answered.error;
  const { measured } = answered.value;
  if (sections.length === 0 && !finiteOnly)
    return {
      kind: "skipped",
      because: `no bound is about the ${measured.samples} golden samples: they are what other checks run the model with`,
    };
  const first = judgeGolden(bounds, measured, [], remark);
  if (first.reason !== REASONS.OutputsDiffer) return judged(first);
  return judged(judgeGolden(bounds, measured, await otherBatches(run, sections, measured), remark));
}

const MOST_AT_ONCE = 4096;

/** Outputs that differ may have been computed in batches of another size. Whatever goes wrong here, the verdict stands. */
async function otherBatches(
  run: Run,
  sections: ReturnType<typeof goldenSections>,
  { batch, samples }: GoldenMeasured,
): Promise<readonly BatchFound[]> {
  if (!batch.free || run.child === null) return [];
  const sizes = [...new Set([1, Math.min(samples, MOST_AT_ONCE)])].filter(
    (size) => size !== Math.min(batch.size ?? 0, samples),
  );
  const { memoryBytes: limit } = run.deps;
  const found: BatchFound[] = [];
  for (const size of sizes) {
    const question = {
      kind: "batches",
      path: fileOf(run, "golden"),
      limit,
      sizes: [size],
      sections,
    } as const;
    const answered = await ask(run, run.child, "Golden", question);
    if (!answered.ok) return found;
    found.push(...answered.value.found);
  }
  return found;
}

/** The model in a new process, and the samples with it, where the one before has ended. */
async function reload(run: Run): Promise<Asking<ModelProcess>> {
  await run.child?.end();
  run.child = null;
  const started = await startProcess(run);
  if (!started.ok) return err(error(REASONS.VerificationError, endText(started.error)));
  run.child = started.value;
  const loading = { kind: "load", path: fileOf(run, "model"), threads: threadsOf(run.request) } as const;
  const loaded = await ask(run, started.value, "Load", loading);
  if (!loaded.ok) return loaded;
  const samples = samplesOf(run);
  if (samples === null || run.request.checks.golden === undefined) return ok(started.value);
  const reading = { kind: "golden", ...samples, batchSize: null, sections: [], finiteOnly: false } as const;
  const read = await ask(run, started.value, "Golden", reading);
  return read.ok ? ok(started.value) : read;
}

async function determinismOf(run: Run, wanted: Asked<"determinism">): Promise<Step> {
  const tolerance = toleranceOf({ maximumAbsoluteError: wanted.maximumAbsoluteError ?? 0 });
  const { runs } = wanted;
  const asked = wanted.batchSize ?? run.request.checks.golden?.batchSize;
  const { answered, remark } = await withLessMemory(run, asked === undefined, (child, least) =>
    ask(run, child, "Determinism", {
      kind: "determinism",
      runs,
      tolerance,
      batchSize: least ?? asked ?? null,
    }),
  );
  if (!answered.ok) return answered.error;
  const { comparison, input } = answered.value;
  return judged(judgeDeterminism(wanted, comparison, remark === "" ? input : `${input} (${remark})`));
}

async function parityOf(
  run: Run,
  name: "Parity" | "VariantParity",
  wanted: Asked<"parity"> | Asked<"variantParity">,
  reference: Reference | null,
): Promise<Step> {
  if (reference === null) return { kind: "skipped", because: "there is nothing to compare with" };
  const lacking = lackingOf(reference);
  if (reference.sizeBytes > run.deps.memoryBytes) return lacking("it is larger than the memory it may use");
  const got = await run.deps.fetch(reference, join(run.directory, `${name}.onnx`), run.signal);
  if (!got.ok) return lacking(got.error.message);
  if (got.value.digest !== reference.digest)
    return lacking(`its file is ${got.value.digest}, it should be ${reference.digest}`);
  const asked = wanted.batchSize ?? run.request.checks.golden?.batchSize ?? null;
  const path = relativePath(run.cell.cwd, got.value.path);
  const about = { name, wanted, reference, path };
  const first = await compareWith(run, about, asked);
  if (asked !== null || !first.outOfMemory) return first.step;
  const again = await compareWith(run, about, 1);
  return again.outOfMemory ? first.step : again.step;
}

function lackingOf({ name }: Reference): (message: string) => Step {
  return (message) => error(REASONS.ReferenceUnavailable, `${name}, to compare with: ${message}`);
}

/** In a process of its own, which has two models: what it takes is not what the model takes. */
async function compareWith(
  run: Run,
  about: {
    readonly name: "Parity" | "VariantParity";
    readonly wanted: Asked<"parity"> | Asked<"variantParity">;
    readonly reference: Reference;
    readonly path: string;
  },
  batchSize: number | null,
): Promise<{ readonly step: Step; readonly outOfMemory: boolean }> {
  const { name, reference, path } = about;
  const { reference: _reference, ...wanted } = about.wanted;
  const lacking = lackingOf(reference);
  const ends = (step: Step, outOfMemory = isOutOfMemory(step)) => ({ step, outOfMemory });
  const started = await startProcess(run);
  if (!started.ok) return ends(error(REASONS.VerificationError, endText(started.error)));
  const child = started.value;
  try {
    const threads = threadsOf(run.request);
    const limit = run.deps.memoryBytes;
    const first = [
      { kind: "load", path, threads },
      { kind: "remember", samples: samplesOf(run), limit, batchSize },
    ] as const;
    for (const question of first) {
      const answered = await child.ask(question);
      if (!answered.ok)
        return ends(
          lacking(`it could not be run: ${endText(answered.error)}`),
          answered.error.kind === "outOfMemory",
        );
      const { value: said } = answered;
      if (said.kind === "refused" && ["compare", "input"].includes(said.because))
        return ends(unexpected(name, said));
      if (said.kind === "refused" || said.kind === "broken")
        return ends(
          lacking(`it could not be run: ${said.message}`),
          said.kind === "refused" && said.because === "memory",
        );
      const other = said.kind === "loaded" ? inputsDifference(signatureFound(run), said.signature) : null;
      if (other !== null) return ends(judged(failed(name, REASONS.NotComparable, { message: other })));
    }
    const loaded = await ask(run, child, name, { kind: "load", path: fileOf(run, "model"), threads });
    if (!loaded.ok) return ends(loaded.error);
    const sections = paritySections(wanted);
    const compared = await ask(run, child, name, { kind: "compare", sections });
    return ends(
      compared.ok
        ? judged(judgeParity(name, wanted, compared.value.measured, reference.name))
        : compared.error,
    );
  } finally {
    await child.end();
  }
}

function samplesOf(run: Run): Samples {
  const path = run.files.get("golden");
  return path === undefined ? null : { path, limit: run.deps.memoryBytes };
}

async function latencyOf(run: Run, wanted: Asked<"latency">): Promise<Step> {
  const { throughput } = run.request.checks;
  const { warmup, samples, batchSize } = wanted;
  const answered = await ask(run, childOf(run), "Latency", { kind: "latency", warmup, samples, batchSize });
  if (!answered.ok) return answered.error;
  const rate = throughput === undefined ? null : numberOf(throughput.minimumPerSecond);
  return judged(judgeLatency(wanted, answered.value.runs, answered.value.input, rate));
}

async function throughputOf(run: Run, wanted: Asked<"throughput">): Promise<Step> {
  const answered = await ask(run, childOf(run), "Throughput", {
    kind: "throughput",
    milliseconds: millisOf(wanted.duration),
    batchSize: wanted.batchSize,
  });
  if (!answered.ok) return answered.error;
  return judged(judgeThroughput(wanted, answered.value, threadsOf(run.request)));
}

/** In a process of its own, which has done nothing else. */
async function memoryOf(run: Run, wanted: Asked<"memory">): Promise<Step> {
  const maximum = bytesOf(wanted.maximum);
  if (maximum === null) return error(REASONS.VerificationError, `"${wanted.maximum}" is no size`);
  await run.child?.end();
  run.child = null;
  const started = await startProcess(run);
  if (!started.ok) return error(REASONS.VerificationError, endText(started.error));
  try {
    const answered = await ask(run, started.value, "Memory", {
      kind: "memory",
      path: fileOf(run, "model"),
      threads: threadsOf(run.request),
      batchSize: run.request.checks.latency?.batchSize ?? 1,
      signature: signatureFound(run),
      samples: samplesOf(run),
    });
    if (!answered.ok) return answered.error;
    return judged(judgeMemory(maximum, answered.value.bytes, answered.value.input));
  } finally {
    await started.value.end();
  }
}

/** An answer, or what it means that there is none. */
type Asking<Value> = Result<Value, Step>;

/** The kind of answer that each question has. */
type Kinds = {
  readonly load: "loaded";
  readonly golden: "golden";
  readonly batches: "batches";
  readonly determinism: "determinism";
  readonly remember: "remembered";
  readonly compare: "parity";
  readonly latency: "latency";
  readonly throughput: "throughput";
  readonly memory: "memory";
};
const KINDS: Kinds = {
  load: "loaded",
  golden: "golden",
  batches: "batches",
  determinism: "determinism",
  remember: "remembered",
  compare: "parity",
  latency: "latency",
  throughput: "throughput",
  memory: "memory",
};

/** Asks, and says what it means where the answer is another one than was asked for, or none. */
async function ask<Q extends Question>(
  run: Run,
  child: ModelProcess,
  name: CheckName,
  question: Q,
): Promise<Asking<Extract<Answer, { readonly kind: Kinds[Q["kind"]] }>>> {
  const answer = await child.ask(question);
  if (!answer.ok) {
    run.deps.meter?.count("edgefleet_verifier_children_ended_total", { how: answer.error.kind });
    return { ok: false, error: ended(name, answer.error, run.request) };
  }
  if (answer.value.kind !== KINDS[question.kind]) return { ok: false, error: unexpected(name, answer.value) };
  return ok(answer.value as Extract<Answer, { readonly kind: Kinds[Q["kind"]] }>);
}

function judged(judgement: Judgement): Step {
  return { kind: "judged", judgement };
}

function error(reason: Reason, message: string): Step {
  return { kind: "error", reason, message };
}

const REASON_OF: Readonly<Record<Refusal, Reason>> = {
  load: REASONS.LoadFailed,
  operator: REASONS.OperatorUnsupported,
  opset: REASONS.OpsetUnsupported,
  external: REASONS.ExternalData,
  golden: REASONS.GoldenUnreadable,
  misfit: REASONS.GoldenMismatch,
  ambiguous: REASONS.OutputAmbiguous,
  bound: REASONS.BoundUnusable,
  input: REASONS.InputNeeded,
  locale: REASONS.LocaleMissing,
  run: REASONS.RunFailed,
  memory: REASONS.OutOfMemory,
  compare: REASONS.NotComparable,
};

/** What the child said instead of an answer to the question. */
function unexpected(name: CheckName, answer: Answer): Step {
  if (answer.kind === "refused") {
    const message =
      answer.because === "memory" ? `the model needs too much memory: ${answer.message}` : answer.message;
    const reason = REASON_OF[answer.because];
    // No facts about the model: nothing that it could have been asked, or a machine that cannot ask it.
    if (answer.because === "input" || answer.because === "locale")
      return error(reason, printable(`${name}: ${message}`));
    return judged(failed(name, reason, { message }));
  }
  const message = answer.kind === "broken" ? answer.message : `${answer.kind} is no answer`;
  return error(REASONS.VerificationError, printable(`${name}: ${message}`));
}

/** What it means that the child ended in the middle of a check. */
function ended(name: CheckName, end: ProcessEnd, { checks }: VerifyRequest): Step {
  const during = `in check ${name}`;
  switch (end.kind) {
    case "timedOut":
      return judged(
        failed(name, REASONS.TimedOut, {
          bound: durationText(millisOf(checks.timeout)),
          message: `the model was not done after ${checks.timeout}, ${during}, and was stopped`,
        }),
      );
    case "outOfMemory":
      return judged(
        failed(name, REASONS.OutOfMemory, {
          message: `the model needs too much memory ${during}: ${end.message}`,
        }),
      );
    case "crashed":
      return judged(
        failed(name, REASONS.Crashed, { message: `the model crashed ${during}: ${end.message}` }),
      );
    case "lost":
    case "cancelled":
      return error(REASONS.VerificationError, endText(end));
    default:
      return unreachable(end);
  }
}

function endText(end: ProcessEnd): string {
  return "message" in end ? end.message : `the verification was stopped (${end.kind})`;
}

function broken(reason: Reason, message: string): Verified {
  return { report: { kind: "error", reason, message: printable(message) }, full: null };
}

/** The verdict once the checks are over. After one that failed the rest is skipped, and says after what. */
function verdict(
  run: Run,
  startedAt: Instant,
  done: readonly CheckReport[],
  refusal: { readonly reason: Reason; readonly result: CheckResult } | null,
): Verified {
  const rest = checksOf(run)
    .slice(done.length)
    .map(
      ({ name }): CheckReport => ({
        ...skipped(name, `not run, because ${refusal?.result.name} failed`),
        took: 0,
      }),
    );
  const all: readonly CheckReport[] = [...done, ...rest];
  const checks = all.map(({ took: _took, details: _details, ...result }) => result);
  const message =
    refusal === null ? passedText(checks) : (refusal.result.message ?? `${refusal.result.name} failed`);
  const { model } = run;
  const { version: verifierVersion, clock } = run.deps;
  const { golden } = run.request;
  return {
    report:
      refusal === null
        ? { kind: "passed", checks, verifierVersion }
        : { kind: "failed", reason: refusal.reason, message, checks, verifierVersion },
    full: {
      format: "edgefleet.dev/verification-report/v1",
      verdict: refusal === null ? "Passed" : "Failed",
      ...(refusal === null ? {} : { reason: refusal.reason }),
      message,
      verifierVersion,
      startedAt: timestampOf(startedAt),
      finishedAt: timestampOf(clock.now()),
      model,
      golden: golden === null ? null : { digest: golden.digest, sizeBytes: golden.sizeBytes },
      checks: all,
    },
  };
}

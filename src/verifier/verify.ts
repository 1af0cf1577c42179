import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { CHECK_NAMES, type CheckResult } from "../api/model-release.ts";
import { REASONS, type Reason } from "../api/reasons.ts";
import { unreachable } from "../base/result.ts";
import { type Clock, durationText, millisOf } from "../base/time.ts";
import type { VerifyReport, VerifyRequest } from "../verification/verification.ts";
import {
  type Bytes,
  type CheckName,
  failed,
  type Judgement,
  judgeDigests,
  judgeGolden,
  judgeLatency,
  judgeSignature,
  passed,
  printable,
  sideText,
  skipped,
} from "./checks.ts";
import { type DownloadLimits, download } from "./download.ts";
import type { Answer, Refusal } from "./model-messages.ts";
import { type ModelProcess, type ProcessEnd, startModelProcess } from "./model-process.ts";
import type { Signature } from "./tensor.ts";

export type VerifyDeps = {
  /** Private to the sidecar; every verification has a directory in it while it runs. */
  readonly workdir: string;
  readonly memoryBytes: number;
  readonly downloads: DownloadLimits;
  /** Goes into every verdict. */
  readonly version: string;
  readonly clock: Clock;
};

/** Directories of verifications, so that those of an earlier life can be told from anything else. */
export const WORK_PREFIX = "verification-";

/** A check that was begun ends as a judgement, or as a fact about us. */
type Step<T> =
  | { readonly kind: "went"; readonly judgement: Judgement; readonly value: T }
  | { readonly kind: "refused"; readonly judgement: Judgement }
  | { readonly kind: "error"; readonly reason: Reason; readonly message: string };

/**
 * Runs all checks of one request, in order, and stops at the first that fails. It downloads into a directory of its
 * own and leaves neither file nor process behind.
 * @param begin is told the name of each check when it starts.
 */
export async function verify(
  request: VerifyRequest,
  begin: (check: string) => void,
  deps: VerifyDeps,
  signal: AbortSignal,
): Promise<VerifyReport> {
  const { model, golden, checks } = request;
  const done: CheckResult[] = [];
  const finish = (judgement: Judgement) => report([...done, judgement.result], judgement, deps.version);
  const tooLarge = oversized(request, deps.memoryBytes);
  if (tooLarge !== null) {
    done.push(skipped("Digest", "not downloaded: the file is too large to be loaded"));
    return finish(tooLarge);
  }

  const directory = await mkdtemp(join(deps.workdir, WORK_PREFIX));
  let child: ModelProcess | null = null;
  try {
    begin("Digest");
    const modelFile = join(directory, "model.onnx");
    const goldenFile = join(directory, "golden.npz");
    const files: Bytes[] = [];
    for (const [what, from, to] of [
      ["model", model, modelFile],
      ["golden set", golden, goldenFile],
    ] as const) {
      if (from === null) continue;
      const got = await download(from, to, deps.downloads, deps.clock, signal);
      if (!got.ok) return errorReport(got.error.reason, `downloading the ${what}: ${got.error.message}`);
      files.push({ what, expected: from.digest, got: got.value });
    }
    const digests = judgeDigests(files);
    if (digests.reason !== null) return finish(digests);
    done.push(digests.result);

    begin("Load");
    const limits = {
      memoryBytes: deps.memoryBytes,
      deadline: millisOf(checks.timeout),
      threads: checks.latency?.threads ?? 1,
    };
    const started = await startModelProcess(limits, signal);
    if (!started.ok) return errorReport(REASONS.VerificationError, endText(started.error));
    child = started.value;
    const context = { child, request, deps, goldenFile };

    const loading = await load(context, modelFile);
    if (loading.kind === "error") return errorReport(loading.reason, loading.message);
    if (loading.kind === "refused") return finish(loading.judgement);
    done.push(loading.judgement.result);

    for (const [name, run] of [
      ["Signature", () => signatureOf(request, loading.value)],
      ["Golden", () => goldenOf(context)],
      ["Latency", () => latencyOf(context)],
    ] as const) {
      begin(name);
      const step = await run();
      if (step === null) {
        done.push(skipped(name, "the release does not ask for it"));
        continue;
      }
      if (step.kind === "error") return errorReport(step.reason, step.message);
      if (step.kind === "refused") return finish(step.judgement);
      done.push(step.judgement.result);
    }
    return { kind: "passed", checks: done, verifierVersion: deps.version };
  } finally {
    await child?.end();
    await rm(directory, { recursive: true, force: true });
  }
}

function oversized({ model, golden }: VerifyRequest, memoryBytes: number): Judgement | null {
  const over = (bytes: number) => `${bytes} bytes, more than the ${memoryBytes} bytes of memory it may use`;
  if (model.sizeBytes > memoryBytes)
    return failed("Load", REASONS.OutOfMemory, { message: `the model is ${over(model.sizeBytes)}` });
  if (golden !== null && golden.sizeBytes > memoryBytes)
    return failed("Load", REASONS.GoldenUnreadable, {
      message: `the golden set is ${over(golden.sizeBytes)}`,
    });
  return null;
}

type Context = {
  readonly child: ModelProcess;
  readonly request: VerifyRequest;
  readonly deps: VerifyDeps;
  readonly goldenFile: string;
};

async function load({ child, request }: Context, path: string): Promise<Step<Signature>> {
  const threads = request.checks.latency?.threads ?? 1;
  const answer = await child.ask({ kind: "load", path, threads });
  if (!answer.ok) return ended("Load", answer.error, request);
  if (answer.value.kind !== "loaded") return unexpected("Load", answer.value);
  const { signature } = answer.value;
  const measured = `${sideText(signature.inputs)} → ${sideText(signature.outputs)}`;
  return { kind: "went", judgement: passed("Load", { measured }), value: signature };
}

function signatureOf({ checks }: VerifyRequest, signature: Signature): Promise<Step<null> | null> {
  return Promise.resolve(
    checks.signature === undefined ? null : judged(judgeSignature(checks.signature, signature)),
  );
}

async function goldenOf({ child, request, deps, goldenFile }: Context): Promise<Step<null> | null> {
  const bounds = request.checks.golden;
  if (bounds === undefined) return null;
  const wants = {
    labels: bounds.minimumAccuracy !== undefined,
    outputs: bounds.maximumAbsoluteError !== undefined,
  };
  const answer = await child.ask({ kind: "golden", path: goldenFile, wants, limit: deps.memoryBytes });
  if (!answer.ok) return ended("Golden", answer.error, request);
  if (answer.value.kind !== "golden") return unexpected("Golden", answer.value);
  return judged(judgeGolden(bounds, answer.value.measured));
}

async function latencyOf({ child, request }: Context): Promise<Step<null> | null> {
  const wanted = request.checks.latency;
  if (wanted === undefined) return null;
  const { warmup, samples, batchSize } = wanted;
  const answer = await child.ask({ kind: "latency", warmup, samples, batchSize });
  if (!answer.ok) return ended("Latency", answer.error, request);
  if (answer.value.kind !== "latency") return unexpected("Latency", answer.value);
  return judged(judgeLatency(wanted, answer.value.runs, answer.value.input));
}

function judged(judgement: Judgement): Step<null> {
  return judgement.reason === null
    ? { kind: "went", judgement, value: null }
    : { kind: "refused", judgement };
}

const REASON_OF: Readonly<Record<Refusal, Reason>> = {
  load: REASONS.LoadFailed,
  golden: REASONS.GoldenUnreadable,
  run: REASONS.RunFailed,
  memory: REASONS.OutOfMemory,
};

/** What the child said instead of an answer to the question. */
function unexpected(name: CheckName, answer: Answer): Step<never> {
  if (answer.kind === "refused") {
    const message =
      answer.because === "memory" ? `the model needs too much memory: ${answer.message}` : answer.message;
    return { kind: "refused", judgement: failed(name, REASON_OF[answer.because], { message }) };
  }
  const message = answer.kind === "broken" ? answer.message : `${answer.kind} is no answer`;
  return { kind: "error", reason: REASONS.VerificationError, message: printable(`${name}: ${message}`) };
}

/** What it means that the child ended in the middle of a check. */
function ended(name: CheckName, end: ProcessEnd, { checks }: VerifyRequest): Step<never> {
  const during = `in check ${name}`;
  switch (end.kind) {
    case "timedOut":
      return {
        kind: "refused",
        judgement: failed(name, REASONS.TimedOut, {
          bound: durationText(millisOf(checks.timeout)),
          message: `the model was not done after ${checks.timeout}, ${during}, and was stopped`,
        }),
      };
    case "outOfMemory":
      return {
        kind: "refused",
        judgement: failed(name, REASONS.OutOfMemory, {
          message: `the model needs too much memory ${during}: ${end.message}`,
        }),
      };
    case "crashed":
      return {
        kind: "refused",
        judgement: failed(name, REASONS.Crashed, { message: `the model crashed ${during}: ${end.message}` }),
      };
    case "lost":
    case "cancelled":
      return { kind: "error", reason: REASONS.VerificationError, message: endText(end) };
    default:
      return unreachable(end);
  }
}

function endText(end: ProcessEnd): string {
  return "message" in end ? end.message : `the verification was stopped (${end.kind})`;
}

function errorReport(reason: Reason, message: string): VerifyReport {
  return { kind: "error", reason, message: printable(message) };
}

/** A failed report: the checks that come after are skipped, and say after what. */
function report(done: readonly CheckResult[], judgement: Judgement, verifierVersion: string): VerifyReport {
  const { result, reason } = judgement;
  const rest = CHECK_NAMES.slice(CHECK_NAMES.indexOf(result.name) + 1).map((name) =>
    skipped(name, `not run, because ${result.name} failed`),
  );
  return {
    kind: "failed",
    reason: reason ?? REASONS.VerificationFailed,
    message: result.message ?? `${result.name} failed`,
    checks: [...done, ...rest],
    verifierVersion,
  };
}

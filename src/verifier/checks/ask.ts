import { REASONS, type Reason } from "../../api/reasons.ts";
import { ok, type Result, unreachable } from "../../base/result.ts";
import { durationText, millisOf } from "../../base/time.ts";
import type { VerifyRequest } from "../../verification/verification.ts";
import type { ModelProcess } from "../process/model-process.ts";
import type { ProcessEnd } from "../process/process-end.ts";
import type { Answer, Question, RefusalKind } from "../protocol/messages.ts";
import { error, judged, type Run, type Step } from "./check.ts";
import { type CheckName, failed, printable } from "./judgement.ts";

// A question to the child process, and what it means for a check that the answer is another one, or none.

/** An answer, or what it means that there is none. */
export type Asking<Value> = Result<Value, Step>;

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
export async function ask<Q extends Question>(
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

const REASON_OF: Readonly<Record<RefusalKind, Reason>> = {
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
export function unexpected(name: CheckName, answer: Answer): Step {
  if (answer.kind === "refused") {
    const message =
      answer.because === "memory" ? `the model needs too much memory: ${answer.message}` : answer.message;
    const reason = REASON_OF[answer.because];
    // No facts about the model: nothing that it could have been asked, or a machine that cannot ask it.
    if (answer.because === "input" || answer.because === "locale")
      return error(reason, printable(`${name}: ${message}`));
    return judged(failed(name, reason, { message }));
  }
  const message = answer.kind === "broken" ? answer.message : `${answer.kind} does not answer the question`;
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
          message: `the model did not finish within ${checks.timeout}, ${during}, and was stopped`,
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

export function endText(end: ProcessEnd): string {
  return "message" in end ? end.message : `the verification was stopped (${end.kind})`;
}

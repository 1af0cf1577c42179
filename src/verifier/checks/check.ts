import type { Verification } from "../../api/model-release.ts";
import type { Reason } from "../../api/reasons.ts";
import type { ModelFacts } from "../../api/verification-report.ts";
import type { Result } from "../../base/result.ts";
import { type Clock, millisOf } from "../../base/time.ts";
import type { Meter } from "../../telemetry/telemetry.ts";
import type { VerifyRequest } from "../../verification/verification.ts";
import type { Fetch } from "../files/download.ts";
import type { Signature } from "../onnx/tensor.ts";
import { type ModelProcess, startModelProcess } from "../process/model-process.ts";
import type { ProcessEnd } from "../process/process-end.ts";
import type { Sandbox, SandboxSession } from "../process/sandbox.ts";
import type { Samples } from "../protocol/messages.ts";
import type { CheckName, Judgement } from "./judgement.ts";

// What every check has in common: what it runs in, what it finds there, and how it ends.

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

/** A check that was begun ends as a judgement, or as a fact about us. */
export type Step =
  | { readonly kind: "judged"; readonly judgement: Judgement }
  /** It does not apply; the other checks continue. */
  | { readonly kind: "skipped"; readonly because: string }
  | { readonly kind: "error"; readonly reason: Reason; readonly message: string };

export type Asked<Name extends keyof Verification> = NonNullable<Verification[Name]>;

export type Check = { readonly name: CheckName; readonly run: () => Promise<Step> };

export type Run = {
  readonly request: VerifyRequest;
  readonly deps: VerifyDeps;
  readonly directory: string;
  readonly signal: AbortSignal;
  readonly session: SandboxSession;
  /** Where the child finds the files. */
  readonly files: Map<"model" | "golden", string>;
  /** The process that has the model loaded, from Load on. */
  child: ModelProcess | null;
  model: ModelFacts | null;
};

export function judged(judgement: Judgement): Step {
  return { kind: "judged", judgement };
}

export function error(reason: Reason, message: string): Step {
  return { kind: "error", reason, message };
}

export function threadsOf({ checks }: VerifyRequest): number {
  return checks.latency?.threads ?? 1;
}

export function startProcess({
  request,
  deps,
  session,
  signal,
}: Run): Promise<Result<ModelProcess, ProcessEnd>> {
  const { memoryBytes } = deps;
  const limits = { memoryBytes, deadline: millisOf(request.checks.timeout), threads: threadsOf(request) };
  return startModelProcess(limits, session, signal);
}

/** Only checks behind one that was passed ask for what that one has found. */
export function fileOf(run: Run, what: "model" | "golden"): string {
  const path = run.files.get(what);
  if (path === undefined) throw new Error(`the ${what} was not downloaded`);
  return path;
}

export function childOf({ child }: Run): ModelProcess {
  if (child === null) throw new Error("the model was not loaded");
  return child;
}

export function signatureFound({ model }: Run): Signature {
  if (model === null) throw new Error("the model was not loaded");
  return { inputs: model.inputs, outputs: model.outputs };
}

export function samplesOf(run: Run): Samples {
  const path = run.files.get("golden");
  return path === undefined ? null : { path, limit: run.deps.memoryBytes };
}

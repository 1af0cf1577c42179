import { REASONS } from "../../api/reasons.ts";
import { err, ok } from "../../base/result.ts";
import type { ModelProcess } from "../process/model-process.ts";
import { type Asking, ask, endText } from "./ask.ts";
import { childOf, error, fileOf, type Run, type Step, samplesOf, startProcess, threadsOf } from "./check.ts";

/**
 * Asks, and if the default number of samples at once needs too much memory, asks again for one at a time, in a new process.
 * @param free whether the release leaves the number open.
 */
export async function withLessMemory<Value>(
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

export function isOutOfMemory(step: Step): boolean {
  return step.kind === "judged" && step.judgement.reason === REASONS.OutOfMemory;
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

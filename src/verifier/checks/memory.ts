import { REASONS } from "../../api/reasons.ts";
import { bytesOf } from "../../base/quantity.ts";
import { ask, endText } from "./ask.ts";
import {
  type Asked,
  error,
  fileOf,
  judged,
  type Run,
  type Step,
  samplesOf,
  signatureFound,
  startProcess,
  threadsOf,
} from "./check.ts";
import { failed, type Judgement, passed } from "./judgement.ts";

// Memory: what the model takes while it is loaded and run.

/** In a process of its own, which has done nothing else. */
export async function checkMemory(run: Run, wanted: Asked<"memory">): Promise<Step> {
  const maximum = bytesOf(wanted.maximum);
  if (maximum === null) return error(REASONS.VerificationError, `"${wanted.maximum}" is not a valid size`);
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

/** @param maximum bytes. */
export function judgeMemory(maximum: number, bytes: number | null, input: string): Judgement {
  const bound = `≤ ${mebibytesText(maximum)}`;
  const method = `highest resident memory while it was loaded and run (${input}), less that of the runtime alone`;
  if (bytes === null)
    return {
      result: {
        name: "Memory",
        outcome: "Skipped",
        bound,
        message: "this system does not report resident memory",
      },
      reason: null,
    };
  const facts = { measured: mebibytesText(bytes), bound, method };
  const details = { bytes };
  if (bytes <= maximum) return { ...passed("Memory", facts), details };
  return {
    ...failed("Memory", REASONS.MemoryTooHigh, {
      ...facts,
      message: `the model needs ${mebibytesText(bytes)} of memory at its peak, more than ${mebibytesText(maximum)}`,
    }),
    details,
  };
}

/** One decimal, rounded up: what exceeds a bound must not look as if it did not. */
function mebibytesText(bytes: number): string {
  return `${Math.ceil((bytes / 2 ** 20) * 10) / 10} MiB`;
}

import { canonicalJson } from "../../base/digest.ts";
import type { Status } from "./draft.ts";

/** Whether a status differs in more than counts, measured values and examples. */
export function isSignificantChange(before: Status | null, after: Status): boolean {
  return canonicalJson(significantFields(before)) !== canonicalJson(significantFields(after));
}

function significantFields(status: Status | null): unknown {
  if (status === null) return null;
  const { devices: _counts, analysis = [], conditions = [], failedDevices: _examples, ...state } = status;
  return {
    ...state,
    analysis: analysis.map(({ metric, verdict, breachedSince }) => ({ metric, verdict, breachedSince })),
    conditions: conditions.map(({ type, status: is, reason, observedGeneration }) => ({
      type,
      is,
      reason,
      observedGeneration,
    })),
  };
}

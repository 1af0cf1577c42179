import type { InferenceReport } from "../../src/api/device-contract.ts";
import type { Active } from "../devices/slot.ts";

/** What was measured since the last report. */
export type Window = { readonly since: number; readonly latencies: number[]; errors: number };

export function newWindow(): Window {
  return { since: performance.now(), latencies: [], errors: 0 };
}

/** `null` for a window with nothing in it: it is left out. */
export function windowOf(
  { since, latencies, errors }: Window,
  active: Active,
  endedAt: string,
): InferenceReport["window"] | null {
  if (latencies.length === 0) return null;
  const seconds = (performance.now() - since) / 1000;
  const sorted = latencies.toSorted((a, b) => a - b);
  const at = (share: number) =>
    rounded(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0);
  const inferences = latencies.length + errors;
  return {
    release: active.release,
    seconds: rounded(seconds),
    inferences,
    errors,
    framesPerSecond: rounded(inferences / seconds),
    latencyMilliseconds: { p50: at(0.5), p95: at(0.95), p99: at(0.99) },
    endedAt,
  };
}

function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}

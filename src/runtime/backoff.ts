import { type Millis, millis } from "../base/time.ts";

/** How long to wait after that many failures in a row; the first failure is 1. */
export type Backoff = (failures: number) => Millis;

/**
 * Doubles from `base` up to `cap`, each time somewhere between half and the whole of it: enough jitter to spread a fleet
 * that failed at the same moment, and never so little that a retry comes at once.
 */
export function exponential(base: Millis, cap: Millis, random: () => number): Backoff {
  return (failures) => {
    const whole = Math.min(cap, base * 2 ** Math.min(failures - 1, 52));
    return millis(whole * (0.5 + 0.5 * random()));
  };
}

/** The back-off, and no less than what the fault asks for. */
export function pauseAfter(
  fault: { readonly kind: string; readonly retryAfter?: Millis | null },
  backoff: Millis,
): Millis {
  return millis(Math.max(fault.retryAfter ?? 0, backoff));
}

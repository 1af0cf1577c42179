import { instant, seconds } from "../../src/base/time.ts";
import type { Lease } from "../../src/kube/leadership/lease.ts";

/** A Lease that another candidate holds. */
export const lease = (change: Partial<Lease> = {}): Lease => ({
  holder: "other",
  duration: seconds(15),
  acquiredAt: instant(0),
  renewedAt: instant(0),
  transitions: 0,
  version: "1",
  ...change,
});

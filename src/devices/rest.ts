import { lifecycleOf } from "../api/resource.ts";
import { durationText, elapsed, later, type Millis, millis, millisOf, seconds } from "../base/time.ts";
import { bucketFor } from "./decide.ts";
import { heartbeatOf, presenceOf } from "./report/presence.ts";
import type { DeviceSeen } from "./seen.ts";

/** How long a device that does not report is left alone before the fleet view is looked at again. */
const LOOK_AGAIN = seconds(30);
/** Wakes are spread over this much, by the device's bucket: the same device always waits the same. */
const SPREAD = seconds(10);

export type Wake = { readonly delay: Millis; readonly why: string };

/** `null`: nothing to wait for. Heartbeats are not changes, so no trigger announces when they begin or end. */
export function wakeOf(seen: DeviceSeen): Wake | null {
  const { device, hub, now } = seen;
  if (lifecycleOf(device) === "cleanup") return null;
  const spread = millis(Math.round((bucketFor(seen) / 1_000_000) * SPREAD));
  const heartbeatAt = heartbeatOf(hub.kind === "present" ? hub.slots : {});
  const timeout = millisOf(device.spec.heartbeatTimeout);
  const facts = {
    enabled: device.spec.enabled,
    hasReported: heartbeatAt !== null,
    heartbeatAt,
    timeout,
    hubReachable: seen.hubReachable,
    now,
  };
  if (heartbeatAt === null || presenceOf(facts).status !== "True")
    return { delay: millis(LOOK_AGAIN + spread), why: "waiting for a heartbeat" };
  const left = elapsed(now, later(heartbeatAt, timeout));
  return { delay: millis(left + spread), why: `expecting a heartbeat every ${durationText(timeout)}` };
}

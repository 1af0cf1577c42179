import type { EdgeDeviceSpec, EdgeDeviceStatus } from "../api/edge-device.ts";
import type { ObjectKey } from "../api/resource.ts";
import { canonicalJson } from "../base/digest.ts";
import type { Attempt } from "../base/fault.ts";
import { ok, unreachable } from "../base/result.ts";
import { seconds } from "../base/time.ts";
import type { EventRecorder, Resources } from "../kube/kube.ts";
import { cycle, type Done } from "../runtime/cycle.ts";
import { type Outcome, outcomeOfFault, type Reconcile, SETTLED } from "../runtime/outcome.ts";
import { type ActDeps, actOnDevice } from "./act.ts";
import { type DevicePlan, decideDevice } from "./decide.ts";
import { type ObserveDeps, observeDevice } from "./observe.ts";
import { eventsOf } from "./report/events.ts";
import { statusOf } from "./report/report.ts";
import { wakeOf } from "./rest.ts";
import type { DeviceActed, DeviceSeen } from "./seen.ts";

export type DeviceDeps = ObserveDeps &
  ActDeps & {
    readonly devices: Resources<EdgeDeviceSpec, EdgeDeviceStatus>;
    readonly recorder: EventRecorder;
  };

/** Keeps the identity, the tags and the status of one EdgeDevice; the sole writer of `tags.edgefleet`. */
export function reconcileDevice(deps: DeviceDeps): Reconcile<ObjectKey> {
  return cycle<ObjectKey, DeviceSeen, DevicePlan, DeviceActed>({
    observe: observeDevice(deps),
    decide: decideDevice,
    commit: (seen, plan, signal) => commit(deps, seen, plan, signal),
    act: actOnDevice(deps),
    report: (seen, plan, done, signal) => publish(deps, seen, plan, done, signal),
    rest,
  });
}

/** The finalizer before anything of ours is on the hub; and before it, that an identity was there without us. */
async function commit(
  deps: Pick<DeviceDeps, "devices">,
  seen: DeviceSeen,
  plan: DevicePlan,
  signal: AbortSignal,
): Attempt<DeviceSeen> {
  if (plan.kind !== "keep") return ok(seen);
  let { device } = seen;
  const { record, finalizer } = plan.remember;
  if (record !== null) {
    const written = await deps.devices.writeStatus(device, { ...device.status, hub: record }, signal);
    if (!written.ok) return written;
    device = written.value;
  }
  if (finalizer) {
    const held = await deps.devices.setFinalizer(device, "add", signal);
    if (!held.ok) return held;
    device = held.value;
  }
  return ok({ ...seen, device });
}

async function publish(
  deps: Pick<DeviceDeps, "devices" | "recorder">,
  seen: DeviceSeen,
  plan: DevicePlan,
  { acted, fault }: Done<DeviceActed>,
  signal: AbortSignal,
): Attempt<void> {
  const { device } = seen;
  const status = statusOf(seen, plan, acted, fault);
  if (status === null || canonicalJson(status) === canonicalJson(device.status)) return ok(undefined);
  const written = await deps.devices.writeStatus(device, status, signal);
  if (!written.ok) return written;
  const { namespace, name, uid } = device;
  for (const event of eventsOf(seen, plan, acted, fault, status))
    deps.recorder.record({ kind: "EdgeDevice", namespace, name, uid }, event);
  return ok(undefined);
}

function rest(seen: DeviceSeen, plan: DevicePlan, { fault }: Done<DeviceActed>): Outcome {
  if (fault !== null) return outcomeOfFault(fault);
  if (plan.kind === "blocked") {
    const { obstacle } = plan;
    switch (obstacle.kind) {
      case "fault":
        return outcomeOfFault(obstacle.fault);
      case "edgeMismatch":
        return { kind: "stalled", cause: "iotEdge of the identity differs from the spec" };
      case "notPermitted":
      case "deletionsPaused":
        return SETTLED;
      case "ownedByAnother":
        break;
      default:
        return unreachable(obstacle);
    }
  }
  // What is handed over or taken back is not over before the next look.
  if (plan.kind === "undo" && plan.actions.every(({ kind }) => kind !== "removeFinalizer"))
    return { kind: "wakeAfter", delay: seconds(1), why: "the handover of the identity" };
  const wake = wakeOf(seen);
  return wake === null ? SETTLED : { kind: "wakeAfter", ...wake };
}

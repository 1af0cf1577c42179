import type { EdgeDeviceSpec, EdgeDeviceStatus } from "../api/edge-device.ts";
import type { ObjectKey } from "../api/resource.ts";
import { canonicalJson } from "../base/digest.ts";
import { type Attempt, type Fault, ok, type Result, unreachable } from "../base/result.ts";
import { seconds } from "../base/time.ts";
import type { Announcer, Resources } from "../kube/kube.ts";
import { cycle } from "../runtime/cycle.ts";
import { type Outcome, outcomeOfFault, type Reconcile, SETTLED } from "../runtime/outcome.ts";
import { type ActDeps, actOnDevice } from "./act.ts";
import { type DevicePlan, decideDevice } from "./decide.ts";
import { type ObserveDeps, observeDevice } from "./observe.ts";
import { reportDevice } from "./report/report.ts";
import { wakeOf } from "./rest.ts";
import { type DeviceSeen, type Learned, NOTHING_LEARNED } from "./seen.ts";

export type DeviceDeps = ObserveDeps &
  ActDeps & {
    readonly devices: Resources<EdgeDeviceSpec, EdgeDeviceStatus>;
    readonly announcer: Announcer;
  };

/** Keeps the identity, the tags and the status of one EdgeDevice; the sole writer of `tags.edgefleet`. */
export function reconcileDevice(deps: DeviceDeps): Reconcile<ObjectKey> {
  const observe = observeDevice(deps);
  return (key, signal) => {
    let learned: Learned = NOTHING_LEARNED;
    const learn = (more: Partial<Learned>) => {
      learned = { ...learned, ...more };
    };
    return cycle<ObjectKey, DeviceSeen, DevicePlan>({
      observe,
      decide: decideDevice,
      commit: (seen, plan, during) => commit(deps, seen, plan, during),
      act: actOnDevice(deps, learn),
      report: (seen, plan, acted, during) => publish(deps, seen, plan, { acted, learned }, during),
      rest,
    })(key, signal);
  };
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
  deps: Pick<DeviceDeps, "devices" | "announcer">,
  seen: DeviceSeen,
  plan: DevicePlan,
  { acted, learned }: { readonly acted: Result<void, Fault>; readonly learned: Learned },
  signal: AbortSignal,
): Attempt<void> {
  const { device } = seen;
  const report = reportDevice(seen, plan, acted, learned);
  if (report === null || canonicalJson(report.status) === canonicalJson(device.status)) return ok(undefined);
  const written = await deps.devices.writeStatus(device, report.status, signal);
  if (!written.ok) return written;
  const { namespace, name, uid } = device;
  for (const note of report.notes)
    deps.announcer.announce({ kind: "EdgeDevice", namespace, name, uid }, note);
  return ok(undefined);
}

function rest(seen: DeviceSeen, plan: DevicePlan): Outcome {
  if (plan.kind === "blocked") {
    const { obstacle } = plan;
    switch (obstacle.kind) {
      case "fault":
        return outcomeOfFault(obstacle.fault);
      case "edgeMismatch":
        return { kind: "stalled", cause: "the identity's iotEdge is not the spec's" };
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
  if (plan.kind === "undo" && plan.actions.every(({ kind }) => kind !== "letGo"))
    return { kind: "wakeAfter", delay: seconds(1), why: "the handover of the identity" };
  const wake = wakeOf(seen);
  return wake === null ? SETTLED : { kind: "wakeAfter", ...wake };
}

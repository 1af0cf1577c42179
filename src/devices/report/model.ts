import type { InferenceReport } from "../../api/device-contract.ts";
import type { EdgeDeviceStatus } from "../../api/edge-device.ts";
import { REASONS, type Reason } from "../../api/reasons.ts";
import { own } from "../../base/lookup.ts";
import { redacted } from "../../base/redact.ts";
import type { ModuleSlot } from "../seen.ts";
import type { Placement } from "./placement.ts";

export type ModelStatus = NonNullable<EdgeDeviceStatus["model"]>;

export type Sync = {
  readonly status: "True" | "False" | "Unknown";
  readonly reason: Reason;
  readonly message: string;
};

/** The slot of one module; without IoT Edge there is only the device's own. */
export function slotFor(
  slots: Readonly<Record<string, ModuleSlot>>,
  iotEdge: boolean,
  module: string,
): ModuleSlot | undefined {
  return own(slots, iotEdge ? module : "");
}

/** What the device says it runs; `null` where it says nothing. `namespace` is cut off the names of releases. */
export function modelOf(
  report: InferenceReport | null,
  placement: Placement | null,
  namespace: string,
): ModelStatus | null {
  const active = report?.active;
  const update = report === null ? undefined : openUpdate(report, placement);
  const state = update?.state ?? (active === undefined ? undefined : "Running");
  if (state === undefined) return null;
  return {
    ...(active === undefined
      ? {}
      : {
          release: localName(active.release, namespace),
          digest: redacted(active.digest, 128),
          variant: redacted(active.variant, 128),
          since: redacted(active.since, 64),
        }),
    state,
  };
}

/**
 * The update that is still of interest: for other bytes than those that run, and not one that the device has long been
 * called back from (its report stays in the twin until the next update).
 */
function openUpdate(report: InferenceReport, placement: Placement | null): InferenceReport["update"] {
  const { active, update } = report;
  if (update === undefined || update.digest === active?.digest) return undefined;
  const wanted = placement?.digests ?? [];
  const settled = active !== undefined && wanted.includes(active.digest) && !wanted.includes(update.digest);
  return settled ? undefined : update;
}

/** Whether a device runs what its placement wants: it does when it says so. */
export function syncOf(report: InferenceReport | null, placement: Placement, namespace: string): Sync {
  if (placement.release === null)
    return {
      status: "True",
      reason: REASONS.NothingPlaced,
      message: `${placement.deployment} has no release for this device yet`,
    };
  if (report === null)
    return {
      status: "Unknown",
      reason: REASONS.NeverSeen,
      message: `${placement.module} has not reported; it should run ${placement.release}`,
    };
  const { active } = report;
  const update = openUpdate(report, placement);
  if (update?.state === "Failed" && wants(placement, update, namespace))
    return {
      status: "False",
      reason: REASONS.UpdateFailed,
      message: `${placement.module} failed to update to ${placement.release}${failure(update)}; ${running(active, namespace)}`,
    };
  if (active !== undefined && wants(placement, active, namespace))
    return {
      status: "True",
      reason: REASONS.InSync,
      message: `${placement.module} runs ${placement.release}`,
    };
  const progress = update !== undefined && wants(placement, update, namespace) ? ` (${update.state})` : "";
  return {
    status: "False",
    reason: REASONS.Updating,
    message: `${placement.module} should run ${placement.release}${progress}; ${running(active, namespace)}`,
  };
}

/** Bytes are known by their digest; the name alone counts only while the deployment does not say which digests. */
function wants(
  placement: Placement,
  said: { readonly release: string; readonly digest: string },
  namespace: string,
): boolean {
  if (placement.digests.length > 0) return placement.digests.includes(said.digest);
  return said.release === `${namespace}.${placement.release}`;
}

function failure(update: NonNullable<InferenceReport["update"]>): string {
  return update.error === undefined
    ? ""
    : `: ${redacted(update.error.code, 64)}: ${redacted(update.error.message, 400)}`;
}

function running(active: InferenceReport["active"], namespace: string): string {
  return active === undefined ? "it runs no model" : `it runs ${localName(active.release, namespace)}`;
}

function localName(release: string, namespace: string): string {
  return redacted(release.startsWith(`${namespace}.`) ? release.slice(namespace.length + 1) : release, 256);
}

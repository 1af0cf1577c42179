import { isForeign, type Owner } from "../../api/ownership.ts";
import { type Problem, REASONS, type Reason } from "../../api/reasons.ts";
import { FINALIZER } from "../../api/resource.ts";
import { ALLOW_DELETIONS_ANNOTATION } from "../../api/tenancy.ts";
import type { Fault } from "../../base/fault.ts";
import { redacted } from "../../base/redact.ts";
import { unreachable } from "../../base/result.ts";
import type { DevicePlan, Obstacle } from "../decide.ts";
import type { DeviceActed, DeviceSeen, SecretOutcome } from "../seen.ts";

// Why the hub is not in the desired state, and what to do about it.

/** `fault`: where a call failed, that one. */
export type DeviceProblem = Problem & { readonly fault: Fault | null };

/** Why the hub is not in the desired state. A conflict is not reported: the next pass reads and decides again. */
export function problemOf(
  seen: DeviceSeen,
  plan: DevicePlan,
  acted: DeviceActed,
  fault: Fault | null,
): DeviceProblem | null {
  if (plan.kind === "blocked") return obstacleProblem(seen, plan.obstacle);
  const { secret } = acted;
  if (secret?.kind === "failed") return { fault: secret.fault, ...secretProblem(secret) };
  return fault === null || fault.kind === "conflict" ? null : faultProblem(fault);
}

/** What other tenants call their objects is theirs. */
function ownedText({ device, grant, clusterId }: DeviceSeen, owner: Owner): string {
  const named = `EdgeDevice ${redacted(owner.namespace, 253)}/${redacted(owner.device, 253)}`;
  if (isForeign(owner, clusterId)) {
    const whose = grant.isOpen ? named : "an EdgeDevice";
    const other = redacted(owner.cluster ?? "", 128);
    return `the identity belongs to ${whose} of cluster ${other} and was not changed (this cluster is ${clusterId}); delete one of the two. If this cluster replaces that one, start its operator with --cluster-id ${other}`;
  }
  const whose =
    grant.isOpen || owner.namespace === device.namespace ? named : "an EdgeDevice of another namespace";
  return `the identity belongs to ${whose} and was not changed; delete one of the two, or, if that one no longer exists, remove the tag edgefleet from the twin`;
}

function obstacleProblem(seen: DeviceSeen, obstacle: Obstacle): DeviceProblem {
  switch (obstacle.kind) {
    case "fault":
      return faultProblem(obstacle.fault);
    case "ownedByAnother": {
      return { fault: null, reason: REASONS.OwnedByAnother, message: ownedText(seen, obstacle.owner) };
    }
    case "edgeMismatch":
      return {
        fault: null,
        reason: REASONS.HubRejected,
        message: `the identity on the hub ${obstacle.iotEdge ? "is" : "is not"} an IoT Edge device, which the hub cannot change; delete the identity, or recreate this EdgeDevice with iotEdge: ${obstacle.iotEdge}`,
      };
    case "notPermitted":
      return { fault: null, reason: REASONS.NotPermitted, message: obstacle.message };
    case "deletionsPaused":
      return { fault: null, reason: REASONS.DeletionsPaused, message: pausedText(seen) };
    default:
      return unreachable(obstacle);
  }
}

/** Without tenants the operator does not read Namespaces. */
function pausedText({ grant }: DeviceSeen): string {
  const where = grant.isOpen ? "of this EdgeDevice" : "of the Namespace (or of this EdgeDevice)";
  return `too many identities would be removed at once, so their removal must be confirmed. To remove them, set the annotation ${ALLOW_DELETIONS_ANNOTATION} ${where} to a time in the near future, such as 2026-12-01T10:00:00Z. To keep them on the hub, set spec.deletionPolicy to Retain`;
}

function faultProblem(fault: Fault): DeviceProblem {
  return { fault, reason: REASON_OF[fault.kind], message: messageFor(fault) };
}

const REASON_OF = {
  throttled: REASONS.HubThrottled,
  unavailable: REASONS.HubUnavailable,
  denied: REASONS.HubDenied,
  rejected: REASONS.HubRejected,
  conflict: REASONS.HubConflict,
} as const satisfies Readonly<Record<Fault["kind"], Reason>>;

function messageFor(fault: Fault): string {
  const cause = redacted(fault.message);
  switch (fault.kind) {
    case "throttled":
      return "the hub is throttling requests; it will be retried automatically";
    case "unavailable":
      return `the hub cannot be reached (${cause}); it will be retried automatically`;
    case "denied":
      return `the hub refuses the operator's credential (${cause}); grant it permission to manage identities and twins`;
    case "rejected":
      return `the hub rejected the request: ${cause}; change the spec or the identity`;
    case "conflict":
      return "it was changed in the meantime; it will be read again automatically";
    default:
      return unreachable(fault);
  }
}

export function secretProblem({
  source,
  fault,
}: Extract<SecretOutcome, { readonly kind: "failed" }>): Problem {
  return source === "hub"
    ? { reason: REASON_OF[fault.kind], message: messageFor(fault) }
    : {
        reason: REASONS.KubeUnavailable,
        message: `the connection Secret cannot be written: ${redacted(fault.message)}`,
      };
}

/** Why a deletion stands still, and whether the hub has to answer first or a person has to decide. */
export type DeletionHold = Problem & { readonly waitsFor: "hub" | "person" };

/** `null`: nothing is being deleted, or nothing keeps it. */
export function deletionHold(
  seen: DeviceSeen,
  plan: DevicePlan,
  acted: DeviceActed,
  fault: Fault | null,
): DeletionHold | null {
  if (plan.kind === "undo") {
    const isPassing = fault === null || fault.kind === "conflict" || acted.failedAt === "kube";
    return isPassing ? null : hubHold(fault);
  }
  if (plan.kind !== "blocked" || plan.lifecycle !== "cleanup") return null;
  const { obstacle } = plan;
  if (obstacle.kind === "fault") return hubHold(obstacle.fault);
  const { reason, message } = obstacleProblem(seen, obstacle);
  return { reason, message, waitsFor: "person" };
}

function hubHold(fault: Fault): DeletionHold {
  const message = `the deletion is waiting for the hub: ${messageFor(fault)}. If the hub no longer exists, remove the finalizer ${FINALIZER} manually`;
  return { reason: REASON_OF[fault.kind], message, waitsFor: "hub" };
}

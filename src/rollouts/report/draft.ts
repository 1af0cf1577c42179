import { type ConditionDraft, stampConditions } from "../../api/condition.ts";
import type { InferenceDeploymentStatus } from "../../api/inference-deployment.ts";
import type { Reason } from "../../api/reasons.ts";
import type { RolloutSeen } from "../seen.ts";

export type Status = InferenceDeploymentStatus;

/** A condition without its generation and its time. */
export type Bare = Omit<ConditionDraft, "observedGeneration">;

export function draft(type: string, status: Bare["status"], reason: Reason, message: string): Bare {
  return { type, status, reason, message };
}

export function stamped(seen: RolloutSeen, drafts: readonly Bare[]): NonNullable<Status["conditions"]> {
  const { generation, status } = seen.deployment;
  return stampConditions(
    status?.conditions ?? [],
    drafts.map((one) => ({ ...one, observedGeneration: generation })),
    seen.now,
  );
}

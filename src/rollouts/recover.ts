import { type InferenceDeployment, REQUESTS, requestAnnotation } from "../api/inference-deployment.ts";
import { LABEL, pointerIn } from "./content.ts";
import { ownConfigurations, referenceOf } from "./plan.ts";
import type { Seen } from "./seen.ts";
import type { Handled, ReleaseRef, RolloutState } from "./state.ts";

// An object without status is new, or it came back from a backup. The hub's configurations tell the two apart.

/**
 * The state to begin with: what the labels of our configurations say is stable, and everything else from the start.
 * A candidate that was under way begins again at its first step. `null`: the hub cannot be asked yet.
 */
export function recover(seen: Seen): RolloutState | null {
  if (seen.configurations === null) return null;
  const stable = stableFromLabels(seen);
  const kept = { quarantined: [], handled: tokensOf(seen.deployment), history: [] };
  if (stable !== null && stable.release === seen.deployment.spec.release.name) {
    return { ...kept, phase: "Completed", stable };
  }
  return { ...kept, phase: "Pending", stable, candidate: null };
}

function stableFromLabels(seen: Seen): ReleaseRef | null {
  const own = ownConfigurations(seen).filter(({ labels }) => labels[LABEL.track] === "stable");
  // Two stable releases at once: the rollout was being completed, and the one with the higher priority is the newer.
  const newest = own.toSorted((a, b) => b.priority - a.priority)[0];
  const name = newest?.labels[LABEL.release];
  if (name === undefined) return null;
  const release = seen.releases[name];
  if (release !== undefined) return referenceOf(release);
  const digests = own
    .filter(({ labels }) => labels[LABEL.release] === name)
    .flatMap((configuration) => pointerIn(configuration, seen.deployment.spec.module.name)?.digest ?? []);
  return { release: name, digests: [...new Set(digests)].sort() };
}

/** Requests that were there before the first look belong to a rollout that is no more. */
function tokensOf(deployment: InferenceDeployment): Handled {
  const [abort, promote, retry] = REQUESTS;
  const token = (request: (typeof REQUESTS)[number]): string | null =>
    deployment.annotations[requestAnnotation(request)]?.slice(0, 256) ?? null;
  return { abort: token(abort), promote: token(promote), retry: token(retry) };
}

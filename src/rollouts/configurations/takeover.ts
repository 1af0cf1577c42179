import { qualifiedName } from "../../api/membership.ts";
import { type ModelRelease, variantFor } from "../../api/model-release.ts";
import type { Problem } from "../../api/reasons.ts";
import { REASONS } from "../../api/reasons.ts";
import { type Instant, timestampOf } from "../../base/time.ts";
import { fullProblem } from "../preconditions.ts";
import type { Member, RolloutSeen } from "../seen.ts";
import type { Pending, ReleaseRef, RolledBack, RolloutState } from "../state/state.ts";
import { devices } from "../text.ts";
import { referenceOf, verificationOf } from "../verification.ts";
import type { Action } from "./action.ts";
import { baseActions } from "./actions.ts";
import { stableActions } from "./stable.ts";

// A deployment that has no stable release yet takes over the one that its devices run already: after a rename, a merge
// of two deployments, or a deletion that retained the models. The stable configurations stand before the state says so,
// and devices/ moves the tags only after that: no device is without a pointer in between.

export type Takeover =
  | { readonly kind: "none" }
  /** The configurations have to be made first; nothing else moves meanwhile. */
  | { readonly kind: "preparing"; readonly actions: readonly Action[]; readonly problem: Problem | null }
  | { readonly kind: "ready"; readonly state: RolloutState };

type Inherited = {
  readonly release: ModelRelease;
  readonly devices: number;
  /** The deployments that the devices had it from. */
  readonly from: readonly string[];
};

const NONE: Takeover = { kind: "none" };

export function takeoverOf(state: RolloutState, seen: RolloutSeen): Takeover {
  if (state.phase !== "Pending" && state.phase !== "RolledBack") return NONE;
  if (state.stable !== null || !seen.hub.reachable || seen.configurations === null) return NONE;
  const found = inherited(state, seen);
  if (found === null) return NONE;
  const stable = referenceOf(found.release);
  const changes = stableActions({ ...state, stable }, seen);
  if (changes.missing || verificationOf(found.release).kind !== "verified") {
    const message = `${devices(found.devices)} run ${stable.release} of ${found.from.join(", ")}; it will be taken over as soon as ModelRelease ${stable.release} is verified; until then, nothing changes`;
    return { kind: "preparing", actions: [], problem: { reason: REASONS.TakingOver, message } };
  }
  const actions = [...baseActions(seen), ...changes.create, ...changes.retarget];
  if (actions.length === 0) return { kind: "ready", state: takenOver(state, stable, found, seen.now) };
  const creates = actions.filter(({ kind }) => kind === "create" || kind === "createBase");
  const problem = fullProblem(seen, creates.length);
  return { kind: "preparing", actions: problem === null ? actions : [], problem };
}

/**
 * The release that most of the members were given by other deployments, provided that most members were given one: a
 * single device that moved in says nothing about the others. `null`: there is none that could be given to them again.
 */
function inherited(state: Pending | RolledBack, seen: RolloutSeen): Inherited | null {
  const own = qualifiedName(seen.deployment);
  // A pointer of our own name is an earlier life's: one that this object wrote is explained by its history.
  const isFresh = state.phase === "Pending" && state.candidate === null && state.history.length === 0;
  const votes = new Map<string, { devices: number; readonly from: Set<string> }>();
  let total = 0;
  for (const member of seen.members) {
    const deployment = member.pointer?.deployment;
    if (deployment === undefined || (deployment === own && !isFresh)) continue;
    const name = releaseBefore(member, seen);
    if (name === null) continue;
    total += 1;
    const vote = votes.get(name) ?? { devices: 0, from: new Set<string>() };
    vote.devices += 1;
    vote.from.add(deployment.slice(seen.deployment.namespace.length + 1));
    votes.set(name, vote);
  }
  if (total * 2 <= seen.members.length) return null;
  const wanted = seen.deployment.spec.release.name;
  const [best] = [...votes].sort(
    ([a, { devices: m }], [b, { devices: n }]) =>
      n - m || Number(b === wanted) - Number(a === wanted) || (a < b ? -1 : 1),
  );
  if (best === undefined) return null;
  const [name, vote] = best;
  const release = seen.releases[name];
  if (release === undefined || state.quarantined.some((entry) => entry.release === name)) return null;
  return { release, devices: vote.devices, from: [...vote.from].sort() };
}

/** What the device is to run by the deployment that gave it its pointer: stable, where it was trying a candidate. */
function releaseBefore(member: Member, seen: RolloutSeen): string | null {
  const { pointer } = member;
  const { namespace } = seen.deployment;
  if (pointer === null || !pointer.deployment.startsWith(`${namespace}.`)) return null;
  const pointed = pointer.release.slice(namespace.length + 1);
  const before = seen.predecessors.get(pointer.deployment);
  const isTrial = before?.candidate === pointed && before.stable !== null && before.stable !== pointed;
  const name = isTrial ? before.stable : pointed;
  const release = seen.releases[name];
  if (release === undefined || verificationOf(release).kind === "failed") return null;
  const digest = variantFor(release.spec.variants, member.deviceClass)?.digest;
  // Another object under the same name says nothing about the bytes that run.
  return isTrial || digest === pointer.digest ? name : null;
}

function takenOver(
  state: Pending | RolledBack,
  stable: ReleaseRef,
  { from, devices: count }: Inherited,
  now: Instant,
): RolloutState {
  const message = `${stable.release} is stable: taken over from ${from.join(", ")}, as ${devices(count)} run it`;
  const entry = { at: timestampOf(now), phase: state.phase, message: message.slice(0, 1024) };
  return { ...state, stable, history: [...state.history, entry].slice(-10) };
}

/** Names of the releases that the members' pointers mention, for a deployment that may take one of them over. */
export function pointedReleases(
  seen: Pick<RolloutSeen, "deployment" | "members" | "predecessors">,
): readonly string[] {
  const { namespace, status } = seen.deployment;
  if (status?.stable !== undefined) return [];
  const prefix = `${namespace}.`;
  const names = new Set<string>();
  for (const { pointer } of seen.members) {
    if (pointer === null || !pointer.release.startsWith(prefix)) continue;
    names.add(pointer.release.slice(prefix.length));
    const before = seen.predecessors.get(pointer.deployment)?.stable;
    if (before !== undefined && before !== null) names.add(before);
  }
  return [...names];
}

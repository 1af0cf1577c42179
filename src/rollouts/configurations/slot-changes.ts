import { variantFor } from "../../api/model-release.ts";
import { instant } from "../../base/time.ts";
import type { Configuration, ConfigurationKind, Lane } from "../../hub/hub.ts";
import { runs } from "../evidence/standing.ts";
import type { RolloutSeen, Track } from "../seen.ts";
import { exposureIndex } from "../state/exposure.ts";
import { newestEntry } from "../state/recover.ts";
import { isUnderWay, type ReleaseRef, type RolloutState } from "../state/state.ts";
import type { Create, Remove, Retarget } from "./action.ts";
import { configurationId, LABEL, pointerDraft } from "./content.ts";
import { expiryOf, ownOn } from "./own.ts";
import { type ConfigurationSlot, kindOf } from "./slots.ts";
import { MATCH_NONE } from "./target.ts";

// What brings the configurations of one track to its slots.

const HOUR = 3_600_000;

export type Changes = {
  readonly create: readonly Create[];
  readonly retarget: readonly Retarget[];
  readonly remove: readonly Remove[];
};

export const NO_CHANGES: Changes = { create: [], retarget: [], remove: [] };

/** A variant that no member needs today may be needed tomorrow, and does no harm: its condition is exact. */
export function idleOn(
  seen: RolloutSeen,
  track: Track,
  { release }: ReleaseRef,
  slots: readonly ConfigurationSlot[],
): ReadonlySet<string> {
  const idle = ownOn(seen, track)
    .filter(({ labels }) => labels[LABEL.release] === release)
    .filter(({ labels }) => !slots.some(({ variant, kind }) => isFor(labels, variant.name, kind)));
  return new Set(idle.map(({ id }) => id));
}

/** With the labels that it ought to have, and the state that it was written by. */
export function retargetOf(had: Configuration, condition: string, state: RolloutState, lane: Lane): Retarget {
  return { kind: "retarget", id: had.id, condition, labels: { ...had.labels, ...stampOf(state) }, lane };
}

function stampOf(state: RolloutState): Readonly<Record<string, string>> {
  const at = newestEntry(state);
  return at === null ? {} : { [LABEL.stateAt]: String(at) };
}

type SlotRules = {
  /** Whether a slot that has no configuration gets one. */
  readonly creatable: (slot: ConfigurationSlot) => boolean;
  /** Whether devices that still wait for it may have it. */
  readonly verified: boolean;
  /** Whether a device still has to download what the slot holds. */
  readonly waiting: (slot: ConfigurationSlot) => boolean;
  readonly stampedBy: RolloutState;
};

/** Brings the configurations of a track to its slots: one for each, with the right content, condition and a live URL. */
export function slotChanges(
  seen: RolloutSeen,
  track: Track,
  slots: readonly ConfigurationSlot[],
  conditionOf: (slot: ConfigurationSlot) => string,
  rules: SlotRules,
): Changes & { readonly missing: number } {
  const own = ownOn(seen, track);
  const kept = new Set<string>();
  const create: Create[] = [];
  const retarget: Retarget[] = [];
  let missing = 0;
  for (const slot of slots) {
    const condition = conditionOf(slot);
    const matching = own.filter(
      ({ labels, kind }) => labels[LABEL.contentHash] === slot.hash && kind === slot.kind,
    );
    const best = matching.toSorted((a, b) => expiryOf(b) - expiryOf(a) || (a.id < b.id ? -1 : 1))[0];
    if (best === undefined) {
      if (condition === MATCH_NONE) continue;
      if (rules.creatable(slot)) create.push(createAction(seen, track, slot, condition, rules.stampedBy));
      else missing += 1;
      continue;
    }
    kept.add(best.id);
    if (best.targetCondition !== condition) {
      retarget.push(retargetOf(best, condition, rules.stampedBy, "normal"));
    }
    const left = expiryOf(best) - seen.now;
    const due = left < seen.settings.sasLifetime / 4 && condition !== MATCH_NONE && rules.waiting(slot);
    if (due && rules.verified) create.push(createAction(seen, track, slot, condition, rules.stampedBy));
  }
  const remove = own
    .filter(({ id }) => !kept.has(id))
    .map(({ id }): Remove => ({ kind: "remove", id, lane: "normal" }));
  return { create, retarget, remove, missing };
}

function createAction(
  seen: RolloutSeen,
  track: Track,
  slot: ConfigurationSlot,
  condition: string,
  state: RolloutState,
): Create {
  const { deployment, now, settings } = seen;
  // In whole hours: a create that is retried soon has the same id, and is found to exist.
  const grain = Math.min(HOUR, settings.sasLifetime / 8);
  const expiresAt = instant(Math.floor((now + settings.sasLifetime) / grain) * grain);
  const verdict = slot.release.status?.variants?.find(({ name }) => name === slot.variant.name);
  return {
    kind: "create",
    id: configurationId(
      deployment,
      slot.variant.name,
      track,
      `${settings.clusterId}/${slot.kind}/${slot.hash}/${expiresAt}`,
    ),
    configurationKind: slot.kind,
    track,
    labels: {
      [LABEL.cluster]: settings.clusterId,
      [LABEL.owner]: deployment.uid,
      [LABEL.namespace]: deployment.namespace,
      [LABEL.name]: deployment.name,
      [LABEL.track]: track,
      [LABEL.release]: slot.release.name,
      [LABEL.variant]: slot.variant.name,
      [LABEL.kind]: slot.kind,
      [LABEL.generation]: String(deployment.generation),
      [LABEL.contentHash]: slot.hash,
      [LABEL.urlExpires]: String(Math.floor(expiresAt / 1000)),
      ...stampOf(state),
    },
    condition,
    module: deployment.spec.module,
    pointer: pointerDraft(deployment, slot.release, slot.variant),
    blob: slot.variant.blob,
    etag: verdict?.digest === slot.variant.digest ? (verdict.etag ?? null) : null,
    expiresAt,
    above: ownOn(seen, track).map(({ id }) => id),
  };
}

export function isWaitedFor(
  seen: RolloutSeen,
  state: RolloutState,
  slot: ConfigurationSlot,
  reference: ReleaseRef,
): boolean {
  const covers = exposureIndex(isUnderWay(state) ? state.exposure : []);
  const forCandidate = isUnderWay(state) && state.candidate === reference;
  return seen.members.some(
    (member) =>
      kindOf(member) === slot.kind &&
      variantFor(slot.release.spec.variants, member.deviceClass)?.name === slot.variant.name &&
      covers(member) === forCandidate &&
      !runs(member, reference, slot.release),
  );
}

function isFor(labels: Readonly<Record<string, string>>, variant: string, kind: ConfigurationKind): boolean {
  return labels[LABEL.variant] === variant && labels[LABEL.kind] === kind;
}

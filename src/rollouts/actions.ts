import type { ModelPointer } from "../api/device-contract.ts";
import type { InferenceDeployment } from "../api/inference-deployment.ts";
import { qualifiedName } from "../api/membership.ts";
import { type BlobReference, variantFor } from "../api/model-release.ts";
import { unreachable } from "../base/result.ts";
import { type Instant, instant } from "../base/time.ts";
import { runs } from "./cohort.ts";
import { BASE_ID, configurationId, LABEL, type PointerDraft, pointerDraft, pointerIn } from "./content.ts";
import { exposureIndex } from "./exposure.ts";
import { countRunning, type Facts } from "./facts.ts";
import {
  fullProblem,
  isSame,
  kindOf,
  ownConfigurations,
  type Problem,
  type Slot,
  slotsOf,
  verificationOf,
} from "./plan.ts";
import type { HubConfiguration, Kind, Leftover, Member, Seen, Track } from "./seen.ts";
import { exposureOf, isUnderWay, type ReleaseRef, type RolloutState } from "./state.ts";
import { candidateCondition, NOBODY, stableCondition } from "./target.ts";

// State minus world. Nothing here looks at how the state came about, so finishing, repairing and retrying are one path,
// and a world that is as the state says costs nothing.

export type Lane = "normal" | "rollback";

export type Action =
  | {
      readonly kind: "create";
      readonly id: string;
      readonly configurationKind: Kind;
      readonly track: Track;
      readonly labels: Readonly<Record<string, string>>;
      readonly condition: string;
      readonly module: InferenceDeployment["spec"]["module"];
      readonly pointer: PointerDraft;
      readonly blob: BlobReference;
      /** State of the blob that was verified; `null`: the verdict does not say. */
      readonly etag: string | null;
      readonly expiresAt: Instant;
      /** The new one must win over these while they stand side by side. */
      readonly above: readonly string[];
    }
  | { readonly kind: "createBase" }
  | { readonly kind: "retarget"; readonly id: string; readonly condition: string; readonly lane: Lane }
  | { readonly kind: "remove"; readonly id: string; readonly lane: Lane }
  /** Reads the twin; where its pointer is this deployment's (and of `from`, unless that is `null`), makes it `to`. */
  | {
      readonly kind: "restore";
      readonly device: string;
      readonly iotEdge: boolean;
      readonly from: string | null;
      readonly to: ModelPointer | null;
      readonly lane: Lane;
    };

export type Actions = { readonly actions: readonly Action[]; readonly problem: Problem | null };

const HOUR = 3_600_000;
const NONE: Actions = { actions: [], problem: null };

/** What has to be done so that the hub says what the state says, in an order in which any prefix is safe. */
export function actionsFor(state: RolloutState, facts: Facts): Actions {
  const { seen } = facts;
  if (state.phase === "Frozen" || seen.configurations === null) return NONE;
  const stable = stableActions(state, seen);
  const candidate = candidateActions(state, seen);
  const base = baseActions(seen);
  const restores = restoreActions(state, facts);
  // A rollback is never in the queue behind anything else.
  const urgent = [
    ...candidate.retarget.filter(({ lane }) => lane === "rollback"),
    // A stable configuration that is about to be created has what these devices are to get.
    ...restores.urgent.filter(({ to }) => to !== null || state.stable === null || stable.create.length === 0),
  ];
  // Nobody is exposed before there is a way back; where the object of stable is gone, the hub has what there is.
  const noFallback =
    stable.missing && state.stable !== null && seen.releases[state.stable.release] !== undefined;
  const candidates = noFallback ? [] : candidate.create;
  const creates = [...base, ...stable.create, ...candidates].filter(({ kind }) => kind !== "remove");
  const full = fullProblem(seen, creates.length);
  if (full !== null) {
    // Nothing is removed either: what is there may be what devices depend on.
    return {
      actions: [...urgent, ...candidate.retarget.filter(({ lane }) => lane === "normal")],
      problem: full,
    };
  }
  return {
    actions: [
      ...urgent,
      ...base,
      // The fallback stands before anybody can fall.
      ...stable.create,
      ...stable.retarget,
      ...candidates,
      ...candidate.retarget.filter(({ lane }) => lane === "normal"),
      ...stable.remove,
      ...(stable.missing ? [] : candidate.remove),
      ...restores.ordinary,
    ],
    problem: null,
  };
}

type Create = Extract<Action, { readonly kind: "create" }>;
type Retarget = Extract<Action, { readonly kind: "retarget" }>;
type Remove = Extract<Action, { readonly kind: "remove" }>;
type Restore = Extract<Action, { readonly kind: "restore" }>;
type Changes = {
  readonly create: readonly Create[];
  readonly retarget: readonly Retarget[];
  readonly remove: readonly Remove[];
};
const NO_CHANGES: Changes = { create: [], retarget: [], remove: [] };

function stableActions(state: RolloutState, seen: Seen): Changes & { readonly missing: boolean } {
  const { stable } = state;
  const own = ownOn(seen, "stable");
  if (stable === null) {
    return {
      ...NO_CHANGES,
      remove: own.map(({ id }) => ({ kind: "remove", id, lane: "normal" })),
      missing: false,
    };
  }
  const release = seen.releases[stable.release];
  const outdated = own.filter(({ labels }) => labels[LABEL.release] !== stable.release);
  // Without the object, or with another one under its name, what is on the hub is all there is: it stays.
  if (release === undefined || !isSame(stable, release))
    return { ...NO_CHANGES, missing: own.length === outdated.length };
  const slots = slotsOf(seen, release);
  const changes = slotChanges(seen, "stable", slots, (slot) => stableCondition(slot.target), {
    creatable: verificationOf(release).kind === "verified",
    waiting: (slot) => isWaitedFor(seen, state, slot, stable),
    lane: "normal",
  });
  const missing = changes.missing > 0;
  // A variant that no member needs today may be needed tomorrow, and does no harm: its condition is exact.
  const idle = new Set(
    own
      .filter(({ labels }) => labels[LABEL.release] === stable.release)
      .filter(({ labels }) => !slots.some(({ variant, kind }) => isFor(labels, variant.name, kind)))
      .map(({ id }) => id),
  );
  return {
    ...changes,
    remove: missing ? [] : changes.remove.filter(({ id }) => !idle.has(id)),
    missing,
  };
}

function candidateActions(state: RolloutState, seen: Seen): Changes {
  const own = ownOn(seen, "candidate");
  switch (state.phase) {
    case "Pending":
    case "Completed":
    case "RolledBack": {
      const lane = state.phase === "RolledBack" ? "rollback" : "normal";
      return { ...NO_CHANGES, remove: own.map(({ id }) => ({ kind: "remove", id, lane })) };
    }
    case "RollingBack":
      return {
        ...NO_CHANGES,
        retarget: own
          .filter(({ targetCondition }) => targetCondition !== NOBODY)
          .map(({ id }) => ({ kind: "retarget", id, condition: NOBODY, lane: "rollback" })),
      };
    case "Progressing":
    case "Holding":
    case "Frozen":
    case "Baking": {
      const release = seen.releases[state.candidate.release];
      // What devices run stays as it is while its object is away.
      if (release === undefined || !isSame(state.candidate, release)) return NO_CHANGES;
      const slots = slotsOf(seen, release);
      const { candidate, exposure } = state;
      return slotChanges(seen, "candidate", slots, (slot) => candidateCondition(slot.target, exposure), {
        creatable: verificationOf(release).kind === "verified",
        waiting: (slot) => isWaitedFor(seen, state, slot, candidate),
        lane: "normal",
      });
    }
    default:
      return unreachable(state);
  }
}

type SlotRules = {
  readonly creatable: boolean;
  /** Whether a device still has to download what the slot holds. */
  readonly waiting: (slot: Slot) => boolean;
  readonly lane: Lane;
};

/** Brings the configurations of a track to its slots: one for each, with the right content, condition and a live URL. */
function slotChanges(
  seen: Seen,
  track: Track,
  slots: readonly Slot[],
  conditionOf: (slot: Slot) => string,
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
      if (condition === NOBODY) continue;
      if (rules.creatable) create.push(createAction(seen, track, slot, condition));
      else missing += 1;
      continue;
    }
    kept.add(best.id);
    if (best.targetCondition !== condition) {
      retarget.push({ kind: "retarget", id: best.id, condition, lane: rules.lane });
    }
    const left = expiryOf(best) - seen.now;
    const due = left < seen.settings.sasLifetime / 4 && condition !== NOBODY && rules.waiting(slot);
    if (due && rules.creatable) create.push(createAction(seen, track, slot, condition));
  }
  const remove = own
    .filter(({ id }) => !kept.has(id))
    .map(({ id }): Remove => ({ kind: "remove", id, lane: rules.lane }));
  return { create, retarget, remove, missing };
}

function createAction(seen: Seen, track: Track, slot: Slot, condition: string): Create {
  const { deployment, now, settings } = seen;
  // In whole hours: a create that is tried again soon has the same id, and is found to exist.
  const grain = Math.min(HOUR, settings.sasLifetime / 8);
  const expiresAt = instant(Math.floor((now + settings.sasLifetime) / grain) * grain);
  const verdict = slot.release.status?.variants?.find(({ name }) => name === slot.variant.name);
  return {
    kind: "create",
    id: configurationId(deployment, slot.variant.name, track, `${slot.kind}/${slot.hash}/${expiresAt}`),
    configurationKind: slot.kind,
    track,
    labels: {
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

/** When the URL in a configuration ends, in milliseconds since the epoch; 0 where it does not say. */
export function expiryOf(configuration: HubConfiguration): number {
  const written = Number(configuration.labels[LABEL.urlExpires]);
  return Number.isFinite(written) ? written * 1000 : 0;
}

function isWaitedFor(seen: Seen, state: RolloutState, slot: Slot, reference: ReleaseRef): boolean {
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

function baseActions(seen: Seen): readonly Action[] {
  if (seen.settings.baseDeployment === "external") return [];
  if (!seen.members.some(({ iotEdge }) => iotEdge)) return [];
  const bases = (seen.configurations ?? []).filter(({ labels }) => labels[LABEL.base] !== undefined);
  if (!bases.some(({ id }) => id === BASE_ID)) return [{ kind: "createBase" }];
  return bases.filter(({ id }) => id !== BASE_ID).map(({ id }) => ({ kind: "remove", id, lane: "normal" }));
}

type Restores = { readonly urgent: readonly Restore[]; readonly ordinary: readonly Restore[] };

/** Pointers that target conditions alone do not bring back. */
function restoreActions(state: RolloutState, facts: Facts): Restores {
  const { seen } = facts;
  const deployment = qualifiedName(seen.deployment);
  const limit = seen.settings.fastPathLimit;
  const named = (name: string): string => qualifiedName({ namespace: seen.deployment.namespace, name });
  const ordinary = seen.leftovers
    .filter(({ tagged, pointer }) => !tagged && pointer?.deployment === deployment)
    .map((leftover) => restore(leftover, null, null, "normal"));
  if (state.phase === "RollingBack") {
    const from = named(state.candidate.release);
    const urgent = facts.rollback.devices
      .slice(0, limit)
      .map(({ twin, member }) =>
        restore(twin, from, member === null ? null : stablePointer(state.stable, seen, member), "rollback"),
      );
    return { urgent, ordinary: ordinary.slice(0, limit) };
  }
  const covers = exposureIndex(exposureOf(state));
  const candidate = isUnderWay(state) ? named(state.candidate.release) : null;
  const rolledBack = state.phase === "RolledBack" ? named(state.because.release) : null;
  const stable = state.stable === null ? null : named(state.stable.release);
  const strays = seen.members.flatMap((member) => {
    const { pointer } = member;
    if (pointer === null || pointer.deployment !== deployment) return [];
    if (pointer.release === stable) return [];
    if (pointer.release === rolledBack) {
      return [restore(member, rolledBack, stablePointer(state.stable, seen, member), "rollback")];
    }
    // With a stable release its configuration takes the device back; without one nothing does.
    if (stable !== null || (pointer.release === candidate && covers(member))) return [];
    return [restore(member, pointer.release, null, "normal")];
  });
  return { urgent: [], ordinary: [...strays, ...ordinary].slice(0, limit) };
}

function restore(
  device: Pick<Leftover, "device" | "iotEdge">,
  from: string | null,
  to: ModelPointer | null,
  lane: Lane,
): Restore {
  return { kind: "restore", device: device.device, iotEdge: device.iotEdge, from, to, lane };
}

/** Exactly what the stable configuration of the device's variant sets; `null`: nothing is stable for it. */
function stablePointer(stable: ReleaseRef | null, seen: Seen, member: Member): ModelPointer | null {
  if (stable === null) return null;
  const release = seen.releases[stable.release];
  const module = seen.deployment.spec.module.name;
  const variant = release === undefined ? null : variantFor(release.spec.variants, member.deviceClass);
  const fitting = ownOn(seen, "stable").filter(
    ({ labels, kind }) =>
      labels[LABEL.release] === stable.release &&
      kind === kindOf(member) &&
      (variant === null || labels[LABEL.variant] === variant.name),
  );
  // Without the object nobody knows which variant a class has, unless there is only one.
  if (variant === null && fitting.length !== 1) return null;
  const best = fitting.toSorted((a, b) => expiryOf(b) - expiryOf(a))[0];
  return best === undefined ? null : pointerIn(best, module);
}

/** Undoes everything; then lets go. */
export function cleanupActions(seen: Seen): readonly Action[] {
  const deployment = qualifiedName(seen.deployment);
  const own = ownConfigurations(seen);
  const tracks: readonly Track[] = ["candidate", "stable"];
  const removals = tracks.flatMap((track) =>
    own
      .filter(({ labels }) => labels[LABEL.track] === track)
      .map(({ id }): Action => ({ kind: "remove", id, lane: "normal" })),
  );
  const pointed = [...seen.members, ...seen.leftovers]
    .filter(({ pointer }) => pointer?.deployment === deployment)
    .slice(0, seen.settings.fastPathLimit)
    .map((leftover) => restore(leftover, null, null, "normal"));
  const last = seen.others === 0 && seen.settings.baseDeployment === "managed";
  const bases = last
    ? (seen.configurations ?? []).filter(({ labels }) => labels[LABEL.base] !== undefined)
    : [];
  return [
    ...removals,
    ...pointed,
    ...bases.map(({ id }): Action => ({ kind: "remove", id, lane: "normal" })),
  ];
}

/** What a deletion still waits for; all zero: the finalizer may go. */
export function remainsOf(seen: Seen): {
  readonly configurations: number;
  readonly pointers: number;
  readonly tags: number;
} {
  const deployment = qualifiedName(seen.deployment);
  const everybody = [...seen.members, ...seen.leftovers];
  const last = seen.others === 0 && seen.settings.baseDeployment === "managed";
  const bases = last
    ? (seen.configurations ?? []).filter(({ labels }) => labels[LABEL.base] !== undefined)
    : [];
  return {
    configurations: ownConfigurations(seen).length + bases.length,
    pointers: everybody.filter(({ pointer }) => pointer?.deployment === deployment).length,
    tags: everybody.filter(({ tagged }) => tagged).length,
  };
}

/** Whether every device says it runs what it is meant to run: then nobody has to come back to look. */
export function isSettled(state: RolloutState, seen: Seen): boolean {
  return (
    state.phase === "Completed" &&
    countRunning(seen, state.stable) === seen.members.length &&
    seen.leftovers.length === 0
  );
}

/** When the first URL of a configuration that devices wait for has to be renewed; `null`: none does. */
export function renewalDue(state: RolloutState, seen: Seen): Instant | null {
  const times = (seen.configurations === null ? [] : ownConfigurations(seen)).map(
    (configuration) => expiryOf(configuration) - seen.settings.sasLifetime / 4,
  );
  if (times.length === 0 || isSettled(state, seen)) return null;
  return instant(Math.max(seen.now, Math.min(...times)));
}

function ownOn(seen: Seen, track: Track): readonly HubConfiguration[] {
  return ownConfigurations(seen).filter(({ labels }) => labels[LABEL.track] === track);
}

function isFor(labels: Readonly<Record<string, string>>, variant: string, kind: Kind): boolean {
  return labels[LABEL.variant] === variant && labels[LABEL.kind] === kind;
}

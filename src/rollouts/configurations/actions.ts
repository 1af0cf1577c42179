import type { ModelPointer } from "../../api/device-contract.ts";
import type { InferenceDeployment } from "../../api/inference-deployment.ts";
import { qualifiedName } from "../../api/membership.ts";
import { type BlobReference, variantFor } from "../../api/model-release.ts";
import { REASONS } from "../../api/reasons.ts";
import { unreachable } from "../../base/result.ts";
import { type Instant, instant } from "../../base/time.ts";
import { runs } from "../evidence/cohort.ts";
import { countRunning, type Facts } from "../facts.ts";
import {
  fullProblem,
  isSame,
  kindOf,
  ownBases,
  ownConfigurations,
  type Problem,
  type Slot,
  slotsOf,
  verificationOf,
} from "../preconditions.ts";
import type { HubConfiguration, Kind, Leftover, Member, Seen, Track } from "../seen.ts";
import { exposureIndex } from "../state/exposure.ts";
import { contradiction, newestEntry } from "../state/recover.ts";
import { exposureOf, isUnderWay, type ReleaseRef, type RolloutState } from "../state/state.ts";
import { isWithin, narrowedTo } from "./condition.ts";
import { BASE_ID, configurationId, LABEL, type PointerDraft, pointerDraft, pointerIn } from "./content.ts";
import { CONDITION_LIMIT, candidateCondition, keptCondition, NOBODY, stableCondition } from "./target.ts";

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
  | {
      readonly kind: "retarget";
      readonly id: string;
      readonly condition: string;
      readonly labels: Readonly<Record<string, string>>;
      readonly lane: Lane;
    }
  | { readonly kind: "remove"; readonly id: string; readonly lane: Lane }
  /** Reads the twin; where its pointer is this deployment's (and of `from`, unless that is `null`), makes it `to`. */
  | {
      readonly kind: "restore";
      readonly device: string;
      readonly iotEdge: boolean;
      readonly from: string | null;
      readonly to: ModelPointer | null;
      readonly lane: Lane;
    }
  /** Reads the twin; where it has no pointer at all, gives it `to`: the hub took away what is to stay. */
  | {
      readonly kind: "retain";
      readonly device: string;
      readonly iotEdge: boolean;
      readonly to: ModelPointer;
      readonly lane: Lane;
    };

export type Actions = { readonly actions: readonly Action[]; readonly problem: Problem | null };

const HOUR = 3_600_000;
const NONE: Actions = { actions: [], problem: null };

/**
 * What has to be done so that the hub says what the state says, in an order in which any prefix is safe: what exposes
 * fewer devices comes first, in the lane that has a reserve, and nothing waits for what exposes more.
 */
export function actionsFor(state: RolloutState, facts: Facts): Actions {
  const { seen } = facts;
  if (seen.configurations === null) return NONE;
  const contradicted = contradiction(state, seen);
  if (contradicted !== null) return { actions: [], problem: contradicted };
  const withdrawn = withdrawals(state, seen);
  const candidate = candidateActions(state, seen);
  const narrowing = narrowingActions(state, seen, candidate.retarget);
  const narrowed = new Set(narrowing.map(({ id, condition }) => `${id} ${condition}`));
  const rest = candidate.retarget.filter(({ id, condition }) => !narrowed.has(`${id} ${condition}`));
  const restores = restoreActions(state, facts);
  const protective = [...narrowing, ...withdrawn];
  // Whether contested devices would be moved is not known before their twins have been read.
  const isBlind = !seen.hub.reachable && seen.contested.some(({ isKnown }) => !isKnown);
  if (state.phase === "Frozen" || isBlind)
    return { actions: [...protective, ...restores.urgent], problem: null };
  const stable = stableActions(state, seen);
  const base = baseActions(seen);
  // A rollback is never in the queue behind anything else.
  const urgent = [
    ...protective,
    ...rest.filter(({ lane }) => lane === "rollback"),
    // A stable configuration that is about to be created has what these devices are to get.
    ...restores.urgent.filter(({ to }) => to !== null || state.stable === null || stable.create.length === 0),
  ];
  const widening = rest.filter(({ lane }) => lane === "normal");
  // Nobody is exposed before there is a way back; where the object of stable is gone, the hub has what there is.
  const noFallback =
    stable.missing && state.stable !== null && seen.releases[state.stable.release] !== undefined;
  const candidates = noFallback ? [] : candidate.create;
  const creates = [...base, ...stable.create, ...candidates].filter(({ kind }) => kind !== "remove");
  const full = fullProblem(seen, creates.length);
  if (full !== null) {
    // Nothing is removed either: what is there may be what devices depend on.
    return { actions: [...urgent, ...widening], problem: full };
  }
  return {
    actions: [
      ...urgent,
      ...base,
      // The fallback stands before anybody can fall.
      ...stable.create,
      ...stable.retarget,
      ...candidates,
      ...widening,
      ...stable.remove,
      ...(stable.missing ? [] : candidate.remove),
      ...restores.ordinary,
    ],
    problem: fallbackProblem(state, seen),
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

export function stableActions(state: RolloutState, seen: Seen): Changes & { readonly missing: boolean } {
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
  // Who is under trial when another deployment claims it falls back like everybody.
  const slots = slotsOf(seen, release, [stable.release, ...outWith(state)]);
  const changes = slotChanges(seen, "stable", slots, (slot) => stableCondition(slot.target), {
    creatable: (slot) => isGivable(seen, stable, slot),
    verified: verificationOf(release).kind === "verified",
    waiting: (slot) => isWaitedFor(seen, state, slot, stable),
    stampedBy: state,
  });
  const missing = changes.missing > 0;
  const idle = idleOn(seen, "stable", stable, slots);
  const kept = keptOn(seen, state, outdated);
  return {
    ...changes,
    retarget: [...changes.retarget, ...(missing ? [] : kept.retarget)],
    remove: missing ? [] : changes.remove.filter(({ id }) => !idle.has(id) && !kept.ids.has(id)),
    missing,
  };
}

/** A variant that no member needs today may be needed tomorrow, and does no harm: its condition is exact. */
function idleOn(
  seen: Seen,
  track: Track,
  { release }: ReleaseRef,
  slots: readonly Slot[],
): ReadonlySet<string> {
  const idle = ownOn(seen, track)
    .filter(({ labels }) => labels[LABEL.release] === release)
    .filter(({ labels }) => !slots.some(({ variant, kind }) => isFor(labels, variant.name, kind)));
  return new Set(idle.map(({ id }) => id));
}

/** The release that is or was going out beside stable: devices on it fall back to stable. */
function outWith(state: RolloutState): readonly string[] {
  if (state.phase === "RolledBack") return [state.because.release];
  return "candidate" in state && state.candidate !== null ? [state.candidate.release] : [];
}

/**
 * Whether the stable release may be given (again) to the devices of a slot. It must be verified, or have been given
 * before: that a release does not pass a later verification takes it from no device that has it (ADR 15).
 */
function isGivable(seen: Seen, stable: ReleaseRef, { release, variant, kind }: Slot): boolean {
  if (verificationOf(release).kind === "verified") return true;
  // A release becomes stable only after it was given: where no configuration of it is left, it was lost.
  if (!ownConfigurations(seen).some(({ labels }) => labels[LABEL.release] === stable.release)) return true;
  return seen.members.some(
    (member) =>
      kindOf(member) === kind &&
      variantFor(release.spec.variants, member.deviceClass)?.name === variant.name &&
      (member.pointer?.digest === variant.digest || runs(member, stable, release)),
  );
}

/** Former stable configurations that contested devices still depend on, each narrowed down to those. */
function keptOn(
  seen: Seen,
  state: RolloutState,
  outdated: readonly HubConfiguration[],
): { readonly retarget: readonly Retarget[]; readonly ids: ReadonlySet<string> } {
  const deployment = qualifiedName(seen.deployment);
  const module = seen.deployment.spec.module.name;
  const retarget: Retarget[] = [];
  const ids = new Set<string>();
  const served = new Set<string>();
  for (const configuration of outdated.toSorted(
    (a, b) => expiryOf(b) - expiryOf(a) || (a.id < b.id ? -1 : 1),
  )) {
    const pointer = pointerIn(configuration, module);
    if (pointer === null) continue;
    const devices = seen.contested
      .filter(({ tagged, device }) => tagged && !served.has(device))
      .filter((one) => kindOf(one) === configuration.kind)
      .filter((one) => one.pointer?.release === pointer.release && one.pointer.digest === pointer.digest)
      .map(({ device }) => device)
      .sort();
    if (devices.length === 0) continue;
    for (const device of devices) served.add(device);
    ids.add(configuration.id);
    const condition = keptCondition({ deployment, module, kind: configuration.kind }, devices);
    if (configuration.targetCondition !== condition) {
      retarget.push(retargetOf(configuration, condition, state, "normal"));
    }
  }
  return { retarget, ids };
}

/** That devices which run stable, or join, get nothing, because its configuration is gone and cannot be made again. */
function fallbackProblem(state: RolloutState, seen: Seen): Problem | null {
  const { stable } = state;
  if (stable === null || seen.members.length === 0) return null;
  const release = seen.releases[stable.release];
  const own = ownOn(seen, "stable").filter(({ labels }) => labels[LABEL.release] === stable.release);
  const lost = (why: string): Problem => ({
    reason: REASONS.StableUnavailable,
    message: `the hub has no configuration that gives devices ${stable.release}, and it cannot be made: ${why}. Devices that lose their model get none back; roll another release out`,
  });
  if (release === undefined || !isSame(stable, release)) {
    // A release that has just completed is given by its candidate until its stable configuration stands.
    const isGiven =
      own.length > 0 ||
      ownOn(seen, "candidate").some(({ labels }) => labels[LABEL.release] === stable.release);
    if (isGiven) return null;
    return lost(
      release === undefined
        ? `there is no ModelRelease ${stable.release}`
        : `ModelRelease ${stable.release} was replaced by one with other digests`,
    );
  }
  const verification = verificationOf(release);
  if (verification.kind !== "failed") return null;
  const missing = slotsOf(seen, release).filter(
    (slot) =>
      !isGivable(seen, stable, slot) &&
      !own.some(({ labels, kind }) => labels[LABEL.contentHash] === slot.hash && kind === slot.kind),
  );
  const names = missing.map(({ variant }) => variant.name);
  return names.length === 0
    ? null
    : lost(`${verification.message}, and no device of variant ${[...new Set(names)].join(", ")} runs it`);
}

function candidateActions(state: RolloutState, seen: Seen): Changes {
  const own = ownOn(seen, "candidate");
  switch (state.phase) {
    case "Pending":
    case "RolledBack":
      return NO_CHANGES;
    case "Completed":
      return {
        ...NO_CHANGES,
        remove: own
          .filter(({ labels }) => labels[LABEL.release] === state.stable.release)
          .map(({ id }) => ({ kind: "remove", id, lane: "normal" })),
      };
    case "RollingBack":
      return {
        ...NO_CHANGES,
        retarget: own
          .filter(({ targetCondition }) => targetCondition !== NOBODY)
          .map((had) => retargetOf(had, NOBODY, state, "rollback")),
      };
    case "Progressing":
    case "Holding":
    case "Frozen":
    case "Baking": {
      const { candidate, exposure } = state;
      const release = seen.releases[candidate.release];
      // What devices run stays as it is while its object is away; it is only narrowed.
      if (release === undefined || !isSame(candidate, release)) return NO_CHANGES;
      const slots = slotsOf(seen, release);
      const verified = verificationOf(release).kind === "verified";
      const changes = slotChanges(
        seen,
        "candidate",
        slots,
        (slot) => candidateCondition(slot.target, exposure),
        {
          creatable: () => verified,
          verified,
          waiting: (slot) => isWaitedFor(seen, state, slot, candidate),
          stampedBy: state,
        },
      );
      const withdrawn = new Set(withdrawals(state, seen).map(({ id }) => id));
      const idle = idleOn(seen, "candidate", candidate, slots);
      return { ...changes, remove: changes.remove.filter(({ id }) => !withdrawn.has(id) && !idle.has(id)) };
    }
    default:
      return unreachable(state);
  }
}

/**
 * Configurations of candidates that are not (or no longer) going out: the devices that they target are exposed to them. They stay
 * for as long as there is nothing to fall back to.
 */
function withdrawals(state: RolloutState, seen: Seen): readonly Remove[] {
  if (state.phase === "RollingBack") return [];
  const { stable } = state;
  const hasFallback =
    stable === null || ownOn(seen, "stable").some(({ labels }) => labels[LABEL.release] === stable.release);
  if (!hasFallback) return [];
  const completed = state.phase === "Completed" ? stable : null;
  const out = isUnderWay(state) ? state.candidate : completed;
  return ownOn(seen, "candidate")
    .filter(({ labels }) => labels[LABEL.release] !== out?.release)
    .map(({ id, targetCondition }) => ({
      kind: "remove",
      id,
      lane: targetCondition === NOBODY ? "normal" : "rollback",
    }));
}

/**
 * What the hub targets beyond the exposure is withdrawn, whatever else stands in the way: it takes neither the object of
 * the release nor a hub whose fleet can be read. `wanted` are the conditions that are meant to be; where one of them
 * selects fewer devices for certain, it is the one.
 */
function narrowingActions(state: RolloutState, seen: Seen, wanted: readonly Retarget[]): readonly Retarget[] {
  if (!isUnderWay(state)) return [];
  const { candidate, exposure } = state;
  return ownOn(seen, "candidate")
    .filter(({ labels }) => labels[LABEL.release] === candidate.release)
    .flatMap((had) => {
      const meant = wanted.find(({ id }) => id === had.id);
      if (meant !== undefined && isWithin(meant.condition, had.targetCondition))
        return [{ ...meant, lane: "rollback" as const }];
      const condition = narrowedTo(had.targetCondition, exposure, CONDITION_LIMIT);
      return condition === null || condition === had.targetCondition
        ? []
        : [retargetOf(had, condition, state, "rollback")];
    });
}

/** With the labels that it ought to have, and the state that it was written by. */
function retargetOf(had: HubConfiguration, condition: string, state: RolloutState, lane: Lane): Retarget {
  return { kind: "retarget", id: had.id, condition, labels: { ...had.labels, ...stampOf(state) }, lane };
}

function stampOf(state: RolloutState): Readonly<Record<string, string>> {
  const at = newestEntry(state);
  return at === null ? {} : { [LABEL.stateAt]: String(at) };
}

type SlotRules = {
  /** Whether a slot that has no configuration gets one. */
  readonly creatable: (slot: Slot) => boolean;
  /** Whether devices that still wait for it may have it. */
  readonly verified: boolean;
  /** Whether a device still has to download what the slot holds. */
  readonly waiting: (slot: Slot) => boolean;
  readonly stampedBy: RolloutState;
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
      if (rules.creatable(slot)) create.push(createAction(seen, track, slot, condition, rules.stampedBy));
      else missing += 1;
      continue;
    }
    kept.add(best.id);
    if (best.targetCondition !== condition) {
      retarget.push(retargetOf(best, condition, rules.stampedBy, "normal"));
    }
    const left = expiryOf(best) - seen.now;
    const due = left < seen.settings.sasLifetime / 4 && condition !== NOBODY && rules.waiting(slot);
    if (due && rules.verified) create.push(createAction(seen, track, slot, condition, rules.stampedBy));
  }
  const remove = own
    .filter(({ id }) => !kept.has(id))
    .map(({ id }): Remove => ({ kind: "remove", id, lane: "normal" }));
  return { create, retarget, remove, missing };
}

function createAction(seen: Seen, track: Track, slot: Slot, condition: string, state: RolloutState): Create {
  const { deployment, now, settings } = seen;
  // In whole hours: a create that is tried again soon has the same id, and is found to exist.
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

export function baseActions(seen: Seen): readonly Action[] {
  if (seen.settings.baseDeployment === "external") return [];
  if (!seen.members.some(({ iotEdge }) => iotEdge)) return [];
  if (!(seen.configurations ?? []).some(({ id }) => id === BASE_ID)) return [{ kind: "createBase" }];
  return ownBases(seen)
    .filter(({ id }) => id !== BASE_ID)
    .map(({ id }) => ({ kind: "remove", id, lane: "normal" }));
}

type Restores = { readonly urgent: readonly Restore[]; readonly ordinary: readonly Restore[] };

/** Pointers that target conditions alone do not bring back. */
function restoreActions(state: RolloutState, facts: Facts): Restores {
  const { seen } = facts;
  const deployment = qualifiedName(seen.deployment);
  const limit = seen.settings.fastPathLimit;
  const named = (name: string): string => qualifiedName({ namespace: seen.deployment.namespace, name });
  // What runs on a device that another deployment selects now stays until that one has given it its own.
  const ordinary = seen.leftovers
    .filter(
      ({ tagged, pointer, heirs }) => !tagged && heirs.length === 0 && pointer?.deployment === deployment,
    )
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
  // Contested devices keep what they run, but for a release that was taken back.
  const contested = seen.contested.flatMap((one) =>
    one.pointer?.deployment === deployment && rolledBack !== null && one.pointer.release === rolledBack
      ? [restore(one, rolledBack, stablePointer(state.stable, seen, one), "rollback")]
      : [],
  );
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
  return { urgent: [], ordinary: [...contested, ...strays, ...ordinary].slice(0, limit) };
}

export function restore(
  device: Pick<Leftover, "device" | "iotEdge">,
  from: string | null,
  to: ModelPointer | null,
  lane: Lane,
): Restore {
  return { kind: "restore", device: device.device, iotEdge: device.iotEdge, from, to, lane };
}

/** Exactly what the stable configuration of the device's variant sets; `null`: nothing is stable for it. */
export function stablePointer(
  stable: Pick<ReleaseRef, "release"> | null,
  seen: Seen,
  member: Pick<Member, "deviceClass" | "iotEdge">,
): ModelPointer | null {
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

/** Whether every device says it runs what it is meant to run: then nobody has to come back to look. */
export function isSettled(state: RolloutState, seen: Seen): boolean {
  return (
    state.phase === "Completed" &&
    countRunning(seen, state.stable) === seen.members.length &&
    seen.leftovers.length === 0
  );
}

/**
 * When the next URL may have to be renewed for devices that wait; `null`: none. One that was due before and was not
 * renewed is one that no device waits for: it must not keep anybody awake.
 */
export function renewalDue(state: RolloutState, seen: Seen): Instant | null {
  const times = (seen.configurations === null ? [] : ownConfigurations(seen))
    .map((configuration) => expiryOf(configuration) - seen.settings.sasLifetime / 4)
    .filter((time) => time >= seen.now);
  if (times.length === 0 || isSettled(state, seen)) return null;
  return instant(Math.min(...times));
}

export function ownOn(seen: Seen, track: Track): readonly HubConfiguration[] {
  return ownConfigurations(seen).filter(({ labels }) => labels[LABEL.track] === track);
}

function isFor(labels: Readonly<Record<string, string>>, variant: string, kind: Kind): boolean {
  return labels[LABEL.variant] === variant && labels[LABEL.kind] === kind;
}

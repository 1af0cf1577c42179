import {
  type HistoryEntry,
  type InferenceDeployment,
  REQUESTS,
  type Request,
  requestAnnotation,
} from "../../api/inference-deployment.ts";
import { qualifiedName } from "../../api/membership.ts";
import type { Problem } from "../../api/reasons.ts";
import { REASONS } from "../../api/reasons.ts";
import { clip } from "../../base/text.ts";
import { type Instant, instant, parseTimestamp, timestampOf } from "../../base/time.ts";
import type { Configuration } from "../../hub/hub.ts";
import { exposureIn } from "../configurations/condition.ts";
import { LABEL, pointerIn } from "../configurations/content.ts";
import { isKept, MATCH_NONE } from "../configurations/target.ts";
import type { Facts } from "../facts.ts";
import type { RolloutSeen, Track } from "../seen.ts";
import { referenceOf } from "../verification.ts";
import { boundOf, countExposed, countedFor } from "./exposure.ts";
import { type Handled, isUnderWay, newStep, type ReleaseRef, type RolloutState } from "./state.ts";
import { stepsOf } from "./strategy.ts";

// What the hub shows outranks a status that is missing or older than it. An object without status is new, or it came
// back from a backup, and the hub's configurations distinguish the two. A status that the hub contradicts came back from
// a backup as well: nothing is moved by it until a person has said which of the two counts.

/**
 * The state to begin with: what the labels of our configurations say is stable, and a candidate that is out, at the
 * width that the hub has. No device is moved by it. `null`: the hub cannot be asked yet.
 */
export function recover(seen: RolloutSeen): RolloutState | null {
  if (seen.configurations === null) return null;
  const handled = tokensOf(seen.deployment);
  const stable = stableOnHub(seen);
  const wanted = seen.deployment.spec.release.name;
  const newest = newestStamp(seen);
  const entry = (phase: HistoryEntry["phase"], release: string): readonly HistoryEntry[] => [
    {
      at: timestampOf(instant(Math.max(seen.now, newest?.at ?? 0))),
      phase,
      release,
      message: "the status was lost, or dropped on request; it was recovered from the hub",
    },
  ];
  const kept = { quarantined: [], handled };
  const out = candidateOnHub(seen);
  // With a stable configuration of the same release it is complete, and the candidate's is about to go.
  if (out !== null && out.candidate.release !== stable?.release) {
    const { candidate, exposure, index, percent } = out;
    const { now } = seen;
    return {
      ...kept,
      phase: "Progressing",
      stable,
      candidate,
      exposure,
      startedAt: now,
      previousExposure: [],
      configuredAt: now,
      step: newStep(index, percent, now),
      history: entry("Progressing", candidate.release),
    };
  }
  if (stable !== null && stable.release === wanted) {
    return { ...kept, phase: "Completed", stable, history: entry("Completed", wanted) };
  }
  const isNew = seen.own.length === 0;
  return {
    ...kept,
    phase: "Pending",
    stable,
    candidate: null,
    history: isNew ? [] : entry("Pending", wanted),
  };
}

/**
 * Why the state cannot be what the hub was last given: a configuration was written by a later one, or the candidate that
 * is well under way is not there at all. `null`: nothing contradicts it, or a person has said that it counts.
 */
export function contradiction(state: RolloutState, seen: RolloutSeen): Problem | null {
  // Before the first listing nothing is known to be gone.
  if (seen.configurations === null || state.history.at(-1)?.message === COUNTS) return null;
  const found = laterThan(state, seen) ?? candidateGone(state, seen);
  if (found === null) return null;
  const requests = REQUESTS.toSorted().map((request) => `${requestAnnotation(request)} ${MEANING[request]}`);
  return {
    reason: REASONS.StateContradicted,
    message: `the status does not match the hub, as after a restore from a backup: ${found}. The hub has ${onHub(seen)}. Nothing will be changed until one of the annotations ${requests.join(", ")} is set to a new value`,
  };
}

const COUNTS = "the status is used, on request, although it contradicts the hub";
const MEANING: Readonly<Record<Request, string>> = {
  retry: "(continue from the hub)",
  abort: "(continue from the hub, and roll a candidate back)",
  promote: "(continue from the status)",
};

/** What a person decides about a state that the hub contradicts; until then it stays as it is. */
export function decided(state: RolloutState, facts: Facts): RolloutState {
  const { retry, abort, promote } = facts.requests;
  const { seen } = facts;
  if (retry !== null || abort !== null) {
    const recovered = recover(seen);
    if (recovered === null) return state;
    const { quarantined } = state;
    // An abort is still to be served, by what it is about.
    const handled = { ...state.handled, ...(retry === null ? {} : { retry }) };
    const known = { ...recovered, quarantined, handled };
    // The candidate of the status is what an abort is about where the hub has none: it must not start over.
    const candidate = "candidate" in state ? state.candidate : null;
    return abort !== null && known.phase === "Pending" ? { ...known, candidate } : known;
  }
  if (promote === null) return state;
  const at = timestampOf(instant(Math.max(facts.now, newestStamp(seen)?.at ?? 0)));
  const history = [...state.history, { at, phase: state.phase, message: COUNTS }].slice(-10);
  return { ...state, history, handled: { ...state.handled, promote } };
}

/** When the newest thing happened that the state remembers, in milliseconds; `null`: it remembers nothing. */
export function newestEntry({ history }: Pick<RolloutState, "history">): number | null {
  const times = history.flatMap(({ at }) => parseTimestamp(at) ?? []);
  return times.length === 0 ? null : Math.max(...times);
}

function laterThan(state: RolloutState, seen: RolloutSeen): string | null {
  const newest = newestStamp(seen);
  const known = newestEntry(state) ?? 0;
  if (newest === null || newest.at <= known) return null;
  const since = known === 0 ? "has no time" : `is of ${timestampOf(instant(known))}`;
  return `${newest.configuration.id} was written at ${timestampOf(newest.at)} or later, and the status ${since}`;
}

/** A candidate that the hub had has configurations until it is rolled back or complete. */
function candidateGone(state: RolloutState, seen: RolloutSeen): string | null {
  if (!isUnderWay(state)) return null;
  const { step, candidate } = state;
  // Devices can run the same bytes already, so that nothing but the hub says whether it was given.
  if (state.configuredAt === null) return null;
  return hasCandidate(candidate, seen)
    ? null
    : `no configuration assigns ${candidate.release}, and the status is at ${step.percent} %`;
}

/** Whether the hub has a configuration for the candidate. */
export function hasCandidate(candidate: ReleaseRef, seen: RolloutSeen): boolean {
  return seen.own.some(
    ({ labels }) => labels[LABEL.track] === "candidate" && labels[LABEL.release] === candidate.release,
  );
}

function onHub(seen: RolloutSeen): string {
  const deployment = qualifiedName(seen.deployment);
  const pointed = new Map<string, number>();
  for (const { pointer } of seen.members) {
    if (pointer?.deployment !== deployment) continue;
    const name = pointer.release.slice(seen.deployment.namespace.length + 1);
    pointed.set(name, (pointed.get(name) ?? 0) + 1);
  }
  const named = (release: string): string => `${release} (${pointed.get(release) ?? 0} devices)`;
  const stable = stableOnHub(seen);
  const out = newestFirst(targeting(seen), "candidate")[0]?.labels[LABEL.release];
  return [
    stable === null ? "no stable release" : `stable ${named(stable.release)}`,
    ...(out === undefined ? [] : [`candidate ${named(out)}`]),
  ].join(" and ");
}

type Stamp = { readonly at: Instant; readonly configuration: Configuration };

function newestStamp(seen: RolloutSeen): Stamp | null {
  const stamps = seen.own.map((configuration) => ({
    at: stampOf(configuration),
    configuration,
  }));
  const newest = stamps.toSorted((a, b) => b.at - a.at)[0];
  return newest === undefined || newest.at === 0 ? null : newest;
}

function stampOf({ labels }: Configuration): Instant {
  const written = Number(labels[LABEL.stateAt]);
  return instant(Number.isSafeInteger(written) && written > 0 ? written : 0);
}

/** Of two releases at once the later one counts; without a stamp, the one with the higher priority. */
function newestFirst(own: readonly Configuration[], track: Track): readonly Configuration[] {
  return own
    .filter(({ labels }) => labels[LABEL.track] === track)
    .toSorted((a, b) => stampOf(b) - stampOf(a) || b.priority - a.priority);
}

function stableOnHub(seen: RolloutSeen): ReleaseRef | null {
  const own = seen.own.filter(({ targetCondition }) => !isKept(targetCondition));
  const name = newestFirst(own, "stable")[0]?.labels[LABEL.release];
  return name === undefined ? null : referenceNamed(name, own, seen);
}

function referenceNamed(name: string, own: readonly Configuration[], seen: RolloutSeen): ReleaseRef {
  const release = seen.releases[name];
  if (release !== undefined) return referenceOf(release);
  const digests = own
    .filter(({ labels }) => labels[LABEL.release] === name)
    .flatMap((configuration) => pointerIn(configuration, seen.deployment.spec.module.name)?.digest ?? []);
  return { release: name, digests: [...new Set(digests)].sort() };
}

function targeting(seen: RolloutSeen): readonly Configuration[] {
  return seen.own.filter(({ targetCondition }) => targetCondition !== MATCH_NONE);
}

/** The candidate that devices are exposed to, at the width that its conditions have. */
function candidateOnHub(seen: RolloutSeen) {
  const own = newestFirst(targeting(seen), "candidate");
  const name = own[0]?.labels[LABEL.release];
  if (name === undefined) return null;
  const strata = exposureIn(
    own.filter(({ labels }) => labels[LABEL.release] === name).map(({ targetCondition }) => targetCondition),
  );
  if (strata === null || strata.length === 0) return null;
  const counted = countedFor(seen.members);
  const exposure = strata.map((stratum) => ({
    ...stratum,
    devices: countExposed([{ ...stratum, devices: 0 }], counted),
  }));
  const exposed = countExposed(exposure, counted);
  const steps = stepsOf(seen);
  const fitting = steps.findIndex((step) => boundOf(step, counted.length) >= exposed);
  const index = fitting < 0 ? Math.max(0, steps.length - 1) : fitting;
  const percent = steps[index]?.percent ?? 100;
  return { candidate: referenceNamed(name, own, seen), exposure, index, percent };
}

/** Requests that were there before the first look belong to a rollout that is no more. */
function tokensOf(deployment: InferenceDeployment): Handled {
  const [abort, promote, retry] = REQUESTS;
  const token = (request: (typeof REQUESTS)[number]): string | null => {
    const written = deployment.annotations[requestAnnotation(request)];
    return written === undefined ? null : clip(written, 256);
  };
  return { abort: token(abort), promote: token(promote), retry: token(retry) };
}

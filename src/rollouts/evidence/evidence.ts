import type { InferenceReport } from "../../api/device-contract.ts";
import type { StratumExposure } from "../../api/inference-deployment.ts";
import { qualifiedName } from "../../api/membership.ts";
import type { ModelRelease } from "../../api/model-release.ts";
import { own } from "../../base/lookup.ts";
import {
  elapsed,
  type Instant,
  instant,
  type Millis,
  millis,
  minutes,
  parseTimestamp,
  seconds,
} from "../../base/time.ts";
import type { Member } from "../seen.ts";
import { exposureIndex, type StratifyBy, stratumKey } from "../state/exposure.ts";
import type { ReleaseRef } from "../state/state.ts";
import { isHeard, runs } from "./standing.ts";

// Which windows are evidence about the candidate, and about stable beside it. Silence is a value: a device that lives, says
// that it runs a release, and has no window of it infers nothing.

export type Window = NonNullable<InferenceReport["window"]>;

export type Sample = {
  readonly device: string;
  readonly stratum: string;
  readonly window: Window;
  /** When the window ended, by our clock. */
  readonly endedAt: Instant;
};

export type Collected = {
  /** Windows of exposed devices that ran the candidate; one for each device. */
  readonly cohort: readonly Sample[];
  /** Windows of devices of the same strata that are not exposed and ran stable. */
  readonly control: readonly Sample[];
  /** Exposed devices that say that they run the candidate. */
  readonly running: number;
  /** Names of these that have a fresh window of the candidate in which they inferred something. */
  readonly covering: ReadonlySet<string>;
  /** Exposed devices whose report cannot be true: none of their windows is in `cohort`. */
  readonly implausible: readonly { readonly device: string; readonly why: string }[];
};

/** A window counts for this many of its own lengths. */
const FRESH_WINDOWS = 3;
/** The contract's longest time between two reports: a shorter window (the first of a release) does not age faster. */
const USUAL_WINDOW = minutes(1);
/** A device that was offline reports all of that time as one window, which does not make it news for a day. */
const LONGEST_COUNTED = minutes(15);

/** How long a window counts as one, in confirmations. */
export function lengthOf(window: Window): Millis {
  const written = seconds(window.seconds);
  if (!Number.isFinite(written) || written <= 0) return USUAL_WINDOW;
  return millis(Math.min(LONGEST_COUNTED, written));
}

/** How old the window was when its device reported it, by the device's own clock: one that is behind makes no window old. */
function ageAtReport(window: Window, report: InferenceReport): Millis | null {
  if (window.endedAt === report.heartbeatAt) return millis(0);
  const ended = parseTimestamp(window.endedAt);
  const heartbeat = parseTimestamp(report.heartbeatAt);
  return ended === null || heartbeat === null ? null : elapsed(ended, heartbeat);
}

/** Whether a window of that age is what its device does now, or left over from before. */
export function isFresh(window: Window, age: Millis): boolean {
  return age <= freshFor(window);
}

function freshFor(window: Window | undefined): Millis {
  const length = window === undefined ? USUAL_WINDOW : lengthOf(window);
  return millis(FRESH_WINDOWS * Math.max(USUAL_WINDOW, length));
}

export type EvidenceRules = {
  readonly now: Instant;
  readonly namespace: string;
  readonly exposure: readonly StratumExposure[];
  readonly stratifyBy: StratifyBy;
  readonly stepStarted: Instant;
  /** How long a sweep of the fleet takes. */
  readonly sweepTime: Millis;
  readonly candidate: ReleaseRef;
  readonly stable: ReleaseRef | null;
  readonly releases: Readonly<Record<string, ModelRelease>>;
};

export function evidenceOf(members: readonly Member[], given: EvidenceRules): Collected {
  const { namespace, candidate, stable } = given;
  const covers = exposureIndex(given.exposure);
  const trackOf = (reference: ReleaseRef) => ({
    reference,
    name: qualifiedName({ namespace, name: reference.release }),
    release: own(given.releases, reference.release),
  });
  const tracks = { candidate: trackOf(candidate), stable: stable === null ? null : trackOf(stable) };
  const cohort: Sample[] = [];
  const control: Sample[] = [];
  const implausible: { readonly device: string; readonly why: string }[] = [];
  let running = 0;
  const covering = new Set<string>();
  for (const member of members) {
    if (member.report === null) continue;
    const exposed = covers(member);
    const track = exposed ? tracks.candidate : tracks.stable;
    if (track === null) continue;
    const isRunning = runs(member, track.reference, track.release);
    if (exposed && isRunning) running += 1;
    if (member.implausible !== null) {
      const speaks = isRunning || member.report.window?.release === track.name;
      if (exposed && speaks) implausible.push({ device: member.device, why: member.implausible.why });
      continue;
    }
    if (!isHeard(member, given)) continue;
    const said = freshWindow(member, track.name);
    const found = said ?? (isRunning ? idleWindow(member, track.name, given.stepStarted) : null);
    if (found === null) continue;
    const sample = { device: member.device, stratum: stratumKey(member, given.stratifyBy), ...found };
    (exposed ? cohort : control).push(sample);
    if (exposed && isRunning && sample.window.inferences > 0) covering.add(member.device);
  }
  const strata = new Set(cohort.map(({ stratum }) => stratum));
  const beside = control.filter(({ stratum }) => strata.has(stratum));
  return { cohort, control: beside, running, covering, implausible };
}

type Found = Pick<Sample, "window" | "endedAt">;

function freshWindow({ report, heardAt }: Member, release: string): Found | null {
  const window = report?.window;
  if (report === null || heardAt === null || window?.release !== release) return null;
  const age = ageAtReport(window, report);
  if (age === null || !isFresh(window, age)) return null;
  return { window, endedAt: instant(heardAt - age) };
}

/**
 * The contract lets a device leave out a window with nothing in it. One that had run the release for longer than a window
 * stays fresh when it reported, and showed none, infers nothing: that is a window of zeros. Only the report counts here:
 * reading it late makes no device idle.
 */
function idleWindow({ report, heardAt }: Member, release: string, stepStarted: Instant): Found | null {
  if (report === null || heardAt === null) return null;
  const heartbeat = parseTimestamp(report.heartbeatAt);
  const since = report.active === undefined ? null : parseTimestamp(report.active.since);
  // A start that is not known, or dated after the heartbeat, is taken to be the step's.
  const isDated = since !== null && heartbeat !== null && since <= heartbeat;
  const ran = isDated ? elapsed(since, heartbeat) : elapsed(stepStarted, heardAt);
  if (ran <= freshFor(report.window)) return null;
  const length = report.window === undefined ? USUAL_WINDOW : lengthOf(report.window);
  return {
    window: {
      release,
      seconds: length / 1000,
      inferences: 0,
      errors: 0,
      framesPerSecond: 0,
      latencyMilliseconds: { p50: 0, p95: 0, p99: 0 },
      endedAt: report.heartbeatAt,
    },
    endedAt: heardAt,
  };
}

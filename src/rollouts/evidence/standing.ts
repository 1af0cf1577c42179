import type { InferenceDeploymentSpec, StratumExposure } from "../../api/inference-deployment.ts";
import { OFFLINE_DEFAULTS } from "../../api/inference-deployment.ts";
import { qualifiedName } from "../../api/membership.ts";
import { type ModelRelease, variantFor } from "../../api/model-release.ts";
import { redacted } from "../../base/redact.ts";
import { unreachable } from "../../base/result.ts";
import {
  durationText,
  elapsed,
  type Instant,
  instant,
  type Millis,
  millis,
  millisOf,
  minutes,
  parseTimestamp,
  timestampOf,
} from "../../base/time.ts";
import type { Member } from "../seen.ts";
import type { ReleaseRef } from "../state/state.ts";

// What one exposed device says about the candidate, and what its silence says.

/**
 * running: reports the candidate, and was heard a short while ago · quiet: reports it, but not recently enough to be
 * evidence · failed: reports that it could not run it · lost: ran it, and has been silent for longer than
 * `offline.after` and than stable devices of its stratum · implausible: keeps reporting what cannot be · offline: has
 * been silent, and counts as failed by policy · waiting: has not arrived · straggler: has not arrived, in a width that
 * has passed without it · excused: was not there when it was exposed (unless the last that was heard of it is that it was taking the candidate),
 * is disabled, or has never reported.
 */
export type Standing =
  | "running"
  | "quiet"
  | "failed"
  | "lost"
  | "implausible"
  | "offline"
  | "waiting"
  | "straggler"
  | "excused";

/** Whether a device says that it runs the release: its digest is loaded and inferring. */
export function runs(
  member: Member,
  reference: ReleaseRef | null,
  release: ModelRelease | undefined,
): boolean {
  const active = member.report?.active?.digest;
  return active !== undefined && reference !== null && isOurs(active, member, reference, release);
}

/** The digest that a release has for the device's class; `null`: none is known. */
export function digestFor(
  member: Pick<Member, "deviceClass">,
  release: ModelRelease | undefined,
): string | null {
  return release === undefined
    ? null
    : (variantFor(release.spec.variants, member.deviceClass)?.digest ?? null);
}

/** The parameters that a cohort is assessed by. */
export type CohortRules = {
  readonly now: Instant;
  readonly namespace: string;
  readonly candidate: ReleaseRef;
  readonly release: ModelRelease | undefined;
  readonly exposure: readonly StratumExposure[];
  /** The exposure of the step before. */
  readonly previousExposure: readonly StratumExposure[];
  /** When the rollout began: what was reported before is about an earlier attempt. */
  readonly startedAt: Instant;
  /** When the step began. */
  readonly stepStarted: Instant;
  /** Since when twins can be read: silence before that says nothing about devices. */
  readonly hearingSince: Instant;
  /** How long a sweep of the fleet takes. */
  readonly sweepTime: Millis;
  /** Whether nothing ran here before: then no device has reported yet. */
  readonly isFirst: boolean;
  readonly offline: InferenceDeploymentSpec["offline"];
  /** Of a step. */
  readonly deadline: Millis;
  /** The stratum that a device falls into. */
  readonly stratumOf: (member: Member) => string;
};

/** A report counts for this many of the device's own windows. */
const FRESH_WINDOWS = 3;

const USUAL_WINDOW = minutes(1);

/** How far our reading may lag behind the device's reporting: two sweeps of the fleet, within these bounds. */
const READ_LAG = { least: minutes(2), most: minutes(20) };

/** An implausible report can be a glitch; one that persists is a failure. */
const IMPLAUSIBLE_FOR = minutes(5);

export function standingOf(
  member: Member,
  isNewlyExposed: boolean,
  quiet: number,
  rules: CohortRules,
): Standing {
  if (!member.enabled) return "excused";
  if (hasFailed(member, rules)) return "failed";
  const isSilent = isOffline(member, rules);
  if (runs(member, rules.candidate, rules.release) || hasMentioned(member, rules)) {
    // What the stable devices of its stratum do as well is the site's doing, not the release's.
    if (isSilent && silenceOf(member, rules) > quiet) return "lost";
    if (!runs(member, rules.candidate, rules.release)) return isNewlyExposed ? "waiting" : "straggler";
    const { implausible } = member;
    if (implausible !== null)
      return elapsed(implausible.since, rules.now) >= IMPLAUSIBLE_FOR ? "implausible" : "quiet";
    return isHeard(member, rules) ? "running" : "quiet";
  }
  if (isExcusable(member, isNewlyExposed, rules)) {
    const { policy } = rules.offline ?? OFFLINE_DEFAULTS;
    if (member.heardAt === null || (policy === "Skip" && !isLeftTaking(member, rules))) return "excused";
    if (policy === "CountAsFailed" && isSilent) return "offline";
  }
  return isNewlyExposed ? "waiting" : "straggler";
}

/** Whether what the device reports about now is recent enough to be evidence. */
export function isHeard(member: Member, rules: Pick<CohortRules, "now" | "sweepTime">): boolean {
  return member.heardAt !== null && elapsed(member.heardAt, rules.now) <= freshFor(member, rules);
}

/** For how long a report of this device is evidence. */
export function freshFor({ report }: Member, { sweepTime }: Pick<CohortRules, "sweepTime">): Millis {
  const length = report?.window?.seconds ?? 0;
  // What a device says about its own window is bounded: nothing that it says keeps it alive for long.
  const window = Math.min(Math.max(USUAL_WINDOW, length * 1000 || 0), minutes(20));
  const lag = Math.min(READ_LAG.most, Math.max(READ_LAG.least, 2 * sweepTime));
  return millis(FRESH_WINDOWS * window + lag);
}

/** Silent for longer than `offline.after`. */
export function isOffline(member: Member, rules: CohortRules): boolean {
  return silenceOf(member, rules) >= offlineAfter(rules);
}

export function silenceOf(member: Member, rules: CohortRules): Millis {
  const last = Math.max(member.heardAt ?? rules.stepStarted, rules.hearingSince);
  return elapsed(instant(last), rules.now);
}

/**
 * Whether twins have been read for too short a time to know why this device has not been heard since the step began: after
 * a restart or an outage, one that is switched off looks like one that has yet to arrive.
 */
export function isUntold(member: Member, rules: CohortRules): boolean {
  if (member.heardAt !== null && member.heardAt >= rules.stepStarted) return false;
  return elapsed(rules.hearingSince, rules.now) < Math.max(offlineAfter(rules), freshFor(member, rules));
}

/** A deadline shorter than `offline.after` would otherwise find devices missing before they can be excused. */
function offlineAfter({ offline, deadline }: CohortRules): Millis {
  return millis(Math.min(millisOf((offline ?? OFFLINE_DEFAULTS).after), deadline));
}

/** Whether silence is no fault of the release: it was there before the device was exposed, or has always been. */
function isExcusable(member: Member, isNewlyExposed: boolean, rules: CohortRules): boolean {
  // Where something ran before, a device that has never reported is one that has never been switched on.
  if (member.heardAt === null) return isOffline(member, rules) || !rules.isFirst;
  // A first report is dated by the device's clock, which may be behind: the next one shows whether it lives.
  if (elapsed(rules.hearingSince, rules.now) < freshFor(member, rules)) return false;
  // By its own last report: an operator that has started knows which devices were gone before.
  if (elapsed(member.heardAt, rules.now) < offlineAfter(rules)) return false;
  // Those of an earlier width were judged there.
  return !isNewlyExposed || member.heardAt < rules.stepStarted - freshFor(member, rules);
}

/** Whether the device has reported a failure of this candidate in this rollout: older reports stay in the twin. */
function hasFailed(member: Member, rules: CohortRules): boolean {
  return member.report?.update?.state === "Failed" && hasMentioned(member, rules);
}

/**
 * Whether the last that was heard of a silent device is that it was taking this candidate, in an earlier attempt. That is
 * no evidence now, and no excuse either: the candidate may be why it is silent.
 */
function isLeftTaking({ report }: Member, { namespace, candidate }: CohortRules): boolean {
  const update = report?.update;
  if (update === undefined || update.state === "Failed" || update.state === "Running") return false;
  return update.release === qualifiedName({ namespace, name: candidate.release });
}

/** Whether the device has reported anything about this candidate in this rollout, so that it was there. */
function hasMentioned(member: Member, rules: CohortRules): boolean {
  const update = member.report?.update;
  if (update === undefined) return false;
  const { namespace, candidate, release, startedAt } = rules;
  if (update.release !== qualifiedName({ namespace, name: candidate.release })) return false;
  if (!isOurs(update.digest, member, candidate, release)) return false;
  const at = updatedAt(member);
  return at === null || at >= startedAt;
}

/** A clock that is off by more than this is not a matter of when we read. */
const CLOCK_AGREES = 90_000;

/** When the update report was written, by our clock: a device's clock can be wrong, its differences are right. */
function updatedAt({ report, heardAt }: Member): Instant | null {
  const at = parseTimestamp(report?.update?.at ?? "");
  const beat = parseTimestamp(report?.heartbeatAt ?? "");
  if (at === null || beat === null || heardAt === null) return at;
  return Math.abs(heardAt - beat) <= CLOCK_AGREES ? at : instant(heardAt - (beat - at));
}

function isOurs(
  digest: string,
  member: Member,
  reference: ReleaseRef,
  release: ModelRelease | undefined,
): boolean {
  const expected = digestFor(member, release);
  return expected === null ? reference.digests.includes(digest) : digest === expected;
}

/** What devices say comes from outside: no secrets, and not too much of it. `null`: it does not count as failed. */
export function failureText(member: Member, standing: Standing, rules: CohortRules): string | null {
  const { device, report, heardAt } = member;
  const since = heardAt === null ? "always" : `since ${timestampOf(heardAt)}`;
  switch (standing) {
    case "failed": {
      const error = report?.update?.error;
      return `${device}: ${redacted(error === undefined ? "failed" : `${error.code} ${error.message}`, 200)}`;
    }
    case "lost":
      return `${device}: stopped reporting after the update, silent ${since}`;
    case "implausible":
      return `${device}: ${redacted(member.implausible?.why ?? "", 200)}`;
    case "offline":
      return `${device}: offline for longer than ${durationText(offlineAfter(rules))}`;
    case "running":
    case "quiet":
    case "waiting":
    case "straggler":
    case "excused":
      return null;
    default:
      return unreachable(standing);
  }
}

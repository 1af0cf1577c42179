import type { InferenceDeploymentSpec, StratumExposure } from "../../api/inference-deployment.ts";
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
import { exposureIndex } from "../state/exposure.ts";
import type { ReleaseRef } from "../state/state.ts";

// What the exposed devices say about the candidate, and what their silence says. Evidence expires: a device counts for
// the candidate only while it is heard, and one that ran it and fell silent counts against it.

/**
 * running: reports the candidate, and was heard a short while ago · quiet: reports it, but not recently enough to be
 * evidence · failed: reports that it could not run it · lost: ran it, and has been silent for longer than
 * `offline.after` and than stable devices of its stratum · implausible: keeps reporting what cannot be · offline: has
 * been silent, and counts as failed by policy · waiting: has not arrived · straggler: has not arrived, in a width that
 * has passed without it · excused: was not there when it was exposed, is disabled, or has never reported.
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

export type Cohort = {
  readonly exposed: readonly Member[];
  /** Exposed devices whose last report says that they run the candidate, heard recently or not. */
  readonly running: number;
  /** Those of them that were heard recently with it: the evidence. */
  readonly heard: readonly Member[];
  /** Exposed devices that count as failed: reported, lost, implausible, or offline where the policy says so. */
  readonly failed: number;
  /** Those of them that speak, but not as evidence: they have reported a failure, or what cannot be. */
  readonly discounted: number;
  /** Those of them that ran the candidate and fell silent. */
  readonly lost: number;
  /** Exposed devices that have been silent for longer than `offline.after`, whatever the policy makes of it. */
  readonly offline: number;
  /** Exposed devices that are neither waited for nor counted. */
  readonly excused: number;
  /** Exposed devices that have yet to arrive, or to be missed, at this width. */
  readonly waiting: number;
  /** Exposed devices that have not arrived and that the width before went on without. */
  readonly stragglers: number;
  /** Those of both that the hub has not pointed at the candidate: it cannot be the candidate's doing. */
  readonly unplaced: number;
  /** Devices that came to an end, good or bad: the denominator of the failure budget. */
  readonly tried: number;
  /** Exposed devices that can come to an end at all. */
  readonly reachable: number;
  /** Names of strata in which devices that are online run the candidate, and none was heard with it. */
  readonly unheardStrata: readonly string[];
  /** At most ten, sorted: `device: code message`. */
  readonly examples: readonly string[];
  /** At most ten names, sorted: devices that have not arrived. */
  readonly missing: readonly string[];
};

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

/** What a cohort is judged by, besides its members. */
export type CohortRules = {
  readonly now: Instant;
  readonly namespace: string;
  readonly candidate: ReleaseRef;
  readonly release: ModelRelease | undefined;
  readonly exposure: readonly StratumExposure[];
  /** Who was exposed before the step under way. */
  readonly previousExposure: readonly StratumExposure[];
  /** When the rollout began: what was reported before is about an earlier attempt. */
  readonly begunAt: Instant;
  /** When the step began. */
  readonly stepStarted: Instant;
  /** Since when twins can be read: before that, silence was ours. */
  readonly hearingSince: Instant;
  /** How long a sweep of the fleet takes. */
  readonly sweepTime: Millis;
  /** Whether nothing ran here before: then nobody has reported yet. */
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
/** Of the stable devices of a stratum, how many may be silent for longer before silence counts as everybody's. */
const QUIET_SHARE = 0.9;

export function cohortOf(members: readonly Member[], rules: CohortRules): Cohort {
  const covers = exposureIndex(rules.exposure);
  const coveredBefore = exposureIndex(rules.previousExposure);
  const exposed = members.filter(covers);
  const strataOfExposed = new Set(exposed.map(rules.stratumOf));
  const quiet = quietOf(
    members.filter((member) => !covers(member) && strataOfExposed.has(rules.stratumOf(member))),
    rules,
  );
  const count: Record<Standing, number> = {
    running: 0,
    quiet: 0,
    failed: 0,
    lost: 0,
    implausible: 0,
    offline: 0,
    waiting: 0,
    straggler: 0,
    excused: 0,
  };
  let offline = 0;
  let unplaced = 0;
  const { namespace, candidate } = rules;
  const release = qualifiedName({ namespace, name: candidate.release });
  const heard: Member[] = [];
  const failures: string[] = [];
  const missing: string[] = [];
  const strata = new Map<string, boolean>();
  for (const member of exposed) {
    const stratum = rules.stratumOf(member);
    const standing = standingOf(member, !coveredBefore(member), quiet.get(stratum) ?? 0, rules);
    count[standing] += 1;
    if (isOffline(member, rules)) offline += 1;
    if (standing === "running") heard.push(member);
    if (standing === "waiting" || standing === "straggler") {
      missing.push(member.device);
      if (member.pointer?.release !== release) unplaced += 1;
    }
    const failure = failureText(member, standing, rules);
    if (failure !== null) failures.push(failure);
    const isPresent = standing === "running" || (standing === "quiet" && !isOffline(member, rules));
    if (isPresent) strata.set(stratum, strata.get(stratum) === true || standing === "running");
  }
  const failed = count.failed + count.lost + count.implausible + count.offline;
  const running = count.running + count.quiet;
  return {
    exposed,
    running,
    heard,
    failed,
    discounted: count.failed + count.implausible,
    lost: count.lost,
    offline,
    excused: count.excused,
    waiting: count.waiting,
    stragglers: count.straggler,
    unplaced,
    tried: running + failed,
    reachable: exposed.length - count.excused,
    unheardStrata: [...strata].flatMap(([stratum, hasVoice]) => (hasVoice ? [] : [stratum])).sort(),
    examples: failures.sort().slice(0, 10),
    missing: missing.sort().slice(0, 10),
  };
}

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
    const policy = rules.offline?.policy ?? "Skip";
    if (member.heardAt === null || policy === "Skip") return "excused";
    if (policy === "CountAsFailed" && isSilent) return "offline";
  }
  return isNewlyExposed ? "waiting" : "straggler";
}

/** Whether what the device reports about now is recent enough to be evidence. */
export function isHeard(member: Member, rules: Pick<CohortRules, "now" | "sweepTime">): boolean {
  return member.heardAt !== null && elapsed(member.heardAt, rules.now) <= freshFor(member, rules);
}

/** For how long a report of this device is evidence. */
function freshFor({ report }: Member, { sweepTime }: Pick<CohortRules, "sweepTime">): Millis {
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

function silenceOf(member: Member, rules: CohortRules): Millis {
  const last = Math.max(member.heardAt ?? rules.stepStarted, rules.hearingSince);
  return elapsed(instant(last), rules.now);
}

/** A deadline shorter than `offline.after` would otherwise find devices missing before they can be excused. */
function offlineAfter({ offline, deadline }: CohortRules): Millis {
  const after = offline === undefined ? minutes(30) : millisOf(offline.after);
  return millis(Math.min(after, deadline));
}

/** Whether silence is no fault of the release: it was there before the device was exposed, or has always been. */
function isExcusable(member: Member, isNewlyExposed: boolean, rules: CohortRules): boolean {
  // Where something ran before, a device that has never reported is one that has never been switched on.
  if (member.heardAt === null) return isOffline(member, rules) || !rules.isFirst;
  // A first report is dated by the device's clock, which may be behind: the next one shows whether it lives.
  if (elapsed(rules.hearingSince, rules.now) < freshFor(member, rules)) return false;
  // By its own last report: an operator that has started knows who was gone before it came.
  if (elapsed(member.heardAt, rules.now) < offlineAfter(rules)) return false;
  // Those of an earlier width were judged there.
  return !isNewlyExposed || member.heardAt < rules.stepStarted - freshFor(member, rules);
}

/** Whether the device has reported a failure of this candidate in this rollout: older reports stay in the twin. */
function hasFailed(member: Member, rules: CohortRules): boolean {
  return member.report?.update?.state === "Failed" && hasMentioned(member, rules);
}

/** Whether the device has reported anything about this candidate in this rollout, so that it was there. */
function hasMentioned(member: Member, rules: CohortRules): boolean {
  const update = member.report?.update;
  if (update === undefined) return false;
  const { namespace, candidate, release, begunAt } = rules;
  if (update.release !== qualifiedName({ namespace, name: candidate.release })) return false;
  if (!isOurs(update.digest, member, candidate, release)) return false;
  const at = updatedAt(member);
  return at === null || at >= begunAt;
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

/** By stratum: how long nine of ten of the devices that still run stable have been silent at most. */
function quietOf(control: readonly Member[], rules: CohortRules): ReadonlyMap<string, number> {
  const silences = new Map<string, number[]>();
  for (const member of control) {
    // Those that were silent before say nothing about the time since.
    if (member.heardAt === null || !member.enabled) continue;
    if (member.heardAt < rules.stepStarted - freshFor(member, rules)) continue;
    const stratum = rules.stratumOf(member);
    const known = silences.get(stratum) ?? [];
    known.push(silenceOf(member, rules));
    silences.set(stratum, known);
  }
  return new Map(
    [...silences].map(([stratum, known]) => {
      const sorted = known.sort((a, b) => a - b);
      return [stratum, sorted[Math.ceil(QUIET_SHARE * sorted.length) - 1] ?? 0];
    }),
  );
}

/** At least one device runs it and no device at this width is waited for: an empty step proves nothing. */
export function hasArrived(cohort: Cohort, percent: number): boolean {
  return (
    cohort.running > 0 && cohort.waiting === 0 && isWithin(cohort.failed + cohort.stragglers, percent, cohort)
  );
}

export type Budget = {
  /** Past the budget, and enough devices have tried: the candidate is taken back. */
  readonly spent: boolean;
  /** Failures and devices that are missing, together, are within the budget. */
  readonly covers: boolean;
  /** Failures and missing devices that the hub has pointed at the candidate, together, are past the budget. */
  readonly missed: boolean;
  readonly message: string;
};

/** `percent` is how many of those that tried may fail; judged once as many have tried as can. */
export function failureBudget(
  cohort: Cohort,
  spec: InferenceDeploymentSpec["failureBudget"],
  percent: number,
): Budget {
  const { failed, tried, waiting, stragglers, unplaced } = cohort;
  // Where fewer can be reached than the minimum, all of them are enough.
  const enough = waiting === 0 || tried >= (spec?.minimumExecuted ?? 20);
  const spent = enough && failed > 0 && failed * 100 > percent * tried;
  const first = cohort.examples[0];
  return {
    spent,
    covers: isWithin(failed + waiting + stragglers, percent, cohort),
    missed: !isWithin(failed + waiting + stragglers - unplaced, percent, cohort),
    message: `${failed} of the ${devices(tried)} that tried have failed, and the budget is ${percent} %${
      first === undefined ? "" : ` (${first})`
    }`,
  };
}

function isWithin(count: number, percent: number, { reachable }: Cohort): boolean {
  return count * 100 <= percent * reachable;
}

export type Coverage = { readonly enough: boolean; readonly message: string };

/**
 * Whether enough of the devices that were there have been heard with the candidate: `percent` of those that have not
 * failed, at least one of each stratum, all but `accepted` that a person goes on without. `heard` is how many were.
 */
export function coverageOf(cohort: Cohort, heard: number, percent: number, accepted: number): Coverage {
  const expected = Math.max(0, cohort.reachable - cohort.discounted);
  const needed = Math.max(1, Math.min(Math.ceil((expected * percent) / 100), expected - accepted));
  const strata = accepted > 0 ? [] : cohort.unheardStrata;
  const [first] = strata;
  const where =
    first === undefined
      ? ""
      : `; none of ${strata.length === 1 ? stratumText(first) : `${strata.length} strata`}`;
  return {
    enough: heard >= needed && strata.length === 0,
    message: `${heard} of ${devices(expected)} give recent evidence, and ${needed} must${where}`,
  };
}

function stratumText(stratum: string): string {
  return stratum.split("\n").filter(Boolean).join(" / ");
}

export function devices(count: number): string {
  return count === 1 ? "1 device" : `${count} devices`;
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
function failureText(member: Member, standing: Standing, rules: CohortRules): string | null {
  const { device, report, heardAt } = member;
  const since = heardAt === null ? "always" : `since ${timestampOf(heardAt)}`;
  switch (standing) {
    case "failed": {
      const error = report?.update?.error;
      return `${device}: ${redacted(error === undefined ? "failed" : `${error.code} ${error.message}`, 200)}`;
    }
    case "lost":
      return `${device}: lost after the update, silent ${since}`;
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

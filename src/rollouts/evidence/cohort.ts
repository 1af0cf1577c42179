import { qualifiedName } from "../../api/membership.ts";
import type { Member } from "../seen.ts";
import { exposureIndex } from "../state/exposure.ts";
import {
  type CohortRules,
  failureText,
  freshFor,
  isOffline,
  isUntold,
  type Standing,
  silenceOf,
  standingOf,
} from "./standing.ts";

// What the exposed devices say about the candidate, and what their silence says. Evidence expires: a device counts for
// the candidate only while it is heard, and one that ran it and fell silent counts against it.

export type Cohort = {
  readonly exposed: readonly Member[];
  /** Exposed devices whose last report says that they run the candidate, heard recently or not. */
  readonly running: number;
  /** Those of them that were heard recently with it: the evidence. */
  readonly heard: readonly Member[];
  /** Exposed devices that count as failed: reported, lost, implausible, or offline where the policy says so. */
  readonly failed: number;
  /** Those of them whose reports are not evidence: a failure, or a report that cannot be true. */
  readonly discounted: number;
  /** Those of them that ran the candidate and fell silent. */
  readonly lost: number;
  /** Exposed devices that have been silent for longer than `offline.after`, under every policy. */
  readonly offline: number;
  /** Exposed devices that are neither waited for nor counted. */
  readonly excused: number;
  /** Exposed devices that have not arrived at this width, and are still waited for. */
  readonly waiting: number;
  /** Exposed devices that have not arrived, and that an earlier width passed without. */
  readonly stragglers: number;
  /** Those of both that the hub has not pointed at the candidate, so that the candidate cannot be the cause. */
  readonly unplaced: number;
  /** Those of both of which it is not known yet whether they are switched off. */
  readonly untold: number;
  /** Devices with a result, good or bad: the denominator of the failure budget. */
  readonly tried: number;
  /** Exposed devices that can have a result at all. */
  readonly reachable: number;
  /** Names of strata in which devices that are online run the candidate, and none was heard with it. */
  readonly unheardStrata: readonly string[];
  /** At most ten, sorted: `device: code message`. */
  readonly examples: readonly string[];
  /** At most ten names, sorted: devices that have not arrived. */
  readonly missing: readonly string[];
};

/** Of the stable devices of a stratum, how many may be silent for longer before silence counts as that of the whole stratum. */
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
  let untold = 0;
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
      if (isUntold(member, rules)) untold += 1;
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
    untold,
    tried: running + failed,
    reachable: exposed.length - count.excused,
    unheardStrata: [...strata].flatMap(([stratum, hasVoice]) => (hasVoice ? [] : [stratum])).sort(),
    examples: failures.sort().slice(0, 10),
    missing: missing.sort().slice(0, 10),
  };
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

import type { InferenceDeploymentSpec, StratumExposure } from "../api/inference-deployment.ts";
import { type ModelRelease, variantFor } from "../api/model-release.ts";
import { redacted } from "../base/redact.ts";
import { elapsed, type Instant, millisOf, minutes, parseTimestamp } from "../base/time.ts";
import { exposureIndex } from "./exposure.ts";
import type { Member } from "./seen.ts";
import type { ReleaseRef } from "./state.ts";

// What the exposed devices say about the candidate: the difference between "delivered" and "running".

export type Cohort = {
  readonly exposed: readonly Member[];
  /** Exposed devices that say they run the candidate. */
  readonly running: number;
  /** Exposed devices that say it failed (and, where the policy says so, those that are offline). */
  readonly failed: number;
  /** Exposed devices that have been silent for longer than `offline.after`. */
  readonly offline: number;
  /** Exposed devices that have neither arrived nor failed nor are excused. */
  readonly waiting: number;
  /** Devices that came to an end, good or bad: the denominator of the failure budget. */
  readonly tried: number;
  /** At most ten, sorted: `device: code message`. */
  readonly examples: readonly string[];
};

export type Standing = "running" | "failed" | "offline" | "waiting";

/** Whether a device says that it runs the release: its digest is loaded and inferring. */
export function runs(
  member: Member,
  reference: ReleaseRef | null,
  release: ModelRelease | undefined,
): boolean {
  const active = member.report?.active?.digest;
  if (active === undefined || reference === null) return false;
  const digest = digestFor(member, release);
  return digest === null ? reference.digests.includes(active) : active === digest;
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

export type Silence = {
  readonly now: Instant;
  /** When the step began: a device that never reported is silent since then. */
  readonly stepStarted: Instant;
  /** Since when the hub has been reachable: before that, silence was ours. */
  readonly hearingSince: Instant;
  readonly offline: InferenceDeploymentSpec["offline"];
};

export function isOffline(member: Member, silence: Silence): boolean {
  const heartbeat = member.report === null ? null : parseTimestamp(member.report.heartbeatAt);
  const last = Math.max(
    Math.min(heartbeat ?? silence.stepStarted, silence.now),
    silence.hearingSince,
  ) as Instant;
  return elapsed(last, silence.now) >= offlineAfter(silence.offline);
}

export function standingOf(
  member: Member,
  reference: ReleaseRef,
  release: ModelRelease | undefined,
  silence: Silence,
): Standing {
  const update = member.report?.update;
  const ours = update !== undefined && isOurs(update.digest, member, reference, release);
  if (ours && update.state === "Failed") return "failed";
  if (runs(member, reference, release)) return "running";
  return isOffline(member, silence) ? "offline" : "waiting";
}

export function cohortOf(
  members: readonly Member[],
  exposure: readonly StratumExposure[],
  reference: ReleaseRef,
  release: ModelRelease | undefined,
  silence: Silence,
): Cohort {
  const covers = exposureIndex(exposure);
  const exposed = members.filter(covers);
  const policy = silence.offline?.policy ?? "Skip";
  const count = { running: 0, failed: 0, offline: 0, waiting: 0 };
  const failures: string[] = [];
  for (const member of exposed) {
    const standing = standingOf(member, reference, release, silence);
    count[standing] += 1;
    if (standing === "failed") failures.push(failureText(member));
    if (standing === "offline" && policy === "CountAsFailed") failures.push(`${member.device}: offline`);
  }
  const lost = policy === "CountAsFailed" ? count.offline : 0;
  return {
    exposed,
    running: count.running,
    failed: count.failed + lost,
    offline: count.offline,
    waiting: count.waiting + (policy === "Wait" ? count.offline : 0),
    tried: count.running + count.failed + lost,
    examples: failures.sort().slice(0, 10),
  };
}

/** At least one device runs it and nobody is waited for: an empty step proves nothing. */
export function isConverged(cohort: Cohort): boolean {
  return cohort.running > 0 && cohort.waiting === 0;
}

export type Budget = { readonly spent: boolean; readonly message: string };

/** `percent` is how many of those that tried may fail; judged once enough of them have. */
export function failureBudget(
  cohort: Cohort,
  spec: InferenceDeploymentSpec["failureBudget"],
  percent: number,
): Budget {
  const needed = Math.min(spec?.minimumExecuted ?? 20, cohort.exposed.length);
  const share = cohort.tried === 0 ? 0 : (cohort.failed * 100) / cohort.tried;
  const spent = cohort.failed > 0 && cohort.tried >= needed && share > percent;
  const first = cohort.examples[0];
  return {
    spent,
    message: `${cohort.failed} of the ${devices(cohort.tried)} that tried have failed, and the budget is ${percent} %${
      first === undefined ? "" : ` (${first})`
    }`,
  };
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

/** What devices say comes from outside: no secrets, and not too much of it. */
function failureText(member: Member): string {
  const error = member.report?.update?.error;
  return `${member.device}: ${redacted(error === undefined ? "failed" : `${error.code} ${error.message}`, 200)}`;
}

function offlineAfter(offline: InferenceDeploymentSpec["offline"]): number {
  return offline === undefined ? minutes(30) : millisOf(offline.after);
}

import type {
  ModelRelease,
  ModelReleaseSpec,
  ModelReleaseStatus,
  VariantStatus,
} from "../api/model-release.ts";
import type { ObjectKey } from "../api/resource.ts";
import { canonicalJson } from "../base/digest.ts";
import type { Attempt } from "../base/fault.ts";
import { ok } from "../base/result.ts";
import { elapsed, type Instant, type Millis, millis, minutes, seconds } from "../base/time.ts";
import type { EventRecorder, Resources } from "../kube/kube.ts";
import { cycle, type Done } from "../runtime/cycle.ts";
import { type Outcome, outcomeOfFault, type Reconcile, SETTLED } from "../runtime/outcome.ts";
import type { Meter } from "../telemetry/telemetry.ts";
import type { VerificationKey, Verifier } from "../verification/verification.ts";
import { type ActDeps, actOnRelease } from "./act.ts";
import { type ActiveVerifications, createActiveVerifications } from "./active-verifications.ts";
import { decideRelease } from "./decide.ts";
import { eventsOf } from "./events.ts";
import { type ObserveDeps, observeRelease } from "./observe.ts";
import type { ReleasePlan, Waiting } from "./plan.ts";
import { statusOf } from "./report.ts";
import { NOT_ACTED, type ReleaseActed, type ReleaseSeen } from "./seen.ts";

export type ReleaseDeps = ObserveDeps &
  ActDeps & {
    readonly verifier: Verifier;
    readonly releases: Resources<ModelReleaseSpec, ModelReleaseStatus>;
    readonly recorder: EventRecorder;
    readonly meter: Meter;
    /** 0 ≤ x < 1: spreads wakes. */
    readonly random: () => number;
  };

/**
 * Has every variant of one ModelRelease verified, and reports the results. A start is idempotent by its key, and the
 * verifier is looked at before anything is started. What the key is made of beside the spec (which release it is
 * compared with, the round of a verification that is made again) is remembered first. There is no finalizer: what was
 * asked for an object that is gone is cancelled from memory, and would end anyway.
 */
export function reconcileRelease(deps: ReleaseDeps): Reconcile<ObjectKey> {
  const measure = createMeasure(deps);
  const asked = createActiveVerifications<VerificationKey>();
  const reconcile = cycle<ObjectKey, ReleaseSeen, ReleasePlan, ReleaseActed>({
    observe: observeRelease(deps),
    decide: decideRelease,
    commit: async (seen, plan, signal) => {
      await cancelAll(deps, replacedBy(asked, seen, plan), signal);
      if (!isToRemember(seen, plan)) return ok(seen);
      const published = await publish(deps, seen, plan, { acted: NOT_ACTED, fault: null }, signal);
      return published.ok ? ok({ ...seen, release: published.value }) : published;
    },
    act: actOnRelease(deps),
    report: async (seen, plan, done, signal) => {
      const published = await publish(deps, seen, plan, done, signal);
      if (!published.ok) return published;
      measure(seen.release, done.acted, published.value.status ?? {});
      return ok(undefined);
    },
    rest: (seen, plan, { fault }) => (fault === null ? rest(seen, plan, deps.random) : outcomeOfFault(fault)),
  });
  return async (key, signal) => {
    const release = deps.releases.get(key);
    if (release !== undefined && !release.deleting) return await reconcile(key, signal);
    deps.reverifySlots.releaseAll(key);
    return await cancelAll(deps, asked.gone(key), signal);
  };
}

async function publish(
  deps: Pick<ReleaseDeps, "releases" | "recorder">,
  seen: ReleaseSeen,
  plan: ReleasePlan,
  { acted, fault }: Done<ReleaseActed>,
  signal: AbortSignal,
): Attempt<ModelRelease> {
  const { release } = seen;
  const status = statusOf(seen, plan, acted, fault);
  if (canonicalJson(status) === canonicalJson(release.status)) return ok(release);
  const written = await deps.releases.writeStatus(release, status, signal);
  if (!written.ok) return written;
  const { namespace, name, uid } = release;
  for (const event of eventsOf(release.status, status))
    deps.recorder.record({ kind: "ModelRelease", namespace, name, uid }, event);
  return written;
}

/** Whether a start rests on something that only this pass knows. */
function isToRemember({ release }: ReleaseSeen, plan: ReleasePlan): boolean {
  return plan.variants.some(({ start, next }) => {
    if (start === null) return false;
    const had = release.status?.variants?.find(({ name }) => name === next.name);
    return memoryOf(next) !== memoryOf(had);
  });
}

function memoryOf(status: VariantStatus | undefined): string {
  const { comparedWith, since = null } = status?.reverification ?? { comparedWith: status?.comparedWith };
  return canonicalJson([comparedWith ?? null, since]);
}

/** @returns the verifications that those of this plan replace. */
function replacedBy(
  asked: ActiveVerifications<VerificationKey>,
  { release, variants }: ReleaseSeen,
  plan: ReleasePlan,
): VerificationKey[] {
  return plan.variants.flatMap(({ next, waiting }, index) => {
    const seen = variants[index];
    if (waiting.kind !== "verifier" || seen?.kind !== "asked") {
      asked.ended(release.key, next.name);
      return [];
    }
    return asked.note(release.key, next.name, seen.key) ?? [];
  });
}

/** Once: a verifier that does not answer runs nothing, and what is not cancelled ends anyway. */
async function cancelAll(
  { verifier }: Pick<ReleaseDeps, "verifier">,
  keys: readonly VerificationKey[],
  signal: AbortSignal,
): Promise<Outcome> {
  for (const key of keys) await verifier.cancel(key, signal);
  return SETTLED;
}

/** Counts verifications as they end, and times those whose start this process has seen. */
function createMeasure({ clock, meter }: Pick<ReleaseDeps, "clock" | "meter">) {
  const begun = new Map<string, Instant>();
  return (before: ModelRelease, acted: ReleaseActed, after: ModelReleaseStatus): void => {
    for (const saved of Object.values(acted.saved))
      meter.count("edgefleet_verification_reports_total", { result: saved.kind });
    for (const variant of acted.started) begun.set(`${before.uid}/${variant}`, clock.now());
    for (const variant of after.variants ?? []) {
      const had = before.status?.variants?.find(({ name }) => name === variant.name);
      const end = endOf(variant);
      if (end === null || (had !== undefined && endOf(had)?.id === end.id)) continue;
      const { verdict, reason } = end;
      meter.count("edgefleet_verifications_total", { verdict, reason });
      const start = begun.get(`${before.uid}/${variant.name}`);
      if (start === undefined) continue;
      begun.delete(`${before.uid}/${variant.name}`);
      meter.observe("edgefleet_verification_duration_seconds", elapsed(start, clock.now()) / 1000, {
        verdict,
      });
    }
  };
}

/** How a variant's last verification ended; `null`: none has yet. */
function endOf({ reverification, ...variant }: VariantStatus) {
  const { verdict, reason = "", attempts } = reverification ?? variant;
  if (verdict === "Error") return { id: `Error ${attempts}`, verdict, reason };
  if (variant.verdict !== "Passed" && variant.verdict !== "Failed") return null;
  return {
    id: `${variant.verdict} ${variant.verifiedAt}`,
    verdict: variant.verdict,
    reason: variant.reason ?? "",
  };
}

/** The variant that is due first decides; while one runs, the next look is soon in any case. */
function rest(seen: ReleaseSeen, plan: ReleasePlan, random: () => number): Outcome {
  const waiting = plan.variants.map((variant) => variant.waiting);
  const spread = (from: Millis, to: Millis): Millis => millis(Math.round(from + random() * (to - from)));
  if (has(waiting, "verifier"))
    return { kind: "wakeAfter", delay: spread(seconds(1), seconds(2)), why: "a verification is running" };
  for (const each of waiting) if (each.kind === "fault") return outcomeOfFault(each.fault);
  if (has(waiting, "blob"))
    return { kind: "wakeAfter", delay: spread(seconds(30), seconds(40)), why: "a blob is missing" };
  const retries = waiting.flatMap((each) => (each.kind === "retry" ? [elapsed(seen.now, each.at)] : []));
  if (retries.length > 0)
    return {
      kind: "retry",
      cause: "the verification ended in an error",
      atLeast: millis(Math.min(...retries)),
    };
  const later = waiting.flatMap((each) => laterOf(each, seen.now));
  if (later.length === 0) return SETTLED;
  // Releases of one schedule do not all wake in one moment.
  const delay = millis(Math.min(LONGEST_REST, ...later) + spread(seconds(0), seconds(30)));
  return { kind: "wakeAfter", delay, why: "periodic check" };
}

/** Triggers announce what is waited for; this is for what no trigger saw. */
const LOOK_AGAIN = minutes(5);
/** Timers of many days are unreliable. */
const LONGEST_REST = minutes(12 * 60);

function laterOf(waiting: Waiting, now: Instant): readonly Millis[] {
  if (waiting.kind === "reference") return [LOOK_AGAIN];
  if (waiting.kind !== "again") return [];
  const { next, reportAt } = waiting;
  const report = reportAt === null ? [] : [elapsed(now, reportAt)];
  if (next.kind === "never") return report;
  return [...report, next.kind === "at" ? elapsed(now, next.at) : LOOK_AGAIN];
}

function has(waiting: readonly Waiting[], kind: Waiting["kind"]): boolean {
  return waiting.some((each) => each.kind === kind);
}

import type { ModelRelease, ModelReleaseSpec, ModelReleaseStatus } from "../api/model-release.ts";
import type { ObjectKey } from "../api/resource.ts";
import { canonicalJson } from "../base/digest.ts";
import { type Attempt, type Fault, ok, type Result } from "../base/result.ts";
import { elapsed, type Instant, type Millis, millis, seconds } from "../base/time.ts";
import type { Announcer, Resources } from "../kube/kube.ts";
import { cycle } from "../runtime/cycle.ts";
import { type Outcome, outcomeOfFault, type Reconcile, SETTLED } from "../runtime/outcome.ts";
import type { Meter } from "../telemetry/telemetry.ts";
import { type ActDeps, actOnRelease } from "./act.ts";
import { decideRelease, type ReleasePlan, type Waiting } from "./decide.ts";
import { type ObserveDeps, observeRelease } from "./observe.ts";
import { reportRelease } from "./report.ts";
import { type Learned, NOTHING_LEARNED, type ReleaseSeen } from "./seen.ts";

export type ReleaseDeps = ObserveDeps &
  ActDeps & {
    readonly releases: Resources<ModelReleaseSpec, ModelReleaseStatus>;
    readonly announcer: Announcer;
    readonly meter: Meter;
    /** 0 ≤ x < 1: spreads wakes. */
    readonly random: () => number;
  };

/**
 * Has every variant of one ModelRelease verified, and says what came of it. Nothing is remembered beforehand: a start is
 * idempotent by its key, and the verifier is looked at before anything is started. Nothing is undone in the end, so there
 * is no finalizer: a verification that nobody asks for any more ends by itself.
 */
export function reconcileRelease(deps: ReleaseDeps): Reconcile<ObjectKey> {
  const observe = observeRelease(deps);
  const measure = createMeasure(deps);
  return (key, signal) => {
    let learned: Learned = NOTHING_LEARNED;
    const learn = (more: Partial<Learned>) => {
      learned = { ...learned, ...more };
    };
    return cycle<ObjectKey, ReleaseSeen, ReleasePlan>({
      observe,
      decide: decideRelease,
      commit: async (seen) => ok(seen),
      act: actOnRelease(deps, learn),
      report: async (seen, plan, acted, during) => {
        const published = await publish(deps, seen, plan, { acted, learned }, during);
        if (published.ok) measure(seen.release, learned, published.value);
        return published.ok ? ok(undefined) : published;
      },
      rest: (seen, plan) => rest(seen, plan, deps.random),
    })(key, signal);
  };
}

async function publish(
  deps: Pick<ReleaseDeps, "releases" | "announcer">,
  seen: ReleaseSeen,
  plan: ReleasePlan,
  { acted, learned }: { readonly acted: Result<void, Fault>; readonly learned: Learned },
  signal: AbortSignal,
): Attempt<ModelReleaseStatus> {
  const { release } = seen;
  const report = reportRelease(seen, plan, acted, learned);
  if (canonicalJson(report.status) === canonicalJson(release.status)) return ok(report.status);
  const written = await deps.releases.writeStatus(release, report.status, signal);
  if (!written.ok) return written;
  const { namespace, name, uid } = release;
  for (const note of report.notes)
    deps.announcer.announce({ kind: "ModelRelease", namespace, name, uid }, note);
  return ok(report.status);
}

/** Counts verdicts as they come in, and times those whose start this process has seen. */
function createMeasure({ clock, meter }: Pick<ReleaseDeps, "clock" | "meter">) {
  const begun = new Map<string, Instant>();
  return (before: ModelRelease, learned: Learned, after: ModelReleaseStatus): void => {
    for (const variant of learned.started) begun.set(`${before.uid}/${variant}`, clock.now());
    for (const { name, verdict, reason = "" } of after.variants ?? []) {
      if (verdict === "Pending" || verdict === "Running") continue;
      if (before.status?.variants?.find((had) => had.name === name)?.verdict === verdict) continue;
      meter.count("edgefleet_verifications_total", { verdict, reason });
      const start = begun.get(`${before.uid}/${name}`);
      if (start === undefined) continue;
      begun.delete(`${before.uid}/${name}`);
      meter.observe("edgefleet_verification_duration_seconds", elapsed(start, clock.now()) / 1000, {
        verdict,
      });
    }
  };
}

/** The variant that needs us first decides; one that runs is looked at soon whatever else there is. */
function rest(seen: ReleaseSeen, plan: ReleasePlan, random: () => number): Outcome {
  const waiting = plan.variants.map((variant) => variant.waiting);
  const spread = (from: Millis, to: Millis): Millis => millis(Math.round(from + random() * (to - from)));
  if (has(waiting, "verifier"))
    return { kind: "wakeAfter", delay: spread(seconds(1), seconds(2)), why: "a verification runs" };
  for (const each of waiting) if (each.kind === "fault") return outcomeOfFault(each.fault);
  if (has(waiting, "blob"))
    return { kind: "wakeAfter", delay: spread(seconds(30), seconds(40)), why: "a blob is missing" };
  let soonest: Millis | null = null;
  for (const each of waiting) {
    if (each.kind !== "retry") continue;
    const left = elapsed(seen.now, each.at);
    if (soonest === null || left < soonest) soonest = left;
  }
  return soonest === null
    ? SETTLED
    : { kind: "retry", cause: "the verification broke off", atLeast: soonest };
}

function has(waiting: readonly Waiting[], kind: Waiting["kind"]): boolean {
  return waiting.some((each) => each.kind === kind);
}

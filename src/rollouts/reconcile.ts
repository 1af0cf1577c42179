import type { InferenceDeployment, InferenceDeploymentStatus } from "../api/inference-deployment.ts";
import type { Problem } from "../api/reasons.ts";
import { REASONS } from "../api/reasons.ts";
import type { ObjectKey } from "../api/resource.ts";
import { canonicalJson } from "../base/digest.ts";
import type { Attempt, Fault } from "../base/fault.ts";
import { ok, type Result, unreachable } from "../base/result.ts";
import { type Clock, durationText, elapsed, type Millis, millis, minutes, seconds } from "../base/time.ts";
import type { ConfigurationView, DeviceHub, FleetView } from "../hub/hub.ts";
import type { EventRecorder } from "../kube/kube.ts";
import { cycle, type Done } from "../runtime/cycle.ts";
import { type Outcome, outcomeOfFault, type Reconcile, SETTLED } from "../runtime/outcome.ts";
import type { ModelStore } from "../store/store.ts";
import type { Log, Meter } from "../telemetry/telemetry.ts";
import { type Act, actOnRollout } from "./act.ts";
import { decideRollout, type RolloutPlan, type Wake } from "./decide.ts";
import { createMemories, type Memories } from "./memory.ts";
import { type ObserveDeps, observeRollout } from "./observe.ts";
import { type RolloutActed, statusOf, statusOfCleanup } from "./report/report.ts";
import { isSignificantChange } from "./report/significance.ts";
import type { RolloutSeen, Settings } from "./seen.ts";
import { isUnderWay } from "./state/state.ts";

export type RolloutOptions = {
  /** Of the buckets; the same for the life of a fleet. */
  readonly salt: string;
  /** Id of this cluster: two may share a hub. */
  readonly clusterId: string;
  readonly analysisInterval?: Millis;
  readonly sasLifetime?: Millis;
  readonly fastPathLimit?: number;
  readonly hubConfigurationLimit?: number;
  readonly baseDeployment?: "managed" | "external";
  /** The namespaces that are served; left out: all. */
  readonly namespaces?: readonly string[] | null;
  readonly ownerlessAfter?: Millis;
};

export type RolloutDeps = Pick<ObserveDeps, "deployments" | "releases" | "devices" | "grants"> & {
  readonly hub: Pick<DeviceHub, "getTwin" | "patchTwin" | "testCondition">;
  readonly fleet: FleetView;
  readonly configurations: ConfigurationView;
  readonly store: Pick<ModelStore, "stat" | "readUrl">;
  readonly recorder: EventRecorder;
  readonly clock: Pick<Clock, "now">;
  readonly log: Log;
  readonly meter: Meter;
  readonly options: RolloutOptions;
};

/** An hour less than the seven days that a user delegation key lives. */
const SAS_LIFETIME = millis(7 * 24 * 3_600_000 - 3_600_000);

/** Long enough to restore a namespace from its backup. */
const OWNERLESS_AFTER = minutes(24 * 60);

type Running = RolloutDeps & {
  readonly settings: Settings;
  readonly memories: Memories;
  readonly act: Act;
};

/** The controller of InferenceDeployments: one look, one step of the state machine, what it takes to make it so. */
export function reconcileRollout(deps: RolloutDeps): Reconcile<ObjectKey> {
  const settings = settingsOf(deps.options);
  const memories = createMemories();
  const act = actOnRollout(deps, memories);
  const running: Running = { ...deps, settings, memories, act };

  return cycle<ObjectKey, RolloutSeen, RolloutPlan, RolloutActed>({
    observe: observeRollout(
      { ...deps, salt: deps.options.salt, settings, namespaces: deps.options.namespaces ?? null },
      memories,
    ),

    decide: decideRollout,

    commit: async (seen, plan, signal) => {
      if (plan.kind !== "live" || !plan.changed) return ok(seen);
      const written = await deps.deployments.writeStatus(
        seen.deployment,
        statusOf(plan, { problem: plan.problem }, null),
        signal,
      );
      if (!written.ok) return written;
      memories.of(seen.deployment.key).reportedAt = seen.now;
      record(running, seen.deployment, plan);
      return ok({ ...seen, deployment: written.value });
    },

    act: async (seen, plan, signal) => {
      switch (plan.kind) {
        case "gone":
        case "unknown":
          return done(ok(null));
        case "ownerless":
          return done(await actOnOwnerless(running, seen, plan, signal));
        case "adopt":
          return done(nothing(await deps.deployments.setFinalizer(seen.deployment, "add", signal)));
        case "cleanup":
          if (plan.done) {
            memories.forget(seen.deployment.key);
            return done(nothing(await deps.deployments.setFinalizer(seen.deployment, "remove", signal)));
          }
          return done(await act(seen, plan.actions, null, signal));
        case "live":
          return done(await act(seen, plan.actions, plan.state, signal), plan.problem);
        default:
          return unreachable(plan);
      }
    },

    report: async (seen, plan, after, signal) => {
      const status = reportAfter(plan, seen, after);
      if (status === null || canonicalJson(status) === canonicalJson(seen.deployment.status))
        return ok(undefined);
      const memory = memories.of(seen.deployment.key);
      memory.reportDeferred = false;
      const isEarly =
        memory.reportedAt !== null && elapsed(memory.reportedAt, seen.now) < settings.analysisInterval;
      // Counts and measured values are written at the pace of the analysis; what happened is written at once.
      if (isEarly && !isSignificantChange(seen.deployment.status, status)) {
        memory.reportDeferred = true;
        return ok(undefined);
      }
      memory.reportedAt = seen.now;
      const written = await deps.deployments.writeStatus(seen.deployment, status, signal);
      return written.ok ? ok(undefined) : written;
    },

    rest: (seen, plan, after) => {
      const reportDeferred = plan.kind === "live" && memories.of(seen.deployment.key).reportDeferred;
      return restOf(plan, after, reportDeferred, settings.analysisInterval);
    },
  });
}

/** Names what was left behind, once, and once more when it is taken away. */
async function actOnOwnerless(
  running: Running,
  seen: RolloutSeen,
  { due, actions }: Extract<RolloutPlan, { readonly kind: "ownerless" }>,
  signal: AbortSignal,
): Attempt<Problem | null> {
  const { key, namespace, name, uid } = seen.deployment;
  const memory = running.memories.of(key);
  const stage = due ? "removal" : "grace";
  if (memory.ownerlessSaid !== stage) {
    memory.ownerlessSaid = stage;
    const ids = seen.own.map(({ id }) => id);
    running.log.warn(
      due ? "removing ownerless configurations from the hub" : "the hub has ownerless configurations",
      { deployment: key, configurations: ids.slice(0, 20).join(", "), count: ids.length },
    );
    const fate = due
      ? "they are being removed; devices keep what they run"
      : `they will be removed in ${durationText(running.settings.ownerlessAfter)} unless it is recreated`;
    running.recorder.record(
      { kind: "InferenceDeployment", namespace, name, uid },
      {
        type: "Warning",
        reason: REASONS.OwnerlessConfigurations,
        message: `InferenceDeployment ${key} does not exist, and the hub still has ${ids.length} of its configurations (${ids[0]}): ${fate}`,
      },
    );
  }
  return await running.act(seen, actions, null, signal);
}

/** Events, log and metrics of a transition: once for each. */
function record(
  running: Running,
  deployment: InferenceDeployment,
  plan: Extract<RolloutPlan, { readonly kind: "live" }>,
): void {
  const { before, state, events } = plan;
  const { namespace, name, uid } = deployment;
  for (const event of events) {
    running.recorder.record({ kind: "InferenceDeployment", namespace, name, uid }, event);
  }
  if (before.phase !== state.phase) {
    running.meter.count("edgefleet_rollout_transitions_total", { phase: state.phase });
    running.log.info("rollout changed phase", {
      deployment: deployment.key,
      from: before.phase,
      to: state.phase,
    });
    if (state.phase === "RollingBack") {
      running.meter.count("edgefleet_rollbacks_total", { reason: state.because.reason });
    }
  }
}

/** @param reportDeferred whether a report still has to be written, at the pace of the analysis. */
export function restOf(
  plan: RolloutPlan,
  { acted: { problem }, fault }: Done<RolloutActed>,
  reportDeferred: boolean,
  interval: Millis,
): Outcome {
  if (fault !== null) {
    const outcome = outcomeOfFault(fault);
    // Back-off would make a rollout that is under way blind for a while; it comes back at its own pace.
    const isAtOwnPace = plan.kind === "live" && isUnderWay(plan.state);
    return isAtOwnPace ? atOwnPace(outcome, interval) : outcome;
  }
  switch (plan.kind) {
    case "gone":
      return SETTLED;
    case "adopt":
      return { kind: "wakeAfter", delay: seconds(1), why: "adopted" };
    case "cleanup":
      return plan.done ? SETTLED : outcomeOfWake(plan.wake);
    case "unknown":
    case "ownerless":
      return outcomeOfWake(plan.wake);
    case "live": {
      // What only a person can change is looked at again, but there is no hurry.
      if (problem !== null && !isUnderWay(plan.state)) {
        return { kind: "wakeAfter", delay: minutes(1), why: problem.reason };
      }
      if (problem !== null) return { kind: "wakeAfter", delay: interval, why: "analysis" };
      return outcomeOfWake(reportDeferred ? sooner(plan.wake, interval) : plan.wake);
    }
    default:
      return unreachable(plan);
  }
}

/** The same wait whatever the fault, and no longer than the analysis can stand. */
function atOwnPace(outcome: Outcome, interval: Millis): Outcome {
  if (outcome.kind !== "retry")
    return { kind: "wakeAfter", delay: interval, why: "the hub rejected an action" };
  const delay = millis(Math.min(interval, Math.max(outcome.atLeast ?? 0, seconds(2))));
  return { kind: "wakeAfter", delay, why: "an action on the hub failed" };
}

/** A report that was put off is written in the end, even if nothing else ever happens. */
function sooner(wake: Wake, delay: Millis): Wake {
  return wake.kind === "after" && wake.delay <= delay
    ? wake
    : { kind: "after", delay, why: "a report is deferred" };
}

function outcomeOfWake(wake: Wake): Outcome {
  return wake.kind === "onChange" ? SETTLED : { kind: "wakeAfter", delay: wake.delay, why: wake.why };
}

/** What acting came to, where the plan named a problem already: that one comes first. */
function done(result: Result<Problem | null, Fault>, planned: Problem | null = null): Done<RolloutActed> {
  return {
    acted: { problem: planned ?? (result.ok ? result.value : null) },
    fault: result.ok ? null : result.error,
  };
}

function reportAfter(
  plan: RolloutPlan,
  seen: RolloutSeen,
  { acted, fault }: Done<RolloutActed>,
): InferenceDeploymentStatus | null {
  switch (plan.kind) {
    case "gone":
    case "adopt":
    case "ownerless":
      return null;
    case "unknown":
      return plan.status;
    case "cleanup":
      return plan.done ? null : statusOfCleanup(seen, fault);
    case "live":
      return statusOf(plan, acted, fault);
    default:
      return unreachable(plan);
  }
}

function settingsOf(options: RolloutOptions): Settings {
  return {
    clusterId: options.clusterId,
    analysisInterval: options.analysisInterval ?? seconds(30),
    sasLifetime: options.sasLifetime ?? SAS_LIFETIME,
    fastPathLimit: options.fastPathLimit ?? 1000,
    hubConfigurationLimit: options.hubConfigurationLimit ?? 100,
    baseDeployment: options.baseDeployment ?? "managed",
    ownerlessAfter: options.ownerlessAfter ?? OWNERLESS_AFTER,
  };
}

function nothing(result: Result<unknown, Fault>): Result<null, Fault> {
  return result.ok ? ok(null) : result;
}

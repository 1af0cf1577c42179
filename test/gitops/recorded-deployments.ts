import type { InferenceDeploymentSpec } from "../../src/api/inference-deployment.ts";
import type { Problem, Reason } from "../../src/api/reasons.ts";
import { instant, minutes } from "../../src/base/time.ts";
import { factsOf } from "../../src/rollouts/facts.ts";
import { statusOf, statusOfCleanup, statusOfUnknown } from "../../src/rollouts/report/report.ts";
import type { Member, RolloutSeen } from "../../src/rollouts/seen.ts";
import { objectionsTo } from "../../src/rollouts/state/holds.ts";
import type { Exposed, RollbackCause, RollingBack, RolloutState } from "../../src/rollouts/state/state.ts";
import { referenceOf } from "../../src/rollouts/verification.ts";
import { type Given, look, memberAt, NOW, releaseNamed, running, stepNow } from "../stories/seen.ts";
import { type Case, CURRENT, type Expected, LEAVING, MOVING, STUCK, UNSEEN } from "./recorded-case.ts";

const CARRIED = { quarantined: [], handled: { abort: null, promote: null, retry: null }, history: [] };
const V1 = referenceOf(releaseNamed("v1"));
const V2 = referenceOf(releaseNamed("v2"));
const fleet = (release: string, count = 20): readonly Member[] =>
  Array.from({ length: count }, (_, n) => running(memberAt(n, { site: "plant-a" }), release, 40));

const EXPOSED: Exposed = {
  ...CARRIED,
  stable: V1,
  candidate: V2,
  startedAt: instant(NOW - minutes(10)),
  step: stepNow(0, 10),
  exposure: [{ site: "plant-a", deviceClass: "orin", threshold: 2000, devices: 2 }],
  previousExposure: [],
  configuredAt: instant(NOW - minutes(9)),
};
const BECAUSE: RollbackCause = {
  reason: "ObjectiveBreached",
  message: "latencyP95Milliseconds 250 > 200 on 2 devices",
  release: "v2",
  at: instant(NOW - minutes(1)),
};
const PENDING: RolloutState = { ...CARRIED, stable: V1, phase: "Pending", candidate: V2 };
const PROGRESSING: RolloutState = { ...EXPOSED, phase: "Progressing" };
const HOLDING = (holdReason: Reason, breach: RollbackCause | null = null): RolloutState => ({
  ...EXPOSED,
  phase: "Holding",
  holdReason,
  bakingSince: null,
  breach,
});
const FROZEN: RolloutState = {
  ...EXPOSED,
  phase: "Frozen",
  frozenSince: NOW,
  bakingSince: null,
  breach: null,
};
const BAKING: RolloutState = { ...EXPOSED, phase: "Baking", step: stepNow(2, 100), bakingSince: NOW };
const COMPLETED: RolloutState = { ...CARRIED, phase: "Completed", stable: V2 };
const ROLLING_BACK: RollingBack = {
  ...CARRIED,
  stable: V1,
  phase: "RollingBack",
  candidate: V2,
  exposure: EXPOSED.exposure,
  because: BECAUSE,
};
const ROLLED_BACK: RolloutState = { ...CARRIED, stable: V1, phase: "RolledBack", because: BECAUSE };

type Change = Given & {
  /** What holds the rollout, where it is not what the devices show. */
  readonly held?: Problem;
  /** What acting has found out. */
  readonly problem?: Problem;
  readonly seen?: Partial<RolloutSeen>;
};

function recorded(name: string, expected: Expected, state: RolloutState, change: Change = {}): Case {
  const { held, problem = null, seen: more, ...given } = change;
  const seen = { ...look({ members: fleet("v1"), ...given }), ...more };
  const facts = factsOf(seen, state);
  const objections = { ...objectionsTo(state, facts), ...(held === undefined ? {} : { held }) };
  const status = statusOf({ state, facts, objections }, { problem }, null);
  return { name, kind: "InferenceDeployment", resource: { ...seen.deployment, status }, expected };
}

function fileName(prefix: string, reason: Reason): string {
  return `${prefix}${reason.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

function holding(reason: Reason, message: string): Case {
  return recorded(fileName("holding", reason), MOVING(reason), HOLDING(reason), {
    held: { reason, message },
  });
}

const PAUSED: Partial<InferenceDeploymentSpec> = { paused: true };
const SUSPENDED: Expected = ["Paused", "InProgress", "Suspended"];
/** What a rollback is for is shown while it happens, and not only when it is over. */
const TAKING_BACK: Expected = ["RollingBack", "InProgress", "Degraded"];

/** InferenceDeployments: every phase, and every reason of Ready. */
export function recordedDeployments(): readonly Case[] {
  const kind = "InferenceDeployment";
  const created = { ...look().deployment, finalizers: [], generation: 1 };
  const completed = recorded("completed", CURRENT("Completed"), COMPLETED, { members: fleet("v2") });
  const problem = (reason: Reason, state = PROGRESSING): Case =>
    recorded(fileName("stalled", reason), STUCK(reason), state, {
      problem: { reason, message: `${reason} in words, and what to do` },
    });
  const deleting = { ...look({ members: fleet("v1") }).deployment, deleting: true };
  const leaving = (name: string, reason: string, status: ReturnType<typeof statusOfCleanup>): Case => ({
    name,
    kind,
    resource: { ...deleting, status },
    expected: LEAVING(reason),
  });
  const away = look({ reachable: false });
  return [
    { name: "just-created", kind, resource: created, expected: UNSEEN },
    {
      name: "hub-not-read-yet",
      kind,
      resource: { ...away.deployment, status: statusOfUnknown(away) },
      expected: MOVING("HubUnavailable"),
    },
    recorded("pending", MOVING("StepInProgress"), PENDING),
    recorded("pending-release-missing", MOVING("ReleaseMissing"), PENDING, { releases: [] }),
    recorded("pending-release-unverified", MOVING("ReleaseUnverified"), PENDING, {
      releases: [releaseNamed("v1"), releaseNamed("v2", "Pending")],
    }),
    recorded("pending-release-rejected", STUCK("ReleaseRejected"), PENDING, {
      releases: [releaseNamed("v1"), releaseNamed("v2", "Failed")],
    }),
    recorded("pending-paused", SUSPENDED, PENDING, { spec: PAUSED }),
    recorded("pending-hub-away", MOVING("Frozen"), PENDING, { reachable: false }),
    recorded("pending-selector-empty", STUCK("SelectorEmpty"), PENDING, { spec: { selector: {} } }),
    recorded("pending-no-devices", STUCK("NoDevices"), PENDING, { members: [] }),
    recorded("progressing", MOVING("StepInProgress"), PROGRESSING),
    {
      name: "progressing-changed-in-git",
      kind,
      resource: { ...completed.resource, generation: 4 },
      expected: MOVING("Completed"),
    },
    recorded("holding-paused", SUSPENDED, HOLDING("Paused"), { spec: PAUSED }),
    holding("ObjectiveWarning", "latencyP95Milliseconds 120 > 100 on 2 devices"),
    holding("Inconclusive", "1 of 2 exposed devices has reported recently; 2 are needed"),
    holding("DeadlineExceeded", "1 of 2 devices runs v2 2h after the step started"),
    holding("ReleaseMissing", "ModelRelease v2 no longer exists"),
    holding("ReleaseUnverified", "v2 is being verified again: waiting"),
    recorded("holding-breach", STUCK("ObjectiveBreached"), HOLDING("ObjectiveBreached", BECAUSE)),
    recorded("frozen", MOVING("Frozen"), FROZEN, { reachable: false }),
    recorded("baking", MOVING("Baking"), BAKING, { members: fleet("v2") }),
    completed,
    recorded("completed-devices-off", CURRENT("Completed"), COMPLETED, {
      members: [...fleet("v2", 2), memberAt(2), { ...memberAt(3), enabled: false }],
    }),
    recorded("completed-devices-updating", MOVING("Updating"), COMPLETED),
    recorded("completed-release-gone", STUCK("ReleaseMissing"), COMPLETED, {
      members: fleet("v2"),
      releases: [releaseNamed("v1")],
    }),
    recorded("completed-failed-a-later-verification", ["Completed", "Current", "Degraded"], COMPLETED, {
      members: fleet("v2"),
      releases: [releaseNamed("v1"), releaseNamed("v2", "Failed")],
    }),
    recorded("rolling-back", TAKING_BACK, ROLLING_BACK),
    recorded("rolling-back-withdrawn", MOVING("RollingBack"), {
      ...ROLLING_BACK,
      because: { ...BECAUSE, reason: "Withdrawn", message: "spec.release is v1 again" },
    }),
    recorded("rolled-back", STUCK("RolledBack"), ROLLED_BACK),
    problem("NoVariant"),
    problem("Conflict"),
    problem("BlobMissing"),
    problem("NotPermitted"),
    problem("BlobReplaced"),
    problem("HubFull", COMPLETED),
    problem("ConditionRefused"),
    problem("StateContradicted"),
    problem("StableUnavailable", COMPLETED),
    problem("TakingOver", PENDING),
    problem("OwnedByAnother", PENDING),
    leaving("being-deleted", "Deleting", statusOfCleanup(look({ members: fleet("v1") }), null)),
    leaving("being-deleted-hub-away", "Deleting", statusOfCleanup(away, null)),
  ];
}

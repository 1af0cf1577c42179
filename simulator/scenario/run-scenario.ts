import type { Timer } from "../base/clock.ts";
import { createRandom } from "../base/random.ts";
import type { Fleet } from "../devices/fleet.ts";
import { parseFault } from "../hub/faults/fault-rules.ts";
import type { Hub } from "../hub/hub.ts";
import { sendCloudMessage } from "../hub/messaging/send-message.ts";
import { identityDocument, NO_ACTIVITY } from "../hub/query/document.ts";
import type { Action, Devices, Scenario, Step } from "./parse-scenario.ts";

export type StepProgress = {
  readonly name: string;
  readonly runs: number;
  /** Times are RFC 3339, by the simulator's clock; `null`: it has not run, or will not run any more. */
  readonly last: string | null;
  readonly next: string | null;
  /** The operation that has not succeeded yet; `null`: it waits for none. */
  readonly waitsFor: string | null;
};

export type Happening = { readonly at: string; readonly step: string; readonly outcome: string };

export type ScenarioProgress = {
  readonly name: string;
  readonly seed: number;
  readonly state: "running" | "done" | "stopped";
  readonly startedAt: string;
  readonly steps: readonly StepProgress[];
  /** The step whose time comes first; `null`: none is due. */
  readonly next: { readonly step: string; readonly at: string } | null;
  /** What happened, the newest two hundred. */
  readonly history: readonly Happening[];
};

export type Scenarios = {
  /** Begins a scenario now; one that runs is stopped. */
  readonly start: (scenario: Scenario) => void;
  /** Nothing more of it happens; what it did stays. False where none runs. */
  readonly stop: () => boolean;
  /** Of the last one that was started; `null`: there was none. */
  readonly progress: () => ScenarioProgress | null;
};

type Planned = {
  readonly step: Step;
  runs: number;
  last: number | null;
  next: number | null;
  waiting: boolean;
  timer: Timer | null;
};

type Run = {
  readonly scenario: Scenario;
  readonly startedAt: number;
  readonly plan: readonly Planned[];
  readonly history: Happening[];
  stopped: boolean;
};

const LONGEST_HISTORY = 200;

/** Runs a scenario by the clock of the simulated world: the same one, with the same seed, goes the same way again. */
export function createScenarios(parts: { readonly hub: Hub; readonly fleet: Fleet }): Scenarios {
  const { hub } = parts;
  const { clock } = hub;
  let current: Run | null = null;

  hub.counters.onRequest((operation, name, result) => {
    if (current === null || typeof result !== "number" || result >= 300) return;
    for (const planned of current.plan)
      if (planned.waiting && (planned.step.after === operation || planned.step.after === name)) {
        planned.waiting = false;
        plan(planned, planned.step.at);
      }
  });

  function plan(planned: Planned, delay: number): void {
    planned.next = clock.now() + delay;
    planned.timer = clock.schedule(delay, carryOut, planned);
  }

  function carryOut(planned: Planned): void {
    if (current === null || !current.plan.includes(planned)) return;
    const { step } = planned;
    planned.runs += 1;
    planned.last = clock.now();
    planned.next = null;
    for (const action of step.actions) {
      const outcome = act(parts, action, `${current.scenario.name}/${step.name}`);
      current.history.push({ at: timeOf(clock.now()), step: step.name, outcome });
    }
    current.history.splice(0, Math.max(0, current.history.length - LONGEST_HISTORY));
    if (step.every !== null && (step.times === null || planned.runs < step.times)) plan(planned, step.every);
  }

  function stop(): boolean {
    if (current === null || stateOf(current) !== "running") return false;
    current.stopped = true;
    for (const planned of current.plan) {
      planned.timer?.cancel();
      planned.next = null;
      planned.waiting = false;
    }
    return true;
  }

  return {
    start(scenario) {
      stop();
      hub.faults.reseed(createRandom(scenario.seed));
      const planned = scenario.steps.map(
        (step): Planned => ({
          step,
          runs: 0,
          last: null,
          next: null,
          waiting: step.after !== null,
          timer: null,
        }),
      );
      current = { scenario, startedAt: clock.now(), plan: planned, history: [], stopped: false };
      for (const one of planned) if (!one.waiting) plan(one, one.step.at);
    },
    stop,
    progress: () => (current === null ? null : progressOf(current)),
  };
}

function stateOf({ plan, stopped }: Run): ScenarioProgress["state"] {
  if (stopped) return "stopped";
  return plan.some(({ next, waiting }) => next !== null || waiting) ? "running" : "done";
}

function progressOf(run: Run): ScenarioProgress {
  const { scenario, startedAt, plan, history } = run;
  let first: { readonly step: string; readonly at: number } | null = null;
  for (const { step, next } of plan)
    if (next !== null && (first === null || next < first.at)) first = { step: step.name, at: next };
  return {
    name: scenario.name,
    seed: scenario.seed,
    state: stateOf(run),
    startedAt: timeOf(startedAt),
    steps: plan.map(({ step, runs, last, next, waiting }) => ({
      name: step.name,
      runs,
      last: last === null ? null : timeOf(last),
      next: next === null ? null : timeOf(next),
      waitsFor: waiting ? step.after : null,
    })),
    next: first === null ? null : { step: first.step, at: timeOf(first.at) },
    history: [...history],
  };
}

/** Does it, and says in a few words what came of it. `id` is for a fault that has none. */
function act(
  { hub, fleet }: { readonly hub: Hub; readonly fleet: Fleet },
  action: Action,
  id: string,
): string {
  switch (action.kind) {
    case "fault": {
      const parsed = parseFault(action.written, { now: hub.clock.now(), id: () => id });
      // It was read once before, when the scenario was.
      if (!parsed.ok) return parsed.problems.join("; ");
      hub.faults.put(parsed.rule);
      return `fault ${parsed.rule.kind}`;
    }
    case "behaviours":
      fleet.setBehaviours(action.behaviours);
      return `${action.behaviours.length} behaviours`;
    case "evaluate":
      return `evaluation, ${hub.evaluate()} twins written`;
    case "disable":
    case "enable":
    case "delete":
      return changeDevices(hub, action.kind, action.devices);
    case "message": {
      const sent = idsOf(hub, action.devices).filter(
        (deviceId) => sendCloudMessage(hub, deviceId, action.draft).ok,
      );
      return `message to ${sent.length} devices`;
    }
    case "clearFaults":
      if (action.id === null) {
        hub.faults.clear();
        return "no faults";
      }
      return hub.faults.remove(action.id) ? `no fault ${action.id}` : `there was no fault ${action.id}`;
  }
}

function idsOf(hub: Hub, { matches }: Devices): readonly string[] {
  return [...hub.registry.devices()].map(({ deviceId }) => deviceId).filter(matches);
}

const ANYWAY = { any: true, etag: "*" } as const;

function changeDevices(hub: Hub, kind: "disable" | "enable" | "delete", devices: Devices): string {
  const status = kind === "enable" ? "enabled" : "disabled";
  const changed = idsOf(hub, devices).filter((deviceId) => {
    if (kind === "delete") return hub.registry.removeDevice(deviceId, ANYWAY).ok;
    const identity = hub.registry.get(deviceId, null);
    if (identity === undefined || identity.enabled === (kind === "enable")) return false;
    return hub.registry.putDevice(deviceId, { ...identityDocument(identity, NO_ACTIVITY), status }, ANYWAY)
      .ok;
  });
  return `${kind}d ${changed.length} devices`;
}

function timeOf(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}

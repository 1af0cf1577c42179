import type { Attempt, Fault } from "../base/fault.ts";
import type { RuntimeDeps } from "../runtime/deps.ts";
import {
  afterFailure,
  afterSuccess,
  bearingOf,
  type CallKind,
  canQuery,
  healthAfter,
  NO_EVIDENCE,
  shouldProbe,
} from "./health-evidence.ts";
import type { DeviceHub, HubHealth } from "./hub.ts";

// Whether the hub can be reached, judged by the calls that are made anyway (health-evidence.ts).

export type HubHealthMonitor = {
  /** Called when a call starts; the function it returns is called with how the call ended. */
  readonly begin: (kind: CallKind) => (fault: Fault | null) => void;
  readonly state: () => HubHealth;
  /** Whether a read should be tried now. */
  readonly shouldProbe: () => boolean;
  readonly onChange: (listener: () => void) => void;
  /** Called after each failure while a read should be tried. */
  readonly onShouldProbe: (listener: () => void) => void;
};

export function createHubHealth(deps: Pick<RuntimeDeps, "clock" | "log" | "meter">): HubHealthMonitor {
  const { clock, log, meter } = deps;
  const changeListeners: (() => void)[] = [];
  const probeListeners: (() => void)[] = [];
  const started = clock.now();
  let evidence = NO_EVIDENCE;
  let begunCalls = 0;
  let state: HubHealth = {
    reachable: true,
    canReadTwins: true,
    since: started,
    twinsSince: started,
    message: "",
  };
  measure();

  function measure(): void {
    meter.gauge("edgefleet_hub_reachable", state.reachable ? 1 : 0);
    meter.gauge("edgefleet_hub_readable", canQuery(evidence) ? 1 : 0, { kind: "queries" });
    meter.gauge("edgefleet_hub_readable", state.canReadTwins ? 1 : 0, { kind: "twins" });
  }

  /** `fault`: how the last read failed, if it did. */
  function judge(fault: Fault | null): void {
    const had = state;
    state = healthAfter(had, evidence, fault, clock.now());
    if (state === had) return;
    measure();
    const { reachable, canReadTwins, message } = state;
    if (reachable === had.reachable && canReadTwins === had.canReadTwins) return;
    if (reachable) log.info("the hub can be reached again");
    else log.warn("the hub cannot be reached", { fault: message, canReadTwins });
    for (const listener of changeListeners) listener();
  }

  function end(kind: CallKind, number: number, fault: Fault | null): void {
    const bearing = bearingOf(kind, fault);
    if (bearing === "none") return;
    const failed = bearing === "bad" ? fault : null;
    evidence =
      failed === null
        ? afterSuccess(evidence, kind)
        : afterFailure(evidence, { kind, number, begunCalls }, failed.message);
    judge(kind === "other" ? null : failed);
    if (failed !== null && shouldProbe(evidence)) for (const listener of probeListeners) listener();
  }

  return {
    begin: (kind) => {
      begunCalls += 1;
      const number = begunCalls;
      return (fault) => end(kind, number, fault);
    },
    state: () => state,
    shouldProbe: () => shouldProbe(evidence),
    onChange: (listener) => {
      changeListeners.push(listener);
    },
    onShouldProbe: (listener) => {
      probeListeners.push(listener);
    },
  };
}

/** The same hub, each of whose calls is reported to `monitor`; calls that their caller stopped are not. */
export function watchHealth(hub: DeviceHub, monitor: HubHealthMonitor): DeviceHub {
  function watched<A extends readonly unknown[], T>(kind: CallKind, call: (...args: A) => Attempt<T>) {
    return async (...args: A): Attempt<T> => {
      const ended = monitor.begin(kind);
      const result = await call(...args);
      const signal = args.at(-1);
      if (!(signal instanceof AbortSignal && signal.aborted)) ended(result.ok ? null : result.error);
      return result;
    };
  }
  return {
    host: hub.host,
    getIdentity: watched("other", hub.getIdentity),
    getKeys: watched("other", hub.getKeys),
    createIdentity: watched("other", hub.createIdentity),
    setEnabled: watched("other", hub.setEnabled),
    removeIdentity: watched("other", hub.removeIdentity),
    getTwin: watched("twinRead", hub.getTwin),
    patchTwin: watched("other", hub.patchTwin),
    listConfigurations: watched("other", hub.listConfigurations),
    createConfiguration: watched("other", hub.createConfiguration),
    updateConfiguration: watched("other", hub.updateConfiguration),
    removeConfiguration: watched("other", hub.removeConfiguration),
    testCondition: watched("other", hub.testCondition),
    queryDevices: watched("query", hub.queryDevices),
    queryModules: watched("query", hub.queryModules),
  };
}

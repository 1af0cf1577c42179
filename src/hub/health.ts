import type { Attempt, Fault } from "../base/fault.ts";
import type { Clock } from "../base/time.ts";
import type { Log, Meter } from "../telemetry/telemetry.ts";
import type { DeviceHub, HubHealth } from "./hub.ts";
import { isBudgetFault } from "./throttle.ts";

// Whether the hub can be reached, judged by the calls that are made anyway, and for each kind of read: queries show the
// whole fleet, twins the devices that are exposed. A rollout does not move without both, and protects with twins alone.
//
//   reachable ── two failed reads in a row (of one kind, or of both together) ──▶ unreachable
//   reachable ◀── a successful read of each kind that had failed ──────────────── unreachable
//
// Failures of other calls only make the hub suspect: the view then tries a read at once instead of waiting for its next
// sweep.

/** query and twinRead are how the fleet view sees. */
export type CallKind = "query" | "twinRead" | "other";

export type HubHealthMonitor = {
  /** Called when a call starts; the function it returns is called with how the call ended. */
  readonly begin: (kind: CallKind) => (fault: Fault | null) => void;
  readonly state: () => HubHealth;
  /** Whether a read should be tried now. */
  readonly suspicious: () => boolean;
  readonly onChange: (listener: () => void) => void;
  readonly onSuspicion: (listener: () => void) => void;
};

const ENOUGH = 2;

export function createHubHealth(deps: {
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}): HubHealthMonitor {
  const { clock, log, meter } = deps;
  const counters = {
    query: createCounter(),
    twinRead: createCounter(),
    reads: createCounter(),
    other: createCounter(),
  };
  const changed: (() => void)[] = [];
  const suspected: (() => void)[] = [];
  const words: Record<"query" | "twinRead", string> = { query: "", twinRead: "" };
  const started = clock.now();
  let begun = 0;
  let state: HubHealth = {
    reachable: true,
    canReadTwins: true,
    since: started,
    twinsSince: started,
    message: "",
  };
  measure();

  function suspicious(): boolean {
    return (
      counters.reads.failures() > 0 || counters.twinRead.failures() > 0 || counters.other.failures() >= ENOUGH
    );
  }
  function succeed(kind: CallKind): void {
    counters[kind].reset();
    counters.reads.reset();
    if (kind !== "other") counters.other.reset();
  }
  function fail(kind: CallKind, number: number, fault: Fault): void {
    counters[kind].add(number, begun);
    if (kind === "other") return;
    counters.reads.add(number, begun);
    words[kind] = fault.message;
  }
  function measure(): void {
    meter.gauge("edgefleet_hub_reachable", state.reachable ? 1 : 0);
    meter.gauge("edgefleet_hub_readable", counters.query.failures() < ENOUGH ? 1 : 0, { kind: "queries" });
    meter.gauge("edgefleet_hub_readable", state.canReadTwins ? 1 : 0, { kind: "twins" });
  }
  /** `fault`: what the last read ended with. */
  function judge(fault: Fault | null): void {
    const canQuery = counters.query.failures() < ENOUGH;
    const canReadTwins = counters.twinRead.failures() < ENOUGH;
    const reachable = canQuery && canReadTwins && counters.reads.failures() < ENOUGH;
    const had = state;
    const isTurn = reachable !== had.reachable;
    if (!isTurn && reachable) return;
    const now = clock.now();
    state = {
      reachable,
      canReadTwins,
      since: isTurn ? now : had.since,
      twinsSince: canReadTwins === had.canReadTwins ? had.twinsSince : now,
      ...(reachable
        ? { message: "" }
        : wordsOf(
            canQuery,
            canReadTwins,
            fault === null ? had : { message: fault.message, kind: fault.kind },
          )),
    };
    measure();
    if (!isTurn && canReadTwins === had.canReadTwins) return;
    if (reachable) log.info("the hub can be reached again");
    else log.warn("the hub cannot be reached", { fault: state.message, canReadTwins });
    for (const listener of changed) listener();
  }
  /** What fails and what does not, where only one of the two does. */
  function wordsOf(
    canQuery: boolean,
    canReadTwins: boolean,
    last: Pick<HubHealth, "message" | "kind">,
  ): Pick<HubHealth, "message" | "kind"> {
    const kind = last.kind === undefined ? {} : { kind: last.kind };
    if (!canQuery && canReadTwins)
      return { ...kind, message: `queries fail (${words.query}); twins can be read` };
    if (canQuery && !canReadTwins)
      return { ...kind, message: `twins cannot be read (${words.twinRead}); queries are answered` };
    return { ...kind, message: last.message };
  }

  return {
    begin: (kind) => {
      begun += 1;
      const number = begun;
      return (fault) => {
        const bearing = bearingOf(kind, fault);
        if (bearing === "none") return;
        if (bearing === "bad" && fault !== null) fail(kind, number, fault);
        else succeed(kind);
        judge(bearing === "bad" && kind !== "other" ? fault : null);
        if (bearing === "bad" && suspicious()) for (const listener of suspected) listener();
      };
    },
    state: () => state,
    suspicious,
    onChange: (listener) => {
      changed.push(listener);
    },
    onSuspicion: (listener) => {
      suspected.push(listener);
    },
  };
}

/** What the end of a call says about the hub: a refusal is an answer too, and our own budget says nothing. */
function bearingOf(kind: CallKind, fault: Fault | null): "good" | "bad" | "none" {
  if (fault === null || fault.kind === "conflict" || fault.kind === "rejected") return "good";
  if (isBudgetFault(fault)) return "none";
  // A missing right to write says nothing about reads.
  if (fault.kind === "denied" && kind === "other") return "none";
  return "bad";
}

type Counter = {
  readonly failures: () => number;
  readonly add: (number: number, begun: number) => void;
  readonly reset: () => void;
};

/** Counts failures in a row. Calls that were in flight together when one failed are one failure: a blip, not an outage. */
function createCounter(): Counter {
  let failures = 0;
  let countedAt = 0;
  return {
    failures: () => failures,
    add: (number, begun) => {
      if (number <= countedAt) return;
      failures += 1;
      countedAt = begun;
    },
    reset: () => {
      failures = 0;
    },
  };
}

/** The same hub, whose every call is told to `monitor`; calls that were stopped by their caller are not. */
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

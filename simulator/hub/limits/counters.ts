import { ownValue, setKey } from "../../base/json.ts";
import { OPERATION_CLASSES, type OperationClass } from "./throttle.ts";

/** What came of a request: its HTTP status, or how its connection ended. */
export type Result = number | "reset" | "hang" | "cut";

export type CountersReport = {
  /** Since the start or the last reset: RFC 3339, by the simulator's clock. */
  readonly since: string;
  /** By class: all requests, and those by result. A bulk entry counts as one request of `identity`. */
  readonly classes: Readonly<
    Record<string, { readonly total: number; readonly results: Readonly<Record<string, number>> }>
  >;
  /** The same by single operation, such as `twin.patch`. */
  readonly operations: Readonly<
    Record<string, { readonly total: number; readonly results: Readonly<Record<string, number>> }>
  >;
  /** Requests that changed something. */
  readonly writes: { readonly identity: number; readonly twin: number; readonly configuration: number };
  /** What devices did over their own links; not part of the classes. */
  readonly devices: {
    readonly reports: number;
    readonly twinReads: number;
    readonly messages: number;
    readonly refused: number;
    /** Reports that were acknowledged and dropped. */
    readonly lost: number;
  };
  /** What the hub's own evaluation wrote. */
  readonly evaluation: { readonly runs: number; readonly twinWrites: number };
};

type RequestListener = (operation: OperationClass, name: string, result: Result) => void;

export type Counters = {
  readonly request: (operation: OperationClass, name: string, result: Result, cost: number) => void;
  /** Told of every request that was counted. */
  readonly onRequest: (listener: RequestListener) => void;
  readonly write: (what: "identity" | "twin" | "configuration") => void;
  readonly device: (what: keyof CountersReport["devices"]) => void;
  readonly evaluated: (twinWrites: number) => void;
  readonly report: () => CountersReport;
  readonly reset: () => void;
};

type Tally = { total: number; readonly results: Record<string, number> };

export function createCounters(now: () => number): Counters {
  const listeners: RequestListener[] = [];
  let state = fresh();

  function fresh() {
    return {
      since: new Date(now()).toISOString(),
      classes: new Map<string, Tally>(OPERATION_CLASSES.map((name) => [name, { total: 0, results: {} }])),
      operations: new Map<string, Tally>(),
      writes: { identity: 0, twin: 0, configuration: 0 },
      devices: { reports: 0, twinReads: 0, messages: 0, refused: 0, lost: 0 },
      evaluation: { runs: 0, twinWrites: 0 },
    };
  }

  function add(tallies: Map<string, Tally>, name: string, result: Result, count: number): void {
    const tally = tallies.get(name) ?? { total: 0, results: {} };
    tallies.set(name, tally);
    tally.total += count;
    setKey(tally.results, String(result), (ownValue(tally.results, String(result)) ?? 0) + count);
  }

  return {
    request(operation, name, result, cost) {
      add(state.classes, operation, result, cost);
      add(state.operations, name, result, cost);
      for (const listener of listeners) listener(operation, name, result);
    },
    onRequest: (listener) => {
      listeners.push(listener);
    },
    write: (what) => {
      state.writes[what] += 1;
    },
    device: (what) => {
      state.devices[what] += 1;
    },
    evaluated: (twinWrites) => {
      state.evaluation.runs += 1;
      state.evaluation.twinWrites += twinWrites;
    },
    report: () =>
      structuredClone({
        ...state,
        classes: Object.fromEntries(state.classes),
        operations: Object.fromEntries(state.operations),
      }),
    reset: () => {
      state = fresh();
    },
  };
}

import type { Fault } from "../base/fault.ts";
import { err, ok, type Result } from "../base/result.ts";
import { type Clock, type Instant, later, type Millis, millis, minutes, seconds } from "../base/time.ts";
import { linkedSignal } from "../runtime/linked-signal.ts";
import type { Lane } from "./hub.ts";

// Our own limit on calls to the hub, per class of operation, so that the hub never has to refuse.
//
//   limit ───────────┬──────────────┐
//                    │   reserve    │  rollback lane only
//   normal limit ────┼──────────────┤
//                    │              │  both lanes, first come first served, rollback first
//   0 ───────────────┴──────────────┘
//
// A log of grants over a sliding window, rather than buckets that refill: the hub counts over windows of its own, and
// only this keeps every possible window under the limit and still lets the whole allowance go out at once.

export type OperationClass = "identity" | "twinRead" | "twinWrite" | "query" | "configuration";
export const OPERATION_CLASSES: readonly OperationClass[] = [
  "identity",
  "twinRead",
  "twinWrite",
  "query",
  "configuration",
];
export type Tier = "F1" | "S1" | "S2" | "S3";

/** So many operations in any stretch of time of that length. */
export type Budget = { readonly operations: number; readonly window: Millis };

export type Throttle = {
  /**
   * Waits for its turn, at most `maxWait`; `throttled` at once where it would be longer. `retryAfter` differs from
   * caller to caller, so that those that are refused do not retry together.
   */
  readonly take: (operation: OperationClass, lane: Lane, signal: AbortSignal) => Promise<Result<void, Fault>>;
  /** The hub itself refused: no operation of this class gets a turn for that long. */
  readonly drain: (operation: OperationClass, retryAfter: Millis) => void;
};

export type ThrottleOptions = {
  readonly clock: Clock;
  readonly budgets: Readonly<Record<OperationClass, Budget>>;
  /** Share of the hub's allowance that we use; the rest is for other users of the hub. */
  readonly headroom?: number;
  /** Share of ours that only rollbacks may use, of the classes that rollbacks need. */
  readonly reserve?: number;
  readonly maxWait?: Millis;
};

/** What the hub allows, by tier and units: Microsoft's page of quotas and throttling. */
export function budgetsOf(tier: Tier, units: number): Readonly<Record<OperationClass, Budget>> {
  const minute = minutes(1);
  const second = seconds(1);
  const perMinute = (operations: number): Budget => ({ operations: operations * units, window: minute });
  const configuration = perMinute(20);
  switch (tier) {
    case "F1":
    case "S1":
      return {
        identity: perMinute(100),
        query: perMinute(20),
        twinRead: { operations: 100, window: second },
        twinWrite: { operations: 50, window: second },
        configuration,
      };
    case "S2":
      return {
        identity: perMinute(100),
        query: perMinute(20),
        twinRead: { operations: Math.max(100, 10 * units), window: second },
        twinWrite: { operations: Math.max(50, 5 * units), window: second },
        configuration,
      };
    case "S3":
      return {
        identity: perMinute(5000),
        query: perMinute(1000),
        twinRead: { operations: 500 * units, window: second },
        twinWrite: { operations: 250 * units, window: second },
        configuration,
      };
    default: {
      const never: never = tier;
      throw new Error(`unknown tier ${String(never)}`);
    }
  }
}

/** A rollback neither queries nor touches identities: nothing of those is held back. */
const NEEDED_BY_ROLLBACKS: ReadonlySet<OperationClass> = new Set(["twinRead", "twinWrite", "configuration"]);

const ownFaults = new WeakSet<Fault>();

/** Whether this fault comes from our own budget: it says nothing about the state of the hub. */
export function isBudgetFault(fault: Fault): boolean {
  return ownFaults.has(fault);
}

export function createThrottle(options: ThrottleOptions): Throttle {
  const { clock, budgets, headroom = 0.8, reserve = 0.3, maxWait = seconds(10) } = options;
  const gates = new Map(
    OPERATION_CLASSES.map((operation) => [
      operation,
      createGate(budgets[operation], headroom, NEEDED_BY_ROLLBACKS.has(operation) ? reserve : 0),
    ]),
  );
  const gateOf = (operation: OperationClass): Gate => {
    const gate = gates.get(operation);
    if (gate === undefined) throw new Error(`unknown class of operation ${operation}`);
    return gate;
  };
  return {
    take: (operation, lane, signal) =>
      takeTurn(gateOf(operation), { operation, lane, maxWait, clock }, signal),
    drain: (operation, retryAfter) => gateOf(operation).close(later(clock.now(), retryAfter)),
  };
}

type Turn = {
  readonly operation: OperationClass;
  readonly lane: Lane;
  readonly maxWait: Millis;
  readonly clock: Clock;
};

async function takeTurn(gate: Gate, turn: Turn, signal: AbortSignal): Promise<Result<void, Fault>> {
  const { operation, lane, maxWait, clock } = turn;
  const deadline = later(clock.now(), maxWait);
  const ticket = gate.enter(lane);
  while (!signal.aborted) {
    const now = clock.now();
    if (gate.tryPass(ticket, now)) return ok(undefined);
    const at = gate.expectedAt(ticket, now);
    if (at > deadline) {
      const fault = throttledFault(gate, operation, ticket, now);
      gate.leave(ticket);
      return err(fault);
    }
    using nap = linkedSignal(signal);
    ticket.wake = () => nap.abort();
    // At least a millisecond: a caller ahead of us may wake at the same moment, but after us.
    await clock.sleep(millis(Math.max(1, at - now)), nap.signal);
  }
  gate.leave(ticket);
  return err({ kind: "unavailable", message: `${operation}: stopped while waiting for a turn` });
}

function throttledFault(gate: Gate, operation: OperationClass, ticket: Ticket, now: Instant): Fault {
  const closed = gate.isClosed(now);
  const fault: Fault = {
    kind: "throttled",
    retryAfter: gate.retrySlot(ticket, now),
    message: closed
      ? `the hub throttles operations of class ${operation} and asked us to wait`
      : `our share of the hub's budget for operations of class ${operation} is used up for now`,
  };
  if (!closed) ownFaults.add(fault);
  return fault;
}

/** `wake`: check again, a ticket ahead has left without passing. */
type Ticket = { readonly lane: Lane; wake: () => void };

/** One class of operations: the tickets that wait, and the grants of the last window. Knows no clock. */
type Gate = {
  readonly enter: (lane: Lane) => Ticket;
  /** Without passing. */
  readonly leave: (ticket: Ticket) => void;
  readonly tryPass: (ticket: Ticket, now: Instant) => boolean;
  /** When this ticket can expect to pass, if no other ticket comes. */
  readonly expectedAt: (ticket: Ticket, now: Instant) => Instant;
  /** When to retry, as a delay; each ticket of a lane gets a slot of its own. */
  readonly retrySlot: (ticket: Ticket, now: Instant) => Millis;
  readonly close: (until: Instant) => void;
  readonly isClosed: (now: Instant) => boolean;
};

const LANES: readonly Lane[] = ["rollback", "normal"];
const LONGEST_RETRY = minutes(5);

function createGate(budget: Budget, headroom: number, reserve: number): Gate {
  const limit = Math.max(1, Math.floor(budget.operations * headroom));
  // However small the budget: at least one turn is reserved for rollbacks, where any is, and at least one is left for both lanes.
  const normalLimit =
    reserve === 0 ? limit : Math.max(1, Math.min(limit - 1, Math.floor(limit * (1 - reserve))));
  const all = createGrants(limit, budget.window);
  const normal = createGrants(normalLimit, budget.window);
  const queues: Readonly<Record<Lane, Ticket[]>> = { rollback: [], normal: [] };
  const booked: Record<Lane, number> = { rollback: 0, normal: 0 };
  let closedUntil = 0;

  function ahead(ticket: Ticket): number {
    const inLane = Math.max(0, queues[ticket.lane].indexOf(ticket));
    return ticket.lane === "rollback" ? inLane : inLane + queues.rollback.length;
  }
  function remove(ticket: Ticket): void {
    const index = queues[ticket.lane].indexOf(ticket);
    if (index >= 0) queues[ticket.lane].splice(index, 1);
  }
  function expectedAt(ticket: Ticket, now: Instant): Instant {
    const before = ahead(ticket);
    const total = all.freeAt(before, now);
    const own = ticket.lane === "normal" ? normal.freeAt(queues.normal.indexOf(ticket), now) : total;
    return Math.max(total, own, closedUntil) as Instant;
  }

  return {
    enter: (lane) => {
      const ticket: Ticket = { lane, wake: () => {} };
      queues[lane].push(ticket);
      return ticket;
    },
    leave: (ticket) => {
      remove(ticket);
      for (const lane of LANES) for (const other of queues[lane]) other.wake();
    },
    tryPass: (ticket, now) => {
      if (now < closedUntil || ahead(ticket) > 0) return false;
      if (!all.hasRoom(now) || (ticket.lane === "normal" && !normal.hasRoom(now))) return false;
      remove(ticket);
      all.add(now);
      if (ticket.lane === "normal") normal.add(now);
      return true;
    },
    expectedAt,
    retrySlot: (ticket, now) => {
      const grants = ticket.lane === "normal" ? normal : all;
      const spacing = budget.window / grants.limit;
      const at = Math.max(expectedAt(ticket, now), booked[ticket.lane]);
      if (at - now >= LONGEST_RETRY) return LONGEST_RETRY;
      booked[ticket.lane] = at + spacing;
      return millis(Math.ceil(Math.max(1, at - now)));
    },
    close: (until) => {
      closedUntil = Math.max(closedUntil, until);
    },
    isClosed: (now) => now < closedUntil,
  };
}

type Grants = {
  readonly limit: number;
  readonly hasRoom: (now: Instant) => boolean;
  readonly add: (now: Instant) => void;
  /** When there is room for one more after `others` more have been granted. */
  readonly freeAt: (others: number, now: Instant) => Instant;
};

/** The times of the last `limit` grants, in a ring: there is room when the oldest of them has left the window. */
function createGrants(limit: number, window: Millis): Grants {
  const times = new Float64Array(limit).fill(Number.NEGATIVE_INFINITY);
  let oldest = 0;
  function freeAt(others: number, now: Instant): Instant {
    const rounds = Math.floor(others / limit);
    const time = times[(oldest + (others % limit)) % limit] ?? Number.NEGATIVE_INFINITY;
    return (Math.max(now, time + window) + rounds * window) as Instant;
  }
  return {
    limit,
    hasRoom: (now) => freeAt(0, now) <= now,
    add: (now) => {
      times[oldest] = now;
      oldest = (oldest + 1) % limit;
    },
    freeAt,
  };
}

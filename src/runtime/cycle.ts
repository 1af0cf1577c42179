import type { Attempt, Fault } from "../base/fault.ts";
import { type Outcome, outcomeOfFault, type Reconcile, SETTLED } from "./outcome.ts";

/** How far acting came: what it found out counts even where a later action failed. `fault: null`: nothing failed. */
export type Done<Acted> = { readonly acted: Acted; readonly fault: Fault | null };

/**
 * A reconcile is these verbs in this order, and nothing else: observe → decide → commit → act → report → rest.
 * `commit` writes the state that must survive before the world is touched; `report` runs also after a fault of `act`.
 */
export type Cycle<Key, Seen, Plan, Acted> = {
  /** `null`: the object is gone. */
  readonly observe: (key: Key, signal: AbortSignal) => Attempt<Seen | null>;
  /** Pure: no promises, no clock. */
  readonly decide: (seen: Seen) => Plan;
  /** Remember first. Returns what was seen, with the object as it is after the write. */
  readonly commit: (seen: Seen, plan: Plan, signal: AbortSignal) => Attempt<Seen>;
  /** Then do: idempotent, each action guarded by an etag or a diff. */
  readonly act: (seen: Seen, plan: Plan, signal: AbortSignal) => Promise<Done<Acted>>;
  /** Conditions and counts from scratch, written only if different. */
  readonly report: (seen: Seen, plan: Plan, done: Done<Acted>, signal: AbortSignal) => Attempt<void>;
  /** When to reconcile again, also after a fault of `act`. */
  readonly rest: (seen: Seen, plan: Plan, done: Done<Acted>) => Outcome;
};

/** A report that fails is retried, unless acting failed already: then `rest` says when to come back. */
export function cycle<Key, Seen, Plan, Acted>(verbs: Cycle<Key, Seen, Plan, Acted>): Reconcile<Key> {
  return async (key, signal) => {
    const observed = await verbs.observe(key, signal);
    if (!observed.ok) return outcomeOfFault(observed.error);
    if (observed.value === null) return SETTLED;
    const plan = verbs.decide(observed.value);
    const committed = await verbs.commit(observed.value, plan, signal);
    if (!committed.ok) return outcomeOfFault(committed.error);
    const done = await verbs.act(committed.value, plan, signal);
    const reported = await verbs.report(committed.value, plan, done, signal);
    if (!reported.ok && done.fault === null) return outcomeOfFault(reported.error);
    return verbs.rest(committed.value, plan, done);
  };
}

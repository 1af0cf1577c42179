import type { Attempt, Fault, Result } from "../base/result.ts";
import { type Outcome, outcomeOfFault, type Reconcile, SETTLED } from "./outcome.ts";

/**
 * A reconcile is these five verbs in this order, and nothing else: observe → decide → commit → act → report.
 * `commit` writes the state that must survive before the world is touched; `report` runs whatever `act` came to.
 */
export type Cycle<Key, Seen, Chosen> = {
  /** `null`: the object is gone. */
  readonly observe: (key: Key, signal: AbortSignal) => Attempt<Seen | null>;
  /** Pure: no promises, no clock. */
  readonly decide: (seen: Seen) => Chosen;
  /** Remember first. Returns what was seen, with the object as it is after the write. */
  readonly commit: (seen: Seen, chosen: Chosen, signal: AbortSignal) => Attempt<Seen>;
  /** Then do: idempotent, each action guarded by an etag or a diff. */
  readonly act: (seen: Seen, chosen: Chosen, signal: AbortSignal) => Attempt<void>;
  /** Conditions and counts from scratch, written only if different. */
  readonly report: (
    seen: Seen,
    chosen: Chosen,
    acted: Result<void, Fault>,
    signal: AbortSignal,
  ) => Attempt<void>;
  readonly rest: (seen: Seen, chosen: Chosen) => Outcome;
};

export function cycle<Key, Seen, Chosen>(verbs: Cycle<Key, Seen, Chosen>): Reconcile<Key> {
  return async (key, signal) => {
    const observed = await verbs.observe(key, signal);
    if (!observed.ok) return outcomeOfFault(observed.error);
    if (observed.value === null) return SETTLED;
    const chosen = verbs.decide(observed.value);
    const committed = await verbs.commit(observed.value, chosen, signal);
    if (!committed.ok) return outcomeOfFault(committed.error);
    const acted = await verbs.act(committed.value, chosen, signal);
    const reported = await verbs.report(committed.value, chosen, acted, signal);
    if (!acted.ok) return outcomeOfFault(acted.error);
    if (!reported.ok) return outcomeOfFault(reported.error);
    return verbs.rest(committed.value, chosen);
  };
}

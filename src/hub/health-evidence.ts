import type { Fault } from "../base/fault.ts";
import type { Instant } from "../base/time.ts";
import type { HubHealth } from "./hub.ts";
import { isBudgetFault } from "./throttle.ts";

// What the ends of calls say about the hub, for each kind of read: queries show the whole fleet, twins the devices that
// are exposed. A rollout does not move without both, and protects with twins alone.
//
//   reachable ── two failed reads in a row (of one kind, or of both together) ──▶ unreachable
//   reachable ◀── a successful read of each kind that had failed ──────────────── unreachable
//
// Failures of other calls alone change nothing; after two of them a read should be tried at once.

/** query and twinRead are the reads of the fleet view. */
export type CallKind = "query" | "twinRead" | "other";

/** Failures in a row. */
type Count = {
  readonly failures: number;
  /** How many calls had begun when the last failure was counted: those are in flight together, and count once. */
  readonly begunCalls: number;
};

export type Evidence = Readonly<Record<CallKind, Count>> & {
  /** Reads of either kind. */
  readonly reads: Count;
  /** What each kind of read failed with last. */
  readonly messages: Readonly<Record<"query" | "twinRead", string>>;
};

/** A call by its number: calls are numbered as they begin. `begunCalls`: how many have begun now that it ends. */
export type EndedCall = { readonly kind: CallKind; readonly number: number; readonly begunCalls: number };

const ENOUGH = 2;
const NONE: Count = { failures: 0, begunCalls: 0 };

export const NO_EVIDENCE: Evidence = {
  query: NONE,
  twinRead: NONE,
  other: NONE,
  reads: NONE,
  messages: { query: "", twinRead: "" },
};

/** What the end of a call says about the hub: a refusal is an answer too, and our own budget says nothing. */
export function bearingOf(kind: CallKind, fault: Fault | null): "good" | "bad" | "none" {
  if (fault === null || fault.kind === "conflict" || fault.kind === "rejected") return "good";
  if (isBudgetFault(fault)) return "none";
  // A missing right to write says nothing about reads.
  if (fault.kind === "denied" && kind === "other") return "none";
  return "bad";
}

export function afterSuccess(evidence: Evidence, kind: CallKind): Evidence {
  const next = { ...evidence, [kind]: reset(evidence[kind]), reads: reset(evidence.reads) };
  return kind === "other" ? next : { ...next, other: reset(evidence.other) };
}

export function afterFailure(evidence: Evidence, call: EndedCall, message: string): Evidence {
  const { kind } = call;
  const next = { ...evidence, [kind]: counted(evidence[kind], call) };
  if (kind === "other") return next;
  return {
    ...next,
    reads: counted(evidence.reads, call),
    messages: { ...evidence.messages, [kind]: message },
  };
}

/** Whether a read should be tried now, so that an outage, or its end, is known in seconds. */
export function shouldProbe({ reads, twinRead, other }: Evidence): boolean {
  return reads.failures > 0 || twinRead.failures > 0 || other.failures >= ENOUGH;
}

export function canQuery({ query }: Evidence): boolean {
  return query.failures < ENOUGH;
}

/** `had`, unless something has changed. `fault`: how the last read failed, if it did. */
export function healthAfter(
  had: HubHealth,
  evidence: Evidence,
  fault: Fault | null,
  now: Instant,
): HubHealth {
  const canReadTwins = evidence.twinRead.failures < ENOUGH;
  const reachable = canQuery(evidence) && canReadTwins && evidence.reads.failures < ENOUGH;
  if (reachable && had.reachable) return had;
  return {
    reachable,
    canReadTwins,
    since: reachable === had.reachable ? had.since : now,
    twinsSince: canReadTwins === had.canReadTwins ? had.twinsSince : now,
    ...(reachable ? { message: "" } : explained(evidence, canReadTwins, fault ?? had)),
  };
}

/** What fails and what does not, where only one of the two does. */
function explained(
  evidence: Evidence,
  canReadTwins: boolean,
  last: Pick<HubHealth, "message" | "kind">,
): Pick<HubHealth, "message" | "kind"> {
  const kind = last.kind === undefined ? {} : { kind: last.kind };
  const { query, twinRead } = evidence.messages;
  if (!canQuery(evidence) && canReadTwins)
    return { ...kind, message: `queries fail (${query}); twins can be read` };
  if (canQuery(evidence) && !canReadTwins)
    return { ...kind, message: `twins cannot be read (${twinRead}); queries are answered` };
  return { ...kind, message: last.message };
}

/** Calls that were in flight together when one failed are one failure: a blip, not an outage. */
function counted(count: Count, { number, begunCalls }: EndedCall): Count {
  return number <= count.begunCalls ? count : { failures: count.failures + 1, begunCalls };
}

function reset(count: Count): Count {
  return { ...count, failures: 0 };
}

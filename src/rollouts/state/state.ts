import {
  type HistoryEntry,
  type InferenceDeploymentStatus,
  PHASES,
  type Phase,
  ROLLBACK_REASONS,
  type StratumExposure,
} from "../../api/inference-deployment.ts";
import { type Instant, parseTimestamp, type Timestamp, timestampOf } from "../../base/time.ts";

// A structural schema knows no unions, so `status` is flat. This is the union that it means, read and written here.
//
//   Pending ──▶ Progressing ◀──▶ Holding        every phase with a candidate ──▶ RollingBack ──▶ RolledBack
//      ▲          │   ▲  ▲          ▲                                                │             (quarantined)
//      │          │   │  └─ Frozen ─┘                                                └─ withdrawn ─▶ Completed
//      │          ▼   │
//      └─ Completed ◀─┴─ Baking

export type ReleaseRef = { readonly release: string; readonly digests: readonly string[] };

/** Why a candidate is rolled back (or, where `rollback.mode` is Hold, would be). */
export type RollbackCause = Omit<NonNullable<InferenceDeploymentStatus["rollback"]>, "at"> & {
  readonly at: Instant;
};

export type AtStep = {
  readonly index: number;
  readonly percent: number;
  /** Moved on by the time that nothing was watched: a deadline does not count an outage. */
  readonly startedAt: Instant;
  /** From when the deadline counts: the beginning of the step, moved on by the time for which it was converged. */
  readonly waitingSince: Instant;
  /** Since when every exposed device has run the candidate, or been excused; `null`: it does not hold now. */
  readonly convergedAt: Instant | null;
  /** From when the hold counts: moved on by the time without evidence, reset by evidence against the candidate. */
  readonly passingSince: Instant | null;
  /** Since when evidence has been missing while `passingSince` stands. */
  readonly pausedAt: Instant | null;
  /** When devices were last missing, to the minute, because the hub had not pointed them at the candidate; `null`: never. */
  readonly lastUnplacedAt: Instant | null;
  /** When it was last looked at, to the minute. */
  readonly lastObservedAt: Instant;
  /** Missing devices that a person accepted by promoting past them. */
  readonly acceptedMissing: number;
};

/** A step that begins now, and about which nothing is known yet. */
export function newStep(index: number, percent: number, now: Instant, acceptedMissing = 0): AtStep {
  return {
    index,
    percent,
    startedAt: now,
    waitingSince: now,
    convergedAt: null,
    passingSince: null,
    pausedAt: null,
    lastUnplacedAt: null,
    lastObservedAt: now,
    acceptedMissing,
  };
}

export type Quarantined = { readonly release: string; readonly reason: string; readonly at: Instant };
export type Handled = {
  readonly abort: string | null;
  readonly promote: string | null;
  readonly retry: string | null;
};

/** What every phase has. */
export type Carried = {
  readonly quarantined: readonly Quarantined[];
  readonly handled: Handled;
  readonly history: readonly HistoryEntry[];
  /** `null`: nothing ran here before, so a rollback leads to nothing. */
  readonly stable: ReleaseRef | null;
};

/** What every phase with exposed devices has. */
export type Exposed = Carried & {
  readonly candidate: ReleaseRef;
  /** When the first step began. */
  readonly startedAt: Instant;
  readonly step: AtStep;
  readonly exposure: readonly StratumExposure[];
  /** The exposure of the step before. */
  readonly previousExposure: readonly StratumExposure[];
  /** When the hub was first seen to have a configuration of the candidate; `null`: not yet. */
  readonly configuredAt: Instant | null;
};

export type Pending = Carried & {
  readonly phase: "Pending";
  readonly candidate: ReleaseRef | null;
};
export type Progressing = Exposed & { readonly phase: "Progressing" };
export type Holding = Exposed & {
  readonly phase: "Holding";
  readonly holdReason: string;
  readonly bakingSince: Instant | null;
  /** A breach that waits for a person, because `rollback.mode` is Hold. */
  readonly breach: RollbackCause | null;
};
export type Frozen = Exposed & {
  readonly phase: "Frozen";
  readonly frozenSince: Instant;
  readonly bakingSince: Instant | null;
  readonly breach: RollbackCause | null;
};
export type Baking = Exposed & { readonly phase: "Baking"; readonly bakingSince: Instant };
export type Completed = Carried & { readonly phase: "Completed"; readonly stable: ReleaseRef };
export type RollingBack = Carried & {
  readonly phase: "RollingBack";
  readonly candidate: ReleaseRef;
  /** The devices that were exposed: their twins are read one by one. */
  readonly exposure: readonly StratumExposure[];
  readonly because: RollbackCause;
};
export type RolledBack = Carried & {
  readonly phase: "RolledBack";
  readonly because: RollbackCause;
};

export type UnderWay = Progressing | Holding | Frozen | Baking;
export type RolloutState = Pending | UnderWay | Completed | RollingBack | RolledBack;

export type StateFields = Pick<
  InferenceDeploymentStatus,
  | "phase"
  | "stable"
  | "candidate"
  | "step"
  | "frozenSince"
  | "holdReason"
  | "bakingSince"
  | "exposure"
  | "previousExposure"
  | "startedAt"
  | "configuredAt"
  | "rollback"
  | "quarantinedReleases"
  | "history"
  | "handledRequests"
>;

export function isUnderWay(state: RolloutState): state is UnderWay {
  return (
    state.phase === "Progressing" ||
    state.phase === "Holding" ||
    state.phase === "Frozen" ||
    state.phase === "Baking"
  );
}

/** The exposure that devices are under; empty where nothing is exposed (any more). */
export function exposureOf(state: RolloutState): readonly StratumExposure[] {
  return "exposure" in state ? state.exposure : [];
}

/**
 * The state that a status means. `null`: it means none, because it is empty or lost what its phase needs; then it is
 * recovered from the hub. A point in time that cannot be read counts as `now`: waiting starts over, nothing is skipped.
 */
export function stateOf(status: InferenceDeploymentStatus | null, now: Instant): RolloutState | null {
  const phase = status?.phase;
  if (status === null || phase === undefined || !PHASES.includes(phase)) return null;
  const at = (written: string | undefined): Instant | null =>
    written === undefined ? null : (parseTimestamp(written) ?? now);
  const stable = status.stable ?? null;
  const carried: Carried = {
    quarantined: (status.quarantinedReleases ?? []).map((entry) => ({ ...entry, at: at(entry.at) ?? now })),
    handled: {
      abort: status.handledRequests?.abort ?? null,
      promote: status.handledRequests?.promote ?? null,
      retry: status.handledRequests?.retry ?? null,
    },
    history: status.history ?? [],
    stable,
  };
  const candidate = status.candidate ?? null;
  const because = rollbackCauseOf(status.rollback, at);
  switch (phase) {
    case "Pending":
      return { ...carried, phase, candidate };
    case "Completed":
      return stable === null ? null : { ...carried, phase, stable };
    case "RolledBack":
      return because === null ? null : { ...carried, phase, because };
    case "RollingBack": {
      if (candidate === null) return null;
      // The reason was removed from the status; continuing the rollback is the safe reading.
      const reason = because ?? {
        reason: "Aborted",
        message: "the reason was lost",
        release: candidate.release,
        at: now,
      };
      return { ...carried, phase, candidate, exposure: status.exposure ?? [], because: reason };
    }
    case "Progressing":
    case "Holding":
    case "Frozen":
    case "Baking": {
      if (candidate === null) return null;
      if (status.step === undefined) return { ...carried, phase: "Pending", candidate };
      const startedAt = at(status.step.startedAt) ?? now;
      const exposed: Exposed = {
        ...carried,
        candidate,
        startedAt: at(status.startedAt) ?? startedAt,
        step: {
          index: status.step.index,
          percent: status.step.percent,
          startedAt,
          waitingSince: at(status.step.waitingSince) ?? startedAt,
          convergedAt: at(status.step.convergedAt),
          passingSince: at(status.step.passingSince),
          pausedAt: at(status.step.pausedAt),
          lastUnplacedAt: at(status.step.lastUnplacedAt),
          lastObservedAt: at(status.step.lastObservedAt) ?? now,
          acceptedMissing: status.step.acceptedMissing ?? 0,
        },
        exposure: status.exposure ?? [],
        previousExposure: status.previousExposure ?? [],
        configuredAt: at(status.configuredAt),
      };
      const bakingSince = at(status.bakingSince);
      if (phase === "Progressing") return { ...exposed, phase };
      if (phase === "Baking") return { ...exposed, phase, bakingSince: bakingSince ?? now };
      if (phase === "Holding") {
        return { ...exposed, phase, holdReason: status.holdReason ?? "", bakingSince, breach: because };
      }
      return { ...exposed, phase, frozenSince: at(status.frozenSince) ?? now, bakingSince, breach: because };
    }
    default:
      return null;
  }
}

/** The flat fields of the status that represent a state. */
export function fieldsOf(state: RolloutState): StateFields {
  const { quarantined, handled, history } = state;
  const common: StateFields = {
    phase: state.phase,
    ...(state.stable === null ? {} : { stable: state.stable }),
    ...(quarantined.length === 0
      ? {}
      : { quarantinedReleases: quarantined.map((entry) => ({ ...entry, at: timestampOf(entry.at) })) }),
    ...(history.length === 0 ? {} : { history }),
    ...(handled.abort === null && handled.promote === null && handled.retry === null
      ? {}
      : {
          handledRequests: {
            ...(handled.abort === null ? {} : { abort: handled.abort }),
            ...(handled.promote === null ? {} : { promote: handled.promote }),
            ...(handled.retry === null ? {} : { retry: handled.retry }),
          },
        }),
  };
  switch (state.phase) {
    case "Pending":
      return { ...common, ...(state.candidate === null ? {} : { candidate: state.candidate }) };
    case "Completed":
      return common;
    case "RolledBack":
      return { ...common, rollback: rollbackField(state.because) };
    case "RollingBack":
      return {
        ...common,
        candidate: state.candidate,
        exposure: state.exposure,
        rollback: rollbackField(state.because),
      };
    case "Progressing":
      return { ...common, ...exposedFields(state) };
    case "Baking":
      return { ...common, ...exposedFields(state), bakingSince: timestampOf(state.bakingSince) };
    case "Holding":
    case "Frozen":
      return {
        ...common,
        ...exposedFields(state),
        ...(state.phase === "Holding"
          ? { holdReason: state.holdReason }
          : { frozenSince: timestampOf(state.frozenSince) }),
        ...(state.bakingSince === null ? {} : { bakingSince: timestampOf(state.bakingSince) }),
        ...(state.breach === null ? {} : { rollback: rollbackField(state.breach) }),
      };
    default:
      return unreachableState(state);
  }
}

function exposedFields(state: Exposed): StateFields {
  const {
    index,
    percent,
    startedAt,
    waitingSince,
    convergedAt,
    passingSince,
    pausedAt,
    lastUnplacedAt,
    lastObservedAt,
    acceptedMissing,
  } = state.step;
  return {
    candidate: state.candidate,
    startedAt: timestampOf(state.startedAt),
    step: {
      index,
      percent,
      startedAt: timestampOf(startedAt),
      ...(waitingSince === startedAt ? {} : { waitingSince: timestampOf(waitingSince) }),
      ...timestamps({ convergedAt, passingSince, pausedAt, lastUnplacedAt }),
      lastObservedAt: timestampOf(lastObservedAt),
      ...(acceptedMissing === 0 ? {} : { acceptedMissing }),
    },
    exposure: state.exposure,
    ...(state.previousExposure.length === 0 ? {} : { previousExposure: state.previousExposure }),
    ...(state.configuredAt === null ? {} : { configuredAt: timestampOf(state.configuredAt) }),
  };
}

/** Of those that there are. */
function timestamps<Name extends string>(
  instants: Readonly<Record<Name, Instant | null>>,
): { readonly [Each in Name]?: Timestamp } {
  const written: { [Each in Name]?: Timestamp } = {};
  for (const name in instants) {
    const instant = instants[name];
    if (instant !== null) written[name] = timestampOf(instant);
  }
  return written;
}

function rollbackField(because: RollbackCause): NonNullable<StateFields["rollback"]> {
  return { ...because, at: timestampOf(because.at) };
}

function rollbackCauseOf(
  rollback: InferenceDeploymentStatus["rollback"],
  at: (written: string | undefined) => Instant | null,
): RollbackCause | null {
  if (rollback === undefined || !ROLLBACK_REASONS.includes(rollback.reason)) return null;
  const when = at(rollback.at);
  return when === null
    ? null
    : { reason: rollback.reason, message: rollback.message, release: rollback.release, at: when };
}

function unreachableState(state: never): never {
  throw new Error(`unreachable: ${(state as { phase: Phase }).phase}`);
}

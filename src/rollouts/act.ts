import type { ModelPointer } from "../api/device-contract.ts";
import { qualifiedName } from "../api/membership.ts";
import type { Problem } from "../api/reasons.ts";
import { REASONS } from "../api/reasons.ts";
import { mayUseBlob } from "../api/tenancy.ts";
import type { Attempt, Fault } from "../base/fault.ts";
import { redacted } from "../base/redact.ts";
import { err, ok, type Result, unreachable } from "../base/result.ts";
import type { ConfigurationView, DeviceHub, FleetView, NewConfiguration, Twin } from "../hub/hub.ts";
import { eachLimited } from "../runtime/each-limited.ts";
import type { BlobFacts, ModelStore } from "../store/store.ts";
import type { Log } from "../telemetry/telemetry.ts";
import type { Action } from "./configurations/action.ts";
import {
  BASE_CONDITION,
  BASE_CONTENT,
  BASE_ID,
  contentOf,
  exactPatch,
  LABEL,
  pointedIn,
  recognized,
} from "./configurations/content.ts";
import { BANDS, priorityFor } from "./configurations/priority.ts";
import { clearedIn, type Memories, testCondition } from "./memory.ts";
import { notPermitted } from "./preconditions.ts";
import type { RolloutSeen } from "./seen.ts";
import type { RolloutState } from "./state/state.ts";

export type ActDeps = {
  readonly hub: Pick<DeviceHub, "getTwin" | "patchTwin" | "testCondition">;
  readonly fleet: Pick<FleetView, "note">;
  readonly configurations: ConfigurationView;
  readonly store: Pick<ModelStore, "stat" | "readUrl">;
  readonly log: Log;
};

/** Twins in flight at once; the hub's adapter keeps within its budget. */
const PARALLEL = 8;

export type Act = (
  seen: RolloutSeen,
  actions: readonly Action[],
  state: RolloutState | null,
  signal: AbortSignal,
) => Attempt<Problem | null>;

/** What reads a twin and patches it. */
type TwinAction = Extract<Action, { readonly kind: "restore" | "retain" }>;
type Create = Extract<Action, { readonly kind: "create" }>;

type Acting = ActDeps & {
  readonly memories: Memories;
  /** Two rollouts at a time must not choose the same priority for what neither sees of the other yet. */
  readonly reserved: Set<number>;
};

/**
 * Carries the actions out in their order, and stops at the first that fails: every prefix leaves the fleet safe. Where
 * the hub says no to something that only a person can change, the answer is a problem and not a fault.
 */
export function actOnRollout(deps: ActDeps, memories: Memories): Act {
  const acting: Acting = { ...deps, memories, reserved: new Set() };
  return async (seen, actions, state, signal) => {
    for (const batch of batchesOf(actions)) {
      const done =
        batch.kind === "twins"
          ? await patchAll(acting, batch.actions, seen, state, signal)
          : await carryOut(acting, batch, seen, state, signal);
      if (!done.ok || done.value !== null) return done;
    }
    return ok(null);
  };
}

async function carryOut(
  acting: Acting,
  action: Exclude<Action, TwinAction>,
  seen: RolloutSeen,
  state: RolloutState | null,
  signal: AbortSignal,
): Attempt<Problem | null> {
  switch (action.kind) {
    case "create":
      return await create(acting, action, seen, signal);
    case "createBase":
      return await createBase(acting, seen, signal);
    case "retarget": {
      const had = find(acting, action.id);
      if (had === undefined || had.targetCondition === action.condition) return ok(null);
      // A condition that selects fewer devices has the form of the one before: asking first would only delay it.
      if (action.lane !== "rollback") {
        const refused = await conditionProblem(acting, action.condition, signal);
        if (!refused.ok || refused.value !== null) return refused;
      }
      // A twin that was read while a configuration still targeted devices may have been given the candidate since.
      if (state?.phase === "RollingBack")
        clearedIn(acting.memories.of(seen.deployment.key), state.because).clear();
      const { condition: targetCondition, labels, lane } = action;
      return nothing(await acting.configurations.update(had, { targetCondition, labels }, lane, signal));
    }
    case "remove": {
      const had = find(acting, action.id);
      return had === undefined
        ? ok(null)
        : nothing(await acting.configurations.remove(had, action.lane, signal));
    }
    default:
      return unreachable(action);
  }
}

async function create(
  acting: Acting,
  action: Create,
  seen: RolloutSeen,
  signal: AbortSignal,
): Attempt<Problem | null> {
  // A URL is the right to read: none is made, and nothing is looked at, outside of what the namespace may use.
  if (!mayUseBlob(seen.grant, action.blob)) return ok(notPermitted(seen, action.blob));
  const refused = await conditionProblem(acting, action.condition, signal);
  if (!refused.ok || refused.value !== null) return refused;
  // One look at the store for each configuration: the verdict is about a blob that may be another one by now.
  const blob = await acting.store.stat(action.blob, signal);
  if (!blob.ok) return blob;
  const unfit = blobProblem(action, blob.value);
  if (blob.value === null || unfit !== null) return ok(unfit);
  const link = await acting.store.readUrl(action.blob, action.expiresAt, signal);
  if (!link.ok) return link;
  const pointer: ModelPointer = { ...action.pointer, sizeBytes: blob.value.sizeBytes, url: link.value.url };
  return await withPriority(acting, BANDS[action.track], action.above, (priority) =>
    acting.configurations.create(
      {
        id: action.id,
        kind: action.configurationKind,
        labels: { ...action.labels, [LABEL.urlExpires]: String(Math.floor(link.value.expiresAt / 1000)) },
        priority,
        targetCondition: action.condition,
        content: contentOf(action.configurationKind, action.module, pointer),
      },
      "normal",
      signal,
    ),
  );
}

async function createBase(acting: Acting, seen: RolloutSeen, signal: AbortSignal): Attempt<Problem | null> {
  const others = (acting.configurations.list() ?? []).filter(
    (configuration) => recognized(configuration).labels[LABEL.base] !== undefined,
  );
  return await withPriority(
    acting,
    BANDS.base,
    others.map(({ id }) => id),
    (priority) => {
      const base: NewConfiguration = {
        id: BASE_ID,
        kind: "edge",
        labels: { [LABEL.base]: "true", [LABEL.cluster]: seen.settings.clusterId },
        priority,
        targetCondition: BASE_CONDITION,
        content: BASE_CONTENT,
      };
      return acting.configurations.create(base, "normal", signal);
    },
  );
}

async function withPriority(
  acting: Acting,
  band: (typeof BANDS)[keyof typeof BANDS],
  above: readonly string[],
  work: (priority: number) => Attempt<unknown>,
): Attempt<Problem | null> {
  const all = acting.configurations.list() ?? [];
  const priority = priorityFor(
    band,
    [...all.map((one) => one.priority), ...acting.reserved],
    [...all.filter(({ id }) => above.includes(id)).map((one) => one.priority)],
  );
  if (priority === null) {
    return ok({
      reason: REASONS.HubFull,
      message: `no priority from ${band.from} to ${band.to} is available on the hub; every configuration needs a distinct one`,
    });
  }
  acting.reserved.add(priority);
  try {
    return nothing(await work(priority));
  } finally {
    acting.reserved.delete(priority);
  }
}

async function conditionProblem(
  acting: Acting,
  condition: string,
  signal: AbortSignal,
): Attempt<Problem | null> {
  const words = await testCondition(acting.hub, acting.memories, condition, signal);
  if (!words.ok) return words;
  if (words.value === null) return ok(null);
  return ok({
    reason: REASONS.ConditionRefused,
    message: `the hub rejected the target condition "${condition.slice(0, 400)}": ${redacted(words.value, 400)}`,
  });
}

/** The fast path: twins are independent of each other, so one that changed meanwhile does not stop the rest. */
async function patchAll(
  acting: Acting,
  actions: readonly TwinAction[],
  seen: RolloutSeen,
  state: RolloutState | null,
  signal: AbortSignal,
): Attempt<Problem | null> {
  const stop = new AbortController();
  const faults: Fault[] = [];
  await eachLimited(
    actions,
    PARALLEL,
    async (action) => {
      const restored = await patchOne(acting, action, seen, signal);
      if (restored.ok) {
        if (state?.phase === "RollingBack") {
          clearedIn(acting.memories.of(seen.deployment.key), state.because).add(action.device);
        }
        return;
      }
      faults.push(restored.error);
      if (restored.error.kind !== "conflict") stop.abort();
    },
    AbortSignal.any([signal, stop.signal]),
  );
  const worst = faults.find(({ kind }) => kind !== "conflict") ?? faults[0];
  return worst === undefined ? ok(null) : err(worst);
}

async function patchOne(
  acting: Acting,
  action: TwinAction,
  seen: RolloutSeen,
  signal: AbortSignal,
): Attempt<void> {
  const module = action.iotEdge ? seen.deployment.spec.module.name : null;
  const ref = { device: action.device, module };
  const twin = await acting.hub.getTwin(ref, action.lane, signal);
  if (!twin.ok) return twin;
  if (twin.value === null) return ok(undefined);
  acting.fleet.note(twin.value);
  if (!isDue(acting, action, twin.value.desired, seen)) return ok(undefined);
  const model = exactPatch(twin.value.desired["model"], action.to);
  if (model === undefined) return ok(undefined);
  const patched = await acting.hub.patchTwin(
    { ...ref, etag: twin.value.etag },
    { desired: { model } },
    action.lane,
    signal,
  );
  if (!patched.ok) return patched;
  acting.fleet.note(patched.value);
  return ok(undefined);
}

function isDue(_acting: Acting, action: TwinAction, desired: Twin["desired"], seen: RolloutSeen): boolean {
  if (action.kind === "retain") return desired["model"] === undefined || desired["model"] === null;
  const pointer = pointedIn(desired);
  if (pointer === null || pointer.deployment !== qualifiedName(seen.deployment)) return false;
  return action.from === null || pointer.release === action.from;
}

function find(acting: Acting, id: string) {
  return acting.configurations.list()?.find((configuration) => configuration.id === id);
}

/** Why devices are not given this blob; `null`: it is the one that was verified. */
function blobProblem({ blob, etag }: Create, found: BlobFacts | null): Problem | null {
  const name = `${blob.container}/${blob.path}`;
  if (found === null)
    return {
      reason: REASONS.BlobMissing,
      message: `blob ${name}, which devices download, does not exist; upload it again`,
    };
  if (etag === null || found.etag === etag) return null;
  return {
    reason: REASONS.BlobReplaced,
    message: `blob ${name} was replaced after it was verified; create a new release for the new file, or request another verification with the annotation edgefleet.dev/reverify on its ModelRelease`,
  };
}

type Batch =
  | Exclude<Action, TwinAction>
  | { readonly kind: "twins"; readonly actions: readonly TwinAction[] };

/** Patches of twins that follow each other are carried out together, everything else one by one. */
function batchesOf(actions: readonly Action[]): readonly Batch[] {
  const batches: Batch[] = [];
  let twins: TwinAction[] = [];
  for (const action of actions) {
    if (action.kind === "restore" || action.kind === "retain") {
      if (twins.length === 0) {
        twins = [];
        batches.push({ kind: "twins", actions: twins });
      }
      twins.push(action);
    } else {
      twins = [];
      batches.push(action);
    }
  }
  return batches;
}

function nothing(result: Result<unknown, Fault>): Result<null, Fault> {
  return result.ok ? ok(null) : result;
}

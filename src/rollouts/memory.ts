import { bucketOf } from "../api/membership.ts";
import type { ObjectKey } from "../api/resource.ts";
import type { Attempt } from "../base/fault.ts";
import { ok } from "../base/result.ts";
import type { Instant } from "../base/time.ts";
import type { DeviceHub } from "../hub/hub.ts";
import type { Heard } from "./evidence/plausible.ts";
import type { RollbackCause } from "./state/state.ts";

/**
 * What is worth remembering between two looks, and may be forgotten at any time: without it some twins are read again,
 * some conditions tested again, and a report is written sooner.
 */
export type Memory = {
  /** The rollback that `cleared` is about. */
  rollback: string;
  readonly cleared: Set<string>;
  refreshedAt: Instant | null;
  /** Where the fast lane continues. */
  cursor: number;
  reportedAt: Instant | null;
  /** Whether the last report was deferred to the pace of the analysis. */
  reportDeferred: boolean;
  /** What devices reported last, by device; empty unless a candidate is under way. */
  readonly heard: Map<string, Heard>;
  /** Since when none of the configurations targets any device, while their deployment is taken away. */
  emptiedAt: Instant | null;
  /** Since when configurations have been seen whose deployment does not exist. */
  ownerlessSince: Instant | null;
  /** The stage that was last logged and announced. */
  ownerlessSaid: "grace" | "removal" | null;
};

export type Memories = {
  readonly of: (key: ObjectKey) => Memory;
  readonly forget: (key: ObjectKey) => void;
  /** Results of testing target conditions, for all rollouts. */
  readonly tested: Map<string, string | null>;
};

const TESTED_LIMIT = 5000;

const BUCKETS_LIMIT = 500_000;

export function createMemories(): Memories {
  const memories = new Map<ObjectKey, Memory>();
  return {
    of: (key) => {
      const memory = memories.get(key) ?? {
        rollback: "",
        cleared: new Set<string>(),
        refreshedAt: null,
        cursor: 0,
        reportedAt: null,
        reportDeferred: false,
        heard: new Map<string, Heard>(),
        emptiedAt: null,
        ownerlessSince: null,
        ownerlessSaid: null,
      };
      memories.set(key, memory);
      return memory;
    },
    forget: (key) => void memories.delete(key),
    tested: new Map(),
  };
}

/** Devices cleared in one rollback say nothing about the next. */
export function clearedIn(memory: Memory, because: RollbackCause): Set<string> {
  const rollback = `${because.release} at ${because.at}`;
  if (memory.rollback !== rollback) {
    memory.rollback = rollback;
    memory.cleared.clear();
  }
  return memory.cleared;
}

/** Asks the hub once for each condition. Returns `null` where it accepts it, otherwise its message. */
export async function testCondition(
  hub: Pick<DeviceHub, "testCondition">,
  memories: Memories,
  condition: string,
  signal: AbortSignal,
): Attempt<string | null> {
  const known = memories.tested.get(condition);
  if (known !== undefined && known === null) return ok(known);
  const words = await hub.testCondition(condition, signal);
  if (!words.ok) return words;
  if (memories.tested.size >= TESTED_LIMIT) memories.tested.clear();
  memories.tested.set(condition, words.value);
  return words;
}

/** Of devices without a tag. It depends on the id alone, and a hash for each device and look adds up. */
export function bucketCache(salt: string): (device: string) => number {
  const known = new Map<string, number>();
  return (device) => {
    const had = known.get(device);
    if (had !== undefined) return had;
    if (known.size >= BUCKETS_LIMIT) known.clear();
    const bucket = bucketOf(salt, device);
    known.set(device, bucket);
    return bucket;
  };
}

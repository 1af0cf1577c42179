import {
  type Clock,
  elapsed,
  type Instant,
  later,
  type Millis,
  millis,
  minutes,
  seconds,
} from "../base/time.ts";
import type { Backoff } from "./backoff.ts";
import { linkedSignal } from "./linked-signal.ts";
import { createWaitList } from "./wait-list.ts";

/** What happens to a key when it is released. */
export type Rest =
  /** Nothing more to do; its failures are forgotten. */
  | { readonly kind: "forget" }
  /** Not a failure: it comes back then, and its failures are forgotten. */
  | { readonly kind: "after"; readonly delay: Millis }
  /** Failure: it comes back after the back-off, and no sooner than `atLeast` (what a server asked for). */
  | { readonly kind: "backoff"; readonly atLeast?: Millis };

/**
 * Keys to be worked on. Each key is in at most one place:
 *
 *     add ──▶ ready ──take──▶ held ──release──▶ (gone | waiting | ready)
 *     addAfter ──▶ waiting ──its time──▶ ready
 *
 * - A key is never held twice at once. What is added while it is held brings it back once, after its release.
 * - The earliest time wins: `addAfter` never makes a key later, and `add` (the world changed) ends any waiting,
 *   a back-off too.
 */
export type WorkQueue<Key> = {
  readonly add: (key: Key) => void;
  readonly addAfter: (key: Key, delay: Millis) => void;
  /** The oldest ready key, which is then held; `null` once `signal` has aborted. */
  readonly take: (signal: AbortSignal) => Promise<Key | null>;
  readonly release: (key: Key, rest: Rest) => void;
  /** How many keys are ready; those that wait or are held are not counted. */
  readonly depth: () => number;
  /** How often a key has failed since it last succeeded. */
  readonly failures: (key: Key) => number;
};

/** What was added for a key while it was held: back at once, or at a time. */
type Requeue = { readonly kind: "now" } | { readonly kind: "at"; readonly at: Instant };
type Parked = { readonly until: Instant; readonly wake: () => void };

/** How long a taker sleeps when no key waits; nothing depends on it. */
const IDLE_SLEEP = minutes(60);
const CLOCK_SKEW = seconds(1);

/**
 * One long function on purpose: a key is in one of three places, and every operation must keep all three and the parked
 * takers consistent. Apart, each of them would be handed the same five collections.
 */
export function createWorkQueue<Key>(clock: Clock, backoff: Backoff): WorkQueue<Key> {
  const ready = createFifo<Key>();
  const waiting = createWaitList<Key>();
  const held = new Map<Key, Requeue | null>();
  const failures = new Map<Key, number>();
  // Each taker that finds nothing sleeps until the earliest waiting key is due: there are as many timers as idle
  // takers, however many keys wait.
  const parked = new Set<Parked>();
  let lastSeen = clock.now();

  function add(key: Key): void {
    if (held.has(key)) {
      held.set(key, { kind: "now" });
      return;
    }
    waiting.drop(key);
    ready.push(key);
    wakeOne();
  }

  function addAt(key: Key, at: Instant): void {
    if (at <= clock.now()) {
      add(key);
      return;
    }
    if (ready.has(key)) return;
    const requeue = held.get(key);
    if (requeue === undefined) {
      waiting.put(key, at);
      wakeOne();
    } else if (requeue === null || (requeue.kind === "at" && at < requeue.at)) {
      held.set(key, { kind: "at", at });
    }
  }

  function release(key: Key, rest: Rest): void {
    const requeue = held.get(key);
    if (requeue === undefined) throw new Error("released a key that is not held");
    held.delete(key);
    const own = restAt(key, rest);
    if (requeue?.kind === "now") add(key);
    else if (requeue?.kind === "at") addAt(key, requeue.at);
    if (own !== null) addAt(key, own);
  }

  function restAt(key: Key, rest: Rest): Instant | null {
    if (rest.kind !== "backoff") {
      failures.delete(key);
      return rest.kind === "after" ? later(clock.now(), rest.delay) : null;
    }
    const count = (failures.get(key) ?? 0) + 1;
    failures.set(key, count);
    return later(clock.now(), millis(Math.max(backoff(count), rest.atLeast ?? 0)));
  }

  function promoteDue(): void {
    const now = clock.now();
    const setBack = elapsed(now, lastSeen) > CLOCK_SKEW;
    lastSeen = now;
    // After the clock was set back, every key would be late by as much: working on one too early costs less.
    for (
      let next = waiting.earliest();
      next !== undefined && (setBack || next.at <= now);
      next = waiting.earliest()
    ) {
      waiting.drop(next.key);
      ready.push(next.key);
    }
  }

  /** Wakes one taker when there is work for it, or when all of them would sleep past the next due key. */
  function wakeOne(): void {
    if (parked.size === 0) return;
    const due = waiting.earliest()?.at;
    const asleep = due !== undefined && [...parked].every(({ until }) => until > due);
    if (ready.size() === 0 && !asleep) return;
    const [first] = parked;
    first?.wake();
  }

  async function park(signal: AbortSignal): Promise<void> {
    using link = linkedSignal(signal);
    const now = clock.now();
    const until = waiting.earliest()?.at ?? later(now, IDLE_SLEEP);
    const self: Parked = {
      until,
      wake: () => {
        parked.delete(self); // at once, so that the next one to be woken is another
        link.abort();
      },
    };
    parked.add(self);
    await clock.sleep(elapsed(now, until), link.signal);
    parked.delete(self);
  }

  async function take(signal: AbortSignal): Promise<Key | null> {
    while (!signal.aborted) {
      promoteDue();
      const key = ready.shift();
      if (key !== undefined) {
        held.set(key, null);
        wakeOne(); // this taker goes to work: another must watch the time and what else is ready
        return key;
      }
      await park(signal);
    }
    wakeOne();
    return null;
  }

  return {
    add,
    addAfter: (key, delay) => addAt(key, later(clock.now(), delay)),
    take,
    release,
    depth: () => {
      promoteDue();
      return ready.size();
    },
    failures: (key) => failures.get(key) ?? 0,
  };
}

/** First in, first out, each key once. An array with a moving head: the front of a large Set is slow to shift. */
function createFifo<Key>() {
  const members = new Set<Key>();
  let keys: Key[] = [];
  let head = 0;
  return {
    has: (key: Key) => members.has(key),
    size: () => members.size,
    push: (key: Key) => {
      if (members.has(key)) return;
      members.add(key);
      keys.push(key);
    },
    shift: (): Key | undefined => {
      const key = keys[head];
      if (key === undefined) return undefined;
      head += 1;
      members.delete(key);
      if (head > 1024 && head * 2 > keys.length) {
        keys = keys.slice(head);
        head = 0;
      }
      return key;
    },
  };
}

/** Time of the simulated world, in milliseconds since the Unix epoch, and the one queue of everything that will happen. */
export type SimClock = {
  readonly virtual: boolean;
  readonly now: () => number;
  /** Runs `run(subject)` after `delay` milliseconds. `run` is shared by all subjects: no closure per device is needed. */
  readonly schedule: <T>(delay: number, run: (subject: T) => void, subject: T) => Timer;
  /** A virtual clock does not move on while work that was handed to it here is unfinished. */
  readonly track: (work: Promise<unknown>) => void;
  readonly stop: () => void;
};

export type ManualClock = SimClock & {
  /** Moves time forward; everything due happens in order, each at its own time. Resolves when all of it is done. */
  readonly advance: (milliseconds: number) => Promise<void>;
};

export type Timer = { readonly cancel: () => void };

type Entry = {
  readonly at: number;
  /** Two entries of one moment happen in the order in which they were made. */
  readonly order: number;
  readonly run: (subject: never) => void;
  readonly subject: unknown;
  cancelled: boolean;
  readonly cancel: () => void;
};

function before(a: Entry, b: Entry): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

/** A binary heap: the next entry first. Cancelled entries stay until they come up. */
function createQueue() {
  const heap: Entry[] = [];
  let made = 0;
  const at = (index: number) => heap[index] as Entry;

  function push<T>(when: number, run: (subject: T) => void, subject: T): Entry {
    const entry: Entry = {
      at: when,
      order: made++,
      run: run as (subject: never) => void,
      subject,
      cancelled: false,
      cancel: () => {
        entry.cancelled = true;
      },
    };
    let hole = heap.push(entry) - 1;
    while (hole > 0) {
      const parent = (hole - 1) >> 1;
      if (!before(entry, at(parent))) break;
      heap[hole] = at(parent);
      hole = parent;
    }
    heap[hole] = entry;
    return entry;
  }

  function drop(): void {
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let hole = 0;
    for (;;) {
      let child = 2 * hole + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(at(child + 1), at(child))) child += 1;
      if (!before(at(child), last)) break;
      heap[hole] = at(child);
      hole = child;
    }
    heap[hole] = last;
  }

  /** The next entry that is still wanted. */
  function peek(): Entry | undefined {
    while (heap[0]?.cancelled) drop();
    return heap[0];
  }

  function clear(): void {
    heap.length = 0;
  }

  return { push, peek, drop, clear };
}

function runEntry(entry: Entry): void {
  (entry.run as (subject: unknown) => void)(entry.subject);
}

/** Longest stretch of entries that are run without letting requests in between, in milliseconds. */
const STRETCH = 8;
const LONGEST_TIMEOUT = 2_147_483_647;

/** The machine's time. One timer of the runtime serves the whole fleet. */
export function createRealClock(): SimClock {
  const queue = createQueue();
  let armed: { readonly at: number; readonly stop: () => void } | null = null;
  let stopped = false;

  function arm(): void {
    if (stopped) return;
    const next = queue.peek();
    if (next === undefined || (armed !== null && armed.at <= next.at)) return;
    armed?.stop();
    const timer = setTimeout(drain, Math.min(Math.max(0, next.at - Date.now()), LONGEST_TIMEOUT));
    armed = { at: next.at, stop: () => clearTimeout(timer) };
  }

  function drain(): void {
    armed = null;
    const started = performance.now();
    for (let entry = queue.peek(); entry !== undefined && !stopped; entry = queue.peek()) {
      if (entry.at > Date.now()) break;
      if (performance.now() - started > STRETCH) {
        const immediate = setImmediate(drain);
        armed = { at: entry.at, stop: () => clearImmediate(immediate) };
        return;
      }
      queue.drop();
      runEntry(entry);
    }
    arm();
  }

  return {
    virtual: false,
    now: () => Date.now(),
    schedule: (delay, run, subject) => {
      const entry = queue.push(Date.now() + Math.max(0, delay), run, subject);
      arm();
      return entry;
    },
    track: () => {},
    stop: () => {
      stopped = true;
      armed?.stop();
      queue.clear();
    },
  };
}

/** A clock that stands still until it is advanced. `start` is milliseconds since the Unix epoch. */
export function createManualClock(start: number): ManualClock {
  const queue = createQueue();
  const unfinished = new Set<Promise<unknown>>();
  let now = start;
  let moving: Promise<void> = Promise.resolve();

  async function settle(): Promise<void> {
    while (unfinished.size > 0) await Promise.allSettled(unfinished);
  }

  async function moveTo(target: number): Promise<void> {
    await settle();
    for (let entry = queue.peek(); entry !== undefined && entry.at <= target; entry = queue.peek()) {
      queue.drop();
      now = Math.max(now, entry.at);
      runEntry(entry);
      if (unfinished.size > 0) await settle();
    }
    now = Math.max(now, target);
  }

  return {
    virtual: true,
    now: () => now,
    schedule: (delay, run, subject) => queue.push(now + Math.max(0, delay), run, subject),
    track: (work) => {
      const watched = work.finally(() => unfinished.delete(watched)).catch(() => {});
      unfinished.add(watched);
    },
    stop: () => queue.clear(),
    advance: (milliseconds) => {
      moving = moving.then(() => moveTo(now + milliseconds));
      return moving;
    },
  };
}

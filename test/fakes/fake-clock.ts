import { type Clock, type Instant, instant, type Millis } from "../../src/base/time.ts";

export type FakeClock = Clock & {
  /** Moves time on by `delay`, stopping at each timer on the way, in order, and lets promises run at each. */
  readonly advance: (delay: Millis) => Promise<void>;
  /** Lets promises run without moving time. */
  readonly settle: () => Promise<void>;
  /** When the next timer is due; `null` when nobody sleeps. */
  readonly next: () => Instant | null;
};

type Sleeper = { readonly at: number; readonly wake: () => void };

/** Time that stands still until it is told to move. */
export function createFakeClock(start: Instant = instant(Date.UTC(2026, 0, 1))): FakeClock {
  let now: number = start;
  const sleepers = new Set<Sleeper>();

  function earliest(): Sleeper | undefined {
    let first: Sleeper | undefined;
    for (const sleeper of sleepers) if (first === undefined || sleeper.at < first.at) first = sleeper;
    return first;
  }

  // All microtasks run before an immediate does.
  const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

  return {
    now: () => instant(now),
    sleep: (delay, signal) =>
      new Promise((resolve) => {
        if (signal.aborted || delay <= 0) {
          resolve();
          return;
        }
        const wake = () => {
          sleepers.delete(sleeper);
          signal.removeEventListener("abort", wake);
          resolve();
        };
        const sleeper: Sleeper = { at: now + delay, wake };
        sleepers.add(sleeper);
        signal.addEventListener("abort", wake);
      }),
    advance: async (delay) => {
      const end = now + delay;
      await settle();
      for (let next = earliest(); next !== undefined && next.at <= end; next = earliest()) {
        now = Math.max(now, next.at);
        next.wake();
        await settle();
      }
      now = end;
      await settle();
    },
    settle,
    next: () => {
      const first = earliest();
      return first === undefined ? null : instant(first.at);
    },
  };
}

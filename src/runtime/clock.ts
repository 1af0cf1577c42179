import { type Clock, instant, type Millis } from "../base/time.ts";

/** setTimeout counts in 32 bits and fires at once above that. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** The machine's clock. Nothing else in the house reads it or sets a timer. */
export function systemClock(): Clock {
  const now = () => instant(Date.now());
  return {
    now,
    sleep: async (delay, signal) => {
      // A monotonic clock measures the wait: the wall clock may be set while we sleep.
      const end = performance.now() + delay;
      for (let left: number = delay; left > 0 && !signal.aborted; left = end - performance.now())
        await timer(Math.min(left, LONGEST_TIMER), signal);
    },
  };
}

function timer(delay: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const handle = setTimeout(finish, delay);
    signal.addEventListener("abort", finish);
    function finish() {
      clearTimeout(handle);
      signal.removeEventListener("abort", finish);
      resolve();
    }
  });
}

/** `delay`, up to `share` longer or shorter: so that things that started together do not stay together. */
export function jittered(delay: Millis, random: () => number, share = 0.1): Millis {
  return (delay * (1 - share + 2 * share * random())) as Millis;
}

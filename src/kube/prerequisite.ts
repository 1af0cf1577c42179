import { whenAborted } from "../base/abort.ts";
import type { Result } from "../base/result.ts";
import { type Millis, seconds } from "../base/time.ts";
import type { RuntimeDeps } from "../runtime/deps.ts";
import { createLatch } from "../runtime/latch.ts";

/** Something that the API server must answer before this replica can lead. */
export type Prerequisite<T> = {
  /** Asks every five seconds until it is answered, then waits. Until `signal` aborts; it never rejects. */
  readonly run: (signal: AbortSignal) => Promise<void>;
  /** Resolves once it is answered, or when `signal` aborts. */
  readonly met: (signal: AbortSignal) => Promise<void>;
  /** `null` until it is answered. */
  readonly value: () => T | null;
  /** What is missing and what to do; `null`: it is answered. */
  readonly problem: () => string | null;
};

const PAUSE: Millis = seconds(5);

/** @param ask the answer, or what is missing and what to do. */
export function createPrerequisite<T>(
  ask: (signal: AbortSignal) => Promise<Result<T, string>>,
  { clock, log }: Pick<RuntimeDeps, "clock" | "log">,
): Prerequisite<T> {
  const latch = createLatch();
  let value: T | null = null;
  let problem: string | null = "the API server has not answered yet";
  return {
    met: latch.opened,
    value: () => value,
    problem: () => problem,
    run: async (signal) => {
      while (!signal.aborted && !latch.isOpen()) {
        const answer = await ask(signal);
        if (answer.ok) {
          value = answer.value;
          problem = null;
          latch.open();
        } else {
          // Once for each problem: the same line every five seconds would hide the others.
          if (answer.error !== problem && !signal.aborted)
            log.error("not ready; retrying every 5 s", null, { problem: answer.error });
          problem = answer.error;
          await clock.sleep(PAUSE, signal);
        }
      }
      await whenAborted(signal);
    },
  };
}

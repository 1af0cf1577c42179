import type { Clock, Millis } from "../../base/time.ts";
import { type LinkedSignal, linkedSignal } from "../../runtime/linked-signal.ts";

/** A signal for one request: it follows the caller's, and aborts at the deadline unless that is lifted before. */
export type Flight = {
  readonly signal: AbortSignal;
  readonly liftDeadline: () => void;
  /** To be called when the request has ended. */
  readonly [Symbol.dispose]: () => void;
};

/** The requests that are not answered yet, and the watches that are open. */
export type InFlight = {
  /** `name` is for the reason that the signal has after the deadline. */
  readonly begin: (name: string, signal: AbortSignal) => Flight;
  readonly abortAll: (reason: Error) => void;
};

export function createInFlight(clock: Clock, deadline: Millis): InFlight {
  const links = new Set<LinkedSignal>();
  return {
    begin: (name, signal) => {
      const link = linkedSignal(signal);
      links.add(link);
      const timer = linkedSignal(link.signal);
      void clock.sleep(deadline, timer.signal).then(() => {
        if (!timer.signal.aborted) link.abort(new Error(`${name}: no answer within ${deadline / 1000} s`));
      });
      const liftDeadline = () => {
        timer.abort();
        timer[Symbol.dispose]();
      };
      return {
        signal: link.signal,
        liftDeadline,
        [Symbol.dispose]: () => {
          liftDeadline();
          link[Symbol.dispose]();
          links.delete(link);
        },
      };
    },
    abortAll: (reason) => {
      for (const link of links) link.abort(reason);
    },
  };
}

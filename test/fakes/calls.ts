import type { Fault } from "../../src/base/fault.ts";
import { err, type Result } from "../../src/base/result.ts";

/** What happens to one call instead of what it should do. */
export type Mishap =
  | { readonly kind: "fault"; readonly fault: Fault }
  /** It is done, but the answer is lost on the way. */
  | { readonly kind: "lost" }
  /** The process dies, before or after the call had its effect. */
  | { readonly kind: "crash"; readonly when: "before" | "after" };

/** Thrown by a call that is told to crash: no code under test may catch it. */
export class Crash extends Error {}

/** Counts the calls that leave the process and lets chosen ones go wrong. */
export type Calls = {
  readonly run: <T>(name: string, effect: () => Result<T, Fault>) => Promise<Result<T, Fault>>;
  /** Names of all calls since the last `clear`, in order. */
  readonly made: () => readonly string[];
  readonly clear: () => void;
  /** The next call but `after` goes wrong, once. */
  readonly spoil: (after: number, mishap: Mishap) => void;
  /** Every call of that name goes wrong until `heal`. */
  readonly breakAll: (name: string, fault: Fault) => void;
  readonly heal: () => void;
  /** Whether a mishap waits for its call still. */
  readonly pending: () => boolean;
};

export function createCalls(): Calls {
  let made: string[] = [];
  let due: { left: number; readonly mishap: Mishap } | null = null;
  const broken = new Map<string, Fault>();

  function mishapOf(name: string): Mishap | null {
    const fault = broken.get(name);
    if (fault !== undefined) return { kind: "fault", fault };
    if (due === null) return null;
    if (due.left > 0) {
      due.left -= 1;
      return null;
    }
    const { mishap } = due;
    due = null;
    return mishap;
  }

  return {
    run: async (name, effect) => {
      made.push(name);
      const mishap = mishapOf(name);
      if (mishap?.kind === "fault") return err(mishap.fault);
      if (mishap?.kind === "crash" && mishap.when === "before") throw new Crash(name);
      const result = effect();
      if (mishap?.kind === "crash") throw new Crash(name);
      if (mishap?.kind === "lost") return err({ kind: "unavailable", message: "no answer" });
      return result;
    },
    made: () => [...made],
    clear: () => {
      made = [];
    },
    spoil: (after, mishap) => {
      due = { left: after, mishap };
    },
    breakAll: (name, fault) => void broken.set(name, fault),
    pending: () => due !== null,
    heal: () => {
      due = null;
      broken.clear();
    },
  };
}

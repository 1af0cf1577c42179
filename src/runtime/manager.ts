import { whenAborted } from "../base/abort.ts";
import type { Millis } from "../base/time.ts";
import type { RuntimeDeps } from "./deps.ts";
import { linkedSignal } from "./linked-signal.ts";

type Body = (signal: AbortSignal) => Promise<void>;

/** Something that runs until its signal aborts. Returning earlier, or throwing, is a failure. */
export type Part = { readonly name: string; readonly run: Body };

export type Plan = {
  /** Servers and caches: on every replica, leading or not. They stop last, in reverse, one after the other. */
  readonly always: readonly Part[];
  /** Resolves when all caches are filled. */
  readonly ready: Body;
  /** Calls `body` while this replica leads; its signal aborts when it no longer does. */
  readonly lead: (signal: AbortSignal, body: Body) => Promise<void>;
  /** Controllers, made once this replica leads: they stop first, all at once. */
  readonly whenLeading: () => readonly Part[];
  /** How long everything together may take to stop. */
  readonly drain: Millis;
};

/**
 * Starts always → ready → lead → whenLeading, and stops in reverse when `signal` aborts. One part failing stops them
 * all: then, or when stopping takes longer than `drain`, the promise rejects and the process should exit with an error.
 */
export async function runManager(plan: Plan, deps: RuntimeDeps, signal: AbortSignal): Promise<void> {
  using stop = linkedSignal(signal);
  const failures: unknown[] = [];
  const running = new Set<string>();

  /** Runs a part to its end; ending too early, or throwing, stops everything. */
  async function run(part: Part, partSignal: AbortSignal): Promise<void> {
    running.add(part.name);
    deps.log.debug("part started", { part: part.name });
    try {
      await part.run(partSignal);
      if (!partSignal.aborted) throw new Error(`${part.name} ended although it was not stopped`);
    } catch (cause) {
      // Once we are stopping, a throw that answers the abort changes nothing.
      if (!partSignal.aborted) {
        failures.push(cause);
        deps.log.error("part failed; stopping", cause, { part: part.name });
        stop.abort();
      }
    } finally {
      running.delete(part.name);
      deps.log.debug("part stopped", { part: part.name });
    }
  }

  const always = plan.always.map((part) => {
    const controller = new AbortController();
    return { controller, ended: run(part, controller.signal) };
  });
  const leading = run(
    {
      name: "leading",
      run: async (leadSignal) => {
        await plan.ready(leadSignal);
        if (leadSignal.aborted) return;
        deps.log.info("ready");
        // One that fails aborts `stop`, and with it the body's signal: the others end before leadership is released.
        await plan.lead(leadSignal, async (bodySignal) => {
          await Promise.all(plan.whenLeading().map((part) => run(part, bodySignal)));
        });
      },
    },
    stop.signal,
  );

  async function shutDown(): Promise<void> {
    await leading;
    for (const part of always.reverse()) {
      part.controller.abort();
      await part.ended;
    }
  }

  const stopped = shutDown();
  await whenAborted(stop.signal);
  deps.log.info("stopping");
  using stopTimeout = linkedSignal(new AbortController().signal);
  const late = deps.clock.sleep(plan.drain, stopTimeout.signal).then(() => {
    if (stopTimeout.signal.aborted) return;
    throw new Error(`did not stop in time: ${[...running].join(", ")}`);
  });
  try {
    await Promise.race([stopped, late]);
  } finally {
    stopTimeout.abort();
  }
  deps.log.info("stopped");
  if (failures.length > 0) throw failures[0];
}

import { unreachable } from "../base/result.ts";
import { elapsed, type Millis, minutes } from "../base/time.ts";
import type { Log } from "../telemetry/telemetry.ts";
import type { Backoff } from "./backoff.ts";
import { jittered } from "./clock.ts";
import type { RuntimeDeps } from "./deps.ts";
import { linkedSignal } from "./linked-signal.ts";
import type { Outcome, Reconcile } from "./outcome.ts";
import { createWorkQueue, type Rest, type WorkQueue } from "./queue.ts";
import type { Trigger } from "./trigger.ts";

export type ControllerSpec<Key> = {
  readonly name: string;
  readonly reconcile: Reconcile<Key>;
  readonly triggers: readonly Trigger<Key>[];
  readonly workers: number;
  /** How long one reconcile may take before its signal aborts. */
  readonly timeout: Millis;
  readonly backoff: Backoff;
  /** How often a stalled key is reconciled again, give or take a fifth; ten minutes when left out. */
  readonly stalledInterval?: Millis;
};

/** How a reconcile ended: its outcome, or it threw (a bug: counted apart, then treated like a failure). */
type End = Outcome | { readonly kind: "panic"; readonly cause: unknown };

/** From this many failures in a row on, a failure is worth a warning: conflicts and short outages are routine. */
const WORRYING = 3;

/**
 * Waits for the triggers, then works. Resolves once `signal` has aborted and every reconcile in flight has returned;
 * their signals abort with it.
 */
export async function runController<Key extends string>(
  spec: ControllerSpec<Key>,
  deps: RuntimeDeps,
  signal: AbortSignal,
): Promise<void> {
  const log = deps.log.with({ controller: spec.name });
  const queue = createWorkQueue<Key>(deps.clock, spec.backoff);
  const measureDepth = () =>
    deps.meter.gauge("edgefleet_queue_depth", queue.depth(), { controller: spec.name });
  // A trigger has no way to detach: after the end its calls go nowhere and keep no queue alive.
  let sink: WorkQueue<Key> | null = queue;
  const enqueue = (key: Key, delay?: Millis) => {
    if (delay === undefined) sink?.add(key);
    else sink?.addAfter(key, delay);
    measureDepth(); // a worker that hangs does not
  };

  for (const trigger of spec.triggers) trigger.attach(enqueue);
  await Promise.all(spec.triggers.map((trigger) => trigger.synced(signal)));
  measureDepth();
  log.info("controller started", { workers: spec.workers, keys: queue.depth() });
  try {
    await Promise.all(Array.from({ length: spec.workers }, worker));
  } finally {
    sink = null;
  }
  log.info("controller stopped");

  async function worker(): Promise<void> {
    for (let key = await queue.take(signal); key !== null; key = await queue.take(signal)) {
      measureDepth();
      const reconcileId = idOf(deps.random);
      const started = deps.clock.now();
      const keyLog = log.with({ key, reconcileId });
      const end = await reconcileOnce(spec, key, { ...deps, log: keyLog }, signal);
      if (!signal.aborted) {
        deps.meter.count("edgefleet_reconcile_total", { controller: spec.name, outcome: end.kind });
        deps.meter.observe(
          "edgefleet_reconcile_duration_seconds",
          elapsed(started, deps.clock.now()) / 1000,
          {
            controller: spec.name,
          },
        );
        describe(end, queue.failures(key) + 1, keyLog);
      }
      queue.release(key, restOf(end, spec, deps.random));
      measureDepth();
    }
  }
}

async function reconcileOnce<Key extends string>(
  spec: ControllerSpec<Key>,
  key: Key,
  deps: RuntimeDeps,
  signal: AbortSignal,
): Promise<End> {
  using work = linkedSignal(signal);
  using timer = linkedSignal(signal);
  let expired = false;
  const deadline = deps.clock.sleep(spec.timeout, timer.signal).then(() => {
    if (timer.signal.aborted) return;
    expired = true;
    deps.log.warn("reconcile took too long; its signal was aborted", { timeout: spec.timeout });
    work.abort(new Error("the reconcile took too long"));
  });
  try {
    return await spec.reconcile(key, work.signal);
  } catch (cause) {
    // A throw that answers an abort is not a bug.
    if (expired || signal.aborted) return { kind: "retry", cause: "the reconcile was stopped" };
    return { kind: "panic", cause };
  } finally {
    timer.abort();
    await deadline;
  }
}

/** The one place that says what an outcome means to the queue. */
function restOf<Key>(end: End, spec: ControllerSpec<Key>, random: () => number): Rest {
  switch (end.kind) {
    case "settled":
      return { kind: "forget" };
    case "wakeAfter":
      return { kind: "after", delay: end.delay };
    case "retry":
      return end.atLeast === undefined ? { kind: "backoff" } : { kind: "backoff", atLeast: end.atLeast };
    case "stalled":
      return { kind: "after", delay: jittered(spec.stalledInterval ?? minutes(10), random, 0.2) };
    case "panic":
      return { kind: "backoff" };
    default:
      return unreachable(end);
  }
}

function describe(end: End, failures: number, log: Log): void {
  switch (end.kind) {
    case "settled":
      log.debug("reconciled");
      return;
    case "wakeAfter":
      log.debug("reconciled; waiting", { delay: end.delay, why: end.why });
      return;
    case "retry":
      if (failures >= WORRYING) log.warn("reconcile failed", { cause: end.cause, failures });
      else log.info("reconcile failed", { cause: end.cause, failures });
      return;
    case "stalled":
      log.warn("reconcile stalled", { cause: end.cause });
      return;
    case "panic":
      log.error("reconcile threw: a bug", end.cause, { failures });
      return;
    default:
      unreachable(end);
  }
}

/** Eight hexadecimal digits that tie the lines of one reconcile together. */
function idOf(random: () => number): string {
  return Math.floor(random() * 2 ** 32)
    .toString(16)
    .padStart(8, "0");
}

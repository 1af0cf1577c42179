import type { InferenceDeployment } from "../../src/api/inference-deployment.ts";
import { type ObjectKey, objectKey } from "../../src/api/resource.ts";
import { type Grant, OPEN_GRANT } from "../../src/api/tenancy.ts";
import { durationText, millis, minutes } from "../../src/base/time.ts";
import { type RolloutOptions, reconcileRollout } from "../../src/rollouts/reconcile.ts";
import { Crash } from "../fakes/calls.ts";
import { createFakeLog } from "../fakes/fake-log.ts";
import { createFakeMeter } from "../fakes/fake-meter.ts";
import { CLUSTER, type createFleetWorld, NAMESPACE, SALT } from "../fakes/fleet-world.ts";
import { createPromises } from "./promises.ts";

// The controller in virtual time: reconciles when the world changes or a wake-up is due, forgets its memory in a crash,
// and is held to the promises after every tick.

export const KEY = objectKey(NAMESPACE, "resnet");

/** A reconcile that has not come to rest after so many rounds never does. */
const ROUNDS = 30;

/** What people have written, which the operator must leave alone, and what was ever verified. */
export type Written = { readonly specs: Map<ObjectKey, string>; readonly everVerified: Set<string> };

export function createOperator(
  world: ReturnType<typeof createFleetWorld>,
  written: Written,
  { tick, options }: { readonly tick: number; readonly options: Partial<RolloutOptions> },
) {
  const started = world.now();
  const lines: string[] = [];
  const phases: string[] = [];
  const meter = createFakeMeter();
  const log = createFakeLog();
  const counts = { reconciles: 0, crashes: 0 };
  let grant = OPEN_GRANT;
  let reconcile = begin();
  let wakeAt: number | null = 0;
  let failures = 0;
  let isThere = true;
  const promises = createPromises({ world, tick, current, ...written, isThere: () => isThere, broken });

  function begin() {
    return reconcileRollout({
      ...world,
      recorder: { record: (_about, note) => void say(`${note.type} ${note.reason}: ${note.message}`) },
      log,
      meter,
      grants: () => grant,
      options: { salt: SALT, clusterId: CLUSTER, ...options },
    });
  }

  function say(line: string): void {
    const at = world.now() - started;
    lines.push(`${at === 0 ? "0s" : durationText(millis(at))} ${line}`);
  }

  function current(): InferenceDeployment | undefined {
    return world.deployments.get(KEY);
  }

  /** One reconcile; a crash forgets everything that was in memory. */
  async function pass(): Promise<void> {
    counts.reconciles += 1;
    try {
      const rest = await reconcile(KEY, new AbortController().signal);
      if (rest.kind === "retry") {
        failures += 1;
        wakeAt = world.now() + Math.max(rest.atLeast ?? 0, Math.min(300_000, 250 * 2 ** failures));
        return;
      }
      failures = 0;
      if (rest.kind === "stalled") wakeAt = world.now() + minutes(5);
      else wakeAt = rest.kind === "settled" ? null : world.now() + rest.delay;
    } catch (cause) {
      if (!(cause instanceof Crash)) throw cause;
      counts.crashes += 1;
      restart();
    }
  }

  /** Reconciles for as long as the outcome says "at once". */
  async function settle(): Promise<void> {
    for (let round = 0; round < ROUNDS; round += 1) {
      await pass();
      check();
      if (wakeAt === null || wakeAt > world.now()) return;
    }
    throw new Error("the reconcile never comes to rest");
  }

  /** One tick. */
  async function step(): Promise<void> {
    world.advance(tick);
    const isDue = wakeAt !== null && world.now() >= wakeAt;
    if (world.takeChange() || isDue) await settle();
    check();
    promises.look();
  }

  function check(): void {
    const phase = current()?.status?.phase;
    if (phase !== undefined && phases.at(-1) !== phase) phases.push(phase);
    promises.check();
  }

  /** The operator is down: the hub and the devices continue, and what was in memory is lost. */
  function away(length: number): void {
    isThere = false;
    const end = world.now() + length;
    while (world.now() < end) {
      world.advance(Math.min(tick, end - world.now()));
      promises.look();
    }
    isThere = true;
    restart();
  }

  function restart(): void {
    world.restart();
    reconcile = begin();
    failures = 0;
    wakeAt = world.now();
  }

  async function run(length: number): Promise<void> {
    const end = world.now() + length;
    while (world.now() < end) await step();
  }

  async function runUntil(done: (deployment: InferenceDeployment) => boolean, limit: number): Promise<void> {
    const end = world.now() + limit;
    while (world.now() < end) {
      const deployment = current();
      if (deployment !== undefined && done(deployment)) return;
      await step();
    }
    const status = current()?.status;
    throw new Error(
      `not reached within ${durationText(millis(limit))}: ${status?.phase} ${JSON.stringify(status?.conditions)}`,
    );
  }

  function broken(message: string): never {
    const status = current()?.status;
    throw new Error(
      `${message} (${status?.phase}, step ${status?.step?.index}, after ${durationText(millis(world.now() - started))})\n${lines.slice(-8).join("\n")}`,
    );
  }

  return {
    meter,
    log,
    /** Events and what a test has said, with the time since the start. */
    lines,
    /** Each phase in its turn. */
    phases,
    /** What the namespace may use from now on. */
    grant: (next: Grant): void => {
      grant = next;
    },
    ...{ say, current, pass, step, check, away, run, runUntil },
    counts: () => ({ ...counts }),
  };
}

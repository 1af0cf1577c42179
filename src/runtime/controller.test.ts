import { describe, expect, test } from "vitest";
import { createFakeRuntime } from "../../test/fakes/fake-runtime.ts";
import { elapsed, type Millis, millis, minutes, seconds } from "../base/time.ts";
import { type ControllerSpec, runController } from "./controller.ts";
import { type Outcome, type Reconcile, SETTLED } from "./outcome.ts";
import { type Observed, type Trigger, triggerOf } from "./trigger.ts";

type Enqueue = (key: string, delay?: Millis) => void;

/** A controller of one trigger, whose enqueue the test holds. */
function start(reconcile: Reconcile<string>, change: Partial<ControllerSpec<string>> = {}) {
  const runtime = createFakeRuntime();
  const stop = new AbortController();
  let enqueue: Enqueue = () => {};
  let attached = 0;
  const trigger: Trigger<string> = {
    synced: async () => {},
    attach: (given) => {
      attached += 1;
      enqueue = given;
    },
  };
  const spec: ControllerSpec<string> = {
    name: "test",
    reconcile,
    triggers: [trigger],
    workers: 2,
    timeout: seconds(30),
    backoff: (failures) => seconds(failures),
    ...change,
  };
  const ended = runController(spec, runtime, stop.signal);
  const started = runtime.clock.now();
  return {
    ...runtime,
    stop,
    ended,
    enqueue: (key: string, delay?: Millis) => enqueue(key, delay),
    attached: () => attached,
    at: () => elapsed(started, runtime.clock.now()),
    outcomes: (outcome: string) =>
      runtime.meter.value("edgefleet_reconcile_total", { controller: "test", outcome }),
  };
}

describe("a controller", () => {
  test("requeues as each outcome asks, and counts it", async () => {
    const outcomes: Outcome[] = [
      { kind: "retry", cause: "busy" }, // after 1 s
      { kind: "retry", cause: "busy", atLeast: seconds(5) }, // after 5 s, not 2
      { kind: "wakeAfter", delay: seconds(10), why: "hold" },
      { kind: "retry", cause: "busy" }, // after 1 s again
      { kind: "stalled", cause: "no such release" }, // after ten minutes
      SETTLED,
    ];
    const times: number[] = [];
    const controller = start(async () => {
      times.push(controller.at());
      return outcomes[times.length - 1] ?? SETTLED;
    });
    await controller.clock.settle();
    controller.enqueue("a");
    await controller.clock.advance(minutes(60));
    const atSeconds = times.map((time) => time / 1000);
    expect(atSeconds).toEqual([0, 1, 6, 16, 17, 617]);
    expect(controller.outcomes("retry")).toBe(3);
    expect(controller.outcomes("wakeAfter")).toBe(1);
    expect(controller.outcomes("stalled")).toBe(1);
    expect(controller.outcomes("settled")).toBe(1);
    expect(controller.meter.value("edgefleet_reconcile_duration_seconds", { controller: "test" })).toBe(6);
    controller.stop.abort();
    await controller.ended;
  });

  test("survives a reconcile that throws, logs it, and backs off", async () => {
    let runs = 0;
    const controller = start(async () => {
      runs += 1;
      if (runs === 1) throw new Error("a bug");
      return SETTLED;
    });
    await controller.clock.settle();
    controller.enqueue("a");
    await controller.clock.advance(millis(999));
    expect(runs).toBe(1);
    await controller.clock.advance(millis(1));
    expect(runs).toBe(2);
    expect(controller.outcomes("panic")).toBe(1);
    const [line] = controller.log.lines().filter(({ level }) => level === "error");
    expect(line?.fields).toMatchObject({ controller: "test", key: "a", reconcileId: expect.any(String) });
    controller.stop.abort();
    await controller.ended;
  });

  test("aborts the signal of a reconcile that takes too long, and treats it as a failure", async () => {
    const aborted: number[] = [];
    const controller = start(async (_key, signal) => {
      await controller.clock.sleep(minutes(5), signal);
      if (signal.aborted) aborted.push(controller.at());
      signal.throwIfAborted();
      return SETTLED;
    });
    await controller.clock.settle();
    controller.enqueue("a");
    await controller.clock.advance(seconds(30));
    expect(aborted).toEqual([30_000]);
    expect(controller.outcomes("panic")).toBe(0);
    expect(controller.outcomes("retry")).toBe(1);
    controller.stop.abort();
    await controller.ended;
  });

  test("leaves no timer behind when a reconcile is quick", async () => {
    const controller = start(async () => SETTLED);
    await controller.clock.settle();
    for (let i = 0; i < 50; i += 1) controller.enqueue(`k${i}`);
    await controller.clock.settle();
    expect(controller.outcomes("settled")).toBe(50);
    controller.stop.abort();
    await controller.ended;
    expect(controller.clock.next()).toBeNull();
  });

  test("works on so many keys at once as it has workers", async () => {
    let now = 0;
    let most = 0;
    const controller = start(
      async (_key, signal) => {
        now += 1;
        most = Math.max(most, now);
        await controller.clock.sleep(seconds(1), signal);
        now -= 1;
        return SETTLED;
      },
      { workers: 3 },
    );
    await controller.clock.settle();
    for (const key of ["a", "b", "c", "d", "e", "f", "g"]) controller.enqueue(key);
    await controller.clock.advance(seconds(1));
    expect(most).toBe(3);
    await controller.clock.advance(seconds(10));
    expect(controller.outcomes("settled")).toBe(7);
    controller.stop.abort();
    await controller.ended;
  });

  test("the depth of the queue is known while every worker hangs", async () => {
    const controller = start(
      async (_key, signal) => {
        await controller.clock.sleep(seconds(60), signal);
        return SETTLED;
      },
      { workers: 1 },
    );
    const depth = () => controller.meter.value("edgefleet_queue_depth", { controller: "test" });
    await controller.clock.settle();
    controller.enqueue("hangs");
    await controller.clock.settle();
    expect(depth()).toBe(0);
    for (const key of ["a", "b", "c"]) controller.enqueue(key);
    expect(depth()).toBe(3);
    controller.stop.abort();
    await controller.ended;
  });

  test("starts when every trigger has synced, with what they enqueued before", async () => {
    const seen: string[] = [];
    let openGate: () => void = () => {};
    const gate = new Promise<void>((resolve) => {
      openGate = resolve;
    });
    const slow: Trigger<string> = { synced: () => gate, attach: (enqueue) => enqueue("early") };
    const controller = start(
      async (key) => {
        seen.push(key);
        return SETTLED;
      },
      { triggers: [slow] },
    );
    await controller.clock.advance(minutes(1));
    expect(seen).toEqual([]);
    openGate();
    await controller.clock.settle();
    expect(seen).toEqual(["early"]);
    controller.stop.abort();
    await controller.ended;
  });

  test("ends when what is in flight has returned, and takes nothing more", async () => {
    const ran: string[] = [];
    let ended = false;
    const controller = start(
      async (key, signal) => {
        ran.push(key);
        await controller.clock.sleep(minutes(1), signal);
        await controller.clock.sleep(millis(500), new AbortController().signal); // tidies up
        return SETTLED;
      },
      { workers: 1 },
    );
    await controller.clock.settle();
    controller.enqueue("a");
    controller.enqueue("b");
    await controller.clock.advance(seconds(1));
    controller.stop.abort();
    const done = controller.ended.then(() => {
      ended = true;
    });
    await controller.clock.advance(millis(499));
    expect(ended).toBe(false);
    await controller.clock.advance(millis(1));
    await done;
    expect(ran).toEqual(["a"]);
    controller.enqueue("c"); // a trigger that is late
    await controller.clock.advance(minutes(10));
    expect(ran).toEqual(["a"]);
  });

  test("logs the first failures as information, and warns when they continue", async () => {
    const controller = start(async () => ({ kind: "retry", cause: "down" }));
    await controller.clock.settle();
    controller.enqueue("a");
    await controller.clock.advance(seconds(1 + 2 + 3));
    const levels = controller.log
      .lines()
      .filter(({ message }) => message === "reconcile failed")
      .map(({ level, fields }) => `${level} ${fields["failures"]}`);
    expect(levels).toEqual(["info 1", "info 2", "warn 3", "warn 4"]);
    controller.stop.abort();
    await controller.ended;
  });
});

test("a trigger of a cache enqueues what is there, and the keys of what changes, before and after", () => {
  type Pod = { readonly name: string; readonly node: string };
  let change: (before: Pod | undefined, after: Pod | undefined) => void = () => {};
  const cache: Observed<Pod> = {
    synced: async () => {},
    list: () => [{ name: "p", node: "n1" }],
    onChange: (listener) => {
      change = listener;
    },
  };
  const keys: string[] = [];
  const trigger = triggerOf(
    cache,
    (pod) => [pod.node],
    (before, after) => before?.node !== after?.node,
  );
  trigger.attach((key) => keys.push(key));
  expect(keys).toEqual(["n1"]);
  change({ name: "p", node: "n1" }, { name: "p", node: "n2" });
  change({ name: "p", node: "n2" }, { name: "p", node: "n2" });
  change({ name: "p", node: "n2" }, undefined);
  expect(keys).toEqual(["n1", "n1", "n2", "n2"]);
});

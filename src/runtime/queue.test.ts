import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createFakeClock } from "../../test/fakes/fake-clock.ts";
import { type Instant, instant, millis, minutes, seconds } from "../base/time.ts";
import { createWorkQueue, type Rest, type WorkQueue } from "./queue.ts";

const never = new AbortController().signal;

function setUp() {
  const clock = createFakeClock(instant(0));
  const queue = createWorkQueue<string>(clock, (failures) => millis(100 * failures));
  return { clock, queue };
}

describe("a work queue", () => {
  test("gives keys in the order in which they were added, each once", async () => {
    const { queue } = setUp();
    for (const key of ["a", "b", "a", "c", "b"]) queue.add(key);
    expect(queue.depth()).toBe(3);
    expect([await queue.take(never), await queue.take(never), await queue.take(never)]).toEqual([
      "a",
      "b",
      "c",
    ]);
    expect(queue.depth()).toBe(0);
  });

  test("returns a key that was added while it was held once, and not before it is released", async () => {
    const { queue, clock } = setUp();
    queue.add("a");
    await queue.take(never);
    queue.add("a");
    queue.add("a");
    let taken: string | null = null;
    const next = queue.take(never).then((key) => {
      taken = key;
    });
    await clock.advance(minutes(5));
    expect(taken).toBeNull();
    queue.release("a", { kind: "forget" });
    await next;
    expect(taken).toBe("a");
    queue.release("a", { kind: "forget" });
    expect(queue.depth()).toBe(0);
  });

  test("lets the earliest time win, and an add end the waiting", async () => {
    const { queue, clock } = setUp();
    queue.addAfter("a", seconds(10));
    queue.addAfter("a", seconds(5));
    queue.addAfter("a", seconds(20));
    await clock.advance(millis(4999));
    expect(queue.depth()).toBe(0);
    await clock.advance(millis(1));
    expect(queue.depth()).toBe(1);
    queue.addAfter("b", seconds(10));
    queue.add("b");
    expect(queue.depth()).toBe(2);
    await queue.take(never);
    await queue.take(never);
    queue.release("a", { kind: "forget" });
    queue.release("b", { kind: "forget" });
    await clock.advance(minutes(5));
    expect(queue.depth()).toBe(0); // nothing was left of the timers
  });

  test("remembers the earliest time that was added while a key was held", async () => {
    const { queue, clock } = setUp();
    queue.add("a");
    await queue.take(never);
    queue.addAfter("a", seconds(8));
    queue.addAfter("a", seconds(3));
    queue.release("a", { kind: "after", delay: seconds(60) });
    await clock.advance(seconds(3));
    expect(queue.depth()).toBe(1);
  });

  test("backs off longer with each failure, forgets them after a success, and counts by key", async () => {
    const { queue, clock } = setUp();
    const failOnce = async (after: number) => {
      await clock.advance(millis(after - 1));
      expect(queue.depth()).toBe(0);
      await clock.advance(millis(1));
      expect(await queue.take(never)).toBe("a");
    };
    queue.add("a");
    await queue.take(never);
    queue.release("a", { kind: "backoff" });
    await failOnce(100);
    queue.release("a", { kind: "backoff" });
    await failOnce(200);
    expect(queue.failures("a")).toBe(2);
    expect(queue.failures("b")).toBe(0);
    queue.release("a", { kind: "after", delay: seconds(1) });
    expect(queue.failures("a")).toBe(0);
    await failOnce(1000);
    queue.release("a", { kind: "backoff" });
    await failOnce(100);
  });

  test("waits as long as a server asks, when that is longer than the back-off", async () => {
    const { queue, clock } = setUp();
    queue.add("a");
    await queue.take(never);
    queue.release("a", { kind: "backoff", atLeast: seconds(7) });
    await clock.advance(millis(6999));
    expect(queue.depth()).toBe(0);
    await clock.advance(millis(1));
    expect(queue.depth()).toBe(1);

    queue.add("b");
    await queue.take(never);
    await queue.take(never);
    queue.release("b", { kind: "backoff", atLeast: millis(1) });
    await clock.advance(millis(99));
    expect(queue.depth()).toBe(0);
  });

  test("ends every take when the signal aborts, waiting or not", async () => {
    const { queue } = setUp();
    const stop = new AbortController();
    const takes = [queue.take(stop.signal), queue.take(stop.signal)];
    stop.abort();
    expect(await Promise.all(takes)).toEqual([null, null]);
    queue.add("a");
    expect(await queue.take(stop.signal)).toBeNull();
    expect(await queue.take(never)).toBe("a");
  });

  test("refuses the release of a key that is not held: it is a bug", () => {
    const { queue } = setUp();
    queue.add("a");
    expect(() => queue.release("a", { kind: "forget" })).toThrow();
  });

  test("does not let keys wait longer because the clock was set back", async () => {
    let now = Date.UTC(2026, 0, 1);
    const clock = { now: () => instant(now), sleep: async () => {} };
    const queue = createWorkQueue<string>(clock, () => seconds(1));
    queue.addAfter("a", seconds(10));
    expect(queue.depth()).toBe(0);
    now -= 3_600_000;
    expect(queue.depth()).toBe(1);
  });

  test("needs one timer for each idle taker, however many keys wait", async () => {
    const clock = createFakeClock();
    let timers = 0;
    const counting = {
      now: clock.now,
      sleep: async (delay: Parameters<typeof clock.sleep>[0], signal: AbortSignal) => {
        timers += 1;
        await clock.sleep(delay, signal);
        timers -= 1;
      },
    };
    const queue = createWorkQueue<number>(counting, () => seconds(1));
    const stop = new AbortController();
    const takes = [queue.take(stop.signal), queue.take(stop.signal)];
    for (let key = 0; key < 10_000; key += 1) queue.addAfter(key, millis(100_000 - key));
    await clock.settle();
    expect(timers).toBe(2);
    stop.abort();
    await Promise.all(takes);
  });
});

// ── properties

const someKey = fc.constantFrom("a", "b", "c", "d");
const someDelay = fc.integer({ min: 0, max: 300 });
const someRest: fc.Arbitrary<Rest> = fc.oneof(
  fc.constant({ kind: "forget" as const }),
  fc.record({ kind: fc.constant("after" as const), delay: someDelay.map(millis) }),
  fc.constant({ kind: "backoff" as const }),
  fc.record({ kind: fc.constant("backoff" as const), atLeast: someDelay.map(millis) }),
);
const command = fc.oneof(
  fc.record({ kind: fc.constant("add" as const), key: someKey }),
  fc.record({ kind: fc.constant("addAfter" as const), key: someKey, delay: someDelay }),
  fc.record({ kind: fc.constant("take" as const) }),
  fc.record({ kind: fc.constant("release" as const), key: someKey, rest: someRest }),
  fc.record({ kind: fc.constant("advance" as const), delay: someDelay }),
);

/** The queue as one would write it for a handful of keys: when each is wanted next, and which are held. */
function createModel(backoff: (failures: number) => number) {
  const wanted = new Map<string, number>();
  const held = new Set<string>();
  const failures = new Map<string, number>();
  const want = (wish: string, at: number) => wanted.set(wish, Math.min(at, wanted.get(wish) ?? at));
  const isReady = (candidate: string, now: number) =>
    !held.has(candidate) && (wanted.get(candidate) ?? Number.POSITIVE_INFINITY) <= now;
  return {
    want,
    isReady,
    isHeld: (candidate: string) => held.has(candidate),
    ready: (now: number) => ["a", "b", "c", "d"].filter((candidate) => isReady(candidate, now)),
    take: (taken: string) => {
      wanted.delete(taken);
      held.add(taken);
    },
    release: (released: string, how: Rest, now: number) => {
      held.delete(released);
      const count = how.kind === "backoff" ? (failures.get(released) ?? 0) + 1 : 0;
      failures.set(released, count);
      if (how.kind === "after") want(released, now + how.delay);
      if (how.kind === "backoff") want(released, now + Math.max(backoff(count), how.atLeast ?? 0));
    },
  };
}

test("behaves like a simple model of it", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(command, { maxLength: 60 }), async (commands) => {
      const { clock, queue } = setUp();
      const model = createModel((failures) => 100 * failures);
      for (const done of commands) {
        const now = clock.now();
        if (done.kind === "add") {
          queue.add(done.key);
          model.want(done.key, now);
        } else if (done.kind === "addAfter") {
          queue.addAfter(done.key, millis(done.delay));
          model.want(done.key, now + done.delay);
        } else if (done.kind === "take") {
          if (queue.depth() === 0) continue;
          const taken = await queue.take(never);
          expect(model.ready(now)).toContain(taken);
          model.take(String(taken));
        } else if (done.kind === "release") {
          if (!model.isHeld(done.key)) continue;
          queue.release(done.key, done.rest);
          model.release(done.key, done.rest, now);
        } else {
          await clock.advance(millis(done.delay));
        }
        expect(queue.depth()).toBe(model.ready(clock.now()).length);
      }
    }),
    { numRuns: 300 },
  );
});

const arrival = fc.record({
  at: fc.integer({ min: 0, max: 400 }),
  key: someKey,
  delay: fc.option(someDelay, { nil: null }),
});

test("with enough takers every key is taken at the moment it is due, and never by two at once", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(arrival, { maxLength: 25 }),
      fc.array(someDelay, { minLength: 40 }),
      async (arrivals, work) => {
        const { clock, queue } = setUp();
        const stop = new AbortController();
        const holding = new Set<string>();
        const taken: { readonly key: string; readonly from: Instant; readonly to: Instant }[] = [];
        const workers = Array.from({ length: 5 }, () => worker(queue));

        async function worker(from: WorkQueue<string>): Promise<void> {
          for (let one = await from.take(stop.signal); one !== null; one = await from.take(stop.signal)) {
            expect(holding.has(one)).toBe(false);
            holding.add(one);
            const started = clock.now();
            await clock.sleep(millis((work[taken.length] ?? 0) + 1), never);
            taken.push({ key: one, from: started, to: clock.now() });
            holding.delete(one);
            from.release(one, { kind: "forget" });
          }
        }

        const due: { readonly key: string; readonly made: number; readonly at: number }[] = [];
        for (const { at, key: wished, delay: after } of [...arrivals].sort((x, y) => x.at - y.at)) {
          await clock.advance(millis(at - clock.now()));
          if (after === null) queue.add(wished);
          else queue.addAfter(wished, millis(after));
          due.push({ key: wished, made: at, at: at + (after ?? 0) });
        }
        await clock.advance(minutes(10));
        stop.abort();
        await Promise.all(workers);

        for (const run of taken) {
          // It was due then, or it was due while it was held and came back when it was released.
          const onTime = due.some(({ key: wished, at }) => wished === run.key && at === run.from);
          const cameBack = taken.some(
            (before) =>
              before.key === run.key &&
              before.to === run.from &&
              due.some(({ key: wished, at }) => wished === run.key && at >= before.from && at <= before.to),
          );
          expect(onTime || cameBack).toBe(true);
        }
        // Nothing wished for was forgotten: each wish is followed by a take, at its time at the latest or after a hold.
        for (const wish of due) {
          const served = taken.some(
            (run) =>
              run.key === wish.key &&
              run.from >= wish.made &&
              (run.from <= wish.at ||
                taken.some(
                  ({ key: held, from, to }) => held === run.key && to === run.from && from <= wish.at,
                )),
          );
          expect(served).toBe(true);
        }
      },
    ),
    { numRuns: 150 },
  );
});

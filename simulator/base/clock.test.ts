import fc from "fast-check";
import { expect, test } from "vitest";
import { createManualClock, createRealClock } from "./clock.ts";

test("what is due happens in order of time, and of two at one moment the one that was planned first", async () => {
  const delays = fc.array(fc.record({ delay: fc.integer({ min: 0, max: 20 }), cancelled: fc.boolean() }), {
    maxLength: 60,
  });
  await fc.assert(
    fc.asyncProperty(delays, fc.integer({ min: 0, max: 25 }), async (planned, until) => {
      const clock = createManualClock(1000);
      const happened: { readonly index: number; readonly at: number }[] = [];
      planned.forEach(({ delay, cancelled }, index) => {
        const timer = clock.schedule(
          delay,
          (which: number) => happened.push({ index: which, at: clock.now() }),
          index,
        );
        if (cancelled) timer.cancel();
      });
      await clock.advance(until);
      const wanted = planned
        .map(({ delay, cancelled }, index) => ({ index, at: 1000 + delay, cancelled }))
        .filter(({ at, cancelled }) => !cancelled && at <= 1000 + until)
        .sort((a, b) => a.at - b.at || a.index - b.index)
        .map(({ index, at }) => ({ index, at }));
      expect(happened).toEqual(wanted);
      expect(clock.now()).toBe(1000 + until);
    }),
  );
});

test("what happens may plan more, and that happens in the same stretch", async () => {
  const clock = createManualClock(0);
  const ticks: number[] = [];
  const tick = (): void => {
    ticks.push(clock.now());
    clock.schedule(10, tick, undefined);
  };
  clock.schedule(10, tick, undefined);
  await Promise.all([clock.advance(25), clock.advance(10)]);
  expect(ticks).toEqual([10, 20, 30]);
});

test("time stands still while work is unfinished", async () => {
  const clock = createManualClock(0);
  const seen: string[] = [];
  let finish = (): void => {};
  const begin = (): void => {
    clock.track(
      new Promise<void>((resolve) => {
        finish = resolve;
      }).then(() => {
        seen.push(`done at ${clock.now()}`);
      }),
    );
  };
  clock.schedule(5, begin, undefined);
  clock.schedule(6, () => seen.push("next"), undefined);
  const moved = clock.advance(100);
  await new Promise((resolve) => setImmediate(resolve));
  expect(seen).toEqual([]);
  finish();
  await moved;
  expect(seen).toEqual(["done at 5", "next"]);
});

test("the machine's clock does the same without being advanced, and nothing after it was stopped", async () => {
  const clock = createRealClock();
  const seen: string[] = [];
  const note = (what: string): void => {
    seen.push(what);
  };
  // One from within the other: a machine that stands still for a moment would let two timers come due together.
  await new Promise<void>((resolve) => {
    const second = (what: string): void => {
      note(what);
      resolve();
    };
    const first = (what: string): void => {
      note(what);
      clock.schedule(5, second, "second");
    };
    clock.schedule(0, first, "first");
    clock.schedule(1, note, "never").cancel();
  });
  expect(seen).toEqual(["first", "second"]);
  clock.schedule(0, note, "late");
  clock.stop();
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(seen).toEqual(["first", "second"]);
});

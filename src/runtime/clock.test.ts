import { expect, test } from "vitest";
import { createFakeClock } from "../../test/fakes/fake-clock.ts";
import { instant, millis, minutes, seconds } from "../base/time.ts";
import { jittered, systemClock } from "./clock.ts";
import { linkedSignal } from "./linked-signal.ts";

const never = new AbortController().signal;

test("the system clock sleeps for as long as asked", async () => {
  const clock = systemClock();
  const before = performance.now();
  await clock.sleep(millis(20), never);
  expect(performance.now() - before).toBeGreaterThanOrEqual(20);
});

test("an aborted sleep of the system clock ends at once, and does not reject", async () => {
  const clock = systemClock();
  const stop = new AbortController();
  const slept = clock.sleep(minutes(1), stop.signal);
  stop.abort();
  await expect(slept).resolves.toBeUndefined();
  await expect(clock.sleep(minutes(1), stop.signal)).resolves.toBeUndefined();
});

test("the system clock sleeps for longer than a timer can count", async () => {
  const warnings: string[] = [];
  const note = ({ name }: Error) => warnings.push(name);
  process.on("warning", note);
  const stop = new AbortController();
  let awake = false;
  const slept = systemClock()
    .sleep(minutes(60 * 24 * 365), stop.signal)
    .then(() => {
      awake = true;
    });
  await systemClock().sleep(millis(10), never);
  expect(awake).toBe(false);
  stop.abort();
  await slept;
  process.off("warning", note);
  expect(warnings).toEqual([]); // TimeoutOverflowWarning
});

test("the fake clock stops at each timer on the way, in order, and lets promises run there", async () => {
  const clock = createFakeClock(instant(0));
  const log: string[] = [];
  const note = async (name: string, delay: number) => {
    await clock.sleep(millis(delay), never);
    log.push(`${name}@${clock.now()}`);
    if (name === "a") await note("after a", 5);
  };
  const all = Promise.all([note("b", 20), note("a", 10), note("late", 100)]);
  await clock.advance(millis(50));
  expect(log).toEqual(["a@10", "after a@15", "b@20"]);
  expect(clock.now()).toBe(50);
  expect(clock.next()).toBe(100);
  await clock.advance(millis(50));
  await all;
  expect(log.at(-1)).toBe("late@100");
});

test("jitter stays within its share", () => {
  expect(jittered(seconds(10), () => 0, 0.2)).toBe(8000);
  expect(jittered(seconds(10), () => 0.5)).toBe(10_000);
  expect(jittered(seconds(10), () => 1)).toBeCloseTo(11_000);
});

test("a linked signal follows the outer one until it is disposed of, and can be aborted alone", () => {
  const outer = new AbortController();
  const alone = linkedSignal(outer.signal);
  alone.abort();
  expect(alone.signal.aborted).toBe(true);
  expect(outer.signal.aborted).toBe(false);

  const follower = linkedSignal(outer.signal);
  const released = linkedSignal(outer.signal);
  released[Symbol.dispose]();
  outer.abort("why");
  expect(follower.signal.reason).toBe("why");
  expect(released.signal.aborted).toBe(false);
  expect(linkedSignal(outer.signal).signal.aborted).toBe(true);
});

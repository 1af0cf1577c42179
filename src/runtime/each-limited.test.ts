import { expect, test } from "vitest";
import { createFakeClock } from "../../test/fakes/fake-clock.ts";
import { millis } from "../base/time.ts";
import { eachLimited } from "./each-limited.ts";

const never = new AbortController().signal;

test("it works on at most that many at once, and keeps the order of the results", async () => {
  const clock = createFakeClock();
  let now = 0;
  let most = 0;
  const work = async (item: number) => {
    now += 1;
    most = Math.max(most, now);
    await clock.sleep(millis(10 - item), never); // later items are quicker
    now -= 1;
    return item * 2;
  };
  const all = eachLimited([1, 2, 3, 4, 5, 6, 7], 3, work, never);
  await clock.advance(millis(100));
  expect(await all).toEqual([2, 4, 6, 8, 10, 12, 14]);
  expect(most).toBe(3);
});

test("nothing is started after the signal has aborted, and what was in flight is waited for", async () => {
  const clock = createFakeClock();
  const stop = new AbortController();
  const ended: number[] = [];
  const work = async (item: number) => {
    await clock.sleep(millis(10), never);
    ended.push(item);
    return item;
  };
  const all = eachLimited([1, 2, 3, 4, 5], 2, work, stop.signal);
  await clock.advance(millis(15));
  stop.abort();
  await clock.advance(millis(100));
  expect(await all).toEqual([1, 2, 3, 4]);
  expect(ended).toEqual([1, 2, 3, 4]);
});

test("a throw stops the rest and is passed on", async () => {
  const started: number[] = [];
  const work = async (item: number) => {
    started.push(item);
    await Promise.resolve();
    if (item === 2) throw new Error("no");
  };
  await expect(eachLimited([1, 2, 3, 4, 5, 6], 2, work, never)).rejects.toThrow("no");
  expect(started.length).toBeLessThan(6);
});

test("nothing to do is done at once", async () => {
  expect(await eachLimited([], 4, async () => 1, never)).toEqual([]);
});

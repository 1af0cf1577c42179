import { expect, test } from "vitest";
import { createFakeClock } from "../../test/fakes/fake-clock.ts";
import { createFakeLog } from "../../test/fakes/fake-log.ts";
import { err, ok, type Result } from "../base/result.ts";
import { seconds } from "../base/time.ts";
import { createPrerequisite } from "./prerequisite.ts";

function asked(...answers: readonly Result<string, string>[]) {
  const clock = createFakeClock();
  const log = createFakeLog();
  let count = 0;
  const prerequisite = createPrerequisite(
    async () => {
      count += 1;
      return answers[Math.min(count, answers.length) - 1] ?? err("no answer");
    },
    { clock, log },
  );
  const stop = new AbortController();
  return { clock, log, prerequisite, stop, count: () => count, ended: prerequisite.run(stop.signal) };
}

test("it is asked every five seconds until it is answered, and says until then what is missing", async () => {
  const { clock, prerequisite, stop, count, ended } = asked(err("forbidden"), err("forbidden"), ok("u-1"));
  const met = prerequisite.met(stop.signal);
  await clock.settle();
  expect([prerequisite.value(), prerequisite.problem()]).toEqual([null, "forbidden"]);
  await clock.advance(seconds(10));
  await met;
  expect([prerequisite.value(), prerequisite.problem()]).toEqual(["u-1", null]);
  await clock.advance(seconds(60));
  expect(count()).toBe(3);
  stop.abort();
  await ended;
});

test("each problem is logged once, not with every question", async () => {
  const { clock, log, stop, ended } = asked(err("a"), err("a"), err("b"), err("b"), ok("u"));
  await clock.advance(seconds(30));
  expect(log.lines().map(({ fields }) => fields["problem"])).toEqual(["a", "b"]);
  stop.abort();
  await ended;
});

test("it ends when it is stopped, answered or not", async () => {
  const { clock, prerequisite, stop, ended } = asked(err("forbidden"));
  await clock.settle();
  stop.abort();
  await ended;
  await prerequisite.met(stop.signal);
  expect(prerequisite.value()).toBeNull();
});

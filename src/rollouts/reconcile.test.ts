import { expect, test } from "vitest";
import { look, memberAt, releaseNamed } from "../../test/stories/seen.ts";
import type { Fault } from "../base/fault.ts";
import { minutes, seconds } from "../base/time.ts";
import { decideRollout } from "./decide.ts";
import { restOf } from "./reconcile.ts";
import { recover } from "./state/recover.ts";
import { fieldsOf, newStep, type RolloutState } from "./state/state.ts";
import { referenceOf } from "./verification.ts";

const INTERVAL = seconds(30);
const SLOW: Fault = { kind: "throttled", retryAfter: minutes(10), message: "429" };
const AWAY: Fault = { kind: "unavailable", message: "503" };

function planFor(state: RolloutState) {
  const seen = look({ members: [memberAt(0)] });
  const plan = decideRollout({ ...seen, deployment: { ...seen.deployment, status: fieldsOf(state) } });
  if (plan.kind !== "live") throw new Error(plan.kind);
  return plan;
}

const pending = recover(look())!;
const underWay: RolloutState = {
  ...pending,
  phase: "Progressing",
  candidate: referenceOf(releaseNamed("v2")),
  startedAt: look().now,
  step: newStep(0, 5, look().now),
  exposure: [],
  previousExposure: [],
  configuredAt: null,
};

test.each([
  [SLOW, INTERVAL],
  [AWAY, seconds(2)],
  [{ kind: "rejected", message: "400" } as const, INTERVAL],
])(
  "after %o a rollout under way comes back at the pace of the analysis, not of the back-off",
  (fault, delay) => {
    const rest = restOf(planFor(underWay), { acted: { problem: null }, fault }, false, INTERVAL);
    expect(rest).toMatchObject({ kind: "wakeAfter", delay });
  },
);

test("one that has not begun backs off", () => {
  const done = { acted: { problem: null }, fault: SLOW };
  expect(restOf(planFor(pending), done, false, INTERVAL)).toEqual({
    kind: "retry",
    cause: "429",
    atLeast: SLOW.retryAfter,
  });
});

test("a report that was deferred is written in the end, even if nothing else happens", () => {
  const plan = { ...planFor(pending), wake: { kind: "onChange" } as const };
  const done = { acted: { problem: null }, fault: null };
  expect(restOf(plan, done, false, INTERVAL)).toEqual({ kind: "settled" });
  expect(restOf(plan, done, true, INTERVAL)).toMatchObject({ delay: INTERVAL });
});

import { expect, test } from "vitest";
import type { Fault } from "../base/fault.ts";
import { err, ok } from "../base/result.ts";
import { type Cycle, cycle } from "./cycle.ts";
import { SETTLED } from "./outcome.ts";

type Verbs = Cycle<string, number, string, readonly string[]>;

const BUSY: Fault = { kind: "unavailable", message: "busy" };
const AWAY: Fault = { kind: "unavailable", message: "away" };

function look(verbs: Partial<Verbs>) {
  const reconcile = cycle<string, number, string, readonly string[]>({
    observe: async () => ok(1),
    decide: (seen) => `plan ${seen}`,
    commit: async (seen) => ok(seen + 1),
    act: async () => ({ acted: ["one"], fault: null }),
    report: async () => ok(undefined),
    rest: () => SETTLED,
    ...verbs,
  });
  return reconcile("key", new AbortController().signal);
}

test("what acting found out reaches the report and the rest, also where an action failed", async () => {
  const reached: unknown[] = [];
  const outcome = await look({
    act: async () => ({ acted: ["one", "two"], fault: BUSY }),
    report: async (...[seen, plan, done]) => {
      reached.push({ seen, plan, ...done });
      return ok(undefined);
    },
    rest: (seen, plan, done) => {
      reached.push({ seen, plan, ...done });
      return { kind: "stalled", cause: "by rest" };
    },
  });
  const found = { seen: 2, plan: "plan 1", acted: ["one", "two"], fault: BUSY };
  expect(reached).toEqual([found, found]);
  expect(outcome).toEqual({ kind: "stalled", cause: "by rest" });
});

test("a report that fails is retried, unless acting failed: then rest says when to reconcile again", async () => {
  const report: Verbs["report"] = async () => err(AWAY);
  expect(await look({ report })).toEqual({ kind: "retry", cause: "away" });
  const rest: Verbs["rest"] = (_seen, _plan, { fault }) => ({ kind: "stalled", cause: fault?.message ?? "" });
  expect(await look({ report, rest, act: async () => ({ acted: [], fault: BUSY }) })).toEqual({
    kind: "stalled",
    cause: "busy",
  });
});

test("nothing is done before what must survive is written, and nothing at all where the object is gone", async () => {
  const act: Verbs["act"] = () => {
    throw new Error("acted all the same");
  };
  expect(await look({ act, commit: async () => err(AWAY) })).toEqual({ kind: "retry", cause: "away" });
  expect(await look({ act, observe: async () => ok(null) })).toEqual(SETTLED);
});

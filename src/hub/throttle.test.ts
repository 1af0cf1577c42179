import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createFakeClock } from "../../test/fakes/fake-clock.ts";
import type { Fault } from "../base/fault.ts";
import type { Result } from "../base/result.ts";
import { millis, minutes, seconds } from "../base/time.ts";
import type { Lane } from "./hub.ts";
import { type Budget, budgetsOf, createThrottle, isBudgetFault, type OperationClass } from "./throttle.ts";

const NEVER = new AbortController().signal;
const WIDE: Budget = { operations: 1000, window: seconds(1) };

function throttleOf(
  budget: Budget,
  options: { headroom?: number; reserve?: number; maxWait?: ReturnType<typeof seconds> } = {},
) {
  const clock = createFakeClock();
  const budgets = { identity: WIDE, twinRead: WIDE, twinWrite: budget, query: WIDE, configuration: budget };
  return { clock, throttle: createThrottle({ clock, budgets, headroom: 1, ...options }) };
}

/** Takes a turn and notes when it was given. */
function taker(setup: ReturnType<typeof throttleOf>, operation: OperationClass = "twinWrite") {
  const { clock, throttle } = setup;
  const start = clock.now();
  const given: { readonly lane: Lane; readonly at: number; readonly name: string }[] = [];
  const faults: Fault[] = [];
  async function take(
    name: string,
    lane: Lane = "normal",
    signal: AbortSignal = NEVER,
  ): Promise<Result<void, Fault>> {
    const turn = await throttle.take(operation, lane, signal);
    if (turn.ok) given.push({ lane, at: clock.now() - start, name });
    else faults.push(turn.error);
    return turn;
  }
  return { take, given, faults };
}

describe("budgets", () => {
  test.each([
    ["F1", 1, { identity: 100, query: 20, twinRead: 100, twinWrite: 50, configuration: 20 }],
    ["S1", 1, { identity: 100, query: 20, twinRead: 100, twinWrite: 50, configuration: 20 }],
    ["S1", 3, { identity: 300, query: 60, twinRead: 100, twinWrite: 50, configuration: 60 }],
    ["S2", 20, { identity: 2000, query: 400, twinRead: 200, twinWrite: 100, configuration: 400 }],
    ["S3", 2, { identity: 10_000, query: 2000, twinRead: 1000, twinWrite: 500, configuration: 40 }],
  ] as const)("of %s with %i units", (tier, units, expected) => {
    const budgets = budgetsOf(tier, units);
    expect(
      Object.fromEntries(Object.entries(budgets).map(([name, { operations }]) => [name, operations])),
    ).toEqual(expected);
    expect(budgets.twinWrite.window).toBe(seconds(1));
    expect(budgets.query.window).toBe(minutes(1));
  });
});

describe("throttle", () => {
  test("gives the whole allowance at once, then waits for the window to move", async () => {
    const setup = throttleOf({ operations: 4, window: seconds(5) }, { reserve: 0.25 });
    const { take, given } = taker(setup);
    const all = Promise.all(["a", "b", "c", "d"].map((name) => take(name)));
    await setup.clock.advance(seconds(10));
    await all;
    expect(given.map(({ at }) => at)).toEqual([0, 0, 0, 5000]);
  });

  test("uses a share of what the hub allows", async () => {
    const setup = throttleOf({ operations: 10, window: minutes(1) }, { headroom: 0.8, reserve: 0 });
    const { take, given, faults } = taker(setup);
    await Promise.all(Array.from({ length: 10 }, (_, i) => take(String(i))));
    expect(given.length).toBe(8);
    expect(faults.length).toBe(2);
  });

  test("a rollback finds its reserve when ordinary work has used up everything else", async () => {
    const setup = throttleOf({ operations: 10, window: minutes(1) }, { reserve: 0.3 });
    const { take, given } = taker(setup);
    await Promise.all(Array.from({ length: 100 }, (_, i) => take(`normal ${i}`)));
    await Promise.all(Array.from({ length: 3 }, (_, i) => take(`rollback ${i}`, "rollback")));
    expect(given.filter(({ lane }) => lane === "normal").length).toBe(7);
    expect(given.filter(({ lane }) => lane === "rollback").length).toBe(3);
    expect(given.every(({ at }) => at === 0)).toBe(true);
  });

  test("no reserve is held back in classes that rollbacks do not use", async () => {
    const clock = createFakeClock();
    const ten = { operations: 10, window: minutes(1) };
    const budgets = { identity: ten, twinRead: ten, twinWrite: ten, query: ten, configuration: ten };
    const throttle = createThrottle({ clock, budgets, headroom: 1, reserve: 0.3 });
    const given = async (operation: OperationClass) => {
      const turns = await Promise.all(
        Array.from({ length: 20 }, () => throttle.take(operation, "normal", NEVER)),
      );
      return turns.filter((turn) => turn.ok).length;
    };
    expect(await given("identity")).toBe(10);
    expect(await given("query")).toBe(10);
    expect(await given("twinRead")).toBe(7);
    expect(await given("twinWrite")).toBe(7);
    expect(await given("configuration")).toBe(7);
  });

  test("a rollback goes before ordinary work that has waited longer", async () => {
    const setup = throttleOf({ operations: 2, window: seconds(5) }, { reserve: 0.5 });
    const { take, given } = taker(setup);
    await take("first", "rollback");
    await take("second", "rollback");
    const waiting = [take("normal"), take("late rollback", "rollback")];
    await setup.clock.advance(seconds(20));
    await Promise.all(waiting);
    expect(given.map(({ name }) => name)).toEqual(["first", "second", "late rollback", "normal"]);
  });

  test("a caller that would wait too long is refused at once, each with another time to retry", async () => {
    const setup = throttleOf({ operations: 6, window: minutes(1) }, { reserve: 0.5, maxWait: seconds(10) });
    const { take, faults } = taker(setup);
    await Promise.all(Array.from({ length: 8 }, (_, i) => take(String(i))));
    const waits = faults.map((fault) => (fault.kind === "throttled" ? fault.retryAfter : 0));
    expect(waits).toEqual([60_000, 80_000, 100_000, 120_000, 140_000]);
    expect(faults.every(isBudgetFault)).toBe(true);
  });

  test("the hub's own refusal closes its class, for rollbacks as well, and no other class", async () => {
    const setup = throttleOf(WIDE);
    const { take, given, faults } = taker(setup);
    setup.throttle.drain("twinWrite", seconds(8));
    const waiting = take("waits", "rollback");
    expect(await setup.throttle.take("twinRead", "normal", NEVER)).toMatchObject({ ok: true });
    await setup.clock.advance(seconds(8));
    await waiting;
    expect(given).toEqual([{ lane: "rollback", at: 8000, name: "waits" }]);
    setup.throttle.drain("twinWrite", minutes(2));
    await take("too long");
    expect(faults).toMatchObject([
      { kind: "throttled", retryAfter: minutes(2), message: expect.stringContaining("the hub throttles") },
    ]);
    // That is the hub's word, not ours.
    expect(faults.some(isBudgetFault)).toBe(false);
  });

  test("a caller that aborts while waiting leaves the queue", async () => {
    const setup = throttleOf({ operations: 2, window: seconds(5) }, { reserve: 0.5 });
    const { take, given, faults } = taker(setup);
    const stop = new AbortController();
    await take("first");
    const stopped = take("stopped", "normal", stop.signal);
    const next = take("next");
    stop.abort();
    await stopped;
    await setup.clock.advance(seconds(5));
    await next;
    expect(faults).toMatchObject([{ kind: "unavailable" }]);
    expect(given.map(({ name, at }) => [name, at])).toEqual([
      ["first", 0],
      ["next", 5000],
    ]);
  });

  test("a budget of one still serves every caller in time", async () => {
    const setup = throttleOf({ operations: 1, window: seconds(1) }, { headroom: 0.1 });
    const { take, given } = taker(setup);
    const all = Promise.all([take("a"), take("b"), take("c", "rollback")]);
    await setup.clock.advance(seconds(5));
    await all;
    expect(given.length).toBe(3);
  });
});

test("no window ever holds more than the budget, order is kept in each lane, a free reserve is given at once", async () => {
  const arrivals = fc.array(
    fc.record({
      after: fc.integer({ min: 0, max: 700 }),
      lane: fc.constantFrom<Lane>("normal", "normal", "normal", "rollback"),
    }),
    { minLength: 1, maxLength: 60 },
  );
  const budget = fc.record({
    operations: fc.integer({ min: 2, max: 12 }),
    reserve: fc.double({ min: 0.1, max: 0.6, noNaN: true }),
  });
  await fc.assert(
    fc.asyncProperty(arrivals, budget, async (people, { operations, reserve }) => {
      const window = seconds(1);
      const setup = throttleOf({ operations, window }, { reserve, maxWait: seconds(4) });
      const { take, given } = taker(setup);
      const taking: Promise<unknown>[] = [];
      const rollbackAsked = new Map<string, number>();
      let at = 0;
      for (const [index, { after, lane }] of people.entries()) {
        await setup.clock.advance(millis(after));
        at += after;
        if (lane === "rollback") rollbackAsked.set(String(index), at);
        taking.push(take(String(index), lane));
      }
      await setup.clock.advance(minutes(1));
      await Promise.all(taking);

      const normalLimit = Math.max(1, Math.min(operations - 1, Math.floor(operations * (1 - reserve))));
      for (const { at: from } of given) {
        const inWindow = given.filter((one) => one.at >= from && one.at < from + window);
        expect(inWindow.length).toBeLessThanOrEqual(operations);
        expect(inWindow.filter(({ lane }) => lane === "normal").length).toBeLessThanOrEqual(normalLimit);
      }
      for (const lane of ["normal", "rollback"]) {
        const order = given.filter((one) => one.lane === lane).map(({ name }) => Number(name));
        expect(order).toEqual([...order].sort((a, b) => a - b));
      }
      // A rollback waits for other rollbacks only: were there fewer of them than the reserve, it went at once.
      for (const [name, asked] of rollbackAsked) {
        const others = given.filter(
          (one) => one.lane === "rollback" && one.name !== name && one.at > asked - window && one.at <= asked,
        );
        if (others.length < operations - normalLimit)
          expect(given.find((one) => one.name === name)?.at).toBe(asked);
      }
    }),
    { numRuns: 150 },
  );
});

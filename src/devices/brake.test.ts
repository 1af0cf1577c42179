import fc from "fast-check";
import { expect, test } from "vitest";
import { instant, millis } from "../base/time.ts";
import { BRAKE_WINDOW, type Leaving, mustWait } from "./brake.ts";

const NOW = instant(10_000_000);
const LIMIT = 20;
const ONE = { uid: "one", namespace: "a", allowedUntil: null, isPaused: false };

function leaving(count: number, change: Partial<Leaving> = {}, from = 0): readonly Leaving[] {
  return Array.from({ length: count }, (_, index) => ({
    uid: `${from + index}`,
    allowedUntil: null,
    removedAt: null,
    isPaused: false,
    ...change,
  }));
}
const waits = (those: Readonly<Record<string, readonly Leaving[]>>) =>
  mustWait(ONE, new Map(Object.entries(those)), LIMIT, NOW);

test.each<[string, Readonly<Record<string, readonly Leaving[]>>, boolean]>([
  ["as many as the limit", { a: leaving(20) }, false],
  ["one more", { a: leaving(21) }, true],
  [
    "those that left a moment ago count",
    { a: [...leaving(11), ...leaving(10, { removedAt: NOW }, 50)] },
    true,
  ],
  [
    "those that left a minute ago do not",
    { a: [...leaving(11), ...leaving(10, { removedAt: instant(NOW - BRAKE_WINDOW) }, 50)] },
    false,
  ],
  ["what a person allowed does not count", { a: leaving(100, { allowedUntil: instant(NOW + 1) }) }, false],
  ["what was allowed until now does", { a: leaving(100, { allowedUntil: NOW }) }, true],
  ["while another one waits, so does this", { a: leaving(1, { isPaused: true }) }, true],
  [
    "another namespace that waits is no matter",
    { a: leaving(1), b: leaving(500, { isPaused: true }) },
    false,
  ],
  ["nor is one that deletes everything", { a: leaving(1), b: leaving(500) }, false],
  [
    "many namespaces at once are",
    Object.fromEntries(["a", ..."bcdefghijklmnopqrstuvwxyz"].map((name) => [name, leaving(3)])),
    true,
  ],
])("%s", (_what, those, expected) => {
  expect(waits(those)).toBe(expected);
});

test("one that waits keeps waiting, also when others have gone", () => {
  expect(mustWait({ ...ONE, isPaused: true }, new Map(), LIMIT, NOW)).toBe(true);
});

test("whatever the order and the pace, no more than the limit leave within a minute unless a person allows it", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 10 }),
      fc.array(
        fc.record({ pause: fc.integer({ min: 0, max: 30_000 }), batch: fc.integer({ min: 1, max: 8 }) }),
        {
          maxLength: 20,
        },
      ),
      (limit, steps) => {
        let now = 0;
        let counter = 0;
        const those = new Map<string, Leaving>();
        const removals: number[] = [];
        for (const { pause, batch } of steps) {
          now += pause;
          for (const one of leaving(batch, {}, counter)) those.set(one.uid, one);
          counter += batch;
          for (const one of those.values()) {
            if (one.removedAt !== null) continue;
            const held = mustWait(
              { ...one, namespace: "a" },
              new Map([["a", those.values()]]),
              limit,
              instant(now),
            );
            those.set(one.uid, held ? { ...one, isPaused: true } : { ...one, removedAt: instant(now) });
            if (!held) removals.push(now);
          }
        }
        for (const at of removals) {
          const within = removals.filter((other) => other >= at && other < at + BRAKE_WINDOW).length;
          expect(within).toBeLessThanOrEqual(limit);
        }
      },
    ),
  );
});

test("without a limit nothing waits", () => {
  expect(mustWait({ ...ONE, isPaused: true }, new Map([["a", leaving(100)]]), 0, NOW)).toBe(false);
  expect(BRAKE_WINDOW).toBe(millis(60_000));
});

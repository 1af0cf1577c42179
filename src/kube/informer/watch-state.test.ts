import { expect, test } from "vitest";
import type { WatchFault } from "./watch-event.ts";
import { afterFault, isNewer, type WatchState } from "./watch-state.ts";

test.each<[string, WatchState, WatchFault["kind"], WatchState]>([
  [
    "a forgotten version",
    { kind: "watch", from: "7", failures: 0 },
    "expired",
    { kind: "list", failures: 1 },
  ],
  [
    "a broken watch",
    { kind: "watch", from: "7", failures: 0 },
    "broken",
    { kind: "watch", from: "7", failures: 1 },
  ],
  [
    "a watch that keeps breaking",
    { kind: "watch", from: "7", failures: 4 },
    "broken",
    { kind: "list", failures: 5 },
  ],
  ["a broken list", { kind: "list", failures: 3 }, "broken", { kind: "list", failures: 4 }],
])("after %s it continues where it should", (_what, state, kind, next) => {
  const fault: WatchFault =
    kind === "expired" ? { kind, message: "" } : { kind, message: "", retryAfter: null };
  expect(afterFault(state, fault)).toEqual(next);
});

test("versions are compared as numbers where they are numbers", () => {
  expect(isNewer("10", "9")).toBe(true);
  expect(isNewer("9", "10")).toBe(false);
  expect(isNewer("10", "10")).toBe(false);
  expect(isNewer("9007199254740995", "9007199254740994")).toBe(true); // beyond what a double can tell apart
  expect(isNewer("abc", "10")).toBe(true);
  expect(isNewer("abc", "abc")).toBe(false);
});

import { expect, test } from "vitest";
import { instant, millis } from "./base/time.ts";
import { type CacheState, whyUnready } from "./readiness.ts";

const now = instant(1_000_000);
const cache = (kind: string, isSynced = true, isCurrent = true): CacheState => ({
  kind,
  isSynced: () => isSynced,
  isCurrent: () => isCurrent,
  problem: () => (isCurrent ? null : "403 forbidden"),
});
const devices = cache("EdgeDevices");
const answered = (ago: number) => ({ answeredAt: instant(now - millis(ago)) });

test("a replica is ready when its caches are filled and the Lease answers", () => {
  expect(whyUnready([], [devices], answered(30_000), now)).toBeNull();
  expect(whyUnready([], [devices], null, now)).toBeNull();
});

test("it is not ready while a kind is not listed, and names it", () => {
  const caches = [devices, cache("ModelReleases", false, false)];
  expect(whyUnready([], caches, answered(0), now)).toBe("not listed yet: ModelReleases (403 forbidden)");
});

test("it is not ready when a watch has been silent for long: it would act on old objects", () => {
  expect(whyUnready([], [devices, cache("ModelReleases", true, false)], answered(0), now)).toContain(
    "silent for minutes: ModelReleases (403 forbidden)",
  );
});

test("it is not ready while it could not take over: the Lease was never read, or no longer answers", () => {
  expect(whyUnready([], [devices], { answeredAt: null }, now)).toBe("the Lease has not been read yet");
  expect(whyUnready([], [devices], answered(30_001), now)).toContain("neither read nor written for 30 s");
});

test("what the API server must have answered comes first, with what is not listed", () => {
  const prerequisites = [
    { problem: () => "the definitions are of another version" },
    { problem: () => null },
  ];
  expect(whyUnready(prerequisites, [devices], answered(0), now)).toBe(
    "the definitions are of another version",
  );
  const caches = [devices, cache("ModelReleases", false, false)];
  expect(whyUnready(prerequisites, caches, answered(0), now)).toBe(
    "the definitions are of another version; not listed yet: ModelReleases (403 forbidden)",
  );
});

import fc from "fast-check";
import { expect, test } from "vitest";
import { isExposed } from "../../api/membership.ts";
import { allDevices, boundOf, countExposed, expose, type Placed, strataOf } from "./exposure.ts";

const placed: fc.Arbitrary<Placed> = fc.record({
  site: fc.constantFrom(undefined, "north", "south", "west"),
  deviceClass: fc.constantFrom("orin", "nano"),
  // Few buckets, so that ties are common.
  bucket: fc.oneof(fc.integer({ min: 0, max: 12 }), fc.integer({ min: 0, max: 999_999 })),
});
const fleet = fc.array(placed, { maxLength: 60 });
const stratifyBy = fc.subarray(["Site", "DeviceClass"] as const);

test("the bound is the percentage rounded up, or the minimum, and never more than there are", () => {
  expect(boundOf({ percent: 5 }, 200)).toBe(10);
  expect(boundOf({ percent: 5 }, 201)).toBe(11);
  expect(boundOf({ percent: 1, minimumDevices: 5 }, 3)).toBe(3);
  expect(boundOf({ percent: 1, minimumDevices: 5 }, 100)).toBe(5);
  expect(boundOf({ percent: 7 }, 100)).toBe(7);
  expect(boundOf({ percent: 100 }, 0)).toBe(0);
});

test("never more devices are exposed than the bound, and exactly so many where no bucket is shared", () => {
  fc.assert(
    fc.property(fleet, stratifyBy, fc.integer({ min: 0, max: 80 }), (devices, by, bound) => {
      const exposure = expose(devices, by, bound, []);
      const exposed = devices.filter((device) => isExposed(exposure, device)).length;
      expect(exposed).toBeLessThanOrEqual(Math.min(bound, devices.length));
      expect(exposed).toBe(countExposed(exposure, devices));
      expect(exposed).toBe(exposure.reduce((sum, stratum) => sum + stratum.devices, 0));
      if (new Set(devices.map(({ bucket }) => bucket)).size === devices.length) {
        expect(exposed).toBe(Math.min(bound, devices.length));
      }
    }),
    { numRuns: 2000 },
  );
});

test("every stratum has its fair share, and one device at least where the bound allows", () => {
  const devices = [
    ...Array.from({ length: 90 }, (_, bucket) => ({
      site: "north",
      deviceClass: "orin",
      bucket: bucket * 7,
    })),
    ...Array.from({ length: 9 }, (_, bucket) => ({ site: "south", deviceClass: "orin", bucket: bucket * 5 })),
    { site: "west", deviceClass: "orin", bucket: 999_999 },
  ];
  const counts = (bound: number) => expose(devices, ["Site"], bound, []).map((stratum) => stratum.devices);
  expect(counts(10)).toEqual([8, 1, 1]);
  expect(counts(20)).toEqual([18, 1, 1]);
  expect(counts(50)).toEqual([45, 4, 1]);
  expect(counts(2)).toEqual([2, 0, 0]);
  expect(counts(100)).toEqual([90, 9, 1]);
});

test("an exposed device stays exposed while the exposure grows", () => {
  fc.assert(
    fc.property(fleet, stratifyBy, fc.nat(60), fc.nat(60), (devices, by, one, more) => {
      const first = expose(devices, by, one, []);
      const second = expose(devices, by, one + more, first);
      for (const device of devices)
        if (isExposed(first, device)) expect(isExposed(second, device)).toBe(true);
    }),
    { numRuns: 2000 },
  );
});

test("no device is added while others are taken out", () => {
  fc.assert(
    fc.property(fleet, stratifyBy, fc.nat(60), fc.nat(60), (devices, by, one, less) => {
      const first = expose(devices, by, one, []);
      const second = expose(devices, by, Math.max(0, one - less), first);
      for (const device of devices)
        if (isExposed(second, device)) expect(isExposed(first, device)).toBe(true);
      expect(countExposed(second, devices)).toBeLessThanOrEqual(Math.max(0, one - less));
    }),
    { numRuns: 2000 },
  );
});

test("a fleet that did not change is exposed as before", () => {
  fc.assert(
    fc.property(fleet, stratifyBy, fc.nat(60), (devices, by, bound) => {
      const first = expose(devices, by, bound, []);
      const count = countExposed(first, devices);
      expect(expose(devices, by, count, first)).toEqual(first);
    }),
  );
});

test("devices that share a bucket go together", () => {
  const twins = Array.from({ length: 4 }, () => ({ site: "north", deviceClass: "orin", bucket: 5 }));
  expect(countExposed(expose(twins, ["Site"], 3, []), twins)).toBe(0);
  expect(countExposed(expose(twins, ["Site"], 4, []), twins)).toBe(4);
});

test("all devices are all devices, even those that have yet to join", () => {
  expect(isExposed(allDevices(3), { site: "new", deviceClass: "new", bucket: 999_999 })).toBe(true);
});

test("strata are the combinations that exist", () => {
  const devices: readonly Placed[] = [
    { site: "south", deviceClass: "nano", bucket: 1 },
    { site: undefined, deviceClass: "nano", bucket: 2 },
    { site: "south", deviceClass: "nano", bucket: 3 },
  ];
  expect(
    strataOf(devices, ["Site", "DeviceClass"]).map(({ site, members }) => [site, members.length]),
  ).toEqual([
    ["", 1],
    ["south", 2],
  ]);
  expect(strataOf(devices, [])).toHaveLength(1);
});

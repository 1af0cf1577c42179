import fc from "fast-check";
import { expect, test } from "vitest";
import { variant } from "../../../test/builders/specs.ts";
import { compileCondition } from "../../../test/fakes/target-condition.ts";
import { isExposed } from "../../api/membership.ts";
import { variantFor } from "../../api/model-release.ts";
import { expose } from "../state/exposure.ts";
import {
  CONDITION_LIMIT,
  candidateCondition,
  MATCH_NONE,
  stableCondition,
  stratification,
  type Target,
} from "./target.ts";

const variants = [
  variant("v1", { name: "gpu", deviceClasses: ["orin", "xavier"] }),
  variant("v1", { name: "any" }),
];

const device: fc.Arbitrary<Device> = fc.record({
  site: fc.constantFrom(undefined, "north", "south"),
  deviceClass: fc.constantFrom("orin", "xavier", "nano", "other"),
  // Neighbouring buckets are where a bound can be off by one.
  bucket: fc.integer({ min: 0, max: 15 }),
  iotEdge: fc.boolean(),
  isOurs: fc.boolean(),
});
type Device = {
  readonly site: string | undefined;
  readonly deviceClass: string;
  readonly bucket: number;
  readonly iotEdge: boolean;
  readonly isOurs: boolean;
};

const targetFor = (kind: Target["kind"], name: string, except: readonly string[] = []): Target => ({
  deployment: "plant-a.resnet",
  module: "my-module",
  clusterId: null,
  kind,
  variant: variants.find((one) => one.name === name)!,
  variants,
  except,
});

const subject = ({ site, deviceClass, bucket, iotEdge, isOurs }: Device, index: number) => ({
  device: `cam-${index}`,
  tags: {
    edgefleet: {
      managed: true,
      site: site ?? "",
      class: deviceClass,
      bucket,
      iotEdge,
      deployments: { "my-module": isOurs ? "plant-a.resnet" : "plant-a.other" },
    },
  },
});

test("the conditions of a candidate select exactly the devices that its exposure covers", () => {
  const by = fc.subarray(["Site", "DeviceClass"] as const);
  fc.assert(
    fc.property(fc.array(device, { maxLength: 30 }), by, fc.nat(30), (devices, stratifyBy, bound) => {
      const members = devices.filter(({ isOurs }) => isOurs);
      const exposure = expose(members, stratifyBy, bound, []);
      for (const [index, one] of devices.entries()) {
        for (const kind of ["edge", "device"] as const) {
          for (const { name } of variants) {
            const target = targetFor(kind, name);
            const concerns =
              one.isOurs &&
              one.iotEdge === (kind === "edge") &&
              variantFor(variants, one.deviceClass)?.name === name;
            const exposed = compileCondition(candidateCondition(target, exposure))(subject(one, index));
            expect(exposed).toBe(concerns && isExposed(exposure, one));
            expect(compileCondition(stableCondition(target))(subject(one, index))).toBe(concerns);
          }
        }
      }
    }),
    { numRuns: 500 },
  );
});

test("at 100 % joiners of every class are selected, and devices in conflict are not", () => {
  const condition = candidateCondition(targetFor("edge", "any", ["cam-7", "o'hara"]), [
    { threshold: 1_000_000, devices: 1 },
  ]);
  expect(condition).toBe(
    "tags.edgefleet.deployments.[[my-module]] = 'plant-a.resnet' AND tags.edgefleet.iotEdge = true AND tags.edgefleet.class != 'orin' AND tags.edgefleet.class != 'xavier' AND deviceId != 'cam-7' AND deviceId != 'o''hara'",
  );
  const joiner: Device = { site: "new", deviceClass: "new", bucket: 999_999, iotEdge: true, isOurs: true };
  expect(compileCondition(condition)(subject(joiner, 1))).toBe(true);
  expect(compileCondition(condition)(subject(joiner, 7))).toBe(false);
});

test.each(["my-module", "7up", "group", "Order"])("a module called %s stands in brackets", (module) => {
  const condition = stableCondition({ ...targetFor("edge", "any"), module });
  expect(condition).toContain(`tags.edgefleet.deployments.[[${module}]] = 'plant-a.resnet'`);
});

test("the condition that matches none is one that a hub understands, and selects no device", () => {
  const none: Device = { site: "a", deviceClass: "orin", bucket: 0, iotEdge: true, isOurs: true };
  expect(compileCondition(MATCH_NONE)(subject(none, 0))).toBe(false);
  expect(candidateCondition(targetFor("edge", "gpu"), [])).toBe(MATCH_NONE);
});

test("strata are merged where the condition would be too long for a hub: sites first, then classes", () => {
  const by = ["Site", "DeviceClass"] as const;
  const { variant: _one, ...target } = targetFor("edge", "any");
  const of = (sites: number, classes: number) =>
    Array.from({ length: sites * classes }, (_, index) => ({
      site: `a-site-with-a-long-name-${index % sites}`,
      deviceClass: `a-class-with-a-long-name-${Math.floor(index / sites)}`,
      bucket: index,
    }));
  expect(stratification(of(3, 3), by, target)).toEqual(["Site", "DeviceClass"]);
  expect(stratification(of(100, 2), by, target)).toEqual(["DeviceClass"]);
  expect(stratification(of(2, 200), by, target)).toEqual([]);
  for (const level of [stratification(of(100, 2), by, target)]) {
    const exposure = expose(of(100, 2), level, 150, []);
    expect(candidateCondition(targetFor("edge", "any"), exposure).length).toBeLessThanOrEqual(
      CONDITION_LIMIT,
    );
  }
});

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { variant } from "../../../test/builders/specs.ts";
import { compileCondition } from "../../../test/fakes/target-condition.ts";
import type { StratumExposure } from "../../api/inference-deployment.ts";
import { BUCKETS, isExposed } from "../../api/membership.ts";
import { expose } from "../state/exposure.ts";
import { exposureIn, isWithin, narrowedTo } from "./condition.ts";
import {
  CONDITION_LIMIT,
  candidateCondition,
  keptCondition,
  MATCH_NONE,
  stableCondition,
  type Target,
} from "./target.ts";

// What is concluded from a condition is held against what a hub makes of it, device by device.

const variants = [
  variant("v1", { name: "gpu", deviceClasses: ["orin", "x'avier"] }),
  variant("v1", { name: "any" }),
];
const SITES = ["", "north", "so'uth"];
const CLASSES = ["orin", "x'avier", "nano"];

const everyDevice = SITES.flatMap((site) =>
  CLASSES.flatMap((deviceClass) =>
    Array.from({ length: 12 }, (_, bucket) => ({ site, deviceClass, bucket })),
  ),
).map((device, index) => ({ ...device, id: `cam-${index}` }));

function subjectOf({ id, site, deviceClass, bucket }: (typeof everyDevice)[number]) {
  const deployments = { "my-module": "plant-a.resnet" };
  return {
    device: id,
    tags: { edgefleet: { cluster: "c1", site, class: deviceClass, bucket, iotEdge: true, deployments } },
  };
}

const target: fc.Arbitrary<Target> = fc.record({
  deployment: fc.constant("plant-a.resnet"),
  module: fc.constant("my-module"),
  clusterId: fc.constantFrom(null, "c1"),
  kind: fc.constant("edge" as const),
  variant: fc.constantFrom(...variants),
  variants: fc.constant(variants),
  except: fc.subarray(["cam-0", "cam-1", "cam-20"]),
});
const exposure: fc.Arbitrary<readonly StratumExposure[]> = fc
  .record({
    devices: fc.subarray(everyDevice),
    stratifyBy: fc.subarray(["Site", "DeviceClass"] as const),
    bound: fc.integer({ min: 0, max: 40 }),
    isAll: fc.constantFrom(true, false, false, false, false),
  })
  .map(({ devices, stratifyBy, bound, isAll }) =>
    isAll ? [{ threshold: BUCKETS, devices: 0 }] : expose(devices, stratifyBy, bound, []),
  );
const condition: fc.Arbitrary<string> = fc.oneof(
  fc.tuple(target, exposure).map(([of, by]) => candidateCondition(of, by)),
  target.map(stableCondition),
  fc.constant(MATCH_NONE),
);

function selected(text: string): readonly string[] {
  const selects = compileCondition(text);
  return everyDevice.filter((device) => selects(subjectOf(device))).map(({ id }) => id);
}

describe("a condition of ours", () => {
  test("lies within another only if it selects no device beside it", () => {
    let within = 0;
    fc.assert(
      fc.property(condition, condition, (inner, outer) => {
        if (!isWithin(inner, outer)) return;
        within += 1;
        const all = new Set(selected(outer));
        expect(selected(inner).filter((id) => !all.has(id))).toEqual([]);
      }),
      { numRuns: 1000 },
    );
    expect(within).toBeGreaterThan(50);
  });

  test("is narrowed to exactly its devices that the exposure covers", () => {
    fc.assert(
      fc.property(condition, exposure, (had, by) => {
        const narrowed = narrowedTo(had, by, CONDITION_LIMIT);
        expect(narrowed).not.toBeNull();
        const covered = new Set(everyDevice.filter((device) => isExposed(by, device)).map(({ id }) => id));
        expect(selected(narrowed ?? "")).toEqual(selected(had).filter((id) => covered.has(id)));
        expect(isWithin(narrowed ?? "", had)).toBe(true);
        // A second look finds nothing left to do.
        expect(narrowedTo(narrowed ?? "", by, CONDITION_LIMIT)).toBe(narrowed);
      }),
      { numRuns: 1000 },
    );
  });

  test("means the exposure that it was made from", () => {
    fc.assert(
      fc.property(exposure, (by) => {
        const conditions = variants.map((one) => candidateCondition({ ...targetOf(one), except: [] }, by));
        const found = exposureIn(conditions)?.map((stratum) => ({ ...stratum, devices: 0 }));
        expect(found).not.toBeUndefined();
        for (const device of everyDevice) expect(isExposed(found ?? [], device)).toBe(isExposed(by, device));
      }),
    );
  });

  test("that is not of our making proves nothing", () => {
    const [mine, theirs] = [stableCondition({ ...targetOf(variants[0]!), except: [] }), "is_defined(tags.x)"];
    expect(isWithin(theirs, mine)).toBe(false);
    expect(isWithin(mine, theirs)).toBe(false);
    expect(narrowedTo(theirs, [], CONDITION_LIMIT)).toBeNull();
    expect(exposureIn([theirs])).toBeNull();
    for (const broken of ["", "tags.a =", "(tags.a = 'x'", "tags.a = 'x' OR", "tags.a = 'x' tags.b = 'y'"]) {
      expect(isWithin(broken, mine)).toBe(false);
    }
  });

  test("for devices that keep what they run selects those and no others", () => {
    const text = keptCondition(targetOf(variants[0]!), ["cam-3", "cam-4"]);
    expect(selected(text)).toEqual(["cam-3", "cam-4"]);
  });

  test("that would become too long stays as it is", () => {
    const had = stableCondition({ ...targetOf(variants[1]!), except: [] });
    const by = SITES.map((site) => ({ site, threshold: 5, devices: 0 }));
    expect(narrowedTo(had, by, 100)).toBeNull();
  });
});

function targetOf(one: (typeof variants)[number]): Omit<Target, "except"> {
  return {
    deployment: "plant-a.resnet",
    module: "my-module",
    clusterId: null,
    kind: "edge",
    variant: one,
    variants,
  };
}

import fc from "fast-check";
import { expect, test } from "vitest";
import { deviceSpec, edgeDevice, inferenceDeployment } from "../../test/builders/fleet.ts";
import { instant } from "../base/time.ts";
import type { InferenceDeployment, StratumExposure } from "./inference-deployment.ts";
import {
  bucketOf,
  isExposed,
  matches,
  membershipsOf,
  orphanedTags,
  stratumOf,
  taggedFor,
} from "./membership.ts";
import { objectKey } from "./resource.ts";

function deployment(
  name: string,
  labels: Readonly<Record<string, string>>,
  module = "inference",
): InferenceDeployment {
  return {
    key: objectKey("plant-a", name),
    namespace: "plant-a",
    name,
    uid: `uid-${name}`,
    generation: 1,
    createdAt: instant(0),
    resourceVersion: "1",
    deleting: false,
    finalizers: [],
    labels: {},
    annotations: {},
    spec: { release: { name: "r" }, selector: { matchLabels: labels }, module: { name: module } },
    status: null,
  };
}

test("an empty selector matches nothing, unlike in Kubernetes", () => {
  expect(matches({}, { a: "b" })).toBe(false);
  expect(matches({ matchLabels: {}, matchExpressions: [] }, { a: "b" })).toBe(false);
});

test.each([
  [{ matchLabels: { a: "1" } }, true],
  [{ matchLabels: { a: "2" } }, false],
  [{ matchExpressions: [{ key: "a", operator: "In", values: ["1", "2"] }] }, true],
  [{ matchExpressions: [{ key: "a", operator: "NotIn", values: ["1"] }] }, false],
  [{ matchExpressions: [{ key: "z", operator: "NotIn", values: ["1"] }] }, true],
  [{ matchExpressions: [{ key: "a", operator: "Exists" }] }, true],
  [{ matchExpressions: [{ key: "a", operator: "DoesNotExist" }] }, false],
  [{ matchLabels: { a: "1" }, matchExpressions: [{ key: "b", operator: "Exists" }] }, false],
] as const)("selector %j on {a: 1} is %j", (selector, expected) => {
  expect(matches(selector, { a: "1" })).toBe(expected);
});

test("a device that two deployments select for one module is a conflict, for another module it is not", () => {
  const device = { namespace: "plant-a", labels: { line: "7" }, spec: deviceSpec() };
  const [b, a, other] = [
    deployment("b", { line: "7" }),
    deployment("a", { line: "7" }),
    deployment("c", { line: "7" }, "audio"),
  ];
  expect(membershipsOf(device, [b, a, other])).toEqual([
    { kind: "conflict", module: "inference", deployments: [a, b] },
    { kind: "member", module: "audio", deployment: other },
  ]);
});

test("a deployment that is being deleted, or of another namespace, selects nothing", () => {
  const device = { namespace: "plant-a", labels: { line: "7" }, spec: deviceSpec() };
  const deleting = { ...deployment("a", { line: "7" }), deleting: true };
  const foreign = { ...deployment("a", { line: "7" }), namespace: "plant-b" };
  expect(membershipsOf(device, [deleting, foreign])).toEqual([]);
});

test("a bucket depends on salt and device alone, and can be computed by anybody", () => {
  // python3: int.from_bytes(hashlib.sha256(b"edgefleet/cam-0042").digest()[:8], "big") % 1_000_000
  expect(bucketOf("edgefleet", "cam-0042")).toBe(345846);
  expect(bucketOf("other", "cam-0042")).not.toBe(345846);
});

test("whoever is exposed at a width is exposed at every greater one", () => {
  fc.assert(
    fc.property(fc.nat(999_999), fc.nat(1_000_000), fc.nat(1_000_000), (bucket, one, two) => {
      const at = (threshold: number): StratumExposure[] => [{ deviceClass: "nano", threshold, devices: 0 }];
      const device = { site: undefined, deviceClass: "nano", bucket };
      const [narrow, wide] = [Math.min(one, two), Math.max(one, two)];
      if (isExposed(at(narrow), device)) expect(isExposed(at(wide), device)).toBe(true);
    }),
  );
});

test("a device without a site falls under the stratum of no site", () => {
  const strata: StratumExposure[] = [
    { site: "a", deviceClass: "nano", threshold: 1, devices: 0 },
    { site: "", deviceClass: "nano", threshold: 2, devices: 0 },
  ];
  expect(stratumOf(strata, { site: undefined, deviceClass: "nano" })?.threshold).toBe(2);
});

test("a device stays with the deployment that it has until the next one has something for it to run", () => {
  const [membership] = membershipsOf(edgeDevice(), [inferenceDeployment()]);
  expect(taggedFor(membership!, "plant-a.old")).toBe("plant-a.old");
  expect(taggedFor(membership!, undefined)).toBe("plant-a.resnet50");
  // What a deployment of another namespace left is nothing to stay with.
  expect(taggedFor(membership!, "plant-b.old")).toBe("plant-a.resnet50");
  for (const status of [
    { phase: "Progressing" },
    { phase: "Pending", stable: { release: "v1", digests: [] } },
  ] as const) {
    const [serving] = membershipsOf(edgeDevice(), [inferenceDeployment({ status })]);
    expect(taggedFor(serving!, "plant-a.old")).toBe("plant-a.resnet50");
  }
  const [pending] = membershipsOf(edgeDevice(), [inferenceDeployment({ status: { phase: "Pending" } })]);
  expect(taggedFor(pending!, "plant-a.old")).toBe("plant-a.old");
});

test("a tag is orphaned when its deployment is of the namespace and does not exist", () => {
  const held = { inference: "plant-a.gone", audio: "plant-a.resnet50", other: "plant-b.gone", none: "" };
  expect(orphanedTags(edgeDevice(), held, [inferenceDeployment()])).toEqual({ inference: "plant-a.gone" });
});

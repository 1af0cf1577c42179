import { expect, test } from "vitest";
import {
  deploymentSpec,
  edgeDevice,
  inferenceDeployment,
  rollingStatus,
} from "../../../test/builders/fleet.ts";
import { membershipsOf } from "../../api/membership.ts";
import { placementsOf } from "./placement.ts";

const device = edgeDevice();
const pointer = { deployment: "plant-a.resnet50", release: "plant-a.resnet50-1.9.0", digest: "sha256:old" };
const place = (
  deployments: Parameters<typeof membershipsOf>[1],
  bucket: number,
  held = {},
  pointed: typeof pointer | null = null,
) => placementsOf(device, bucket, membershipsOf(device, deployments), held, () => pointed);

test("a device below the threshold is meant for the candidate, one above it for stable", () => {
  const rolling = inferenceDeployment({ status: rollingStatus(50_000) });
  expect(place([rolling], 49_999)).toMatchObject([{ track: "Candidate", release: "resnet50-2.1.0" }]);
  expect(place([rolling], 50_000)).toMatchObject([{ track: "Stable", release: "resnet50-2.0.0" }]);
});

test("while a rollout is rolled back no device is placed on the candidate, whatever the exposure says", () => {
  for (const phase of ["RollingBack", "RolledBack"] as const) {
    const status = { ...rollingStatus(1_000_000), phase };
    expect(place([inferenceDeployment({ status })], 0)).toMatchObject([{ track: "Stable" }]);
  }
});

test("a first installation has no release for those who are not exposed", () => {
  const { stable: _, ...status } = rollingStatus(10);
  expect(place([inferenceDeployment({ status })], 11)).toMatchObject([{ track: "Stable", release: null }]);
  expect(place([inferenceDeployment()], 11)).toMatchObject([{ track: "Stable", release: null, digests: [] }]);
});

test("two modules have a placement each, sorted by module", () => {
  const audio = inferenceDeployment({ name: "audio", spec: deploymentSpec({ module: { name: "audio" } }) });
  expect(place([inferenceDeployment(), audio], 1).map(({ module }) => module)).toEqual([
    "audio",
    "inference",
  ]);
});

test("a module that two deployments want stays with the one in the tags, or with neither", () => {
  const both = [
    inferenceDeployment({ status: rollingStatus(0) }),
    inferenceDeployment({ name: "mobilenet" }),
  ];
  expect(place(both, 1, { inference: "plant-a.resnet50" })).toMatchObject([{ deployment: "resnet50" }]);
  expect(place(both, 1)).toEqual([]);
});

test("a module that two deployments want keeps the release that it is desired on, whatever completes beside it", () => {
  const both = [
    inferenceDeployment({ status: rollingStatus(1_000_000) }),
    inferenceDeployment({ name: "mobilenet" }),
  ];
  const held = { inference: "plant-a.resnet50" };
  const kept = { track: "Stable", release: "resnet50-1.9.0", digests: ["sha256:old"] };
  expect(place(both, 1, held, pointer)).toMatchObject([kept]);
  const nothing = { release: null, digests: [] };
  expect(place(both, 1, held)).toMatchObject([nothing]);
  expect(place(both, 1, held, { ...pointer, deployment: "plant-a.mobilenet" })).toMatchObject([nothing]);
});

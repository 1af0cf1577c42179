import type { InferenceDeploymentSpec } from "../../src/api/inference-deployment.ts";
import type { ModelReleaseSpec, Variant } from "../../src/api/model-release.ts";
import { digestNamed } from "../fakes/fleet-world.ts";

// Specs as the tests of rollouts write them: cameras that run a classifier.

export const STEPS: InferenceDeploymentSpec["strategy"] extends infer S
  ? NonNullable<S> extends { steps: infer T }
    ? T
    : never
  : never = [
  { percent: 10, minimumDevices: 1, hold: duration("5m") },
  { percent: 50, hold: duration("5m") },
  { percent: 100 },
];

export function duration(text: string) {
  return text as NonNullable<(typeof STEPS)[number]["hold"]>;
}

export function strategy(
  steps: NonNullable<InferenceDeploymentSpec["strategy"]>["steps"],
  more: Partial<NonNullable<InferenceDeploymentSpec["strategy"]>> = {},
): NonNullable<InferenceDeploymentSpec["strategy"]> {
  return {
    steps,
    stratifyBy: ["Site", "DeviceClass"],
    progressDeadline: duration("2h"),
    onDeadline: "Rollback",
    ...more,
  };
}

export function objective(
  more: Partial<NonNullable<InferenceDeploymentSpec["objectives"]>[number]> = {},
): NonNullable<InferenceDeploymentSpec["objectives"]>[number] {
  return {
    metric: "latencyP95Milliseconds",
    direction: "AtMost",
    minimumInferences: 100,
    minimumDevices: 1,
    consecutive: 2,
    ...more,
  };
}

export function deploymentSpec(
  release: string,
  change: Partial<InferenceDeploymentSpec> = {},
): InferenceDeploymentSpec {
  return {
    release: { name: release },
    selector: { matchLabels: { fleet: "cameras" } },
    module: { name: "inference" },
    strategy: strategy(STEPS),
    objectives: [
      objective({ warning: 100, critical: 200 }),
      objective({ metric: "errorRate", critical: "0.05" }),
    ],
    ...change,
  };
}

export function deviceSpec(more: object = {}) {
  return {
    deviceClass: "jetson-orin-nano",
    iotEdge: true,
    enabled: true,
    heartbeatTimeout: duration("5m"),
    ...more,
  };
}

export function releaseSpec(name: string): ModelReleaseSpec {
  return { model: "resnet50", version: name, variants: [variant(name)] };
}

export function variant(name: string, more: Partial<Variant> = {}): Variant {
  return {
    name: "fp32",
    blob: { container: "models", path: `resnet50/${name}/model.onnx` },
    digest: digestNamed(`${name}/${more.name ?? "fp32"}`),
    ...more,
  };
}

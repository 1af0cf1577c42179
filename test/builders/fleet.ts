import type { InferenceReport } from "../../src/api/device-contract.ts";
import type { EdgeDevice, EdgeDeviceSpec } from "../../src/api/edge-device.ts";
import type {
  InferenceDeployment,
  InferenceDeploymentSpec,
  InferenceDeploymentStatus,
} from "../../src/api/inference-deployment.ts";
import { FINALIZER, objectKey, type Resource } from "../../src/api/resource.ts";
import { digestOf } from "../../src/base/digest.ts";
import { type Duration, type Instant, instant, timestampOf } from "../../src/base/time.ts";

// Objects in which only what a test is about differs from the ordinary.

export function deviceSpec(change: Partial<EdgeDeviceSpec> = {}): EdgeDeviceSpec {
  return {
    deviceClass: "jetson-nano",
    site: "plant-a",
    iotEdge: true,
    enabled: true,
    heartbeatTimeout: "5m" as Duration,
    ...change,
  };
}

export function deploymentSpec(change: Partial<InferenceDeploymentSpec> = {}): InferenceDeploymentSpec {
  return {
    release: { name: "resnet50-2.0.0" },
    selector: { matchLabels: { line: "7" } },
    module: { name: "inference" },
    ...change,
  };
}

/** A deployment whose stable release is 2.0.0, and whose candidate 2.1.0 is exposed below the threshold. */
export function rollingStatus(threshold: number): InferenceDeploymentStatus {
  return {
    phase: "Progressing",
    stable: { release: "resnet50-2.0.0", digests: [digestOf("2.0.0")] },
    candidate: { release: "resnet50-2.1.0", digests: [digestOf("2.1.0")] },
    exposure: [{ threshold, devices: 1 }],
  };
}

export function resource<Spec, Status>(
  name: string,
  spec: Spec,
  change: Partial<Resource<Spec, Status>> = {},
): Resource<Spec, Status> {
  const namespace = change.namespace ?? "plant-a";
  return {
    key: objectKey(namespace, name),
    namespace,
    name,
    uid: `uid-of-${name}`,
    generation: 1,
    createdAt: instant(0),
    resourceVersion: "1",
    deleting: false,
    finalizers: [FINALIZER],
    labels: {},
    annotations: {},
    spec,
    status: null,
    ...change,
  };
}

export function edgeDevice(change: Partial<EdgeDevice> = {}): EdgeDevice {
  return resource("cam-1", deviceSpec(), { labels: { line: "7" }, ...change });
}

export function inferenceDeployment(change: Partial<InferenceDeployment> = {}): InferenceDeployment {
  return resource("resnet50", deploymentSpec(), change);
}

/** A device that runs 2.0.0 and reported at `at`. */
export function inferenceReport(at: Instant, change: Partial<InferenceReport> = {}): InferenceReport {
  return {
    contract: 1,
    active: {
      release: "plant-a.resnet50-2.0.0",
      digest: digestOf("2.0.0"),
      variant: "fp32",
      executionProvider: "cuda",
      since: "2026-01-01T00:00:00Z",
    },
    heartbeatAt: timestampOf(at),
    ...change,
  };
}

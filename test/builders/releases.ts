import type { ModelRelease, ModelReleaseSpec, Variant } from "../../src/api/model-release.ts";
import { digestOf } from "../../src/base/digest.ts";
import type { Duration } from "../../src/base/time.ts";
import { resource } from "./fleet.ts";

export function variant(name: string, change: Partial<Variant> = {}): Variant {
  return {
    name,
    blob: { container: "models", path: `resnet50/2.1.0/${name}.onnx` },
    digest: digestOf(name),
    executionProvider: "cpu",
    ...change,
  };
}

export const GOLDEN = {
  blob: { container: "models", path: "resnet50/golden.npz" },
  digest: digestOf("golden"),
  minimumAccuracy: "0.95",
};

export function releaseSpec(change: Partial<ModelReleaseSpec> = {}): ModelReleaseSpec {
  return {
    model: "resnet50",
    version: "2.1.0",
    variants: [variant("fp32")],
    verification: { timeout: "5m" as Duration, golden: GOLDEN },
    ...change,
  };
}

export function modelRelease(change: Partial<ModelRelease> = {}): ModelRelease {
  return resource("resnet50-2.1.0", releaseSpec(), { finalizers: [], ...change });
}

import {
  type InferenceDeploymentSpec,
  type Request,
  requestAnnotation,
} from "../../src/api/inference-deployment.ts";
import type { ModelReleaseSpec, ModelReleaseStatus } from "../../src/api/model-release.ts";
import { FINALIZER, objectKey } from "../../src/api/resource.ts";
import { canonicalJson } from "../../src/base/digest.ts";
import { deploymentSpec, deviceSpec, releaseSpec } from "../builders/specs.ts";
import { type createFleetWorld, digestNamed, NAMESPACE } from "../fakes/fleet-world.ts";
import { KEY, type Written } from "./operator.ts";

// What people do, and what the verifier finds: objects that come, change and carry requests.

type World = ReturnType<typeof createFleetWorld>;
type DeviceSpec = Parameters<World["devices"]["create"]>[0]["spec"];

export function createPeople(world: World, { specs, everVerified }: Written) {
  function release(
    name: string,
    more: Partial<ModelReleaseSpec> & { readonly verdict?: "Passed" | "Pending" } = {},
  ): void {
    const { verdict = "Passed", ...spec } = more;
    world.releases.create({ name, spec: { ...releaseSpec(name), ...spec } });
    if (verdict === "Passed") verify(name);
  }

  function verify(name: string, verdict: "Passed" | "Failed" | "Running" = "Passed"): void {
    const key = objectKey(NAMESPACE, name);
    const variants = world.releases.get(key)?.spec.variants ?? [];
    const status: ModelReleaseStatus = {
      variants: variants.map((one) => ({
        name: one.name,
        digest: one.digest,
        sizeBytes: 102_400,
        verdict,
        ...(verdict === "Failed"
          ? { reason: "AccuracyTooLow", message: "accuracy is 0.61, and must be 0.95" }
          : {}),
      })),
    };
    world.releases.setStatus(key, status);
    if (verdict === "Passed") everVerified.add(`${NAMESPACE}.${name}`);
    world.touch();
  }

  function device(name: string, more: Partial<DeviceSpec> = {}): void {
    world.devices.create({ name, labels: { fleet: "cameras" }, spec: deviceSpec(more) });
    world.touch();
  }

  function fleet(count: number, shape: (index: number) => Partial<DeviceSpec> = () => ({})): void {
    for (let index = 0; index < count; index += 1)
      device(`cam-${String(index).padStart(3, "0")}`, shape(index));
  }

  function deploy(name: string, change: Partial<InferenceDeploymentSpec> = {}): void {
    world.deployments.create({ name: "resnet", finalizers: [FINALIZER], spec: deploymentSpec(name, change) });
    remember();
  }

  function edit(change: Partial<InferenceDeploymentSpec>): void {
    world.deployments.edit(KEY, { spec: { ...deployment().spec, ...change } });
    remember();
  }

  function request(what: Request, token: string): void {
    const annotations = { ...deployment().annotations, [requestAnnotation(what)]: token };
    world.deployments.edit(KEY, { annotations });
    world.touch();
  }

  function remember(): void {
    specs.set(KEY, canonicalJson(deployment().spec));
    world.touch();
  }

  function deployment() {
    const object = world.deployments.get(KEY);
    if (object === undefined) throw new Error("this story has no deployment yet");
    return object;
  }

  return { release, verify, device, fleet, attack: () => attack(world), deploy, edit, request };
}

/**
 * Another tenant: a release of the same name with bytes of its own, a device whose identity one of our objects claims,
 * and an object that claims the identity of one of our devices.
 */
function attack(world: World): void {
  const namespace = "plant-b";
  if (world.releases.get(objectKey(namespace, "v2")) !== undefined) return;
  const theirs = {
    name: "fp32",
    blob: { container: "theirs", path: "model.onnx" },
    digest: digestNamed("theirs"),
  };
  world.releases.create({
    namespace,
    name: "v2",
    spec: { model: "resnet50", version: "v2", variants: [theirs] },
    status: { variants: [{ name: "fp32", digest: theirs.digest, sizeBytes: 1, verdict: "Passed" }] },
  });
  const labels = { fleet: "cameras" };
  world.devices.create({ namespace, name: "victim", labels, spec: deviceSpec() });
  world.advance(0);
  world.devices.create({ name: "claims-victim", labels, spec: deviceSpec({ deviceId: "victim" }) });
  const [ours] = world.devices.list(NAMESPACE);
  if (ours !== undefined) {
    const deviceId = ours.spec.deviceId ?? ours.name;
    const spec = deviceSpec({ deviceId, deviceClass: "nano" });
    world.devices.create({ namespace, name: "claims-ours", labels, spec });
    world.devices.create({ name: "claims-again", labels, spec });
  }
  world.touch();
}

import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ControlPlane, startControlPlane } from "../../tools/control-plane/control-plane.ts";
import { chartTool } from "../../tools/go/chart-tools.ts";

// Install, upgrade and uninstall on an API server of its own, on which the definitions are not yet there.

const CHART = join(import.meta.dirname, "..", "..", "charts/edge-fleet-operator");
const NAMESPACE = "edgefleet-system";
const run = promisify(execFile);
let controlPlane: ControlPlane;
let helmPath = "";

beforeAll(async () => {
  [controlPlane, helmPath] = await Promise.all([startControlPlane(), chartTool("helm")]);
  await kubectl("create", "namespace", NAMESPACE);
  await kubectl("create", "namespace", "plant-a");
}, 900_000);
afterAll(() => controlPlane.stop());

test("definitions come with the chart, and custom resources outlive an upgrade, an uninstall and a new install", async () => {
  await helm("install", "fleet", CHART, ...values());
  await kubectl("wait", "--for=condition=Established", "crd/edgedevices.edgefleet.dev", "--timeout=60s");
  await kubectl("apply", "-f", join(import.meta.dirname, "../../examples/plant/10-devices.yaml"));
  const before = await devices();
  expect(before.length).toBeGreaterThan(0);

  await helm("upgrade", "fleet", CHART, ...values(), "--set", "replicaCount=3,watchNamespaces={plant-a}");
  expect(await devices()).toEqual(before);
  const roles = await kubectl("get", "roles", "-A", "-o", "name", "-l", "app.kubernetes.io/instance=fleet");
  expect(roles.trim().split("\n")).toHaveLength(2);

  await helm("uninstall", "fleet");
  expect(await devices()).toEqual(before);
  expect(await kubectl("get", "deployments", "-n", NAMESPACE, "-o", "name")).toBe("");

  await helm("install", "fleet", CHART, ...values());
  expect(await devices()).toEqual(before);
});

function values(): readonly string[] {
  return ["-f", join(CHART, "ci/connection-strings-values.yaml")];
}

async function devices(): Promise<readonly string[]> {
  return (await kubectl("get", "edev", "-A", "-o", 'jsonpath={range .items[*]}{.metadata.uid}{"\\n"}{end}'))
    .trim()
    .split("\n");
}

async function helm(...args: readonly string[]): Promise<string> {
  return (await run(helmPath, [...args, "-n", NAMESPACE, "--kubeconfig", controlPlane.kubeconfig])).stdout;
}

async function kubectl(...args: readonly string[]): Promise<string> {
  return (await run(controlPlane.kubectl, ["--kubeconfig", controlPlane.kubeconfig, ...args])).stdout;
}

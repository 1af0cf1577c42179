import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { type ControlPlane, startControlPlane } from "../../tools/control-plane/control-plane.ts";

// The globalSetup of the projects envtest and e2e: one control plane for each project, because an operator under test
// in one of them watches all namespaces. Tests read `inject("kubeconfig")`, or the environment.

declare module "vitest" {
  // biome-ignore lint/style/useConsistentTypeDefinitions: only an interface can be merged into vitest's
  export interface ProvidedContext {
    /** Path of a kubeconfig with all rights; crds/ is applied. */
    readonly kubeconfig: string;
    /** Path of a kubectl. */
    readonly kubectl: string;
    /** What ServiceAccounts asked of the API server; `null` where it is not one of ours. */
    readonly auditLog: string | null;
  }
}

let controlPlane: ControlPlane | null = null;

export async function setup(project: TestProject): Promise<void> {
  // Never the kubeconfig of whoever runs the tests, unless it is named for them.
  const given = process.env["EDGEFLEET_TEST_KUBECONFIG"];
  controlPlane = await startControlPlane({
    crds: join(import.meta.dirname, "..", "..", "crds"),
    ...(given === undefined || given === "" ? {} : { given: { kubeconfig: given } }),
  });
  process.env["EDGEFLEET_KUBECONFIG"] = controlPlane.kubeconfig;
  process.env["EDGEFLEET_KUBECTL"] = controlPlane.kubectl;
  project.provide("kubeconfig", controlPlane.kubeconfig);
  project.provide("kubectl", controlPlane.kubectl);
  project.provide("auditLog", controlPlane.auditLog);
}

export async function teardown(): Promise<void> {
  await controlPlane?.stop();
}

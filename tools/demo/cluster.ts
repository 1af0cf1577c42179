import { join } from "node:path";
import type { InferenceDeploymentStatus } from "../../src/api/inference-deployment.ts";
import type { LocalStack } from "../stack/local-stack.ts";

// What the demo asks of the cluster, by kubectl as its viewers would.

export const EXAMPLES = join(import.meta.dirname, "../../examples");
export const NAMESPACE = "plant-a";
export const DEPLOYMENT = "digits";

export type Kubectl = (...args: readonly string[]) => Promise<string>;
export type Deployment = {
  readonly metadata: { readonly generation: number };
  readonly spec: { readonly release: { readonly name: string } };
  readonly status?: InferenceDeploymentStatus;
};
export type Demo = {
  readonly kubectl: Kubectl;
  readonly stack: LocalStack;
  readonly say: Say;
  readonly show: Say;
};
export type Say = (line: string) => void;

export async function apply({ kubectl }: Demo, ...files: readonly string[]): Promise<void> {
  for (const file of files) await kubectl("apply", "-f", join(EXAMPLES, "plant", file));
}

export async function deployment(kubectl: Kubectl): Promise<Deployment> {
  return JSON.parse(await kubectl("-n", NAMESPACE, "get", "idep", DEPLOYMENT, "-o", "json")) as Deployment;
}

export async function conditionCount(kubectl: Kubectl, kind: string, type: string): Promise<number> {
  const path = `{range .items[*]}{.status.conditions[?(@.type=="${type}")].status}{"\\n"}{end}`;
  const text = await kubectl("-n", NAMESPACE, "get", kind, "-o", `jsonpath=${path}`);
  return text.split("\n").filter((line) => line === "True").length;
}

export async function refusal(
  kubectl: Kubectl,
  name: string,
): Promise<{ readonly reason: string; readonly message: string } | null> {
  const release = JSON.parse(await kubectl("-n", NAMESPACE, "get", "mrel", name, "-o", "json")) as {
    status?: { conditions?: readonly { type: string; status: string; reason: string; message: string }[] };
  };
  const verified = release.status?.conditions?.find(({ type }) => type === "Verified");
  return verified?.status === "False" && verified.reason !== "VerificationRunning" ? verified : null;
}

/** The status of each kind, as kubectl prints it. */
export async function printTables({ kubectl }: Demo): Promise<void> {
  const devices = (await kubectl("-n", NAMESPACE, "get", "edev")).trimEnd().split("\n");
  const shown =
    devices.length > 13 ? [...devices.slice(0, 13), `… and ${devices.length - 13} more`] : devices;
  process.stdout.write(`\n$ kubectl get edev\n${shown.join("\n")}\n`);
  for (const kind of ["mrel", "idep"])
    process.stdout.write(`\n$ kubectl get ${kind}\n${await kubectl("-n", NAMESPACE, "get", kind)}`);
}

export function requireThat(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(`the demo expected otherwise: ${what}`);
}

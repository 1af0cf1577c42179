import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { inject } from "vitest";
import { chartTool } from "../../tools/go/chart-tools.ts";
import type { Operator } from "../../tools/stack/local-stack.ts";
import type { Fleet } from "../e2e/fleet.ts";
import { accountKubeconfig } from "./account-kubeconfig.ts";

// The chart in a fleet's namespace. There is no kubelet: the operator is a process that uses the ServiceAccount's token.

export const CHART = join(import.meta.dirname, "..", "..", "charts/edge-fleet-operator");
export const ACCOUNT = "fleet-edge-fleet-operator";
const run = promisify(execFile);

export async function helm(fleet: Fleet, ...args: readonly string[]): Promise<string> {
  const where = ["-n", fleet.namespace, "--kubeconfig", inject("kubeconfig")];
  const { stdout } = await run(await chartTool("helm"), [...args, ...where]);
  return stdout;
}

/** Cluster-wide, or in the fleet's own namespace, which grants itself what it needs, so that grants are read. */
export async function install(fleet: Fleet, clusterWide: boolean): Promise<void> {
  const scope = clusterWide ? "" : `,watchNamespaces={${fleet.namespace}}`;
  await helm(
    fleet,
    ...["install", "fleet", CHART, "-f", join(CHART, "ci/connection-strings-values.yaml")],
    ...["--set", `crds.create=false,tenancy=annotated${scope}`],
  );
  const grants = ["edgefleet.dev/blob-prefixes=*", "edgefleet.dev/device-ids=*"];
  await fleet.kubectl("annotate", "namespace", fleet.namespace, ...grants);
}

/** What a chart installs for the whole cluster would be in the way of the next fleet. */
export async function stopInstalled(fleet: Fleet): Promise<void> {
  await helm(fleet, "uninstall", "fleet", "--ignore-not-found");
  await fleet.stop();
}

export async function startUnderAccount(fleet: Fleet, name = "operator"): Promise<Operator> {
  const token = await fleet.kubectl("create", "token", ACCOUNT, "--duration", "1h");
  const kubeconfig = join(fleet.stack.directory, `${name}.kubeconfig`);
  writeFileSync(kubeconfig, accountKubeconfig(token.trim()), { mode: 0o600 });
  return await fleet.startOperator(name, ["--kubeconfig", kubeconfig, "--tenancy", "annotated"]);
}

import { KubeConfig } from "@kubernetes/client-node";
import { inject } from "vitest";

/** A kubeconfig of the tests' API server with nothing but this token. */
export function accountKubeconfig(token: string): string {
  const config = new KubeConfig();
  config.loadFromFile(inject("kubeconfig"));
  const cluster = config.getCurrentCluster();
  if (cluster === null) throw new Error("no context in the kubeconfig");
  const mine = new KubeConfig();
  mine.loadFromClusterAndUser(cluster, { name: "account", token });
  return mine.exportConfig();
}

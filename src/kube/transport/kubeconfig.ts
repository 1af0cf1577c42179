import { existsSync } from "node:fs";
import { delimiter, resolve } from "node:path";
import { KubeConfig } from "@kubernetes/client-node";

/**
 * The kubeconfig at `paths`, at `context`. As for kubectl, `paths` may be several, with the system's delimiter: what the
 * first of them says counts, those that are missing are left out, and relative paths in a file start at its folder.
 * `null`: what the home directory or the Pod's service account say.
 * @throws where a file cannot be read, or none of them is there.
 */
export function loadKubeConfig(paths: string | null, context: string | null): KubeConfig {
  const files = (paths ?? "").split(delimiter).filter((file) => file !== "");
  const [first, ...others] = files.filter((file) => existsSync(file));
  const config = new KubeConfig();
  if (files.length === 0) config.loadFromDefault();
  else if (first === undefined) throw new Error(`there is no kubeconfig at ${files.join(", nor at ")}`);
  else config.loadFromFile(resolve(first));
  for (const file of others) addFrom(file, config);
  if (context !== null) config.setCurrentContext(context);
  return config;
}

/** What `config` does not have yet; the library's own way to merge refuses names that two files have. */
function addFrom(file: string, config: KubeConfig): void {
  const other = new KubeConfig();
  other.loadFromFile(resolve(file));
  for (const cluster of other.clusters)
    if (config.getCluster(cluster.name) === null) config.addCluster(cluster);
  for (const user of other.users) if (config.getUser(user.name) === null) config.addUser(user);
  for (const one of other.contexts) if (config.getContextObject(one.name) === null) config.addContext(one);
  if (!config.currentContext && other.currentContext) config.setCurrentContext(other.currentContext);
}

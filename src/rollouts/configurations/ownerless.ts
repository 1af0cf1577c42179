import type { InferenceDeployment } from "../../api/inference-deployment.ts";
import { FINALIZER, type ObjectKey, objectKey, splitKey } from "../../api/resource.ts";
import { instant } from "../../base/time.ts";
import type { Configuration } from "../../hub/hub.ts";
import { isForeign, LABEL, recognized } from "./content.ts";

// Configurations whose InferenceDeployment does not exist: its finalizer was lost, and they go on steering devices.

type Listed = {
  readonly deployments: { readonly get: (key: ObjectKey) => unknown };
  readonly configurations: { readonly list: () => readonly Configuration[] | null };
  /** The namespaces that this operator serves; `null`: all. What it cannot see is not missing. */
  readonly namespaces: readonly string[] | null;
  readonly settings: { readonly clusterId: string };
};

/** By the key of the deployment that they belonged to. Those of other clusters are none of ours. */
export function ownerlessConfigurations(listed: Listed): ReadonlyMap<ObjectKey, readonly Configuration[]> {
  const found = new Map<ObjectKey, Configuration[]>();
  for (const configuration of (listed.configurations.list() ?? []).map(recognized)) {
    const key = ownerOf(configuration);
    if (key === null || isForeign(configuration, listed.settings.clusterId)) continue;
    if (listed.namespaces !== null && !listed.namespaces.includes(splitKey(key).namespace)) continue;
    if (listed.deployments.get(key) !== undefined) continue;
    const list = found.get(key) ?? [];
    list.push(configuration);
    found.set(key, list);
  }
  return found;
}

/**
 * The deployment as far as its configurations show it, as one that is being deleted and retains what runs. `null`: nothing
 * of it is left that is certainly ours; without the name of a cluster it may be another one's.
 */
export function ownerlessDeployment(listed: Listed, key: ObjectKey): InferenceDeployment | null {
  const left = (ownerlessConfigurations(listed).get(key) ?? []).filter(
    ({ labels }) => labels[LABEL.cluster] !== undefined,
  );
  const [first] = left;
  if (first === undefined) return null;
  const { namespace, name } = splitKey(key);
  const modules = left.flatMap(({ kind, content }) =>
    kind === "edge" ? Object.keys(content).filter((module) => module !== "$edgeAgent") : [],
  );
  return {
    key,
    namespace,
    name,
    uid: first.labels[LABEL.owner] ?? "",
    generation: 0,
    createdAt: instant(0),
    resourceVersion: "",
    deleting: true,
    finalizers: [FINALIZER],
    labels: {},
    annotations: {},
    spec: {
      release: { name: first.labels[LABEL.release] ?? "" },
      selector: {},
      module: { name: modules[0] ?? "" },
      deletionPolicy: "Retain",
    },
    status: null,
  };
}

function ownerOf({ labels }: Configuration): ObjectKey | null {
  const namespace = labels[LABEL.namespace];
  const name = labels[LABEL.name];
  return namespace === undefined || name === undefined ? null : objectKey(namespace, name);
}

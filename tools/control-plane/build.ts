import { join } from "node:path";
import { buildIntoCache, cachedDirectory, type GoBuild, type Progress } from "../go/go-build.ts";
import type { Binaries } from "./start-binaries.ts";

const GIT_VERSION = "v1.36.3";
const [MAJOR, MINOR] = GIT_VERSION.slice(1).split(".");
const STAMP = "k8s.io/component-base/version";

export const CONTROL_PLANE: GoBuild = {
  name: "control-plane",
  module: import.meta.dirname,
  flags: [
    "-trimpath",
    "-buildvcs=false",
    "-ldflags",
    // Without its version stamped in, the server calls itself v0.0.0 and clients misjudge it.
    `-s -w -X ${STAMP}.gitVersion=${GIT_VERSION} -X ${STAMP}.gitMajor=${MAJOR} -X ${STAMP}.gitMinor=${MINOR}`,
  ],
  packages: [
    { file: "etcd", path: "go.etcd.io/etcd/server/v3" },
    { file: "kubectl", path: "k8s.io/kubernetes/cmd/kubectl" },
    { file: "kube-controller-manager", path: "k8s.io/kubernetes/cmd/kube-controller-manager" },
    { file: "kube-apiserver", path: "k8s.io/kubernetes/cmd/kube-apiserver" },
  ],
};

/** The binaries that an earlier build left; `null` where there are none. */
export function cachedBinaries(): Binaries | null {
  const directory = cachedDirectory(CONTROL_PLANE);
  return directory === null ? null : binariesIn(directory);
}

/** Builds the binaries into the cache, or waits for another process that does. Some minutes with an empty Go cache. */
export async function buildBinaries(progress: Progress): Promise<Binaries> {
  return binariesIn(await buildIntoCache(CONTROL_PLANE, progress));
}

function binariesIn(directory: string): Binaries {
  return {
    etcd: join(directory, "etcd"),
    apiServer: join(directory, "kube-apiserver"),
    controllerManager: join(directory, "kube-controller-manager"),
    kubectl: join(directory, "kubectl"),
  };
}

import { accessSync, constants, existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { KubeConfig } from "@kubernetes/client-node";
import { type Progress, whyGoCannot } from "../go/go-build.ts";
import { temporaryDirectory } from "../stack/temporary-directory.ts";
import { buildBinaries, CONTROL_PLANE, cachedBinaries } from "./build.ts";
import { applyCrds, type Binaries, startBinaries } from "./start-binaries.ts";

export type ControlPlane = {
  /** Path of a kubeconfig with all rights. */
  readonly kubeconfig: string;
  /** Path of a kubectl. */
  readonly kubectl: string;
  /** Every request of a ServiceAccount, one JSON object a line; `null` where the API server was not started here. */
  readonly auditLog: string | null;
  /** Where it comes from, human-readable. */
  readonly origin: string;
  /** Ends what was started and removes its files; a cluster that was given is left as it is. */
  readonly stop: () => Promise<void>;
};

export type ControlPlaneOptions = {
  /** Use this cluster and start none. Without `context`, its current one. */
  readonly given?: { readonly kubeconfig: string; readonly context?: string };
  /** A directory of CustomResourceDefinitions to apply. */
  readonly crds?: string;
  /** Progress, line by line; to standard error when left out. */
  readonly progress?: Progress;
};

/**
 * A real Kubernetes API server, by the first of these ways that works: the cluster that was given · the binaries in
 * KUBEBUILDER_ASSETS · binaries that were built before · k3s in a container · binaries built now from Go modules.
 * Throws an error that names all the ways when none does.
 */
export async function startControlPlane(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
  const progress = options.progress ?? ((line) => process.stderr.write(`control plane: ${line}\n`));
  const crds = options.crds ?? null;
  if (options.given !== undefined) return await useGiven(options.given, crds);
  const refusals: string[] = [];

  const assets = assetBinaries(process.env["KUBEBUILDER_ASSETS"]);
  if (typeof assets !== "string") {
    if (assets.controllerManager === null)
      progress(
        "no kube-controller-manager in KUBEBUILDER_ASSETS: owned objects and namespaces will not be collected",
      );
    return await startWith(assets, { origin: "KUBEBUILDER_ASSETS", crds });
  }
  refusals.push(`KUBEBUILDER_ASSETS: ${assets}`);

  const cached = cachedBinaries();
  if (cached !== null) return await startWith(cached, { origin: "cached binaries", crds });

  try {
    return await startContainer(crds, progress);
  } catch (error) {
    refusals.push(`Docker: ${firstLine(error)}`);
  }

  const noGo = await whyGoCannot(CONTROL_PLANE);
  if (noGo === null) return await startWith(await buildBinaries(progress), { origin: "Go modules", crds });
  refusals.push(`Go: ${noGo}`);
  throw new Error(helpText(refusals));
}

async function startWith(
  binaries: Binaries,
  details: { readonly origin: string; readonly crds: string | null },
): Promise<ControlPlane> {
  const running = await startBinaries(binaries, { crds: details.crds });
  return { ...running, kubectl: binaries.kubectl, origin: details.origin };
}

async function startContainer(crds: string | null, progress: Progress): Promise<ControlPlane> {
  // Loaded only here: testcontainers takes a quarter of a second to load.
  const { startK3s } = await import("./k3s.ts");
  const k3s = await startK3s({ kubectl: findKubectl(), progress });
  try {
    if (crds !== null) await applyCrds({ kubectl: k3s.kubectl, kubeconfig: k3s.kubeconfig, directory: crds });
  } catch (error) {
    await k3s.stop();
    throw error;
  }
  return { ...k3s, auditLog: null, origin: "k3s in a container" };
}

async function useGiven(
  given: { readonly kubeconfig: string; readonly context?: string },
  crds: string | null,
): Promise<ControlPlane> {
  const kubectl = findKubectl();
  if (kubectl === null)
    throw new Error(
      "kubectl is neither in PATH nor in the cache; install it, or run: npm run control-plane build",
    );
  // A copy with one context, so that every user of the path means the same cluster.
  const config = new KubeConfig();
  config.loadFromFile(given.kubeconfig);
  if (given.context !== undefined) config.setCurrentContext(given.context);
  if (config.getCurrentCluster() === null)
    throw new Error(
      `${given.kubeconfig} has no usable context ${given.context ?? config.getCurrentContext()}`,
    );
  const directory = await temporaryDirectory("edgefleet-kubeconfig-");
  const kubeconfig = join(directory.path, "kubeconfig");
  await writeFile(kubeconfig, config.exportConfig(), { mode: 0o600 });
  if (crds !== null) await applyCrds({ kubectl, kubeconfig, directory: crds });
  return {
    kubeconfig,
    kubectl,
    auditLog: null,
    origin: `context ${config.getCurrentContext()} of ${given.kubeconfig}`,
    stop: directory.remove,
  };
}

/** The binaries of a directory laid out as setup-envtest does, or why they cannot be used. */
function assetBinaries(directory: string | undefined): Binaries | string {
  if (directory === undefined || directory === "") return "not set";
  const inside = (file: string) => (isExecutable(join(directory, file)) ? join(directory, file) : null);
  const etcd = inside("etcd");
  const apiServer = inside("kube-apiserver");
  const kubectl = inside("kubectl") ?? findKubectl();
  if (etcd === null || apiServer === null) return `${directory} lacks etcd or kube-apiserver`;
  if (kubectl === null) return `${directory} lacks kubectl, and there is none in PATH`;
  const controllerManager = inside("kube-controller-manager") ?? cachedBinaries()?.controllerManager ?? null;
  return { etcd, apiServer, controllerManager, kubectl };
}

function findKubectl(): string | null {
  const inPath = (process.env["PATH"] ?? "")
    .split(delimiter)
    .map((directory) => join(directory, "kubectl"))
    .find(isExecutable);
  return inPath ?? cachedBinaries()?.kubectl ?? null;
}

function isExecutable(path: string): boolean {
  if (!existsSync(path)) return false;
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n", 1)[0] ?? "";
}

function helpText(refusals: readonly string[]): string {
  return [
    "No Kubernetes API server could be had. Any one of these is enough:",
    "  - Go 1.26 or newer in PATH: kube-apiserver and etcd are then built from Go modules, once, in some minutes",
    "  - Docker, or another engine that testcontainers finds: k3s is then started in a container",
    "  - KUBEBUILDER_ASSETS=<directory with etcd, kube-apiserver and kubectl>, as setup-envtest fills it",
    "  - a cluster of your own: make run ARGS='--kubeconfig … --context …', or EDGEFLEET_TEST_KUBECONFIG for tests",
    "What was tried:",
    ...refusals.map((refusal) => `  - ${refusal}`),
  ].join("\n");
}

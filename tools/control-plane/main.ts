import { parseArgs } from "node:util";
import { cacheDirectory, whyGoCannot } from "../go/go-build.ts";
import { buildBinaries, CONTROL_PLANE, cachedBinaries } from "./build.ts";
import { startControlPlane } from "./control-plane.ts";

const HELP = `usage: node tools/control-plane/main.ts <command>

A real Kubernetes API server on this machine: etcd, kube-apiserver, and a kube-controller-manager that collects garbage.

  up [--crds <directory>]   start one, print how to reach it, stop it at Ctrl-C
  build                     build its binaries from Go modules into the cache, unless they are there
  path                      print the directory of the built binaries; exit 1 when they are not built

The first of these that works is used: KUBEBUILDER_ASSETS, built binaries, k3s in a container, building with Go.`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { crds: { type: "string" }, help: { type: "boolean", short: "h", default: false } },
});
const [command] = positionals;

try {
  if (values.help) console.log(HELP);
  else if (command === "up") await up();
  else if (command === "build") await build();
  else if (command === "path") path();
  else {
    console.error(HELP);
    process.exitCode = 2;
  }
} catch (error) {
  // The user needs to know what is missing, not a stack trace.
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}

async function up(): Promise<void> {
  const controlPlane = await startControlPlane(values.crds === undefined ? {} : { crds: values.crds });
  console.log(`export KUBECONFIG=${controlPlane.kubeconfig}`);
  console.log(`# kubectl: ${controlPlane.kubectl}`);
  console.error(`control plane: up (${controlPlane.origin}); Ctrl-C ends it`);
  await new Promise<void>((resolve) => {
    const awake = setInterval(() => undefined, 60_000);
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
      process.once(signal, () => {
        clearInterval(awake);
        resolve();
      });
  });
  await controlPlane.stop();
}

async function build(): Promise<void> {
  const why = cachedBinaries() === null ? await whyGoCannot(CONTROL_PLANE) : null;
  if (why !== null) {
    console.error(why);
    process.exitCode = 1;
    return;
  }
  await buildBinaries((line) => console.error(`control plane: ${line}`));
  path();
}

function path(): void {
  if (cachedBinaries() !== null) {
    console.log(cacheDirectory(CONTROL_PLANE));
    return;
  }
  console.error(`not built: ${cacheDirectory(CONTROL_PLANE)}`);
  process.exitCode = 1;
}

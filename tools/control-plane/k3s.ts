import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { GenericContainer, getContainerRuntimeClient, Wait } from "testcontainers";
import type { Progress } from "../go/go-build.ts";
import { temporaryDirectory } from "../stack/temporary-directory.ts";

const IMAGE = "rancher/k3s:v1.34.1-k3s1";
const PORT = 6443;
const START_MILLISECONDS = 240_000;
const KUBECONFIG_IN_CONTAINER = "/etc/rancher/k3s/k3s.yaml";

/**
 * k3s in a container, without the parts that only matter where pods run. `kubectl` is one of this machine, or `null`:
 * then k3s, which is kubectl too when it is called so, is copied out of its container.
 * Throws where there is no container engine or the image cannot be had.
 */
export async function startK3s(details: { readonly kubectl: string | null; readonly progress: Progress }) {
  await getContainerRuntimeClient(); // throws at once where there is no engine
  const { path: directory, remove: removeDirectory } = await temporaryDirectory("edgefleet-k3s-");
  try {
    details.progress(`starting ${IMAGE}`);
    // Its life is bound to ours by testcontainers' reaper.
    const container = await new GenericContainer(IMAGE)
      .withPrivilegedMode()
      .withCommand([
        "server",
        "--disable=traefik,servicelb,metrics-server,local-storage,coredns",
        "--tls-san=127.0.0.1",
      ])
      .withTmpFs({ "/run": "rw", "/var/run": "rw" })
      .withBindMounts([{ source: directory, target: "/edgefleet", mode: "rw" }])
      .withExposedPorts(PORT)
      .withWaitStrategy(Wait.forLogMessage(/Node controller sync successful|k3s is up and running/))
      .withStartupTimeout(START_MILLISECONDS)
      .start();
    const stop = async () => {
      await container.stop();
      await removeDirectory();
    };
    try {
      const { output } = await container.exec(["cat", KUBECONFIG_IN_CONTAINER]);
      const server = `https://${container.getHost()}:${container.getMappedPort(PORT)}`;
      const kubeconfig = join(directory, "kubeconfig");
      await writeFile(kubeconfig, output.replace(/server: https:\/\/\S+/, `server: ${server}`), {
        mode: 0o600,
      });
      if (details.kubectl !== null) return { kubeconfig, kubectl: details.kubectl, stop };
      if (process.platform !== "linux") throw new Error("kubectl is not installed");
      await container.exec(["cp", "/bin/k3s", "/edgefleet/kubectl"]);
      await chmod(join(directory, "kubectl"), 0o755);
      return { kubeconfig, kubectl: join(directory, "kubectl"), stop };
    } catch (error) {
      await stop();
      throw error;
    }
  } catch (error) {
    await removeDirectory();
    throw error;
  }
}

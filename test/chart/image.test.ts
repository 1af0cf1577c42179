import { execFile } from "node:child_process";
import { chmod, copyFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { KubeConfig } from "@kubernetes/client-node";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { chartTool } from "../../tools/go/chart-tools.ts";
import { deploymentObject, type Fleet, releaseObject, startFleet } from "../e2e/fleet.ts";
import { buildImage, docker, whyNoEngine } from "./container-engine.ts";
import { stopInstalled } from "./installed-chart.ts";

// The image in the containers that the chart describes: same users, arguments, variables and mounts, run by Docker beside a
// real API server, because there is no kubelet here.

const ROOT = join(import.meta.dirname, "..", "..");
const CHART = join(ROOT, "charts/edge-fleet-operator");
const IMAGE = "edge-fleet-operator:test";
const why = whyNoEngine();
const run = promisify(execFile);

type Container = {
  readonly name: string;
  readonly args: readonly string[];
  readonly env?: readonly {
    readonly name: string;
    readonly value?: string;
    readonly valueFrom?: { readonly secretKeyRef?: { readonly name: string; readonly key: string } };
  }[];
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[];
  readonly securityContext: {
    readonly runAsUser: number;
    readonly runAsGroup: number;
    readonly readOnlyRootFilesystem: boolean;
    readonly capabilities: { readonly drop: readonly string[] };
  };
};

let fleet: Fleet;
const started: string[] = [];

describe.skipIf(why !== null)(`the image${why === null ? "" : ` (skipped: ${why})`}`, () => {
  beforeAll(async () => {
    await buildImage(IMAGE);
    fleet = await startFleet("image");
  }, 900_000);
  afterAll(async () => {
    for (const id of started) await docker("rm", "--force", id);
    if (fleet !== undefined) await stopInstalled(fleet);
  });

  test("says what it is, runs as a number, and has one Node", async () => {
    const [about] = JSON.parse(await docker("image", "inspect", IMAGE)) as readonly [
      { readonly Config: { readonly User: string; readonly Labels: Readonly<Record<string, string>> } },
    ];
    expect(about.Config.User).toBe("65532:65532");
    expect(about.Config.Labels).toMatchObject({
      "org.opencontainers.image.title": "Edge Fleet Operator",
      "org.opencontainers.image.revision": "of-the-test",
    });
    const find = 'find / -xdev -type f -name node -perm -100; find /app -name "*.ts"; ls /app';
    const found = await docker("run", "--rm", "--entrypoint", "sh", IMAGE, "-c", find);
    expect(found.split("\n").filter((line) => line.startsWith("/"))).toHaveLength(1);
    expect(found).toContain("sbom.cdx.json");
  });

  test.each(["operator", "verifier", "simulator", "edgefleet"])(
    "%s prints its help without a writable file system",
    async (name) => {
      const text = await docker(
        "run",
        "--rm",
        "--read-only",
        "--network",
        "none",
        IMAGE,
        `${name}.js`,
        "--help",
      );
      expect(text).toContain("--");
    },
  );

  test("as the chart runs it, it verifies a release and rolls it out", async () => {
    const containers = await containersOfChart();
    expect(containers.map(({ name }) => name)).toEqual(["operator", "verifier"]);
    fleet.stack.verifier.kill("SIGKILL");
    for (const container of containers) await start(container);
    await fleet.apply(
      ...fleet.deviceObjects(4),
      await releaseObject("digits-1.0.0"),
      deploymentObject("digits-1.0.0"),
    );
    await fleet.completed("digits-1.0.0").catch(async (error: unknown) => {
      const logs = await Promise.all(started.map((id) => run("docker", ["logs", "--tail", "20", id])));
      throw new Error(`${String(error)}\n${logs.map(({ stdout, stderr }) => stdout + stderr).join("\n")}`);
    });
    const { status } = await fleet.release("digits-1.0.0");
    expect(status?.conditions?.find(({ type }) => type === "Verified")?.status).toBe("True");
  });
});

async function containersOfChart(): Promise<readonly Container[]> {
  const helm = await chartTool("helm");
  const values = {
    image: { repository: "edge-fleet-operator", tag: "test" },
    watchNamespaces: [fleet.namespace],
    hub: {
      endpoint: fleet.stack.operatorEnv["EDGEFLEET_HUB_ENDPOINT"],
      tier: "S3",
      units: 5,
      ca: { configMapName: "hub-ca" },
      connectionStringSecret: { name: "hub" },
    },
    storage: { connectionStringSecret: { name: "storage" } },
    operator: { analysisInterval: "1s", fleetInterval: "1s" },
  };
  const file = join(fleet.stack.directory, "values.json");
  await writeFile(file, JSON.stringify(values));
  const install = ["install", "fleet", CHART, "-f", file, "--set", "crds.create=false"];
  await run(helm, [...install, "-n", fleet.namespace, "--kubeconfig", inject("kubeconfig")]);
  const { stdout } = await run(helm, [
    ...["get", "manifest", "fleet", "-n", fleet.namespace, "--kubeconfig", inject("kubeconfig")],
  ]);
  type Workload = {
    readonly kind: string;
    readonly spec: { readonly template: { readonly spec: { readonly containers: readonly Container[] } } };
  };
  const deployment = parseAllDocuments(stdout)
    .map((document) => document.toJS() as Workload)
    .find(({ kind }) => kind === "Deployment");
  return deployment?.spec.template.spec.containers ?? [];
}

/** Each volume is a directory that all containers share, as the pod's volumes are. */
async function start(container: Container): Promise<void> {
  const { runAsUser, runAsGroup, readOnlyRootFilesystem, capabilities } = container.securityContext;
  const mounts: string[] = [];
  for (const { name, mountPath } of container.volumeMounts)
    mounts.push("--volume", `${await volume(name)}:${mountPath}`);
  const server = new URL(cluster().server);
  const env = (container.env ?? []).map(({ name, value, valueFrom }) => {
    // Secrets of this test are named after the variables of the stack that they stand for.
    const secret = valueFrom?.secretKeyRef === undefined ? "" : (fleet.stack.operatorEnv[name] ?? "");
    return `${name}=${value ?? (secret === "" ? "pod-0" : secret)}`;
  });
  const id = await docker(
    ...["run", "--detach", "--network", "host", "--user", `${runAsUser}:${runAsGroup}`],
    ...(readOnlyRootFilesystem ? ["--read-only"] : []),
    ...capabilities.drop.flatMap((each) => ["--cap-drop", each]),
    ...["--security-opt", "no-new-privileges", ...mounts],
    ...[
      `KUBERNETES_SERVICE_HOST=${server.hostname}`,
      `KUBERNETES_SERVICE_PORT=${server.port}`,
      ...env,
    ].flatMap((each) => ["--env", each]),
    IMAGE,
    // Ports of this machine may be taken.
    ...container.args.map((arg) => arg.replace(/^--probe-address=.*/, "--probe-address=127.0.0.1:0")),
    ...(container.name === "operator" ? ["--probe-address=127.0.0.1:0"] : []),
  );
  started.push(id.trim());
}

async function volume(name: string): Promise<string> {
  const path = join(fleet.stack.directory, "volumes", name);
  await mkdir(path, { recursive: true });
  // An emptyDir is everybody's of the pod.
  await chmod(path, 0o777);
  if (name === "hub-ca")
    await copyFile(fleet.stack.operatorEnv["EDGEFLEET_HUB_CA"] ?? "", join(path, "ca.crt"));
  if (name === "token") {
    const token = await fleet.kubectl("create", "token", "fleet-edge-fleet-operator", "--duration", "1h");
    await writeFile(join(path, "token"), token.trim());
    await writeFile(join(path, "namespace"), fleet.namespace);
    await writeFile(join(path, "ca.crt"), Buffer.from(cluster().caData ?? "", "base64"));
  }
  return path;
}

function cluster(): { readonly server: string; readonly caData?: string } {
  const config = new KubeConfig();
  config.loadFromFile(inject("kubeconfig"));
  const found = config.getCurrentCluster();
  if (found === null) throw new Error("no context in the kubeconfig");
  return found;
}

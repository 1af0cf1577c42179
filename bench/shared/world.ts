import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { EdgeDeviceStatus } from "../../src/api/edge-device.ts";
import type { InferenceDeploymentStatus } from "../../src/api/inference-deployment.ts";
import { digestOf } from "../../src/base/digest.ts";
import { startControlPlane } from "../../tools/control-plane/control-plane.ts";
import { type ApiObjects, createApiObjects } from "../../tools/stack/api-objects.ts";
import {
  eventually,
  type LocalStack,
  type Operator,
  startLocalStack,
} from "../../tools/stack/local-stack.ts";
import { uploadFolder } from "../../tools/upload.ts";
import { say } from "./command.ts";

// Everything real but the cloud, as in the end-to-end tests: a kube-apiserver with etcd, the simulator over HTTPS,
// Azurite, the verifier, and the operator as a process of its own.

export const NAMESPACE = "bench";
const SYSTEM = "edgefleet-system";
const ROOT = join(import.meta.dirname, "../..");
const GROUP = "/apis/edgefleet.dev/v1alpha1";
export const PATHS = {
  devices: `${GROUP}/namespaces/${NAMESPACE}/edgedevices`,
  releases: `${GROUP}/namespaces/${NAMESPACE}/modelreleases`,
  deployments: `${GROUP}/namespaces/${NAMESPACE}/inferencedeployments`,
} as const;

type Live<Status> = {
  readonly metadata: {
    readonly name: string;
    readonly generation: number;
    readonly resourceVersion: string;
  };
  readonly status?: Status;
};
export type LiveDevice = Live<EdgeDeviceStatus>;
export type LiveDeployment = Live<InferenceDeploymentStatus>;

export type World = {
  readonly stack: LocalStack;
  readonly api: ApiObjects;
  readonly signal: AbortSignal;
  readonly startOperator: (name: string) => Promise<Operator>;
  readonly createDevices: (count: number) => Promise<void>;
  readonly createRelease: (name: string, file: string) => Promise<void>;
  readonly deployment: () => Promise<LiveDeployment>;
  /** Until the deployment has completed `release` and every device says that it runs it. */
  readonly completed: (release: string, within: number) => Promise<LiveDeployment>;
  /** Requests that changed something on the hub since its start, by class. */
  readonly hubWrites: () => Promise<HubWrites>;
  /** Requests of any kind, by class. */
  readonly hubRequests: () => Promise<Readonly<Record<string, number>>>;
  /** Successful writes that the API server has served since its start, by resource: its own count, not ours. */
  readonly apiWrites: () => Promise<Readonly<Record<string, number>>>;
  readonly stop: () => Promise<void>;
};

export type HubWrites = { readonly identity: number; readonly twin: number; readonly configuration: number };

async function startWorld(options: { readonly simulatorArgs?: readonly string[] }): Promise<World> {
  const stopping: (() => Promise<void>)[] = [];
  const life = new AbortController();
  const stop = async () => {
    life.abort();
    for (const end of stopping.splice(0).reverse()) await end();
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.once(signal, () => {
      void stop().finally(() => process.exit(130));
    });
  try {
    const controlPlane = await startControlPlane({ crds: join(ROOT, "crds"), progress: say });
    stopping.push(controlPlane.stop);
    const { kubeconfig } = controlPlane;
    const api = createApiObjects(kubeconfig);
    stopping.push(api.close);
    const stack = await startLocalStack({
      kubeconfig,
      progress: say,
      simulatorArgs: [
        ...["--tier", "S3", "--units", "5", "--seed", "7", "--evaluation-interval", "30s"],
        ...(options.simulatorArgs ?? []),
      ],
    });
    stopping.push(stack.stop);
    await uploadFolder({
      connectionString: stack.azurite.connectionString,
      container: "models",
      folder: join(ROOT, "examples/models/files"),
    });
    const { signal } = life;
    await api.create(
      "/api/v1/namespaces",
      [NAMESPACE, SYSTEM].map((name) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name } })),
      signal,
    );
    return worldOf(stack, api, { kubeconfig, signal, stop });
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Starts a world, measures in it, and stops it. */
export async function inWorld<T>(
  options: { readonly simulatorArgs?: readonly string[] },
  measure: (world: World) => Promise<T>,
): Promise<T> {
  const world = await startWorld(options);
  try {
    return await measure(world);
  } finally {
    await world.stop();
  }
}

function worldOf(
  stack: LocalStack,
  api: ApiObjects,
  {
    signal,
    stop,
  }: { readonly kubeconfig: string; readonly signal: AbortSignal; readonly stop: () => Promise<void> },
): World {
  const deployment = () => api.get<LiveDeployment>(`${PATHS.deployments}/${DEPLOYMENT}`, signal);
  return {
    stack,
    api,
    signal,
    startOperator: (name) =>
      stack.startOperator(name, [
        ...["--hub-tier", "S3", "--hub-units", "5", "--analysis-interval", "5s", "--fleet-interval", "10s"],
        ...["--tenancy", "open"],
        ...["--leader-election", "true", "--lease-namespace", SYSTEM],
      ]),
    createDevices: async (count) => {
      const started = Date.now();
      await api.create(PATHS.devices, deviceObjects(count), signal);
      say(`created ${count} EdgeDevices in ${((Date.now() - started) / 1000).toFixed(1)} s`);
    },
    createRelease: async (name, file) =>
      api.create(PATHS.releases, [await releaseObject(name, file)], signal),
    deployment,
    completed: (release, within) => {
      let last = "";
      return eventually(
        `${release} is completed`,
        async () => {
          const live = await deployment();
          const { status } = live;
          const { phase, stable, step, devices } = status ?? {};
          const line = `${phase ?? "new"} ${step === undefined ? "" : `${step.percent} %`} exposed ${devices?.exposed ?? 0} updated ${devices?.updated ?? 0} of ${devices?.matched ?? 0}`;
          if (line !== last) say(line);
          last = line;
          const current = status?.observedGeneration === live.metadata.generation;
          const whole = devices !== undefined && devices.updated === devices.matched;
          return current && phase === "Completed" && stable?.release === release && whole && live;
        },
        { within, every: 1000 },
      );
    },
    hubWrites: async () => ((await counters(stack)) as { readonly writes: HubWrites }).writes,
    hubRequests: async () => {
      const { classes } = (await counters(stack)) as {
        readonly classes: Readonly<Record<string, { readonly total: number }>>;
      };
      return Object.fromEntries(Object.entries(classes).map(([name, { total }]) => [name, total]));
    },
    apiWrites: () => apiWrites(api, signal),
    stop,
  };
}

function counters(stack: LocalStack): Promise<unknown> {
  return stack.control("GET", "/sim/counters");
}

async function apiWrites(api: ApiObjects, signal: AbortSignal): Promise<Readonly<Record<string, number>>> {
  const writes: Record<string, number> = {};
  for await (const line of await api.watch("/metrics", signal)) {
    if (!line.startsWith("apiserver_request_total{")) continue;
    const label = (name: string) => new RegExp(`[{,]${name}="([^"]*)"`).exec(line)?.[1] ?? "";
    if (!["POST", "PUT", "PATCH", "DELETE"].includes(label("verb")) || !label("code").startsWith("2"))
      continue;
    const resource = label("resource");
    writes[resource] = (writes[resource] ?? 0) + Number(line.slice(line.lastIndexOf(" ") + 1));
  }
  return writes;
}

export function grown(
  before: Readonly<Record<string, number>>,
  after: Readonly<Record<string, number>>,
): Readonly<Record<string, number>> {
  return Object.fromEntries(
    Object.entries(after)
      .map(([name, count]) => [name, count - (before[name] ?? 0)] as const)
      .filter(([, count]) => count !== 0),
  );
}

// ── objects

export const DEPLOYMENT = "digits";
const CLASSES = ["jetson-nano", "jetson-orin-nano", "jetson-xavier"] as const;
const SITES = ["plant-a", "plant-b", "plant-c", "plant-d"] as const;

function deviceObjects(count: number): readonly object[] {
  return Array.from({ length: count }, (_, index) => ({
    apiVersion: "edgefleet.dev/v1alpha1",
    kind: "EdgeDevice",
    metadata: { name: deviceName(index), namespace: NAMESPACE, labels: { line: "digits" } },
    spec: {
      deviceClass: CLASSES[index % CLASSES.length],
      site: SITES[Math.floor(index / CLASSES.length) % SITES.length],
      tags: { line: String(index % 6) },
    },
  }));
}

export function deviceName(index: number): string {
  return `cam-${String(index).padStart(5, "0")}`;
}

async function releaseObject(name: string, file: string): Promise<object> {
  return {
    apiVersion: "edgefleet.dev/v1alpha1",
    kind: "ModelRelease",
    metadata: { name, namespace: NAMESPACE },
    spec: {
      model: "digits",
      version: name.replace(/^digits-/, ""),
      variants: [
        {
          name: "fp32",
          blob: { container: "models", path: file },
          digest: digestOf(await readFile(join(ROOT, "examples/models/files", file))),
        },
      ],
    },
  };
}

/** Without objectives: what is measured here is delivery, and a minute of evidence at each step would hide it. */
export function deploymentObject(release: string, steps: readonly object[]): object {
  return {
    apiVersion: "edgefleet.dev/v1alpha1",
    kind: "InferenceDeployment",
    metadata: { name: DEPLOYMENT, namespace: NAMESPACE },
    spec: {
      release: { name: release },
      selector: { matchLabels: { line: "digits" } },
      module: { name: "inference", image: `registry.example.com/edge/inference@sha256:${"1".repeat(64)}` },
      strategy: { steps, progressDeadline: "30m" },
      objectives: [],
    },
  };
}

// ── an operator, from outside

export type Usage = { readonly rssMiB: number; readonly peakMiB: number; readonly cpuMilliseconds: number };

const TICKS_PER_SECOND = 100;

/** As the kernel counts: resident memory now and at most, and processor time of all threads so far. */
export async function usageOf(pid: number): Promise<Usage> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const mebibytes = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1] ?? Number.NaN) / 1024;
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const ticks = Number(fields[11]) + Number(fields[12]);
  return {
    rssMiB: mebibytes("VmRSS"),
    peakMiB: mebibytes("VmHWM"),
    cpuMilliseconds: (ticks * 1000) / TICKS_PER_SECOND,
  };
}

export type Reconciles = { readonly done: number; readonly waiting: number };

/** Of one controller, by the operator's own metrics; zero until it serves them. */
export async function reconcilesOf(operator: Operator, controller: string): Promise<Reconciles> {
  const answer = await fetch(`http://127.0.0.1:${operator.probePort}/metrics`);
  let [done, waiting] = [0, 0];
  for (const line of (await answer.text()).split("\n")) {
    if (!line.includes(`controller="${controller}"`)) continue;
    const value = Number(line.slice(line.lastIndexOf(" ") + 1));
    if (line.startsWith("edgefleet_reconcile_total{")) done += value;
    if (line.startsWith("edgefleet_queue_depth{")) waiting = value;
  }
  return { done, waiting };
}

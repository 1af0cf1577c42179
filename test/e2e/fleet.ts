import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { inject } from "vitest";
import type { EdgeDeviceStatus } from "../../src/api/edge-device.ts";
import type {
  InferenceDeploymentSpec,
  InferenceDeploymentStatus,
} from "../../src/api/inference-deployment.ts";
import type { ModelReleaseStatus } from "../../src/api/model-release.ts";
import { digestOf } from "../../src/base/digest.ts";
import {
  eventually,
  type LocalStack,
  type Operator,
  startLocalStack,
} from "../../tools/stack/local-stack.ts";
import { type Program, runProgram } from "../../tools/stack/program.ts";
import { uploadFolder } from "../../tools/upload.ts";

// A fleet of simulated devices with a namespace of its own on the shared API server. Everything else is a real process
// of this test file: simulator, Azurite, verifier, operator.

const ROOT = join(import.meta.dirname, "../..");
const FILES = join(ROOT, "examples/models/files");
export const DEPLOYMENT = "digits";

type Meta = {
  readonly name: string;
  readonly generation: number;
  readonly resourceVersion: string;
  readonly uid: string;
};
export type Live<Spec, Status> = { readonly metadata: Meta; readonly spec: Spec; readonly status?: Status };
export type LiveDeployment = Live<InferenceDeploymentSpec, InferenceDeploymentStatus>;
export type LiveDevice = Live<Readonly<Record<string, unknown>>, EdgeDeviceStatus>;
export type LiveRelease = Live<Readonly<Record<string, unknown>>, ModelReleaseStatus>;

export type Fleet = {
  readonly namespace: string;
  readonly stack: LocalStack;
  /** Runs kubectl in the namespace; rejects with what kubectl said. */
  readonly kubectl: (...args: readonly string[]) => Promise<string>;
  readonly apply: (...objects: readonly object[]) => Promise<string>;
  readonly startOperator: (name?: string, args?: readonly string[]) => Promise<Operator>;
  /** An operator whose environment differs from what would work. */
  readonly startOddOperator: (name: string, env: Readonly<Record<string, string>>) => Promise<Program>;
  /** A new verifier in place of one that was killed. */
  readonly startVerifier: () => Promise<Program>;
  readonly deployment: (name?: string) => Promise<LiveDeployment>;
  readonly release: (name: string) => Promise<LiveRelease>;
  readonly devices: () => Promise<readonly LiveDevice[]>;
  readonly deviceObjects: (count: number, change?: (index: number) => object) => readonly object[];
  /** Waits for the deployment to satisfy `holds`; the error says what it was last. */
  readonly until: (
    what: string,
    holds: (deployment: LiveDeployment) => boolean,
    options?: { readonly within?: number; readonly name?: string },
  ) => Promise<LiveDeployment>;
  readonly completed: (release: string, within?: number) => Promise<LiveDeployment>;
  /** The simulator's counters of writes, by class of operation. */
  readonly writes: () => Promise<Readonly<Record<string, number>>>;
  readonly stop: () => Promise<void>;
};

const run = promisify(execFile);
export const CLASSES = ["jetson-nano", "jetson-orin-nano", "jetson-xavier"] as const;
export const SITES = ["plant-a1", "plant-a2"] as const;

/** Quick for tests: S3 budgets, reports every second, evaluation every five. */
const SIMULATOR = [
  ...["--tier", "S3", "--units", "5", "--seed", "11", "--evaluation-interval", "5s"],
  ...["--report-interval", "1s", "--state-delay", "100ms"],
];
const OPERATOR = [
  ...["--hub-tier", "S3", "--hub-units", "5", "--analysis-interval", "1s", "--fleet-interval", "1s"],
];

export async function startFleet(
  name: string,
  options: {
    readonly behaviours?: object;
    readonly simulatorArgs?: readonly string[];
    readonly verifierArgs?: readonly string[];
    readonly bundles?: string;
    /** The operators of this fleet watch all namespaces; left out: their own. */
    readonly clusterWide?: true;
  } = {},
): Promise<Fleet> {
  const kubeconfig = inject("kubeconfig");
  const namespace = `${name}-${randomBytes(3).toString("hex")}`;
  const bare = async (...args: readonly string[]) => {
    const { stdout } = await run(inject("kubectl"), ["--kubeconfig", kubeconfig, ...args], {
      maxBuffer: 256 * 1024 * 1024,
    });
    return stdout;
  };
  const kubectl = (...args: readonly string[]) => bare("-n", namespace, ...args);
  const stack = await startLocalStack({
    kubeconfig,
    simulatorArgs: [...SIMULATOR, ...(options.simulatorArgs ?? [])],
    ...(options.verifierArgs === undefined ? {} : { verifierArgs: options.verifierArgs }),
    ...(options.behaviours === undefined ? {} : { behaviours: options.behaviours }),
    ...(options.bundles === undefined ? {} : { bundles: options.bundles }),
  });
  try {
    await bare("create", "namespace", namespace);
    await uploadFolder({
      connectionString: stack.azurite.connectionString,
      container: "models",
      folder: FILES,
    });
  } catch (error) {
    await stack.stop();
    throw error;
  }
  // What the stack does not know of is stopped here.
  const extra: Program[] = [];
  const startExtra = async (
    programName: string,
    args: readonly string[],
    env: Readonly<Record<string, string>>,
  ) => {
    const logFile = join(stack.directory, `${programName}.log`);
    const program = runProgram({ name: programName, args, env, logFile });
    extra.push(program);
    await program.firstLine;
    return program;
  };
  const operatorArgs = [
    ...OPERATOR,
    ...(options.clusterWide === undefined ? ["--namespaces", namespace] : []),
    ...["--lease-namespace", namespace, "--drain", "5s"],
  ];
  const json = async <T>(...args: readonly string[]) => JSON.parse(await kubectl(...args, "-o", "json")) as T;
  const deployment = (deploymentName = DEPLOYMENT) => json<LiveDeployment>("get", "idep", deploymentName);
  let sequence = 0;

  const fleet: Fleet = {
    namespace,
    stack,
    kubectl,
    apply: async (...objects) => {
      sequence += 1;
      const file = join(stack.directory, `apply-${sequence}.json`);
      await writeFile(file, JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }));
      return await kubectl("apply", "-f", file);
    },
    startOperator: (operatorName = "operator", args = []) =>
      stack.startOperator(operatorName, [...operatorArgs, ...args]),
    startOddOperator: (operatorName, env) =>
      startExtra(
        operatorName,
        [
          ...[join(ROOT, "src/operator.ts"), "--probe-address", "127.0.0.1:0", "--leader-election", "false"],
          ...operatorArgs,
        ],
        { ...stack.operatorEnv, ...env },
      ),
    startVerifier: () =>
      startExtra(
        "verifier",
        [
          ...[
            join(ROOT, "src/verifier.ts"),
            "--socket",
            stack.operatorEnv["EDGEFLEET_VERIFIER_SOCKET"] ?? "",
          ],
          ...["--workdir", join(stack.directory, "verifier")],
        ],
        {},
      ),
    deployment,
    release: (releaseName) => json<LiveRelease>("get", "mrel", releaseName),
    devices: async () => (await json<{ readonly items: readonly LiveDevice[] }>("get", "edev")).items,
    deviceObjects: (count, change = () => ({})) =>
      Array.from({ length: count }, (_, index) => ({
        apiVersion: "edgefleet.dev/v1alpha1",
        kind: "EdgeDevice",
        metadata: { name: `${namespace}-cam-${String(index).padStart(4, "0")}`, labels: { line: "digits" } },
        spec: {
          deviceClass: CLASSES[index % CLASSES.length],
          site: SITES[Math.floor(index / CLASSES.length) % SITES.length],
          ...change(index),
        },
      })),
    until: async (what, holds, { within = 60_000, name: deploymentName = DEPLOYMENT } = {}) => {
      let last: LiveDeployment | null = null;
      try {
        return await eventually(
          what,
          async () => {
            last = await deployment(deploymentName);
            return last.status?.observedGeneration === last.metadata.generation && holds(last) && last;
          },
          { within, every: 250 },
        );
      } catch (error) {
        throw new Error(`${String(error)}; last seen: ${JSON.stringify(statusOf(last))}`);
      }
    },
    completed: (release, within = 60_000) =>
      fleet.until(
        `${release} is completed`,
        ({ status }) =>
          status?.phase === "Completed" &&
          status.stable?.release === release &&
          status.devices?.updated === status.devices?.matched,
        { within },
      ),
    writes: async () => {
      const counters = (await stack.control("GET", "/sim/counters")) as {
        readonly writes: Readonly<Record<string, number>>;
      };
      return counters.writes;
    },
    stop: async () => {
      // Without an operator nobody takes finalizers off: the objects would keep the namespace for ever.
      for (const program of extra) await program.stop();
      await stack.stop();
      for (const kind of ["edev", "idep"]) {
        const names = (await kubectl("get", kind, "-o", "name").catch(() => ""))
          .split("\n")
          .filter((line) => line !== "");
        for (const one of names)
          await kubectl("patch", one, "--type=merge", "-p", '{"metadata":{"finalizers":null}}').catch(
            () => "",
          );
      }
      await bare("delete", "namespace", namespace, "--wait=false").catch(() => "");
    },
  };
  return fleet;
}

function statusOf(deployment: LiveDeployment | null): unknown {
  if (deployment === null) return null;
  const { history: _, ...status } = deployment.status ?? {};
  return status;
}

type ReleaseOptions = {
  readonly file?: string;
  readonly digest?: string;
  readonly verification?: object;
  readonly variants?: readonly object[];
};

/** A ModelRelease of one variant for any class, over a file of examples/models/files. */
export async function releaseObject(name: string, options: ReleaseOptions = {}): Promise<object> {
  const path = options.file ?? "digits/1.0.0/model.onnx";
  const digest = options.digest ?? digestOf(await readFile(join(FILES, path)));
  return {
    apiVersion: "edgefleet.dev/v1alpha1",
    kind: "ModelRelease",
    metadata: { name },
    spec: {
      model: "digits",
      version: name.replace(/^digits-/, ""),
      variants: options.variants ?? [{ name: "fp32", blob: { container: "models", path }, digest }],
      ...(options.verification === undefined ? {} : { verification: options.verification }),
    },
  };
}

export type DeploymentOptions = {
  readonly name?: string;
  readonly selector?: object;
  readonly strategy?: object;
  readonly objectives?: readonly object[];
  readonly more?: object;
};

export const IMAGE = `registry.example.com/edge/inference@sha256:${"1".repeat(64)}`;

export function deploymentObject(release: string, options: DeploymentOptions = {}): object {
  return {
    apiVersion: "edgefleet.dev/v1alpha1",
    kind: "InferenceDeployment",
    metadata: { name: options.name ?? DEPLOYMENT },
    spec: {
      release: { name: release },
      selector: options.selector ?? { matchLabels: { line: "digits" } },
      module: { name: "inference", image: IMAGE },
      // Nothing of a test shall stay on the hub, and nothing shall take minutes.
      deletionPolicy: "Remove",
      strategy: options.strategy ?? {
        steps: [
          { percent: 10, minimumDevices: 2, hold: "2s" },
          { percent: 50, hold: "2s" },
          { percent: 100 },
        ],
        progressDeadline: "2m",
      },
      objectives: options.objectives ?? [
        { metric: "latencyP95Milliseconds", warning: 100, critical: 200, minimumInferences: 10 },
        { metric: "errorRate", critical: "0.05", minimumInferences: 10 },
      ],
      ...options.more,
    },
  };
}

import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs, promisify } from "node:util";
import { stringify } from "yaml";
import { exampleDevices } from "../examples/plant/devices.ts";
import type { InferenceDeploymentStatus } from "../src/api/inference-deployment.ts";
import { startControlPlane } from "./control-plane/control-plane.ts";
import { eventually, type LocalStack, startLocalStack } from "./stack/local-stack.ts";
import { uploadFolder } from "./upload.ts";

// The main job on real parts, from nothing to the summary: exit code 0 only if all of it really happened.

const HELP = `make demo (node tools/demo.ts): the whole product on this machine, in about three minutes

A real kube-apiserver, the IoT Hub simulator with simulated devices, Azurite, the verifier and the operator.
A good release goes out in steps, a better one follows, a slow one is rolled back automatically, and three bad ones
never leave verification. Exit code 0 only if all of that was seen.

  --devices N   simulated devices (default 200)
  --keep        leave everything running at the end and print how to reach it (Ctrl-C stops it)
  --help        this text
`;

const EXAMPLES = join(import.meta.dirname, "../examples");
const NAMESPACE = "plant-a";
const DEPLOYMENT = "digits";
const run = promisify(execFile);

type Kubectl = (...args: readonly string[]) => Promise<string>;
type Deployment = {
  readonly metadata: { readonly generation: number };
  readonly spec: { readonly release: { readonly name: string } };
  readonly status?: InferenceDeploymentStatus;
};
type Demo = {
  readonly kubectl: Kubectl;
  readonly stack: LocalStack;
  readonly say: Say;
  readonly show: Say;
};
type Say = (line: string) => void;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      devices: { type: "string" },
      keep: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return void process.stdout.write(HELP);
  const count = Number(values.devices ?? 200);
  if (!Number.isInteger(count) || count < 20 || count > 5000)
    throw new Error(`--devices: "${values.devices}" is not a whole number from 20 to 5000`);

  const began = Date.now();
  const clock = () => `${((Date.now() - began) / 1000).toFixed(1).padStart(6)}s`;
  const { say, show } = createView(clock);

  say("starting the control plane (built from Go modules the first time, about five minutes)");
  const controlPlane = await startControlPlane({ crds: join(EXAMPLES, "../crds"), progress: say });
  const stopping: (() => Promise<void>)[] = [controlPlane.stop];
  const stop = async () => {
    for (const end of stopping.splice(0).reverse()) await end();
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.once(signal, () => {
      void stop().finally(() => process.exit(130));
    });
  try {
    const kubectl: Kubectl = async (...args) => {
      const { stdout } = await run(controlPlane.kubectl, ["--kubeconfig", controlPlane.kubeconfig, ...args], {
        maxBuffer: 64 * 1024 * 1024,
      });
      return stdout;
    };
    const stack = await startLocalStack({
      kubeconfig: controlPlane.kubeconfig,
      progress: say,
      simulatorArgs: [
        ...["--tier", "S3", "--units", "5", "--seed", "7", "--evaluation-interval", "10s"],
        ...["--report-interval", "2s", "--state-delay", "200ms"],
        ...["--behaviours", join(EXAMPLES, "plant/behaviours.yaml")],
      ],
    });
    stopping.push(stack.stop);
    const demo: Demo = { kubectl, stack, say, show };
    const facts = await story(demo, count);
    await tables(demo);
    process.stdout.write(`\nWhat was seen\n\n${facts.map((fact) => `  ${fact}`).join("\n")}\n\n`);
    if (values.keep) {
      say(`left running: export KUBECONFIG=${controlPlane.kubeconfig}`);
      say(`logs are in ${stack.directory}; Ctrl-C stops everything`);
      await new Promise(() => setInterval(() => undefined, 60_000));
    }
  } finally {
    await stop();
  }
  say("done");
}

/** Lines that stay, and in a terminal one line below them that is drawn over again and again. */
function createView(clock: () => string): { readonly say: Say; readonly show: Say } {
  const { stdout } = process;
  const clear = stdout.isTTY ? "\r\x1b[K" : "";
  return {
    say: (line) => void stdout.write(`${clear}${clock()}  ${line}\n`),
    show: (line) => {
      if (stdout.isTTY) stdout.write(`${clear}${clock()}  ${line.slice(0, stdout.columns - 12)}`);
    },
  };
}

/** One character for each fiftieth of the fleet: `#` runs the candidate, `+` is exposed to it, `.` is not. */
function bar({ devices, candidate }: InferenceDeploymentStatus): string {
  if (devices === undefined || devices.matched === 0) return "";
  const cells = (part: number) => Math.round((50 * part) / devices.matched);
  const exposed = cells(candidate === undefined ? devices.matched : devices.exposed);
  const running = Math.min(exposed, cells(Math.max(0, devices.matched - devices.onStable)));
  const done = candidate === undefined ? cells(devices.updated) : running;
  return `[${"#".repeat(done)}${"+".repeat(Math.max(0, exposed - done))}${".".repeat(50 - Math.max(exposed, done))}]`;
}

/** Returns the lines of the summary; throws at the first thing that does not happen. */
async function story(demo: Demo, count: number): Promise<readonly string[]> {
  const { kubectl, stack, say } = demo;
  const facts: string[] = [];
  await kubectl("create", "namespace", "edgefleet-system");
  await kubectl("apply", "-f", join(EXAMPLES, "plant/00-namespace.yaml"));
  await uploadFolder({
    connectionString: stack.azurite.connectionString,
    container: "models",
    folder: join(EXAMPLES, "models/files"),
  });
  await stack.startOperator("operator", [
    ...["--hub-tier", "S3", "--hub-units", "5", "--analysis-interval", "1s", "--fleet-interval", "1s"],
    ...["--tenancy", "open"],
  ]);

  say(`kubectl apply: ${count} EdgeDevices of three classes on four sites`);
  const manifest = join(stack.directory, "devices.yaml");
  await writeFile(
    manifest,
    exampleDevices(count, NAMESPACE)
      .map((device) => stringify(device))
      .join("---\n"),
  );
  await kubectl("apply", "-f", manifest);
  await eventually(
    "all devices registered at the hub",
    async () => {
      const fleet = await conditionCount(kubectl, "edgedevices", "Registered");
      return fleet === count;
    },
    { within: 90_000, every: 1000 },
  );
  say(`${count} devices are registered at the hub`);

  say("kubectl apply: release digits-1.0.0, and a deployment that wants it everywhere");
  await apply(demo, "20-release-1.0.0.yaml", "30-deployment-1.0.0.yaml");
  const first = await follow(demo, "digits-1.0.0", "Completed");
  facts.push(`digits-1.0.0 installed on ${first.updated} of ${count} devices in ${first.seconds} s`);
  requireThat(first.updated === count, `digits-1.0.0 runs on ${first.updated} of ${count} devices`);

  say("kubectl apply: release digits-2.0.0, better; the deployment is changed to it");
  await apply(demo, "40-release-2.0.0.yaml", "41-deployment-2.0.0.yaml");
  const second = await follow(demo, "digits-2.0.0", "Completed");
  facts.push(
    `digits-2.0.0 went out in steps of ${second.widths.join(" → ")} % and completed in ${second.seconds} s`,
  );
  for (const step of second.steps)
    facts.push(
      `  step ${step.percent} %: at most ${step.exposed} devices exposed, ${step.writes} hub writes for configurations`,
    );
  facts.push(`  then made stable and cleaned up: ${second.closingWrites} hub writes for configurations`);
  requireThat(
    second.widths.join() === "5,25,100",
    `digits-2.0.0 went out in steps of ${second.widths.join(", ")}`,
  );
  requireThat(second.updated === count, `digits-2.0.0 runs on ${second.updated} of ${count} devices`);
  for (const step of second.steps.slice(0, 2))
    requireThat(
      step.exposed <= Math.max(1, Math.ceil((step.percent / 100) * count)),
      `step ${step.percent} % exposed ${step.exposed} devices`,
    );

  say("kubectl apply: release digits-2.1.0, as accurate but slow on devices: it will pass verification");
  await apply(demo, "50-release-2.1.0-slow.yaml", "51-deployment-2.1.0-slow.yaml");
  const slow = await follow(demo, "digits-2.1.0-slow", "RolledBack");
  const back = await allBackOn(demo, "digits-2.0.0", count);
  facts.push(
    `digits-2.1.0-slow passed verification, was exposed to ${slow.mostExposed} devices, breached an objective and was rolled back automatically`,
    `  first device runs it to rollback issued: ${secondsBetween(slow.firstRanAt, slow.rollbackAt)} s (devices report every 2 s); rollback issued to last device back: ${secondsBetween(slow.rollbackAt, back)} s`,
    `  ${slow.message}`,
  );
  requireThat(slow.verified, "digits-2.1.0-slow passed verification");
  requireThat(
    slow.mostExposed <= Math.ceil(0.05 * count),
    `digits-2.1.0-slow was exposed to ${slow.mostExposed} devices`,
  );

  say("git revert: the deployment wants digits-2.0.0 again");
  await apply(demo, "41-deployment-2.0.0.yaml");
  await follow(demo, "digits-2.0.0", "Completed");

  say("kubectl apply: three releases that must never leave verification");
  await apply(
    demo,
    "60-release-3.0.0-inaccurate.yaml",
    "61-release-3.0.1-lying.yaml",
    "62-release-3.0.2-broken.yaml",
  );
  for (const [name, reason] of [
    ["digits-3.0.0-inaccurate", "AccuracyTooLow"],
    ["digits-3.0.1-lying", "DigestMismatch"],
    ["digits-3.0.2-broken", "LoadFailed"],
  ] as const) {
    const found = await eventually(`${name} is refused`, () => refusal(kubectl, name), { within: 30_000 });
    requireThat(found.reason === reason, `${name} was refused with ${found.reason}, not ${reason}`);
    facts.push(`${name} never left verification: ${found.reason}: ${found.message}`);
  }
  say("the deployment is changed to the inaccurate release regardless");
  await kubectl(
    "-n",
    NAMESPACE,
    "patch",
    "idep",
    DEPLOYMENT,
    "--type=merge",
    "-p",
    JSON.stringify({ spec: { release: { name: "digits-3.0.0-inaccurate" } } }),
  );
  await eventually(
    "the refused release stays Pending",
    async () => {
      const { status } = await deployment(kubectl);
      const condition = status?.conditions?.find(({ type }) => type === "ReleaseVerified");
      return (
        condition?.status === "False" &&
        status?.candidate?.release !== undefined &&
        status.phase === "Pending"
      );
    },
    { within: 20_000 },
  );
  await sleep(3000);
  const { status } = await deployment(kubectl);
  requireThat((status?.devices?.exposed ?? 0) === 0, "no device is exposed to a refused release");
  facts.push("a deployment that names a refused release stays Pending with no device exposed");
  await apply(demo, "41-deployment-2.0.0.yaml");
  await follow(demo, "digits-2.0.0", "Completed");
  return facts;
}

type Followed = {
  readonly seconds: string;
  readonly updated: number;
  readonly widths: readonly number[];
  readonly steps: readonly { readonly percent: number; readonly exposed: number; readonly writes: number }[];
  /** Writes of configurations that no step is charged with: making it stable, and cleaning up. */
  readonly closingWrites: number;
  readonly mostExposed: number;
  /** When the first device ran it, and when the rollback was decided; milliseconds, 0 where that never was. */
  readonly firstRanAt: number;
  readonly rollbackAt: number;
  readonly verified: boolean;
  readonly message: string;
};

/** Watches the deployment until `release` has reached `goal`, and prints a line whenever something changes. */
async function follow(demo: Demo, release: string, goal: "Completed" | "RolledBack"): Promise<Followed> {
  const { kubectl, say, show } = demo;
  const began = Date.now();
  const steps: { percent: number; exposed: number; writes: number }[] = [];
  const writesSinceLast = await countWrites(demo.stack);
  let [mostExposed, last, firstRanAt, closingWrites, verified] = [0, "", 0, 0, false];
  for (;;) {
    const { status, spec, metadata } = await deployment(kubectl);
    const current = status?.observedGeneration === metadata.generation && spec.release.name === release;
    if (status !== undefined && current) {
      const exposed = status.devices?.exposed ?? 0;
      if (status.candidate?.release === release) mostExposed = Math.max(mostExposed, exposed);
      const conditions = new Map(status.conditions?.map((condition) => [condition.type, condition]));
      verified ||= conditions.get("ReleaseVerified")?.status === "True";
      if (firstRanAt === 0 && (await runningOn(demo.stack, release)) > 0) firstRanAt = Date.now();
      const writes = await writesSinceLast();
      if (status.step === undefined || status.phase === "RollingBack") closingWrites += writes;
      else noteStep(steps, { percent: status.step.percent, exposed, writes });
      const line = describe(status);
      if (line !== last) say(line);
      last = line;
      show(bar(status));
      const settled =
        goal === "Completed" ? status.stable?.release === release : status.rollback?.release === release;
      if (status.phase === goal && settled)
        return {
          seconds: ((Date.now() - began) / 1000).toFixed(1),
          updated: status.devices?.updated ?? 0,
          widths: steps.map(({ percent }) => percent),
          steps,
          mostExposed,
          closingWrites,
          firstRanAt,
          rollbackAt: status.rollback === undefined ? 0 : Date.parse(status.rollback.at),
          verified,
          message: conditions.get("Degraded")?.message ?? "",
        };
      requireThat(
        goal === "RolledBack" || status.phase !== "RolledBack",
        `${release} was rolled back: ${status.rollback?.message}`,
      );
    }
    requireThat(Date.now() - began < 120_000, `${release} is ${goal} within 120 s; last: ${last}`);
    await sleep(250);
  }
}

type StepSeen = { percent: number; exposed: number; writes: number };

function noteStep(steps: StepSeen[], seen: StepSeen): void {
  const known = steps.find((step) => step.percent === seen.percent);
  if (known === undefined) steps.push({ ...seen });
  else {
    known.exposed = Math.max(known.exposed, seen.exposed);
    known.writes += seen.writes;
  }
}

/** How many configurations were written to the hub since the last call. */
async function countWrites(stack: LocalStack): Promise<() => Promise<number>> {
  const read = async () => {
    const { writes } = (await stack.control("GET", "/sim/counters")) as {
      readonly writes: { readonly configuration: number };
    };
    return writes.configuration;
  };
  let before = await read();
  return async () => {
    const now = await read();
    const grown = now - before;
    before = now;
    return grown;
  };
}

async function runningOn(stack: LocalStack, release: string): Promise<number> {
  const { releases } = (await stack.control("GET", "/sim/fleet")) as {
    readonly releases: Readonly<Record<string, number>>;
  };
  return releases[`${NAMESPACE}.${release}`] ?? 0;
}

function secondsBetween(from: number, to: number): string {
  return ((to - from) / 1000).toFixed(1);
}

function describe(status: InferenceDeploymentStatus): string {
  const { phase = "Pending", candidate, stable, step, devices } = status;
  const width = step === undefined ? "" : `step ${step.index + 1} at ${step.percent} %  `;
  const counts =
    devices === undefined
      ? ""
      : `exposed ${devices.exposed}/${devices.matched}  updated ${devices.updated}  failed ${devices.failed}  on stable ${devices.onStable}`;
  const verdicts = (status.analysis ?? [])
    .filter(({ verdict }) => verdict === "Fail" || verdict === "Warn")
    .map(({ metric, value, bound }) => `${metric} ${value} past ${bound}`);
  const which = candidate === undefined ? (stable?.release ?? "nothing") : candidate.release;
  return [`${phase.padEnd(11)} ${which.padEnd(18)} ${width}${counts}`, ...verdicts].join("  ");
}

async function allBackOn({ kubectl, say }: Demo, release: string, count: number): Promise<number> {
  await eventually(
    `every device runs ${release} again`,
    async () => {
      const { items } = JSON.parse(await kubectl("-n", NAMESPACE, "get", "edgedevices", "-o", "json")) as {
        items: readonly { status?: { model?: { release?: string; state?: string } } }[];
      };
      const back = items.filter(
        ({ status }) => status?.model?.release === release && status.model.state === "Running",
      );
      return back.length === count;
    },
    { within: 60_000, every: 500 },
  );
  say(`every device runs ${release}`);
  return Date.now();
}

async function apply({ kubectl }: Demo, ...files: readonly string[]): Promise<void> {
  for (const file of files) await kubectl("apply", "-f", join(EXAMPLES, "plant", file));
}

async function deployment(kubectl: Kubectl): Promise<Deployment> {
  return JSON.parse(await kubectl("-n", NAMESPACE, "get", "idep", DEPLOYMENT, "-o", "json")) as Deployment;
}

async function conditionCount(kubectl: Kubectl, kind: string, type: string): Promise<number> {
  const path = `{range .items[*]}{.status.conditions[?(@.type=="${type}")].status}{"\\n"}{end}`;
  const text = await kubectl("-n", NAMESPACE, "get", kind, "-o", `jsonpath=${path}`);
  return text.split("\n").filter((line) => line === "True").length;
}

async function refusal(
  kubectl: Kubectl,
  name: string,
): Promise<{ readonly reason: string; readonly message: string } | null> {
  const release = JSON.parse(await kubectl("-n", NAMESPACE, "get", "mrel", name, "-o", "json")) as {
    status?: { conditions?: readonly { type: string; status: string; reason: string; message: string }[] };
  };
  const verified = release.status?.conditions?.find(({ type }) => type === "Verified");
  return verified?.status === "False" && verified.reason !== "VerificationRunning" ? verified : null;
}

async function tables({ kubectl }: Demo): Promise<void> {
  const devices = (await kubectl("-n", NAMESPACE, "get", "edev")).trimEnd().split("\n");
  const shown =
    devices.length > 13 ? [...devices.slice(0, 13), `… and ${devices.length - 13} more`] : devices;
  process.stdout.write(`\n$ kubectl get edev\n${shown.join("\n")}\n`);
  for (const kind of ["mrel", "idep"])
    process.stdout.write(`\n$ kubectl get ${kind}\n${await kubectl("-n", NAMESPACE, "get", kind)}`);
}

function requireThat(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(`the demo expected otherwise: ${what}`);
}

await main().catch((error: unknown) => {
  process.stderr.write(`\ndemo failed: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});

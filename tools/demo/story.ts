import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { stringify } from "yaml";
import { exampleDevices } from "../../examples/plant/devices.ts";
import { eventually } from "../stack/local-stack.ts";
import { uploadFolder } from "../upload.ts";
import {
  apply,
  conditionCount,
  DEPLOYMENT,
  type Demo,
  deployment,
  EXAMPLES,
  NAMESPACE,
  refusal,
  requireThat,
} from "./cluster.ts";
import { follow } from "./follow.ts";

/** Plays the whole story. Returns the lines of the summary; throws at the first thing that does not happen. */
export async function playStory(demo: Demo, count: number): Promise<readonly string[]> {
  await startOperator(demo);
  await registerDevices(demo, count);
  return [
    ...(await firstRelease(demo, count)),
    ...(await betterRelease(demo, count)),
    ...(await slowRelease(demo, count)),
    ...(await rejectedReleases(demo)),
    ...(await deploymentOfRejectedRelease(demo)),
  ];
}

async function startOperator({ kubectl, stack }: Demo): Promise<void> {
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
}

async function registerDevices({ kubectl, stack, say }: Demo, count: number): Promise<void> {
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
    async () => (await conditionCount(kubectl, "edgedevices", "Registered")) === count,
    { within: 90_000, every: 1000 },
  );
  say(`${count} devices are registered at the hub`);
}

async function firstRelease(demo: Demo, count: number): Promise<readonly string[]> {
  demo.say("kubectl apply: release digits-1.0.0, and a deployment that wants it everywhere");
  await apply(demo, "20-release-1.0.0.yaml", "30-deployment-1.0.0.yaml");
  const { updated, seconds } = await follow(demo, "digits-1.0.0", "Completed");
  requireThat(updated === count, `digits-1.0.0 runs on ${updated} of ${count} devices`);
  return [`digits-1.0.0 installed on ${updated} of ${count} devices in ${seconds} s`];
}

async function betterRelease(demo: Demo, count: number): Promise<readonly string[]> {
  demo.say("kubectl apply: release digits-2.0.0, better; the deployment is changed to it");
  await apply(demo, "40-release-2.0.0.yaml", "41-deployment-2.0.0.yaml");
  const { updated, seconds, widths, steps, closingWrites } = await follow(demo, "digits-2.0.0", "Completed");
  requireThat(widths.join() === "5,25,100", `digits-2.0.0 went out in steps of ${widths.join(", ")}`);
  requireThat(updated === count, `digits-2.0.0 runs on ${updated} of ${count} devices`);
  for (const { percent, exposed } of steps.slice(0, 2))
    requireThat(
      exposed <= Math.max(1, Math.ceil((percent / 100) * count)),
      `step ${percent} % exposed ${exposed} devices`,
    );
  return [
    `digits-2.0.0 went out in steps of ${widths.join(" → ")} % and completed in ${seconds} s`,
    ...steps.map(
      ({ percent, exposed, writes }) =>
        `  step ${percent} %: at most ${exposed} devices exposed, ${writes} hub writes for configurations`,
    ),
    `  then made stable and cleaned up: ${closingWrites} hub writes for configurations`,
  ];
}

async function slowRelease(demo: Demo, count: number): Promise<readonly string[]> {
  demo.say("kubectl apply: release digits-2.1.0, as accurate but slow on devices: it will pass verification");
  await apply(demo, "50-release-2.1.0-slow.yaml", "51-deployment-2.1.0-slow.yaml");
  const slow = await follow(demo, "digits-2.1.0-slow", "RolledBack");
  const back = await allBackOn(demo, "digits-2.0.0", count);
  requireThat(slow.verified, "digits-2.1.0-slow passed verification");
  requireThat(
    slow.mostExposed <= Math.ceil(0.05 * count),
    `digits-2.1.0-slow was exposed to ${slow.mostExposed} devices`,
  );
  demo.say("git revert: the deployment wants digits-2.0.0 again");
  await apply(demo, "41-deployment-2.0.0.yaml");
  await follow(demo, "digits-2.0.0", "Completed");
  return [
    `digits-2.1.0-slow passed verification, was exposed to ${slow.mostExposed} devices, breached an objective and was rolled back automatically`,
    `  first device runs it to rollback issued: ${secondsBetween(slow.firstRanAt, slow.rollbackAt)} s (devices report every 2 s); rollback issued to last device back: ${secondsBetween(slow.rollbackAt, back)} s`,
    `  ${slow.message}`,
  ];
}

const REJECTED = [
  { name: "digits-3.0.0-inaccurate", file: "60-release-3.0.0-inaccurate.yaml", reason: "AccuracyTooLow" },
  { name: "digits-3.0.1-lying", file: "61-release-3.0.1-lying.yaml", reason: "DigestMismatch" },
  { name: "digits-3.0.2-broken", file: "62-release-3.0.2-broken.yaml", reason: "LoadFailed" },
] as const;

async function rejectedReleases(demo: Demo): Promise<readonly string[]> {
  demo.say("kubectl apply: three releases that must never leave verification");
  await apply(demo, ...REJECTED.map(({ file }) => file));
  const facts: string[] = [];
  for (const { name, reason } of REJECTED) {
    const found = await eventually(`${name} is refused`, () => refusal(demo.kubectl, name), {
      within: 30_000,
    });
    requireThat(found.reason === reason, `${name} was refused with ${found.reason}, not ${reason}`);
    facts.push(`${name} never left verification: ${found.reason}: ${found.message}`);
  }
  return facts;
}

async function deploymentOfRejectedRelease(demo: Demo): Promise<readonly string[]> {
  const { kubectl, say } = demo;
  const patch = JSON.stringify({ spec: { release: { name: REJECTED[0].name } } });
  say("the deployment is changed to the inaccurate release regardless");
  await kubectl("-n", NAMESPACE, "patch", "idep", DEPLOYMENT, "--type=merge", "-p", patch);
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
  await apply(demo, "41-deployment-2.0.0.yaml");
  await follow(demo, "digits-2.0.0", "Completed");
  return ["a deployment that names a refused release stays Pending with no device exposed"];
}

function secondsBetween(from: number, to: number): string {
  return ((to - from) / 1000).toFixed(1);
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

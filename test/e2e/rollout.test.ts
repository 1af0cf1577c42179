import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../../tools/stack/local-stack.ts";
import { DEPLOYMENT, deploymentObject, type Fleet, releaseObject, startFleet } from "./fleet.ts";

// One fleet, one story, told in order: each test goes on where the one before it stopped.

const COUNT = 24;
let fleet: Fleet;

beforeAll(async () => {
  fleet = await startFleet("rollout", {
    behaviours: [
      { match: { release: "*" }, effects: { latency: { p50: 30, p95: 45, p99: 60 } } },
      { match: { release: "*.digits-slow" }, effects: { latency: { p50: 180, p95: 260, p99: 300 } } },
    ],
  });
  await fleet.startOperator();
});
afterAll(() => fleet.stop());

test("a rollout tells its whole story", async () => {
  // A first release installs everywhere.
  const devices = fleet.deviceObjects(COUNT, (index) =>
    index === 0 ? { connectionSecret: { name: "cam-0-hub" } } : {},
  );
  await fleet.apply(...devices, await releaseObject("digits-1.0.0"), deploymentObject("digits-1.0.0"));
  await fleet.completed("digits-1.0.0");

  // A better one goes out in steps; nobody is exposed beyond the width of the step.
  await fleet.apply(
    await releaseObject("digits-2.0.0", { file: "digits/2.0.0/model.onnx" }),
    deploymentObject("digits-2.0.0"),
  );
  const widths: number[] = [];
  let mostAtFirst = 0;
  await fleet.until("digits-2.0.0 is completed", ({ status }) => {
    if (
      status?.candidate?.release === "digits-2.0.0" &&
      status.step !== undefined &&
      status.phase !== "Pending"
    ) {
      if (widths.at(-1) !== status.step.percent) widths.push(status.step.percent);
      if (status.step.percent === 10) mostAtFirst = Math.max(mostAtFirst, status.devices?.exposed ?? 0);
    }
    return status?.phase === "Completed" && status.stable?.release === "digits-2.0.0";
  });
  expect(widths).toEqual([10, 50, 100]);
  expect(mostAtFirst).toBeGreaterThan(0);
  expect(mostAtFirst).toBeLessThanOrEqual(Math.max(2, Math.ceil(COUNT * 0.1)));
  await fleet.completed("digits-2.0.0");

  // One that is slow on devices comes back by itself, is quarantined, and says why.
  await fleet.apply(
    await releaseObject("digits-slow", { file: "digits/2.1.0/model.onnx" }),
    deploymentObject("digits-slow"),
  );
  const slow = await fleet.until(
    "digits-slow is rolled back",
    ({ status }) => status?.phase === "RolledBack",
  );
  expect(slow.status?.stable?.release).toBe("digits-2.0.0");
  expect(slow.status?.rollback?.reason).toBe("ObjectiveBreached");
  expect(slow.status?.rollback?.message).toMatch(/latencyP95Milliseconds.*2[0-9][0-9].*200/);
  expect(slow.status?.quarantinedReleases?.map(({ release }) => release)).toEqual(["digits-slow"]);
  const degraded = slow.status?.conditions?.find(({ type }) => type === "Degraded");
  expect(degraded?.status).toBe("True");
  expect(degraded?.message).toContain("edgefleet.dev/retry");
  await allRun("digits-2.0.0");

  // Git is changed back: the fleet is whole again.
  await fleet.apply(deploymentObject("digits-2.0.0"));
  const whole = await fleet.completed("digits-2.0.0");
  expect(whole.status?.conditions?.find(({ type }) => type === "Ready")?.status).toBe("True");
});

test("an unchanged world costs no write to the API server or the hub", async () => {
  await quiet();
  const before = { objects: await versions(), writes: await fleet.writes() };
  await new Promise((resolve) => setTimeout(resolve, 8000));
  expect(await versions()).toEqual(before.objects);
  const after = await fleet.writes();
  expect(after["configuration"] ?? 0).toBe(before.writes["configuration"] ?? 0);
  expect(after["identity"] ?? 0).toBe(before.writes["identity"] ?? 0);
});

test("applying the same manifests again changes nothing, and the operator never moved a generation", async () => {
  await quiet();
  const before = await versions();
  const said = await fleet.apply(
    ...fleet.deviceObjects(COUNT, (index) =>
      index === 0 ? { connectionSecret: { name: "cam-0-hub" } } : {},
    ),
    deploymentObject("digits-2.0.0"),
  );
  expect(said.split("\n").filter((line) => line !== "" && !line.endsWith("unchanged"))).toEqual([]);
  await new Promise((resolve) => setTimeout(resolve, 2000));
  expect(await versions()).toEqual(before);
  for (const { metadata } of await fleet.devices()) expect(metadata.generation).toBe(1);
  // Written by hand four times: 1.0.0, 2.0.0, slow, 2.0.0.
  expect((await fleet.deployment()).metadata.generation).toBe(4);
});

test("the connection Secret holds what a device needs, and nothing of it is in a status, an event or a log", async () => {
  const secret = JSON.parse(await fleet.kubectl("get", "secret", "cam-0-hub", "-o", "json")) as {
    readonly data: Readonly<Record<string, string>>;
    readonly metadata: { readonly ownerReferences: readonly { readonly kind: string }[] };
  };
  const text = (key: string) => Buffer.from(secret.data[key] ?? "", "base64").toString("utf8");
  expect(Object.keys(secret.data).sort()).toEqual([
    "connectionString",
    "deviceId",
    "hostName",
    "primaryKey",
    "secondaryKey",
  ]);
  expect(text("connectionString")).toBe(
    `HostName=${text("hostName")};DeviceId=${text("deviceId")};SharedAccessKey=${text("primaryKey")}`,
  );
  expect(secret.metadata.ownerReferences.map(({ kind }) => kind)).toEqual(["EdgeDevice"]);
  const { readFile } = await import("node:fs/promises");
  const everything = [
    await fleet.kubectl("get", "edev,idep,mrel", "-o", "json"),
    await fleet.kubectl("get", "events", "-o", "json"),
    await readFile(`${fleet.stack.directory}/operator.log`, "utf8"),
    await readFile(`${fleet.stack.directory}/verifier.log`, "utf8"),
  ].join("\n");
  expect(everything).not.toContain(text("primaryKey"));
  expect(everything).not.toContain("SharedAccessKey=");
  expect(everything).not.toMatch(/[?&]sig=[A-Za-z0-9%]/);
});

test("deleting an EdgeDevice removes its identity, or leaves it where the policy says so", async () => {
  const [, first, second] = await fleet.devices();
  await fleet.kubectl(
    "patch",
    "edev",
    name(second),
    "--type=merge",
    "-p",
    '{"spec":{"deletionPolicy":"Retain"}}',
  );
  await fleet.kubectl("delete", "edev", name(first), name(second), "--timeout=30s");
  const left = await hubDevices();
  expect(left.map(({ deviceId }) => deviceId)).not.toContain(name(first));
  const retained = left.find(({ deviceId }) => deviceId === name(second));
  expect(retained).toBeDefined();
  expect(JSON.stringify(retained?.tags ?? {})).not.toContain("edgefleet");
});

test("deleting the InferenceDeployment leaves no configuration, no tag and no pointer of ours behind", async () => {
  await fleet.kubectl("delete", "idep", DEPLOYMENT, "--timeout=60s");
  expect(await configurations()).toEqual([]);
  await eventually(
    "no tag and no pointer is left",
    async () => {
      const left = await hubDevices();
      return left.every(
        ({ tags, pointers }) => !JSON.stringify(tags).includes(DEPLOYMENT) && pointers.length === 0,
      );
    },
    { within: 20_000 },
  );
});

function name(object: { readonly metadata: { readonly name: string } } | undefined): string {
  if (object === undefined) throw new Error("no such object");
  return object.metadata.name;
}

async function allRun(release: string): Promise<void> {
  await eventually(
    `all run ${release}`,
    async () =>
      (await fleet.devices()).every(
        ({ status }) => status?.model?.release === release && status.model.state === "Running",
      ),
    { within: 30_000 },
  );
}

/** Until two looks a few seconds apart show the same versions. */
async function quiet(): Promise<void> {
  let before = await versions();
  await eventually(
    "the world stands still",
    async () => {
      const now = await versions();
      const same = JSON.stringify(now) === JSON.stringify(before);
      before = now;
      return same;
    },
    { within: 60_000, every: 3000 },
  );
}

async function versions(): Promise<readonly string[]> {
  const { items } = JSON.parse(await fleet.kubectl("get", "edev,idep,mrel", "-o", "json")) as {
    readonly items: readonly {
      readonly metadata: { readonly name: string; readonly resourceVersion: string };
    }[];
  };
  return items.map(({ metadata }) => `${metadata.name}@${metadata.resourceVersion}`);
}

type HubDevice = { readonly deviceId: string; readonly tags: object; readonly pointers: readonly unknown[] };
async function hubDevices(): Promise<readonly HubDevice[]> {
  const { identities } = (await fleet.stack.control("GET", "/sim/fleet?devices=100000")) as {
    readonly identities: readonly HubDevice[];
  };
  return identities;
}

async function configurations(): Promise<readonly string[]> {
  const { configurations: ids } = (await fleet.stack.control("GET", "/sim/fleet")) as {
    readonly configurations: readonly string[];
  };
  return ids;
}

import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, type Operator } from "../../tools/stack/local-stack.ts";
import { DEPLOYMENT, deploymentObject, type Fleet, releaseObject, startFleet } from "./fleet.ts";

// Deployments that are renamed and lost, on a hub that removes what no configuration sets any more.

const COUNT = 60;
const RENAMED = "digits-line-7";
let fleet: Fleet;
let operator: Operator;

beforeAll(async () => {
  fleet = await startFleet("removal");
  operator = await fleet.startOperator();
});
afterAll(() => fleet.stop());

type HubDevice = {
  readonly deviceId: string;
  readonly tags: object;
  readonly pointers: readonly unknown[];
};
async function hub(): Promise<{
  readonly identities: readonly HubDevice[];
  readonly configurations: readonly string[];
}> {
  return (await fleet.stack.control("GET", "/sim/fleet?devices=100000")) as Awaited<ReturnType<typeof hub>>;
}

test("renaming a deployment leaves no device without its model, and installs nothing twice", async () => {
  await fleet.apply(
    ...fleet.deviceObjects(COUNT),
    await releaseObject("digits-1.0.0"),
    deploymentObject("digits-1.0.0"),
  );
  await fleet.completed("digits-1.0.0");

  const stop = new AbortController();
  let looks = 0;
  const bare = new Set<string>();
  const watching = (async () => {
    while (!stop.signal.aborted) {
      for (const { deviceId, pointers } of (await hub()).identities)
        if (pointers.length === 0) bare.add(deviceId);
      looks += 1;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  })();
  await fleet.apply(deploymentObject("digits-1.0.0", { name: RENAMED }));
  await fleet.kubectl("delete", "idep", DEPLOYMENT, "--timeout=60s");
  const taken = await fleet.until("it has taken over", ({ status }) => status?.phase === "Completed", {
    name: RENAMED,
  });
  stop.abort();
  await watching;
  expect(looks).toBeGreaterThan(5);
  expect([...bare]).toEqual([]);
  expect(taken.status?.history?.map(({ message }) => message).join("\n")).toContain(
    `digits-1.0.0 is stable: taken over from ${DEPLOYMENT}`,
  );
  expect(taken.status?.history?.some(({ phase }) => phase === "Progressing")).toBe(false);
  const { identities } = await hub();
  expect(JSON.stringify(identities)).not.toContain(`${fleet.namespace}.${DEPLOYMENT}"`);
});

test("configurations whose deployment lost its finalizer are named, and devices keep their pointers", async () => {
  await operator.stop();
  await fleet.kubectl("patch", "idep", RENAMED, "--type=merge", "-p", '{"metadata":{"finalizers":null}}');
  await fleet.kubectl("delete", "idep", RENAMED, "--timeout=30s");
  await fleet.startOperator("operator-again");
  await eventually(
    "an event names them",
    async () => (await events()).includes(`${fleet.namespace}/${RENAMED} does not exist`),
    { within: 60_000 },
  );
  const { identities, configurations } = await hub();
  expect(configurations.filter((id) => id.includes(RENAMED)).length).toBeGreaterThan(0);
  expect(identities.filter(({ pointers }) => pointers.length === 0)).toEqual([]);
});

async function events(): Promise<string> {
  return await fleet.kubectl(
    "get",
    "events",
    "--field-selector",
    "reason=OwnerlessConfigurations",
    "-o",
    "json",
  );
}

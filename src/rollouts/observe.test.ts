import { expect, test } from "vitest";
import { deploymentSpec, deviceSpec } from "../../test/builders/specs.ts";
import { createFakeLog } from "../../test/fakes/fake-log.ts";
import { createFleetWorld, NAMESPACE } from "../../test/fakes/fleet-world.ts";
import { look } from "../../test/stories/seen.ts";
import { bucketOf } from "../api/membership.ts";
import { FINALIZER, objectKey } from "../api/resource.ts";
import { OPEN_GRANT } from "../api/tenancy.ts";
import { seconds } from "../base/time.ts";
import { createMemories } from "./memory.ts";
import { observeRollout } from "./observe.ts";
import type { Member, RolloutSeen } from "./seen.ts";

const KEY = objectKey(NAMESPACE, "resnet");

function setUp(salt = "another") {
  const world = createFleetWorld();
  const observe = observeRollout(
    {
      ...world,
      grants: () => OPEN_GRANT,
      log: createFakeLog(),
      salt,
      settings: look().settings,
      namespaces: null,
    },
    createMemories(),
  );
  world.deployments.create({ name: "resnet", finalizers: [FINALIZER], spec: deploymentSpec("v1") });
  const seen = async (): Promise<RolloutSeen> => {
    const observed = await observe(KEY, new AbortController().signal);
    if (!observed.ok || observed.value === null) throw new Error("nothing was observed");
    return observed.value;
  };
  const member = async (device: string): Promise<Member | undefined> =>
    (await seen()).members.find((one) => one.device === device);
  const key = objectKey(NAMESPACE, "cam-1");
  const edit = (more: object) => world.devices.edit(key, { spec: deviceSpec(more) });
  world.devices.create({ name: "cam-1", labels: { fleet: "cameras" }, spec: deviceSpec({ site: "north" }) });
  return { world, seen, member, edit, key };
}

test("where a device stands in a canary is what its tags say, also while they lag behind its object", async () => {
  const { world, member, edit } = setUp();
  world.advance(seconds(60));
  const tagged = bucketOf("edgefleet", "cam-1");
  expect(await member("cam-1")).toMatchObject({ tagged: true, site: "north", bucket: tagged });
  edit({ site: "south", deviceClass: "other" });
  expect(await member("cam-1")).toMatchObject({ site: "north", deviceClass: "jetson-orin-nano" });
  world.advance(seconds(60));
  expect(await member("cam-1")).toMatchObject({ site: "south", deviceClass: "other", bucket: tagged });
});

test("a device without tags has the bucket that its object remembers, and else the one that it will get", async () => {
  const { world, member, key } = setUp("another");
  expect(await member("cam-1")).toMatchObject({ tagged: false, bucket: bucketOf("another", "cam-1") });
  world.devices.setStatus(key, { bucket: 7 });
  expect(await member("cam-1")).toMatchObject({ tagged: false, bucket: 7 });
});

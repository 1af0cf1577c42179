import fc from "fast-check";
import { expect, test } from "vitest";
import { deviceSpec, edgeDevice, inferenceDeployment } from "../../test/builders/fleet.ts";
import { mergePatch } from "../../test/fakes/fake-registry.ts";
import type { EdgeDevice } from "../api/edge-device.ts";
import { bucketOf } from "../api/membership.ts";
import { OPEN_GRANT } from "../api/tenancy.ts";
import { instant } from "../base/time.ts";
import type { Json } from "../hub/hub.ts";
import { bucketFor, type DevicePlan, decideDevice, type HubRecord } from "./decide.ts";
import type { DeviceSeen, HubSeen } from "./seen.ts";
import { tagsPatch } from "./tags.ts";

const NEW = { finalizers: [] };
const RECORD: HubRecord = { host: "hub.test", deviceId: "cam-1", generationId: "life-1", adopted: false };
const OURS = { edgefleet: { managed: true, namespace: "plant-a", device: "cam-1", bucket: 7 } };
const THEIRS = { edgefleet: { managed: true, namespace: "plant-b", device: "other" } };

function present(tags: Json = {}, change: Partial<Extract<HubSeen, { kind: "present" }>> = {}): HubSeen {
  return {
    kind: "present",
    generationId: "life-1",
    enabled: true,
    iotEdge: true,
    identityEtag: null,
    etag: "1",
    tags,
    slots: {},
    ...change,
  };
}

function seen(device: EdgeDevice, hub: HubSeen, deployments = [inferenceDeployment()]): DeviceSeen {
  return {
    now: instant(0),
    device,
    deviceId: "cam-1",
    host: "hub.test",
    salt: "edgefleet",
    clusterId: "c1",
    succeeds: false,
    successor: null,
    handedTo: "none",
    deployments,
    hub,
    hubReachable: true,
    grant: OPEN_GRANT,
    mustWait: false,
  };
}

const kinds = (plan: DevicePlan) =>
  plan.kind === "blocked" ? plan.obstacle.kind : plan.actions.map(({ kind }) => kind);

test("an identity that is not there is created and tagged, the finalizer first", () => {
  const plan = decideDevice(seen(edgeDevice(NEW), { kind: "absent" }));
  expect(plan).toMatchObject({ kind: "keep", record: null, remember: { record: null, finalizer: true } });
  expect(kinds(plan)).toEqual(["createIdentity", "patchTags"]);
});

test("an identity that was there before is remembered as adopted before anything is written to it", () => {
  const plan = decideDevice(seen(edgeDevice(NEW), present()));
  const record = { ...RECORD, adopted: true };
  expect(plan).toMatchObject({ kind: "keep", record, remember: { record, finalizer: true } });
  expect(kinds(plan)).toEqual(["patchTags"]);
});

test.each<[string, EdgeDevice, Json, boolean]>([
  ["a pass that created it and died before it wrote a status", edgeDevice({ uid: "maker" }), {}, false],
  ["a finalizer that came with the manifest", edgeDevice(), {}, true],
  ["status that says we created it", edgeDevice({ status: { hub: RECORD } }), {}, false],
  [
    "status that says a creation was left without an answer",
    edgeDevice({ uid: "maker", status: { hub: { ...RECORD, generationId: "" } } }),
    {},
    false,
  ],
  [
    "status that says so, where it was created elsewhere meanwhile",
    edgeDevice({ status: { hub: { ...RECORD, generationId: "" } } }),
    {},
    true,
  ],
  [
    "status that says it was adopted",
    edgeDevice({ status: { hub: { ...RECORD, adopted: true } } }),
    {},
    true,
  ],
  [
    "status about an earlier life of it",
    edgeDevice({ status: { hub: { ...RECORD, generationId: "life-0" } } }),
    {},
    true,
  ],
  ["status about another hub", edgeDevice({ status: { hub: { ...RECORD, host: "old.test" } } }), {}, true],
  ["status that says nothing of it", edgeDevice({ status: { bucket: 1 } }), {}, true],
  [
    "no status, and tags that say we created it",
    edgeDevice(),
    { edgefleet: { ...OURS.edgefleet, adopted: false } },
    false,
  ],
  [
    "no status, and tags that say it was adopted",
    edgeDevice(),
    { edgefleet: { ...OURS.edgefleet, adopted: true } },
    true,
  ],
])("whose making it is: %s", (_, device, tags, adopted) => {
  expect(decideDevice(seen(device, present(tags, { madeFor: "maker" })))).toMatchObject({
    record: { generationId: "life-1", adopted },
  });
});

test.each([
  ["a disabled identity is enabled", deviceSpec(), { enabled: false }, ["setEnabled", "patchTags"]],
  ["an enabled one is disabled", deviceSpec({ enabled: false }), {}, ["setEnabled", "patchTags"]],
  ["an edge device stays one", deviceSpec({ iotEdge: false }), {}, "edgeMismatch"],
  [
    "tags of another EdgeDevice are left alone",
    deviceSpec({ enabled: false }),
    { tags: THEIRS },
    "ownedByAnother",
  ],
  [
    "a Secret is written when asked for",
    deviceSpec({ connectionSecret: { name: "s" } }),
    {},
    ["patchTags", "writeSecret"],
  ],
])("%s", (_, spec, change, expected) => {
  expect(kinds(decideDevice(seen(edgeDevice({ spec }), present({}, change))))).toEqual(expected);
});

test.each<[string, Partial<NonNullable<EdgeDevice["status"]>>, number, boolean]>([
  ["is written once", {}, 1, false],
  [
    "is written again for another life of the identity",
    { connectionSecret: { name: "s", generationId: "life-0" } },
    1,
    true,
  ],
  [
    "is written again under another name",
    { connectionSecret: { name: "t", generationId: "life-1" } },
    1,
    true,
  ],
  ["is looked at again for a new generation of the object", {}, 2, true],
])("a connection Secret %s", (_, status, generation, due) => {
  const device = edgeDevice({
    generation,
    spec: deviceSpec({ connectionSecret: { name: "s" } }),
    status: {
      observedGeneration: 1,
      hub: RECORD,
      connectionSecret: { name: "s", generationId: "life-1" },
      ...status,
    },
  });
  expect(kinds(decideDevice(seen(device, present(OURS)))).includes("writeSecret")).toBe(due);
});

const gone = (change: Partial<EdgeDevice> = {}) =>
  edgeDevice({ deleting: true, status: { hub: RECORD }, ...change });
const ADOPTED = { hub: { ...RECORD, adopted: true } };
const withPolicy = (deletionPolicy: "Delete" | "Retain") => deviceSpec({ deletionPolicy });

test.each<[string, EdgeDevice, HubSeen, readonly string[] | string]>([
  ["an identity that we created is removed", gone(), present(OURS), ["removeIdentity", "removeFinalizer"]],
  [
    "unless the policy says Retain",
    gone({ spec: withPolicy("Retain") }),
    present(OURS),
    ["withdraw", "removeFinalizer"],
  ],
  [
    "one that was adopted is retained",
    gone({ status: ADOPTED }),
    present(OURS),
    ["withdraw", "removeFinalizer"],
  ],
  [
    "unless the policy says Delete",
    gone({ status: ADOPTED, spec: withPolicy("Delete") }),
    present(OURS),
    ["removeIdentity", "removeFinalizer"],
  ],
  [
    "one that belongs to another EdgeDevice is not touched",
    gone({ spec: withPolicy("Delete") }),
    present(THEIRS),
    ["removeFinalizer"],
  ],
  [
    "one that was recreated without us is left alone",
    gone(),
    present({}, { generationId: "life-9" }),
    ["removeFinalizer"],
  ],
  ["one that is not there needs nothing", gone(), { kind: "absent" }, ["removeFinalizer"]],
  [
    "a hub that cannot be asked keeps the object",
    gone(),
    { kind: "unreadable", fault: { kind: "unavailable", message: "" } },
    "fault",
  ],
])("on deletion %s", (_, device, hub, expected) => {
  expect(kinds(decideDevice(seen(device, hub)))).toEqual(expected);
});

test("a pointer is looked for in every module that the tags, the twins or the placement name", () => {
  const tags = { edgefleet: { ...OURS.edgefleet, deployments: { tagged: "plant-a.x" } } };
  const pointer = { deployment: "plant-a.x", release: "r", digest: "d" };
  const slots = {
    "": { pointer, report: null },
    pointed: { pointer, report: null },
    idle: { pointer: null, report: null },
  };
  const placement = { deployment: "x", module: "placed", track: "Stable" } as const;
  const device = gone({ status: { ...ADOPTED, placement } });
  expect(decideDevice(seen(device, present(tags, { slots })))).toMatchObject({
    actions: [{ kind: "withdraw", modules: ["placed", "pointed", "tagged"] }, { kind: "removeFinalizer" }],
  });
});

test("the bucket is the one in our tags, else the one in status, else computed; never another owner's", () => {
  const computed = bucketOf("edgefleet", "cam-1");
  expect(bucketFor(seen(edgeDevice(), { kind: "absent" }))).toBe(computed);
  expect(bucketFor(seen(edgeDevice(), present(OURS)))).toBe(7);
  expect(bucketFor(seen(edgeDevice({ status: { bucket: 9 } }), present(OURS)))).toBe(7);
  expect(bucketFor(seen(edgeDevice({ status: { bucket: 9 } }), present()))).toBe(9);
  for (const bucket of [-1, 1.5, 1_000_000, "7"])
    expect(bucketFor(seen(edgeDevice(), present({ edgefleet: { ...OURS.edgefleet, bucket } })))).toBe(
      computed,
    );
  expect(bucketFor(seen(edgeDevice(), present({ edgefleet: { ...THEIRS.edgefleet, bucket: 3 } })))).toBe(
    computed,
  );
});

test("property: once the tags are written and the status says so, deciding again asks for nothing", () => {
  const spec = fc.record({
    enabled: fc.boolean(),
    site: fc.constantFrom("a", "b"),
    tags: fc.dictionary(fc.constantFrom("line", "zone"), fc.constantFrom("1", "2")),
  });
  const labels = fc.constantFrom({ line: "7" }, { line: "8" });
  fc.assert(
    fc.property(
      spec,
      labels,
      fc.boolean(),
      fc.constantFrom({}, { theirs: "x" }),
      (change, labelled, twice, tags) => {
        const device = edgeDevice({
          spec: deviceSpec(change),
          labels: labelled,
          status: { hub: RECORD, bucket: 7 },
        });
        const deployments = [
          inferenceDeployment(),
          ...(twice ? [inferenceDeployment({ name: "other" })] : []),
        ];
        const first = decideDevice(seen(device, present(tags), deployments));
        let [after, enabled]: [Json, boolean] = [tags, true];
        for (const action of first.kind === "keep" ? first.actions : []) {
          if (action.kind === "patchTags") after = mergePatch(after, tagsPatch(action.wanted, after) ?? {});
          if (action.kind === "setEnabled") enabled = action.enabled;
        }
        const second = decideDevice(seen(device, present(after, { enabled }), deployments));
        expect(kinds(first)).not.toEqual([]);
        expect(second).toMatchObject({
          kind: "keep",
          remember: { record: null, finalizer: false },
          actions: [],
        });
      },
    ),
  );
});

test("a tag is taken away with its deployment, and kept where that went without a deletion", () => {
  const device = edgeDevice();
  const bare = { ...wantedOwn(device), deployments: { inference: "plant-a.old" } };
  const old = inferenceDeployment({ name: "old", deleting: true });
  const tagsOf = (deployments: readonly (typeof old)[]) => {
    const plan = decideDevice(seen(device, present({ edgefleet: bare }), [...deployments]));
    return plan.kind === "keep" ? plan.actions.map(({ kind }) => kind) : plan;
  };
  expect(tagsOf([old])).toEqual(["patchTags"]);
  expect(tagsOf([])).toEqual([]);
});

function wantedOwn(device: EdgeDevice): Json {
  const plan = decideDevice(seen(device, present(OURS), []));
  if (plan.kind !== "keep") throw new Error("blocked");
  const patch = plan.actions.find((action) => action.kind === "patchTags");
  return patch === undefined ? {} : patch.wanted.own;
}

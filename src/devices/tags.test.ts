import fc from "fast-check";
import { expect, test } from "vitest";
import { edgeDevice, inferenceDeployment } from "../../test/builders/fleet.ts";
import { mergePatch } from "../../test/fakes/fake-registry.ts";
import { membershipsOf } from "../api/membership.ts";
import { isOwner, ownerOf } from "../api/ownership.ts";
import type { Json } from "../hub/hub.ts";
import {
  bareTagsPatch,
  deploymentsInTags,
  deselectedPatch,
  tagsPatch,
  type WantedTags,
  wantedTags,
} from "./tags.ts";

const FACTS = { clusterId: "c1", bucket: 42, adopted: false, pointed: null, orphaned: {} };
const device = edgeDevice({ spec: { ...edgeDevice().spec, tags: { line: "7", zone: "b" } } });
const resnet = inferenceDeployment();
const wanted = (current: Json = {}, deployments = [resnet], about = device) =>
  wantedTags(about, FACTS, membershipsOf(about, deployments), current);

test("a new twin gets all of our tags at once, and those that the spec asks for", () => {
  expect(tagsPatch(wanted(), {})).toEqual({
    line: "7",
    zone: "b",
    edgefleet: {
      managed: true,
      cluster: "c1",
      namespace: "plant-a",
      device: "cam-1",
      class: "jetson-nano",
      site: "plant-a",
      bucket: 42,
      iotEdge: true,
      adopted: false,
      keys: "line,zone",
      deployments: { inference: "plant-a.resnet50" },
    },
  });
});

test("a device without a site has an empty one, so that a condition can name it", () => {
  const { site: _, ...spec } = device.spec;
  expect(wanted({}, [], edgeDevice({ spec })).own.site).toBe("");
});

test("a device that no selector matches any more loses the tag of that module, and nothing else", () => {
  const before = mergePatch({}, tagsPatch(wanted(), {}) ?? {});
  expect(tagsPatch(wanted(before, []), before)).toEqual({ edgefleet: { deployments: { inference: null } } });
});

test("a module that two deployments want keeps the tag that it has", () => {
  const before = mergePatch({}, tagsPatch(wanted(), {}) ?? {});
  const rival = inferenceDeployment({ name: "mobilenet" });
  expect(tagsPatch(wanted(before, [resnet, rival]), before)).toBeNull();
  expect(wanted({}, [resnet, rival]).deployments).toEqual({});
});

test("a tag stays while its deployment is gone without a trace, or the next one has nothing to run yet", () => {
  const before = mergePatch({}, tagsPatch(wanted(), {}) ?? {});
  const orphaned = deploymentsInTags(before);
  expect(tagsPatch(wantedTags(device, { ...FACTS, orphaned }, [], before), before)).toBeNull();
  const next = inferenceDeployment({ name: "resnet50-line-7" });
  expect(tagsPatch(wanted(before, [next]), before)).toBeNull();
  const stable = { release: "resnet50-2.0.0", digests: [] };
  const serving = { ...next, status: { phase: "Completed" as const, stable } };
  expect(wanted(before, [serving]).deployments).toEqual({ inference: "plant-a.resnet50-line-7" });
});

test("a further tag that left the spec is taken away, one of another writer is not", () => {
  const before = mergePatch({ theirs: "x" }, tagsPatch(wanted(), {}) ?? {});
  const fewer = edgeDevice({ spec: { ...device.spec, tags: { line: "8" } } });
  expect(tagsPatch(wanted(before, [resnet], fewer), before)).toEqual({
    line: "8",
    zone: null,
    edgefleet: { keys: "line" },
  });
});

test("a tag edgefleet of another shape is replaced", () => {
  for (const edgefleet of ["x", 1, true, ["y"]])
    expect(mergePatch({ edgefleet }, tagsPatch(wanted(), { edgefleet }) ?? {})["edgefleet"]).toMatchObject({
      managed: true,
      deployments: { inference: "plant-a.resnet50" },
    });
});

test("tags of another EdgeDevice are distinguished from ours", () => {
  const tags = mergePatch({}, tagsPatch(wanted(), {}) ?? {});
  const owner = ownerOf(tags);
  expect(owner !== null && isOwner(device, owner, "c1")).toBe(true);
  expect(owner !== null && isOwner(edgeDevice({ name: "cam-2" }), owner, "c1")).toBe(false);
  expect(ownerOf({})).toBeNull();
  expect(ownerOf({ edgefleet: { managed: false, namespace: "plant-a", device: "cam-1" } })).toBeNull();
});

test("taking leave: first no condition selects the device, then nothing of ours is left", () => {
  const theirs = { theirs: "x" };
  const before = mergePatch(theirs, tagsPatch(wanted(), {}) ?? {});
  const deselected = mergePatch(before, deselectedPatch(before) ?? {});
  expect(deploymentsInTags(deselected)).toEqual({ inference: "" });
  expect(deselectedPatch(deselected)).toBeNull();
  const bare = mergePatch(deselected, bareTagsPatch(deselected) ?? {});
  expect(bare).toEqual(theirs);
  expect(bareTagsPatch(bare)).toBeNull();
});

const key = fc.constantFrom("line", "zone", "rack", "a-b", "__proto__");
const tagValue = fc.constantFrom("1", "2", "");
const anyWanted: fc.Arbitrary<WantedTags> = fc
  .record({
    site: fc.constantFrom("", "plant-a"),
    bucket: fc.nat(999_999),
    adopted: fc.boolean(),
    deployments: fc.dictionary(fc.constantFrom("inference", "audio"), fc.constantFrom("n.a", "n.b")),
    further: fc.dictionary(key, tagValue),
  })
  .map(({ deployments, further, ...own }) => ({
    own: {
      managed: true,
      cluster: "c1",
      namespace: "n",
      device: "d",
      class: "c",
      iotEdge: true,
      keys: Object.keys(further).sort().join(","),
      ...own,
    },
    deployments,
    further,
  }));
const junk = fc.oneof(tagValue, fc.integer(), fc.boolean(), fc.dictionary(key, tagValue));
const anyTags: fc.Arbitrary<Json> = fc.oneof(
  fc.dictionary(fc.constantFrom("line", "zone", "theirs", "edgefleet"), junk),
  anyWanted.map((had) => mergePatch({ theirs: "x" }, tagsPatch(had, {}) ?? {})),
);

test("property: whatever the tags were, applying the patch leaves nothing to patch", () => {
  fc.assert(
    fc.property(anyWanted, anyTags, (target, current) => {
      const patched = mergePatch(current, tagsPatch(target, current) ?? {});
      expect(tagsPatch(target, patched)).toBeNull();
      expect(deploymentsInTags(patched)).toEqual(target.deployments);
    }),
  );
});

test("property: tags that are not ours survive going from one wish to another", () => {
  fc.assert(
    fc.property(anyWanted, anyWanted, (first, second) => {
      const one = mergePatch({ theirs: "x" }, tagsPatch(first, { theirs: "x" }) ?? {});
      const two = mergePatch(one, tagsPatch(second, one) ?? {});
      const { edgefleet: _, ...rest } = two;
      expect(rest).toEqual({ theirs: "x", ...second.further });
      expect(mergePatch(two, bareTagsPatch(two) ?? {})).toEqual({ theirs: "x" });
    }),
  );
});

test("without IoT Edge a device stays with the deployment that it has, under the name of that one's module, until the next can serve it", () => {
  const plain = edgeDevice({ spec: { ...edgeDevice().spec, iotEdge: false } });
  const before = mergePatch({}, tagsPatch(wanted({}, [resnet], plain), {}) ?? {});
  const { spec } = resnet;
  const next = inferenceDeployment({ name: "next", spec: { ...spec, module: { name: "audio" } } });
  const stable = { release: "resnet50-2.0.0", digests: [] };
  const serving = { ...next, status: { phase: "Completed" as const, stable } };
  expect(wanted(before, [next], plain).deployments).toEqual({ inference: "plant-a.resnet50" });
  expect(wanted(before, [serving], plain).deployments).toEqual({ audio: "plant-a.next" });
  const renamed = inferenceDeployment({ spec: { ...spec, module: { name: "audio" } } });
  expect(wanted(before, [renamed], plain).deployments).toEqual({ audio: "plant-a.resnet50" });
});

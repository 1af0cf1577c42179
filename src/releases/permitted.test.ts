import fc from "fast-check";
import { expect, test } from "vitest";
import { GOLDEN, variant } from "../../test/builders/releases.ts";
import { createReleaseWorld } from "../../test/fakes/release-world.ts";
import { objectKey } from "../api/resource.ts";
import { BLOBS_ANNOTATION, grantOf, mayUseBlob } from "../api/tenancy.ts";
import type { Duration } from "../base/time.ts";
import type { VerifyReport } from "../verification/verification.ts";

const FP32 = variant("fp32");
const KEY = objectKey("plant-a", "resnet50-2.1.0");
const PASSED: VerifyReport = {
  kind: "passed",
  checks: [{ name: "Digest", outcome: "Passed" }],
  verifierVersion: "1.0.0",
};
const prefixes = (text: string) => grantOf({ [BLOBS_ANNOTATION]: text });

test.each([
  ["that is there", "fp32"],
  ["that is not there", null],
])(
  "a blob outside of the grant is not looked at, signed or verified, and reads the same: one %s",
  async (_what, bytes) => {
    const world = createReleaseWorld();
    if (bytes === null) world.blobs.remove(FP32.blob);
    world.granted.set("plant-a", prefixes("models/team-a/"));
    world.create();
    await world.pass();
    expect(world.calls.made()).toEqual(["releases.writeStatus"]);
    expect(world.verifier.begun()).toEqual([]);
    const message =
      "fp32: namespace plant-a is not permitted to use blob models/resnet50/2.1.0/fp32.onnx: ask its administrator to add a prefix of it to its annotation edgefleet.dev/blob-prefixes";
    expect(world.condition("Available")).toMatchObject({ status: "False", reason: "NotPermitted", message });
    expect(world.summary()).toEqual({
      Available: "False NotPermitted",
      Verified: "Unknown NotPermitted",
      Ready: "False NotPermitted",
      Stalled: "True NotPermitted",
    });
    expect(world.status().variants).toEqual([
      {
        name: "fp32",
        digest: FP32.digest,
        goldenDigest: GOLDEN.digest,
        verdict: "Pending",
        reason: "NotPermitted",
        message: message.replace("fp32: ", ""),
      },
    ]);
    expect(world.events()).toEqual(["Warning NotPermitted"]);
    world.calls.clear();
    await world.pass();
    expect(world.calls.made()).toEqual([]);
  },
);

test("what another release has learned of the same digest says nothing to one that may not read it", async () => {
  const world = createReleaseWorld();
  world.create();
  await world.pass();
  world.verifier.answer(FP32.digest, PASSED);
  await world.settle();
  world.granted.set("team-b", prefixes("models/team-b/"));
  const { spec } = world.releases.get(KEY)!;
  world.releases.create({ namespace: "team-b", name: "copy", spec });
  world.calls.clear();
  await world.pass(objectKey("team-b", "copy"));
  expect(world.calls.made()).toEqual(["releases.writeStatus"]);
  expect(world.releases.get(objectKey("team-b", "copy"))?.status?.variants).toMatchObject([
    { verdict: "Pending", reason: "NotPermitted" },
  ]);
});

test("the golden set and what it is compared with must be granted too", async () => {
  const world = createReleaseWorld();
  world.granted.set("plant-a", prefixes("models/resnet50/2.1.0/"));
  world.create();
  await world.pass();
  expect(world.condition("Ready")?.message).toContain("models/resnet50/golden.npz");

  const other = createReleaseWorld();
  const stolen = { container: "models", path: "team-b/model.onnx" };
  other.blobs.upload(stolen, Buffer.from("fp32"));
  other.releases.create({
    name: "theirs",
    spec: { model: "resnet50", version: "1", variants: [variant("fp32", { blob: stolen })] },
  });
  other.granted.set("plant-a", prefixes("models/resnet50/"));
  other.create({
    verification: {
      timeout: "5m" as Duration,
      golden: GOLDEN,
      parity: { with: "theirs", minimumAgreement: "1" },
    },
  });
  await other.pass();
  expect(other.condition("Ready")).toMatchObject({
    reason: "NotPermitted",
    message: expect.stringContaining("models/team-b/model.onnx"),
  });
  expect(other.verifier.begun()).toEqual([]);
});

test("a grant that comes later lets the release go on", async () => {
  const world = createReleaseWorld();
  world.granted.set("plant-a", prefixes(""));
  world.create();
  await world.pass();
  world.granted.set("plant-a", prefixes("models/resnet50"));
  await world.pass();
  world.verifier.answer(FP32.digest, PASSED);
  await world.settle();
  expect(world.summary()).toMatchObject({ Ready: "True VerificationPassed" });
});

test("a verdict stands when the grant is taken away, so that what runs goes on; it is not verified again", async () => {
  const world = createReleaseWorld();
  void world.create();
  await world.pass();
  world.verifier.answer(FP32.digest, PASSED);
  await world.settle();
  world.granted.set("plant-a", prefixes(""));
  world.releases.edit(KEY, { annotations: { "edgefleet.dev/reverify": "1" } });
  await world.pass();
  expect(world.status().variants).toMatchObject([{ verdict: "Passed" }]);
  expect(world.condition("Ready")).toMatchObject({ status: "False", reason: "NotPermitted" });
  expect(world.verifier.begun()).toHaveLength(1);
});

test("a report is kept only where the namespace may write it", async () => {
  const world = createReleaseWorld();
  world.granted.set("plant-a", prefixes("models/resnet50/2.1.0/fp32.onnx, models/resnet50/golden.npz"));
  void world.create();
  await world.pass();
  world.verifier.answer(FP32.digest, PASSED);
  await world.settle();
  expect(world.condition("ReportStored")).toMatchObject({ status: "False", reason: "NotPermitted" });
  expect([...world.blobs.documents().keys()]).toEqual([]);
  expect(world.summary()).toMatchObject({ Ready: "True VerificationPassed" });
});

test("whatever a release names, no URL is made for a blob outside of the grant", async () => {
  const path = fc
    .array(fc.constantFrom("team-a", "team-ab", "team-b", "..", ".", "", "x"), { minLength: 1, maxLength: 4 })
    .map((segments) => segments.join("/"));
  const blob = fc.oneof(
    fc.constant({ container: "models", path: "team-a/x" }),
    fc.record({ container: fc.constantFrom("models", "models2"), path }),
  );
  const grant = prefixes("models/team-a/");
  await fc.assert(
    fc.asyncProperty(blob, blob, blob, async (model, golden, compared) => {
      const world = createReleaseWorld();
      for (const each of [model, golden, compared]) world.blobs.upload(each, Buffer.from("fp32"));
      world.granted.set("plant-a", grant);
      world.releases.create({
        name: "other",
        spec: { model: "m", version: "1", variants: [variant("fp32", { blob: compared })] },
      });
      world.create({
        variants: [variant("fp32", { blob: model })],
        verification: {
          timeout: "5m" as Duration,
          golden: { ...GOLDEN, blob: golden },
          parity: { with: "other", minimumAgreement: "1" },
        },
      });
      await world.pass();
      const all = [model, golden, compared].every((each) => mayUseBlob(grant, each));
      expect(world.verifier.begun().length > 0).toBe(all);
      expect(world.calls.made().some((call) => call.startsWith("store."))).toBe(all);
    }),
    { numRuns: 200 },
  );
});

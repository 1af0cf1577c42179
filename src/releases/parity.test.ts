import fc from "fast-check";
import { expect, test } from "vitest";
import { GOLDEN, modelRelease, releaseSpec, variant } from "../../test/builders/releases.ts";
import { createReleaseWorld } from "../../test/fakes/release-world.ts";
import type { ModelRelease, Variant, Verification } from "../api/model-release.ts";
import { objectKey } from "../api/resource.ts";
import { digestOf } from "../base/digest.ts";
import { type Duration, instant, minutes, seconds, timestampOf } from "../base/time.ts";
import type { VerifyReport } from "../verification/verification.ts";
import { referencesOf } from "./references.ts";

const KEY = objectKey("plant-a", "resnet50-2.1.0");
const FP32 = variant("fp32");
const INT8 = variant("int8", { deviceClasses: ["jetson-nano"] });
const PASSED: VerifyReport = { kind: "passed", checks: [], verifierVersion: "1.0.0" };
const checks = (more: Partial<Verification>): Verification => ({
  timeout: "5m" as Duration,
  ...more,
});
const against = (name: string) => checks({ parity: { with: name, minimumAgreement: "0.99" } });

/** A release that passed `age` ago. */
function older(name: string, age: number, change: Partial<ModelRelease> = {}): ModelRelease {
  const variants = change.spec?.variants ?? [named(name)];
  return modelRelease({
    key: objectKey("plant-a", name),
    name,
    createdAt: instant(1_000_000 - age),
    spec: releaseSpec({ variants }),
    status: {
      observedGeneration: 1,
      variants: variants.map(({ name: which, digest }) => ({
        name: which,
        digest,
        verdict: "Passed",
        goldenDigest: GOLDEN.digest,
      })),
    },
    ...change,
  });
}

function named(release: string, which = "fp32", change: Partial<Variant> = {}): Variant {
  return {
    ...variant(which),
    blob: { container: "models", path: `${release}/${which}.onnx` },
    digest: digestOf(`${release} ${which}`),
    ...change,
  };
}

const subject = (verification = against("previous")) =>
  modelRelease({ createdAt: instant(1_000_000), spec: releaseSpec({ verification }) });
const found = (others: readonly ModelRelease[], release = subject(), which = FP32) =>
  referencesOf(release, which, null, others);

test("the previous release is the newest older one of the same model that has passed", () => {
  const other = releaseSpec({ model: "other", variants: [named("other")] });
  const failed = older("failed", 1);
  const releases = [
    subject(),
    older("oldest", 300),
    older("old", 200),
    older("other", 5, { spec: other }),
    older("going", 4, { deleting: true }),
    older("newer", -1),
    {
      ...failed,
      status: {
        ...failed.status,
        variants: [{ ...failed.status!.variants![0]!, verdict: "Failed" as const }],
      },
    },
    modelRelease({ name: "unverified", createdAt: instant(1_000_000 - 2), spec: releaseSpec() }),
  ];
  expect(found(releases)).toEqual({
    kind: "found",
    parity: { release: "old", variant: "fp32", ...pick(named("old")) },
    variantParity: null,
  });
  expect(found([subject()])).toEqual({ kind: "found", parity: null, variantParity: null });
});

function pick({ blob, digest }: Variant) {
  return { blob, digest };
}

test("of releases of one second the name decides, and their order in the cache decides nothing", () => {
  const releases = [
    older("resnet50-2.0.8", 0),
    older("resnet50-2.0.9", 0),
    older("resnet50-2.2.0", 0),
    older("a", 9),
  ];
  fc.assert(
    fc.property(fc.shuffledSubarray(releases, { minLength: 4 }), (shuffled) => {
      expect(found(shuffled)).toMatchObject({ parity: { release: "resnet50-2.0.9" } });
    }),
  );
});

test.each<[string, readonly Variant[], string | null]>([
  ["the variant of the same name", [named("old", "int8"), named("old", "fp32")], "fp32"],
  [
    "the variant for any class",
    [named("old", "int8", { deviceClasses: ["a"] }), named("old", "base")],
    "base",
  ],
  ["the only variant", [named("old", "int8", { deviceClasses: ["a"] })], "int8"],
  [
    "nothing, where none of several fits",
    [named("old", "int8", { deviceClasses: ["a"] }), named("old", "fp16", { deviceClasses: ["b"] })],
    null,
  ],
])("a variant is compared with %s", (_, variants, which) => {
  const references = found([older("old", 9, { spec: releaseSpec({ variants }) })]);
  expect(references.kind === "found" ? (references.parity?.variant ?? null) : "missing").toBe(which);
  const byName = found([older("old", 9, { spec: releaseSpec({ variants }) })], subject(against("old")));
  expect(byName.kind).toBe(which === null ? "missing" : "found");
});

test("the variant that others are held against is held against none", () => {
  const release = modelRelease({
    spec: releaseSpec({
      variants: [FP32, INT8],
      verification: checks({ variantParity: { reference: "fp32", minimumAgreement: "0.9" } }),
    }),
  });
  expect(found([release], release, FP32)).toMatchObject({ variantParity: null });
  expect(found([release], release, INT8)).toMatchObject({ variantParity: { digest: FP32.digest } });
});

// ── in the world

function parityWorld(verification: Verification, variants: readonly Variant[] = [FP32]) {
  const world = createReleaseWorld();
  const before = older("resnet50-2.0.0", 60_000);
  const addBefore = () => {
    world.blobs.upload(before.spec.variants[0]!.blob, Buffer.from("the old one"));
    world.releases.create({
      name: before.name,
      spec: before.spec,
      createdAt: before.createdAt,
      status: before.status!,
    });
  };
  const create = () =>
    world.releases.create({
      name: "resnet50-2.1.0",
      spec: releaseSpec({ verification, variants }),
      createdAt: instant(1_000_000),
    });
  return { world, before, addBefore, create };
}

test("the verifier is given the previous release to compare with, and the verdict remembers which", async () => {
  const { world, before, addBefore, create } = parityWorld(against("previous"));
  addBefore();
  create();
  await world.pass();
  const [request] = world.verifier.begun();
  expect(request?.parity).toMatchObject({
    name: "resnet50-2.0.0 (fp32)",
    digest: before.spec.variants[0]!.digest,
    sizeBytes: 11,
  });
  expect(world.blobs.open(request!.parity!.url)?.toString()).toBe("the old one");
  await world.settle(() => world.verifier.answer(FP32.digest, PASSED));
  expect(world.status().variants?.[0]?.comparedWith).toEqual({
    parity: { release: "resnet50-2.0.0", variant: "fp32", digest: before.spec.variants[0]!.digest },
  });
});

test("variants are compared with the one that is named", async () => {
  const { world, create } = parityWorld(
    checks({ variantParity: { reference: "fp32", minimumAgreement: "0.9" } }),
    [FP32, INT8],
  );
  create();
  await world.pass();
  const compared = world.verifier
    .begun()
    .map(({ model, variantParity }) => [model.digest, variantParity?.digest]);
  expect(compared).toEqual([
    [FP32.digest, undefined],
    [INT8.digest, FP32.digest],
  ]);
});

test("a release that comes or goes later changes neither what runs nor a verdict", async () => {
  const { world, before, addBefore, create } = parityWorld(against("previous"));
  create();
  await world.pass();
  expect(world.verifier.begun()[0]?.parity).toBeNull();
  addBefore();
  await world.pass();
  world.restart();
  await world.settle(() => world.verifier.answer(FP32.digest, PASSED));
  expect(world.verifier.begun()).toHaveLength(1);
  expect(world.status().variants?.[0]?.comparedWith).toEqual({});
  world.releases.remove(before.key);
  world.restart();
  await world.settle();
  expect(world.verifier.begun()).toHaveLength(1);
  expect(world.summary()["Ready"]).toBe("True VerificationPassed");
});

test("what goes while it is compared with is replaced by what is there now, and nothing else runs on", async () => {
  const { world, before, addBefore, create } = parityWorld(against("previous"));
  addBefore();
  create();
  await world.pass();
  world.releases.remove(before.key);
  await world.pass();
  expect(world.verifier.begun()).toHaveLength(2);
  expect(world.verifier.running()).toHaveLength(1);
  expect(world.verifier.running()[0]?.parity).toBeNull();
});

test("a named release that is not there is waited for, and said", async () => {
  const { world, addBefore, create } = parityWorld(against("resnet50-2.0.0"));
  create();
  expect(await world.pass()).toMatchObject({ kind: "wakeAfter" });
  expect(world.summary()).toEqual({
    Available: "True BlobFound",
    Verified: "Unknown ReferenceMissing",
    Ready: "Unknown ReferenceMissing",
    Reconciling: "True ReferenceMissing",
  });
  expect(world.condition("Ready")?.message).toBe(
    "fp32: it cannot be compared: ModelRelease resnet50-2.0.0 does not exist in the namespace; create it",
  );
  expect(world.events()).toEqual(["Warning ReferenceMissing"]);
  const version = world.releases.get(KEY)?.resourceVersion;
  await world.pass();
  expect(world.releases.get(KEY)?.resourceVersion).toBe(version);
  addBefore();
  await world.settle(() => world.verifier.answer(FP32.digest, PASSED));
  expect(world.summary()["Ready"]).toBe("True VerificationPassed");
});

test("a release that names itself reports so", async () => {
  const { world, create } = parityWorld(against("resnet50-2.1.0"));
  create();
  await world.pass();
  expect(world.condition("Ready")).toMatchObject({
    reason: "ReferenceMissing",
    message: "fp32: it cannot be compared: resnet50-2.1.0 is this release itself",
  });
});

test("a model to compare with that is not in the store is waited for", async () => {
  const { world, before, addBefore, create } = parityWorld(against("previous"));
  addBefore();
  world.blobs.remove(before.spec.variants[0]!.blob);
  create();
  await world.pass();
  expect(world.condition("Verified")).toMatchObject({ status: "Unknown", reason: "ReferenceMissing" });
  expect(world.condition("Verified")?.message).toContain(
    "the model models/resnet50-2.0.0/fp32.onnx of resnet50-2.0.0 (fp32) is not in the store; upload it",
  );
  expect(world.verifier.begun()).toEqual([]);
});

// ── URLs that expire in the queue

test("a verification that waited longer than its URLs live is started again at once, and nothing has failed", async () => {
  const { world, create } = parityWorld(checks({}));
  create();
  await world.pass();
  await world.clock.advance(minutes(70));
  await world.pass();
  world.verifier.answer(FP32.digest, { kind: "error", reason: "StoreDenied", message: "403" });
  expect(await world.pass()).toMatchObject({ kind: "wakeAfter" });
  expect(world.verifier.begun()).toHaveLength(2);
  expect(world.status().variants).toMatchObject([{ verdict: "Running" }]);
  expect(world.status().variants?.[0]).not.toHaveProperty("attempts");
  expect(world.blobs.open(world.verifier.begun()[1]!.model.url)?.toString()).toBe("fp32");
  // A store that denies fresh URLs is another matter.
  await world.clock.advance(seconds(5));
  world.verifier.answer(FP32.digest, { kind: "error", reason: "StoreDenied", message: "403" });
  expect(await world.pass()).toMatchObject({ kind: "retry" });
  expect(world.status().variants).toMatchObject([
    { verdict: "Error", attempts: 1, retryAt: timestampOf(instant(world.clock.now() + 10_000)) },
  ]);
});

test("what two releases wait for is not cancelled with one of them", async () => {
  const { world, create } = parityWorld(checks({}));
  create();
  const twin = world.releases.create({
    name: "twin",
    spec: releaseSpec({ verification: checks({}), variants: [FP32] }),
  });
  await world.pass();
  await world.pass(twin.key);
  expect(world.verifier.begun()).toHaveLength(1);
  world.releases.remove(KEY);
  await world.pass();
  expect(world.verifier.running()).toHaveLength(1);
  world.releases.remove(twin.key);
  await world.pass(twin.key);
  expect(world.verifier.running()).toEqual([]);
});

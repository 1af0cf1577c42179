import { expect, test } from "vitest";
import { releaseSpec, variant } from "../../test/builders/releases.ts";
import { createReleaseWorld } from "../../test/fakes/release-world.ts";
import { findCondition } from "../api/condition.ts";
import { objectKey } from "../api/resource.ts";
import type { VerifyReport } from "../verification/verification.ts";

// Passed means that this blob has these bytes: another blob of the same digest is another question.

const FP32 = variant("fp32");
const COPY = objectKey("plant-a", "copy");
const ELSEWHERE = { container: "models", path: "elsewhere/model.onnx" };
const PASSED: VerifyReport = {
  kind: "passed",
  checks: [{ name: "Digest", outcome: "Passed" }],
  verifierVersion: "1.0.0",
};

async function withOnePassed() {
  const world = createReleaseWorld();
  world.create();
  await world.pass();
  world.verifier.answer(FP32.digest, PASSED);
  await world.settle();
  expect(world.summary()).toMatchObject({ Verified: "True VerificationPassed" });
  const copy = () =>
    world.releases.create({
      name: "copy",
      spec: releaseSpec({ variants: [variant("fp32", { blob: ELSEWHERE })] }),
    });
  const condition = (type: string) => {
    const found = findCondition(world.releases.get(COPY)?.status?.conditions, type);
    return `${found?.status} ${found?.reason}`;
  };
  return { world, copy, condition };
}

test("a release whose blob is not there does not pass because its digest did elsewhere", async () => {
  const { world, copy, condition } = await withOnePassed();
  copy();
  await world.pass(COPY);
  expect(condition("Available")).toBe("False BlobMissing");
  expect(condition("Verified")).toBe("Unknown BlobMissing");
  expect(world.releases.get(COPY)?.status?.variants).toMatchObject([{ verdict: "Pending" }]);
});

test("a blob under another path is verified itself, whatever is known of its digest", async () => {
  const { world, copy, condition } = await withOnePassed();
  world.blobs.upload(ELSEWHERE, Buffer.from("garbage"));
  copy();
  await world.pass(COPY);
  expect(condition("Verified")).toBe("Unknown VerificationRunning");
  const requests = world.verifier.begun();
  expect(requests).toHaveLength(2);
  expect(requests[1]?.model.url).toContain("elsewhere/model.onnx");
});

test("two releases of one blob have one verification together", async () => {
  const { world, condition } = await withOnePassed();
  world.releases.create({ name: "copy", spec: releaseSpec() });
  await world.pass(COPY);
  await world.pass(COPY);
  expect(condition("Verified")).toBe("True VerificationPassed");
  expect(world.verifier.begun()).toHaveLength(1);
});

test("the verdict says which state of the blob it is about, and the verifier reads that state only", async () => {
  const { world } = await withOnePassed();
  const blob = await world.blobs.stat(FP32.blob, new AbortController().signal);
  const etag = blob.ok ? blob.value?.etag : undefined;
  expect(etag).toMatch(/^"sha256:/);
  expect(world.status().variants).toMatchObject([{ verdict: "Passed", etag }]);
  expect(world.verifier.begun()).toMatchObject([{ model: { etag } }]);
});

test("a blob that is replaced while it is verified is verified again, and the old verdict is not its own", async () => {
  const world = createReleaseWorld();
  world.create();
  await world.pass();
  world.blobs.upload(FP32.blob, Buffer.from("other"));
  world.verifier.answer(FP32.digest, { kind: "error", reason: "StoreUnavailable", message: "replaced" });
  await world.pass();
  expect(world.status().variants).toMatchObject([{ verdict: "Error" }]);
  await world.clock.advance(60_000 as never);
  await world.pass();
  expect(world.verifier.begun()).toHaveLength(2);
  const [first, second] = world.verifier.begun();
  expect(second?.model.etag).not.toBe(first?.model.etag);
});

test("a verdict that does not say which state of the blob it is about is due", async () => {
  const { world } = await withOnePassed();
  const key = objectKey("plant-a", "resnet50-2.1.0");
  const status = world.releases.get(key)?.status ?? {};
  const unbound = (status.variants ?? []).map(({ etag: _, ...rest }) => rest);
  world.releases.setStatus(key, { ...status, variants: unbound });
  await world.pass();
  expect(world.status().variants).toMatchObject([
    { verdict: "Passed", reverification: { verdict: "Running" } },
  ]);
  world.verifier.answer(FP32.digest, PASSED);
  await world.settle();
  expect(world.status().variants?.[0]?.etag).toMatch(/^"sha256:/);
});

import type { ModelReleaseSpec } from "../../src/api/model-release.ts";
import { objectKey } from "../../src/api/resource.ts";
import { grantOf } from "../../src/api/tenancy.ts";
import type { Fault } from "../../src/base/fault.ts";
import { seconds } from "../../src/base/time.ts";
import type { VerifyReport } from "../../src/verification/verification.ts";
import { releaseSpec, variant } from "../builders/releases.ts";
import { createReleaseWorld } from "../fakes/release-world.ts";
import { type Case, CURRENT, type Expected, LEAVING, MOVING, STUCK, UNSEEN } from "./recorded-case.ts";

const KEY = objectKey("plant-a", "resnet50-2.1.0");
const FP32 = variant("fp32");
const AWAY: Fault = { kind: "unavailable", message: "503" };
const DENIED: Fault = { kind: "denied", message: "403" };
const PASSED: VerifyReport = {
  kind: "passed",
  checks: [{ name: "Digest", outcome: "Passed" }],
  verifierVersion: "1.0.0",
};
const FAILED: VerifyReport = {
  kind: "failed",
  reason: "AccuracyTooLow",
  message: "91 % of the golden samples are right, and 95 % are required",
  checks: [{ name: "Golden", outcome: "Failed", measured: "0.91", bound: "0.95" }],
  verifierVersion: "1.0.0",
};
const BROKEN: VerifyReport = { kind: "error", reason: "VerificationError", message: "no space left" };

type World = ReturnType<typeof createReleaseWorld>;

/** What happens to a release after it was created; after each step comes a pass. */
type Step = (world: World) => void | Promise<void>;

async function recorded(
  name: string,
  expected: Expected,
  steps: readonly Step[],
  spec: Partial<ModelReleaseSpec> = {},
): Promise<Case> {
  const world = createReleaseWorld();
  world.create(spec);
  for (const step of steps) {
    await step(world);
    await world.pass();
  }
  return { name, kind: "ModelRelease", resource: world.releases.get(KEY)!, expected };
}

const nothing: Step = () => {};
const answer =
  (report: VerifyReport): Step =>
  (world) =>
    world.verifier.answer(FP32.digest, report);
const fails =
  (call: string, fault: Fault): Step =>
  (world) =>
    world.calls.breakAll(call, fault);
const again: Step = async (world) => {
  await world.clock.advance(seconds(1200));
};

/** ModelReleases: every reason of Ready that is not a verdict of the verifier, and one that is. */
export async function recordedReleases(): Promise<readonly Case[]> {
  const created = createReleaseWorld().create();
  const passed = await recorded("passed", CURRENT("VerificationPassed"), [nothing, answer(PASSED)]);
  return [
    { name: "just-created", kind: "ModelRelease", resource: created, expected: UNSEEN },
    await recorded("verifying", MOVING("VerificationRunning"), [nothing]),
    passed,
    await recorded("failed", STUCK("AccuracyTooLow"), [nothing, answer(FAILED)]),
    await recorded("verification-ended-with-an-error", MOVING("VerificationError"), [
      nothing,
      answer(BROKEN),
    ]),
    await recorded("five-errors", STUCK("VerificationError"), [
      nothing,
      ...Array.from({ length: 5 }, () => [answer(BROKEN), again])
        .flat()
        .slice(0, -1),
    ]),
    await recorded("blob-missing", MOVING("BlobMissing"), [(world) => world.blobs.remove(FP32.blob)]),
    await recorded("store-unavailable", MOVING("StoreUnavailable"), [fails("store.stat", AWAY)]),
    await recorded("store-denied", STUCK("StoreDenied"), [fails("store.stat", DENIED)]),
    await recorded("verifier-unavailable", MOVING("VerifierUnavailable"), [fails("verifier.start", AWAY)]),
    await recorded("not-permitted", STUCK("NotPermitted"), [
      (world) => {
        world.granted.set("plant-a", grantOf({}));
      },
    ]),
    await recorded("reference-missing", MOVING("ReferenceMissing"), [nothing], {
      verification: { ...releaseSpec().verification!, parity: { with: "resnet50-2.0.0" } },
    }),
    await recorded("verifying-again", CURRENT("VerificationPassed"), [
      nothing,
      answer(PASSED),
      (world) => {
        world.verifier.setVersion("1.1.0");
        world.restart();
      },
    ]),
    {
      name: "being-deleted",
      kind: "ModelRelease",
      resource: { ...passed.resource, deleting: true, finalizers: ["example.com/backup"] },
      expected: LEAVING("VerificationPassed"),
    },
  ];
}

import { expect, test } from "vitest";
import { GOLDEN, releaseSpec, variant } from "../../test/builders/releases.ts";
import { createCalls, type Mishap } from "../../test/fakes/calls.ts";
import { createReleaseWorld } from "../../test/fakes/release-world.ts";
import { objectKey } from "../api/resource.ts";
import type { Fault } from "../base/fault.ts";
import { instant, millis, minutes, seconds } from "../base/time.ts";
import type { Outcome } from "../runtime/outcome.ts";
import type { VerifyReport } from "../verification/verification.ts";

const KEY = objectKey("plant-a", "resnet50-2.1.0");
const FP32 = variant("fp32");
const INT8 = variant("int8", { deviceClasses: ["jetson-nano"] });
const PASSED: VerifyReport = {
  kind: "passed",
  checks: [{ name: "Digest", outcome: "Passed" }],
  verifierVersion: "1.0.0",
};
const FAILED: VerifyReport = {
  kind: "failed",
  reason: "LatencyTooHigh",
  message: "p95 250ms > 100ms",
  checks: [{ name: "Latency", outcome: "Failed", measured: "250ms", bound: "100ms" }],
  verifierVersion: "1.0.0",
};
const BROKEN: VerifyReport = { kind: "error", reason: "VerificationError", message: "no space left" };

test("a release is started, looked at soon, and passes", async () => {
  const world = createReleaseWorld();
  world.create();
  expect(await world.pass()).toEqual({
    kind: "wakeAfter",
    delay: millis(1500),
    why: "a verification is running",
  });
  expect(world.summary()).toEqual({
    Available: "True BlobFound",
    Verified: "Unknown VerificationRunning",
    Ready: "Unknown VerificationRunning",
    Reconciling: "True VerificationRunning",
  });
  world.verifier.answer(FP32.digest, PASSED);
  expect(await world.pass()).toEqual({ kind: "settled" });
  expect(world.summary()).toEqual({
    Available: "True BlobFound",
    Verified: "True VerificationPassed",
    Ready: "True VerificationPassed",
  });
  expect(world.status()).toMatchObject({
    observedGeneration: 1,
    variants: [
      {
        name: "fp32",
        verdict: "Passed",
        sizeBytes: 4,
        verifierVersion: "1.0.0",
        goldenDigest: GOLDEN.digest,
      },
    ],
  });
  expect(world.events()).toEqual(["Normal VerificationPassed"]);
});

test("each verdict is counted once, and timed where its start was seen", async () => {
  const world = createReleaseWorld();
  const verdict = { verdict: "Passed", reason: "VerificationPassed" };
  world.create();
  await world.pass();
  expect(world.meter.value("edgefleet_verifications_total", verdict)).toBe(0);
  world.verifier.answer(FP32.digest, PASSED);
  await world.settle();
  await world.pass();
  expect(world.meter.value("edgefleet_verifications_total", verdict)).toBe(1);
  expect(world.meter.value("edgefleet_verification_duration_seconds", { verdict: "Passed" })).toBe(1);
});

test("the verifier gets URLs that open the blobs for an hour, and they are visible nowhere else", async () => {
  const world = createReleaseWorld();
  world.create();
  await world.pass();
  const [request] = world.verifier.begun();
  expect(request).toMatchObject({
    model: { digest: FP32.digest, sizeBytes: 4 },
    golden: { digest: GOLDEN.digest, sizeBytes: 6 },
    checks: { timeout: "5m", golden: { minimumAccuracy: "0.95" } },
  });
  expect(world.blobs.open(request!.model.url)?.toString()).toBe("fp32");
  expect(world.blobs.open(request!.golden!.url)?.toString()).toBe("golden");
  expect(Math.max(...world.expiries)).toBeLessThanOrEqual(minutes(60));
  const told = JSON.stringify([world.releases.list(), world.recorder.drafts()]);
  expect(told).not.toContain("sig");
  expect(told).not.toContain("https");
});

test("a verdict stands: from then on nothing is asked but, by a new process, the verifier's version", async () => {
  const world = createReleaseWorld();
  world.create();
  await world.settle(() => world.verifier.answer(FP32.digest, PASSED));
  const version = world.releases.get(KEY)?.resourceVersion;
  world.verifier.forget();
  world.restart();
  world.calls.clear();
  await world.pass();
  await world.pass();
  expect(world.calls.made()).toEqual(["verifier.version"]);
  expect(world.releases.get(KEY)?.resourceVersion).toBe(version);
});

test("one failed variant fails the release, and says what and by how much", async () => {
  const world = createReleaseWorld();
  world.create({ variants: [FP32, INT8] });
  await world.pass();
  world.verifier.answer(INT8.digest, FAILED);
  expect(await world.pass()).toMatchObject({ kind: "wakeAfter" });
  expect(world.summary()).toMatchObject({ Verified: "False LatencyTooHigh", Stalled: "True LatencyTooHigh" });
  expect(world.condition("Verified")?.message).toBe(
    "int8: p95 250ms > 100ms; create a new release with a corrected model",
  );
  world.verifier.answer(FP32.digest, PASSED);
  await world.settle();
  expect(world.summary()).toEqual({
    Available: "True BlobFound",
    Verified: "False LatencyTooHigh",
    Ready: "False LatencyTooHigh",
    Stalled: "True LatencyTooHigh",
  });
  expect(world.events()).toEqual(["Warning VerificationFailed"]);
  world.calls.clear();
  await world.pass();
  expect(world.calls.made()).toEqual([]);
});

test("all variants must pass", async () => {
  const world = createReleaseWorld();
  world.create({ variants: [FP32, INT8] });
  await world.pass();
  world.verifier.answer(FP32.digest, PASSED);
  await world.pass();
  expect(world.summary()).toMatchObject({ Verified: "Unknown VerificationRunning" });
  world.verifier.answer(INT8.digest, PASSED);
  await world.pass();
  expect(world.summary()).toMatchObject({ Verified: "True VerificationPassed" });
});

test("a failed release is judged again by another version of the verifier", async () => {
  const world = createReleaseWorld();
  world.create();
  await world.settle(() => world.verifier.answer(FP32.digest, FAILED));
  world.restart();
  await world.settle();
  expect(world.summary()["Verified"]).toBe("False LatencyTooHigh");
  world.verifier.setVersion("1.1.0");
  world.restart();
  await world.pass();
  expect(world.summary()).toMatchObject({
    Verified: "False LatencyTooHigh",
    Reverifying: "True VerificationRunning",
  });
  world.verifier.answer(FP32.digest, { ...PASSED, verifierVersion: "1.1.0" });
  await world.settle();
  expect(world.summary()).toEqual({
    Available: "True BlobFound",
    Verified: "True VerificationPassed",
    Ready: "True VerificationPassed",
  });
});

test("a failed verdict stands while the verifier is away", async () => {
  const world = createReleaseWorld();
  world.create();
  await world.settle(() => world.verifier.answer(FP32.digest, FAILED));
  world.restart();
  world.calls.breakAll("verifier.version", { kind: "unavailable", message: "no socket" });
  expect(await world.pass()).toMatchObject({ kind: "wakeAfter" });
  expect(world.summary()["Verified"]).toBe("False LatencyTooHigh");
});

test.each([
  ["model", FP32.blob, "the model models/resnet50/2.1.0/fp32.onnx is not in the store; upload it"],
  ["golden set", GOLDEN.blob, "the golden set models/resnet50/golden.npz is not in the store; upload it"],
])("a missing %s is waited for", async (_, blob, words) => {
  const world = createReleaseWorld();
  world.blobs.remove(blob);
  world.create();
  const outcome = await world.pass();
  expect(outcome).toEqual({ kind: "wakeAfter", delay: seconds(35), why: "a blob is missing" });
  expect(world.summary()).toEqual({
    Available: "False BlobMissing",
    Verified: "Unknown BlobMissing",
    Ready: "False BlobMissing",
    Reconciling: "True BlobMissing",
  });
  expect(world.condition("Available")?.message).toContain(words);
  expect(world.verifier.begun()).toEqual([]);
  expect(world.events()).toEqual(["Warning BlobMissing"]);
  world.blobs.upload(blob, Buffer.from("here"));
  await world.settle(() => world.verifier.answer(FP32.digest, PASSED));
  expect(world.summary()["Ready"]).toBe("True VerificationPassed");
});

test("an error on our side is retried ever more slowly, is never a verdict, and calls for a person in the end", async () => {
  const world = createReleaseWorld();
  world.create();
  const waits: number[] = [];
  for (let attempt = 1; attempt <= 6; attempt += 1) {
    expect(await world.pass()).toMatchObject({ kind: "wakeAfter" }); // started
    world.verifier.answer(FP32.digest, BROKEN);
    const outcome = await world.pass();
    expect(outcome.kind).toBe("retry");
    const wait = outcome.kind === "retry" ? (outcome.atLeast ?? millis(0)) : millis(0);
    waits.push(wait / 1000);
    expect(world.status().variants).toMatchObject([{ verdict: "Error", attempts: attempt }]);
    expect(world.summary()).toMatchObject({
      Available: "True BlobFound",
      Verified: "Unknown VerificationError",
    });
    expect(world.condition("Stalled") !== undefined).toBe(attempt >= 5);
    world.calls.clear();
    expect(await world.pass()).toMatchObject({ kind: "retry" });
    expect(world.calls.made()).toEqual([]);
    await world.clock.advance(millis(wait));
  }
  expect(waits).toEqual([10, 20, 40, 80, 160, 320]);
  expect(world.verifier.begun()).toHaveLength(6);
  expect(world.condition("Verified")?.message).toContain("no space left");
  await world.settle(() => world.verifier.answer(FP32.digest, PASSED));
  expect(world.status().variants).toMatchObject([{ verdict: "Passed" }]);
  expect(world.status().variants?.[0]).not.toHaveProperty("attempts");
});

test("a sidecar that has forgotten is asked again", async () => {
  const world = createReleaseWorld();
  world.create();
  await world.pass();
  world.verifier.forget();
  await world.pass();
  expect(world.verifier.begun()).toHaveLength(2);
  expect(world.summary()["Verified"]).toBe("Unknown VerificationRunning");
});

test("what an object that is being deleted waited for is cancelled, and it needs no finalizer", async () => {
  const world = createReleaseWorld();
  world.create();
  await world.pass();
  expect(world.releases.get(KEY)?.finalizers).toEqual([]);
  world.releases.remove(KEY);
  world.calls.clear();
  expect(await world.pass()).toEqual({ kind: "settled" });
  expect(world.calls.made()).toEqual(["verifier.cancel"]);
  expect(world.verifier.running()).toEqual([]);
  await world.pass();
  expect(world.calls.made()).toEqual(["verifier.cancel"]);
});

test("a verdict of another generation is none", async () => {
  const world = createReleaseWorld();
  world.create();
  await world.settle(() => world.verifier.answer(FP32.digest, PASSED));
  world.releases.edit(KEY, {
    spec: releaseSpec({
      verification: { ...releaseSpec().verification!, golden: { ...GOLDEN, minimumAccuracy: "0.99" } },
    }),
  });
  await world.pass();
  expect(world.summary()["Verified"]).toBe("Unknown VerificationRunning");
});

const SLOW: Fault = { kind: "throttled", retryAfter: seconds(7), message: "slow" };
const AWAY: Fault = { kind: "unavailable", message: "no socket" };
const REFUSED: Fault = { kind: "denied", message: "403" };
const WRONG: Fault = { kind: "rejected", message: "unknown field" };

test.each<[string, Fault, string, Outcome["kind"]]>([
  ["store.stat", AWAY, "StoreUnavailable", "retry"],
  ["store.stat", SLOW, "StoreUnavailable", "retry"],
  ["store.stat", REFUSED, "StoreDenied", "retry"],
  ["store.readUrl", AWAY, "StoreUnavailable", "retry"],
  ["store.readUrl", REFUSED, "StoreDenied", "retry"],
  ["verifier.version", AWAY, "VerifierUnavailable", "retry"],
  ["verifier.look", AWAY, "VerifierUnavailable", "retry"],
  ["verifier.start", AWAY, "VerifierUnavailable", "retry"],
  ["verifier.start", SLOW, "VerifierUnavailable", "retry"],
  ["verifier.start", WRONG, "VerificationError", "stalled"],
])("a fault at %s (%o) is said as %s and is no verdict", async (call, fault, reason, outcome) => {
  const world = createReleaseWorld();
  world.create();
  world.calls.breakAll(call, fault);
  expect((await world.pass()).kind).toBe(outcome);
  expect(world.condition("Verified")).toMatchObject({ status: "Unknown", reason });
  expect(world.condition("Ready")).toMatchObject({ status: "Unknown" });
  expect(world.status().variants).toMatchObject([{ verdict: "Pending", reason }]);
  const version = world.releases.get(KEY)?.resourceVersion;
  world.calls.breakAll(call, { ...fault, message: `${fault.message} (another request id)` });
  await world.pass();
  expect(world.releases.get(KEY)?.resourceVersion).toBe(version);
  world.calls.heal();
  await world.settle(() => world.verifier.answer(FP32.digest, PASSED));
  expect(world.summary()["Ready"]).toBe("True VerificationPassed");
});

test("of two variants the one that was started stays started where the start of the other fails", async () => {
  const variants = [variant("fp32"), variant("int8")];
  const tried = createReleaseWorld();
  tried.create({ variants });
  await tried.pass();
  const world = createReleaseWorld();
  world.create({ variants });
  world.calls.spoil(tried.calls.made().lastIndexOf("verifier.start"), { kind: "fault", fault: AWAY });
  expect((await world.pass()).kind).toBe("retry");
  expect(world.status().variants).toMatchObject([
    { name: "fp32", verdict: "Running" },
    { name: "int8", verdict: "Pending", reason: "VerifierUnavailable" },
  ]);
});

test("a verifier that is away does not hide that the blob is missing", async () => {
  const world = createReleaseWorld();
  world.blobs.remove(FP32.blob);
  world.create();
  world.calls.breakAll("verifier.look", AWAY);
  await world.pass();
  expect(world.summary()).toMatchObject({ Available: "False BlobMissing" });
});

const MISHAPS: readonly Mishap[] = [
  { kind: "crash", when: "before" },
  { kind: "crash", when: "after" },
  { kind: "lost" },
  { kind: "fault", fault: AWAY },
  { kind: "fault", fault: SLOW },
  { kind: "fault", fault: { kind: "conflict", message: "changed" } },
];

async function endOf(mishap: Mishap | null, at: number) {
  const calls = createCalls();
  const world = createReleaseWorld(calls);
  world.create({ variants: [FP32, INT8] });
  if (mishap !== null) calls.spoil(at, mishap);
  await world.settle(() => {
    world.verifier.answer(FP32.digest, PASSED);
    world.verifier.answer(INT8.digest, FAILED);
  });
  const { variants = [], conditions = [] } = world.status();
  const end = {
    variants: variants.map(({ verifiedAt: _, ...rest }) => rest),
    conditions: conditions.map(({ lastTransitionTime: _, ...rest }) => rest),
    begun: world.verifier.begun().length,
  };
  return { end, pending: calls.pending() };
}

test("whatever call goes wrong however, the verdict is the same, and each model runs once", async () => {
  const { end } = await endOf(null, 0);
  expect(end.begun).toBe(2);
  for (const mishap of MISHAPS) {
    let at = 0;
    for (; at < 40; at += 1) {
      const told = await endOf(mishap, at);
      expect(told.end, `${JSON.stringify(mishap)} at call ${at}`).toEqual(end);
      if (told.pending) break;
    }
    expect(at).toBeGreaterThan(8);
    expect(at).toBeLessThan(40);
  }
});

test("time that stands still starts nothing twice", async () => {
  const world = createReleaseWorld();
  world.create();
  for (let passes = 0; passes < 5; passes += 1) await world.pass();
  expect(world.verifier.begun()).toHaveLength(1);
  expect(world.clock.now()).toBe(instant(Date.UTC(2026, 0, 1)));
});

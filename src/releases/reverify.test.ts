import { expect, test } from "vitest";
import { releaseSpec, variant } from "../../test/builders/releases.ts";
import { createCalls, type Mishap } from "../../test/fakes/calls.ts";
import { createReleaseWorld } from "../../test/fakes/release-world.ts";
import type { Verification } from "../api/model-release.ts";
import { objectKey } from "../api/resource.ts";
import { digestOf } from "../base/digest.ts";
import type { Fault } from "../base/fault.ts";
import { type Duration, millis, minutes, timestampOf } from "../base/time.ts";
import type { VerifyReport } from "../verification/verification.ts";

const KEY = objectKey("plant-a", "resnet50-2.1.0");
const FP32 = variant("fp32");
const INT8 = variant("int8", { deviceClasses: ["jetson-nano"] });
const HOUR = minutes(60);
const PASSED: VerifyReport = {
  kind: "passed",
  checks: [{ name: "Digest", outcome: "Passed" }],
  verifierVersion: "1.0.0",
};
const FAILED: VerifyReport = {
  kind: "failed",
  reason: "LatencyTooHigh",
  message: "it is slow",
  checks: [
    { name: "Digest", outcome: "Passed" },
    { name: "Latency", outcome: "Failed", measured: "p95 250 ms", bound: "p95 ≤ 100 ms" },
  ],
  verifierVersion: "1.0.0",
};
const BROKEN: VerifyReport = { kind: "error", reason: "VerificationError", message: "no space left" };
const AWAY: Fault = { kind: "unavailable", message: "no socket" };

type World = ReturnType<typeof createReleaseWorld>;
const ask = (world: World, token: string) =>
  world.releases.edit(KEY, { annotations: { "edgefleet.dev/reverify": token } });
const every = (reverify: Verification["reverify"]) => ({
  verification: { timeout: "5m" as Duration, ...(reverify === undefined ? {} : { reverify }) },
});

async function verified(change: Parameters<World["create"]>[0] = {}): Promise<World> {
  const world = createReleaseWorld();
  world.create(change);
  await world.pass();
  world.verifier.answer(FP32.digest, PASSED);
  await world.pass(); // the verdict
  await world.pass(); // its report
  return world;
}

test("a person asks for another verification by a new token: the verdict stands until there is another", async () => {
  const world = await verified();
  ask(world, "monday");
  await world.pass();
  expect(world.summary()).toMatchObject({
    Verified: "True VerificationPassed",
    Ready: "True VerificationPassed",
    Reverifying: "True VerificationRunning",
  });
  expect(world.condition("Ready")?.message).toBe("passed: fp32; being verified again: fp32");
  expect(world.condition("Reverifying")?.message).toBe("fp32, as requested: started");
  expect(world.status()).toMatchObject({ handledRequests: { reverify: "monday" } });
  // New ones go first in the verifier's queue.
  expect(world.verifier.begun().map(({ urgency }) => urgency)).toEqual(["new", "again"]);
  await world.clock.advance(HOUR);
  await world.settle(() => world.verifier.answer(FP32.digest, PASSED));
  expect(world.summary()).toEqual({
    Available: "True BlobFound",
    Verified: "True VerificationPassed",
    Ready: "True VerificationPassed",
  });
  expect(world.status().variants?.[0]?.verifiedAt).not.toBe("2026-01-01T00:00:00.000Z");
  expect(world.events()).toEqual(["Normal VerificationPassed", "Normal VerificationPassed"]);
  expect(world.recorder.drafts().at(-1)?.message).toBe("passed verification again: fp32");
  // Served once, by a new process too.
  world.restart();
  await world.settle();
  expect(world.verifier.begun()).toHaveLength(2);
  ask(world, "tuesday");
  await world.pass();
  expect(world.verifier.begun()).toHaveLength(3);
});

test("one bad run takes no verdict away: it is verified once more, and a good run keeps the verdict", async () => {
  const world = await verified();
  ask(world, "1");
  await world.pass();
  world.verifier.answer(FP32.digest, FAILED);
  await world.pass();
  expect(world.summary()).toMatchObject({
    Verified: "True VerificationPassed",
    Ready: "True VerificationPassed",
  });
  expect(world.condition("Reverifying")?.message).toContain(
    "verification failed and will be repeated once before the verdict changes: it is slow",
  );
  await world.settle(() => world.verifier.answer(FP32.digest, PASSED));
  expect(world.summary()).toMatchObject({
    Verified: "True VerificationPassed",
    Ready: "True VerificationPassed",
  });
  expect(world.summary()).not.toHaveProperty("Reverifying");
  expect(world.verifier.begun()).toHaveLength(3);
});

test("a Failed verdict that is confirmed replaces a Passed one, and names check, figure and bound", async () => {
  const world = await verified();
  ask(world, "1");
  await world.pass();
  await world.settle(() => world.verifier.answer(FP32.digest, FAILED));
  expect(world.verifier.begun()).toHaveLength(3);
  expect(world.summary()).toMatchObject({ Verified: "False LatencyTooHigh", Ready: "False LatencyTooHigh" });
  expect(world.recorder.drafts().at(-1)).toMatchObject({
    type: "Warning",
    reason: "VerificationFailed",
    message: "fp32: Latency measured p95 250 ms, bound p95 ≤ 100 ms: it is slow",
  });
});

test("an error on our side while it is verified again changes no verdict, and is retried", async () => {
  const world = await verified();
  ask(world, "1");
  await world.pass();
  world.verifier.answer(FP32.digest, BROKEN);
  expect(await world.pass()).toMatchObject({ kind: "retry", atLeast: 10_000 });
  expect(world.summary()).toMatchObject({
    Ready: "True VerificationPassed",
    Reverifying: "Unknown VerificationError",
  });
  expect(world.condition("Stalled")).toBeUndefined();
  expect(world.condition("Reverifying")?.message).toContain("no space left (attempt 1, next at");
  world.calls.breakAll("verifier.look", AWAY);
  await world.clock.advance(millis(10_000));
  await world.pass();
  expect(world.summary()).toMatchObject({
    Ready: "True VerificationPassed",
    Reverifying: "Unknown VerifierUnavailable",
  });
  world.calls.heal();
  world.blobs.remove(FP32.blob);
  await world.pass();
  expect(world.summary()).toMatchObject({
    Available: "True BlobFound",
    Ready: "True VerificationPassed",
    Reverifying: "Unknown BlobMissing",
  });
  world.blobs.upload(FP32.blob, Buffer.from("fp32"));
  await world.settle(() => world.verifier.answer(FP32.digest, PASSED));
  expect(world.summary()).not.toHaveProperty("Reverifying");
});

test.each<[string, Verification["reverify"], string]>([
  ["every", { every: "2h" as Duration }, "2026-01-01T02:00:00.000Z"],
  ["schedule", { schedule: "0 14 * * fri" }, "2026-01-02T14:00:00.000Z"],
  [
    "schedule in a time zone",
    { schedule: "0 14 * * fri", timeZone: "Europe/Berlin" },
    "2026-01-02T13:00:00.000Z",
  ],
])("%s: it is verified again when it is time, and not before", async (_, reverify, when) => {
  const world = await verified(every(reverify));
  const due = Date.parse(when);
  const outcome = await world.pass();
  const delay = outcome.kind === "wakeAfter" ? outcome.delay : 0;
  expect(world.clock.now() + delay).toBeLessThanOrEqual(due + 30_000);
  await world.clock.advance(millis(due - world.clock.now() - 1));
  await world.pass();
  expect(world.verifier.begun()).toHaveLength(1);
  await world.clock.advance(millis(1));
  await world.pass();
  expect(world.verifier.begun()).toHaveLength(2);
  expect(world.status().variants?.[0]?.reverification).toMatchObject({ cause: "Scheduled", since: when });
});

test("a schedule that makes no sense is said, and the verdict stands", async () => {
  const world = await verified(every({ schedule: "61 * * * *", timeZone: "Mars/Olympus" }));
  expect(world.summary()).toMatchObject({
    Ready: "True VerificationPassed",
    Reverifying: "False ScheduleInvalid",
  });
  expect(world.condition("Reverifying")?.message).toMatch(
    /"61 \* \* \* \*" is not a schedule.*"Mars\/Olympus"/,
  );
  expect(world.events()).toContain("Warning ScheduleInvalid");
  expect(await world.pass()).toEqual({ kind: "settled" });
});

async function upgradedWorld(count: number) {
  const world = createReleaseWorld();
  const keys = Array.from({ length: count }, (_, index) => objectKey("plant-a", `model-${index}`));
  for (const key of keys) {
    const digest = digestOf(key);
    world.releases.create({
      name: key.split("/")[1] ?? "",
      spec: releaseSpec({ variants: [{ ...FP32, digest }] }),
      status: {
        observedGeneration: 1,
        variants: [
          {
            name: "fp32",
            digest,
            sizeBytes: 4,
            verdict: "Passed",
            reason: "VerificationPassed",
            goldenDigest: releaseSpec().verification!.golden!.digest,
            verifiedAt: timestampOf(world.clock.now()),
            verifierVersion: "0.9.0",
          },
        ],
      },
    });
  }
  const passAll = async () => {
    for (const key of keys) await world.pass(key);
  };
  return { world, keys, passAll };
}

test("another verifier looks at everything again, one after the other, and new releases wait for none of it", async () => {
  const { world, keys, passAll } = await upgradedWorld(5);
  const called: string[] = [];
  world.reverifySlots().onFree((key) => called.push(key));
  await passAll();
  await passAll();
  expect(world.verifier.begun()).toHaveLength(1);
  world.create();
  await world.pass();
  expect(world.verifier.begun()).toHaveLength(2);
  expect(world.verifier.begun().at(-1)?.model.digest).toBe(FP32.digest);
  for (let count = 1; count <= 5; count += 1) {
    const [running] = world.verifier.running().filter(({ model }) => model.digest !== FP32.digest);
    world.verifier.answer(running!.model.digest, { ...PASSED, verifierVersion: "1.0.0" });
    await passAll();
    await passAll();
  }
  expect(called.slice(0, 1)).toEqual([keys[1]]);
  const versions = keys.map((key) => world.releases.get(key)?.status?.variants?.[0]?.verifierVersion);
  expect(versions).toEqual(Array(5).fill("1.0.0"));
  expect(world.verifier.begun()).toHaveLength(6);
});

test("one that breaks off, or whose object is deleted, gives its turn to the next", async () => {
  const { world, keys, passAll } = await upgradedWorld(3);
  await passAll();
  world.verifier.answer(world.verifier.running()[0]!.model.digest, BROKEN);
  await passAll();
  await passAll();
  expect(world.verifier.running()).toHaveLength(1);
  world.releases.remove(keys[1]!);
  await passAll();
  expect(world.verifier.begun()).toHaveLength(3);
  expect(world.verifier.running()).toHaveLength(1);
});

test("what is requested comes one after the other too, before what is not", async () => {
  const { world, keys, passAll } = await upgradedWorld(5);
  const called: string[] = [];
  world.reverifySlots().onFree((key) => called.push(key));
  await passAll(); // the first is verified again, the others wait
  for (const key of keys.slice(2, 4))
    world.releases.edit(key, { annotations: { "edgefleet.dev/reverify": "all" } });
  await passAll();
  expect(world.verifier.running()).toHaveLength(1);
  const again = (index: number) => world.releases.get(keys[index]!)?.status?.variants?.[0]?.reverification;
  expect(again(2)).toMatchObject({
    cause: "Requested",
    verdict: "Pending",
    message: "waiting to be verified",
  });
  expect(world.releases.get(keys[2]!)?.status?.handledRequests).toEqual({ reverify: "all" });
  expect(again(1)).toBeUndefined();
  world.restart(); // they are put down: a new process knows
  world.reverifySlots().onFree((key) => called.push(key));
  await passAll();
  world.verifier.answer(world.verifier.running()[0]!.model.digest, PASSED);
  await world.pass(keys[0]);
  called.length = 0;
  await world.pass(keys[0]);
  expect(called).toEqual([keys[2]]);
  await world.pass(keys[2]);
  expect(world.verifier.running()).toMatchObject([{ model: { digest: digestOf(keys[2]!) } }]);
});

test("what ran before a restart keeps its slot, whichever release is looked at first", async () => {
  const { world, keys } = await upgradedWorld(2);
  await world.pass(keys[0]);
  world.restart();
  await world.pass(keys[1]);
  world.verifier.answer(digestOf(keys[0]!), PASSED);
  await world.pass(keys[0]);
  const verdict = world.releases.get(keys[0]!)?.status?.variants?.[0];
  expect(verdict).toMatchObject({ verdict: "Passed", verifierVersion: "1.0.0" });
  expect(verdict).not.toHaveProperty("reverification");
});

test("releases that wait for their turn write nothing", async () => {
  const { world, keys, passAll } = await upgradedWorld(4);
  await passAll();
  await passAll();
  const versions = () => keys.slice(1).map((key) => world.releases.get(key)?.resourceVersion);
  const before = versions();
  await passAll();
  await passAll();
  expect(versions()).toEqual(before);
});

test("a release whose verifier was replaced under a running operator is not verified again for ever", async () => {
  const world = createReleaseWorld();
  world.create();
  await world.pass();
  world.verifier.answer(FP32.digest, { ...PASSED, verifierVersion: "1.5.0" });
  await world.settle();
  expect(world.verifier.begun()).toHaveLength(1);
  expect(world.summary()).not.toHaveProperty("Reverifying");
});

const MISHAPS: readonly Mishap[] = [
  { kind: "crash", when: "before" },
  { kind: "crash", when: "after" },
  { kind: "lost" },
  { kind: "fault", fault: AWAY },
  { kind: "fault", fault: { kind: "conflict", message: "changed" } },
];

async function endOf(mishap: Mishap | null, at: number) {
  const calls = createCalls();
  const world = createReleaseWorld(calls);
  world.create({ variants: [FP32, INT8] });
  const answer = () => {
    world.verifier.answer(FP32.digest, PASSED);
    world.verifier.answer(INT8.digest, FAILED);
  };
  await world.settle(answer);
  ask(world, "1");
  if (mishap !== null) calls.spoil(at, mishap);
  await world.settle(answer);
  const { variants = [], conditions = [], handledRequests } = world.status();
  const end = {
    handledRequests,
    variants: variants.map(({ verifiedAt: _at, key: _key, report, ...rest }) => ({
      ...rest,
      stored: report !== undefined,
    })),
    conditions: conditions.map(({ lastTransitionTime: _, ...rest }) => rest),
    begun: world.verifier.begun().length,
  };
  return { end, pending: calls.pending() };
}

test("whatever goes wrong while it is verified again, each model runs once more, and the verdict is the same", async () => {
  const { end } = await endOf(null, 0);
  expect(end.begun).toBe(4);
  for (const mishap of MISHAPS) {
    let at = 0;
    for (; at < 60; at += 1) {
      const told = await endOf(mishap, at);
      expect(told.end, `${JSON.stringify(mishap)} at call ${at}`).toEqual(end);
      if (told.pending) break;
    }
    expect(at).toBeGreaterThan(8);
    expect(at).toBeLessThan(60);
  }
});

import { expect, test } from "vitest";
import { findCondition } from "../../src/api/condition.ts";
import { requestAnnotation } from "../../src/api/inference-deployment.ts";
import { objectKey } from "../../src/api/resource.ts";
import { BLOBS_ANNOTATION, grantOf } from "../../src/api/tenancy.ts";
import { minutes, seconds } from "../../src/base/time.ts";
import { LABEL } from "../../src/rollouts/configurations/content.ts";
import { deploymentSpec, duration, objective, STEPS, strategy, variant } from "../builders/specs.ts";
import { type Behaviour, digestNamed, NAMESPACE, WELL } from "../fakes/fleet-world.ts";
import { KEY } from "./operator.ts";
import { createStory, type Story } from "./story.ts";

// Whole rollouts in virtual time. Each is told in a golden file: what a person sees, event by event. `vitest -u` writes
// them anew; a change in one of them is a change in what people are told.

const BAD = digestNamed("v2/fp32");

function behaves(how: Partial<Behaviour>, digest: string = BAD) {
  return (_device: string, running: string): Behaviour => (running === digest ? { ...WELL, ...how } : WELL);
}

function narrative(story: Story): string {
  const status = story.status();
  const conditions = (status?.conditions ?? []).map(
    ({ type, status: is, reason, message }) => `  ${type}=${is} ${reason}: ${message}`,
  );
  const { matched, exposed, updated, failed, offline, onStable } = status?.devices ?? {};
  return [
    ...story.lines,
    "",
    `phase ${status?.phase}, stable ${status?.stable?.release ?? "none"}, quarantined ${status?.quarantinedReleases?.map(({ release }) => release).join(", ") ?? "none"}`,
    `devices: matched ${matched}, exposed ${exposed}, updated ${updated}, failed ${failed}, offline ${offline}, onStable ${onStable}`,
    ...(status?.failedDevices ?? []).map((line) => `failed: ${line}`),
    ...(status?.analysis ?? []).map(({ metric, verdict, message }) => `${metric} ${verdict}: ${message}`),
    ...conditions,
    "",
  ].join("\n");
}

/** Nothing moves any more: half an hour without a single write. */
async function expectQuiet(story: Story): Promise<void> {
  await story.run(minutes(11));
  story.world.calls.clear();
  await story.run(minutes(30));
  expect(story.writes()).toEqual([]);
}

const phaseIs =
  (phase: string, stable?: string) =>
  (deployment: { status: Story["status"] extends () => infer S ? S : never }) =>
    deployment.status?.phase === phase &&
    (stable === undefined || deployment.status.stable?.release === stable);

async function beginRollout(story: Story, devices = 20): Promise<void> {
  story.fleet(devices);
  await story.install("v1");
  story.release("v2");
  story.edit({ release: { name: "v2" } });
}

test("a good release goes out step by step", async () => {
  const story = createStory();
  await beginRollout(story);
  await story.runUntil(phaseIs("Completed", "v2"), minutes(60));
  expect(story.phases).toEqual(["Pending", "Progressing", "Completed"]);
  await expectQuiet(story);
  expect(new Set(story.world.truth.running().values())).toEqual(new Set(["plant-a.v2"]));
  await expect(narrative(story)).toMatchFileSnapshot("golden/good-rollout.txt");
});

test("a step of a canary costs at most two writes for each variant", async () => {
  const story = createStory();
  story.fleet(30, (index) => ({ deviceClass: ["orin", "nano", "xavier"][index % 3]! }));
  const variants = (name: string) => [
    variant(name, { name: "gpu", deviceClasses: ["orin", "xavier"] }),
    variant(name, { name: "cpu" }),
  ];
  story.release("v1", { variants: variants("v1") });
  story.deploy("v1", { strategy: strategy([{ percent: 100 }]) });
  await story.runUntil(phaseIs("Completed"), minutes(30));
  await story.run(minutes(6));
  story.release("v2", { variants: variants("v2") });
  story.edit({ release: { name: "v2" }, strategy: strategy(STEPS) });
  for (const step of [0, 1, 2]) {
    story.world.calls.clear();
    await story.runUntil(({ status }) => status?.step?.index === step, minutes(30));
    await story.step();
    expect(story.writes().filter((name) => name.startsWith("configurations.")).length).toBeLessThanOrEqual(4);
    expect(story.writes()).not.toContain("hub.patchTwin");
  }
  await story.runUntil(phaseIs("Completed", "v2"), minutes(60));
  for (const [device, pointer] of story.world.truth.pointers()) {
    const { deviceClass } = story.world.devices.get(objectKey(NAMESPACE, device))!.spec;
    expect(pointer?.variant).toBe(deviceClass === "nano" ? "cpu" : "gpu");
  }
});

test("a slow canary is rolled back, and its release is quarantined", async () => {
  const story = createStory({ behaviour: behaves({ p95: 300 }), evaluationDelay: () => minutes(4) });
  await beginRollout(story);
  await story.runUntil(phaseIs("RolledBack"), minutes(60));
  expect(story.phases).toEqual(["Pending", "Progressing", "RollingBack", "RolledBack"]);
  // The fast path did not wait for the hub, which is four minutes late.
  expect(
    [...story.world.truth.pointers().values()].filter((pointer) => pointer?.release !== "plant-a.v1"),
  ).toEqual([]);
  expect(story.world.calls.made()).toContain("hub.patchTwin");
  await expectQuiet(story);
  expect(story.meter.value("edgefleet_rollbacks_total", { reason: "ObjectiveBreached" })).toBe(1);
  await expect(narrative(story)).toMatchFileSnapshot("golden/slow-canary.txt");
});

test("a rollback leaves exactly the pointer of stable behind, and nothing of the candidate's settings", async () => {
  const story = createStory({ behaviour: behaves({ p95: 300 }), evaluationDelay: () => minutes(4) });
  story.fleet(10);
  await story.install("v1");
  story.release("v2", { runtimeConfig: { batchSize: 8, numThreads: 2 } });
  story.edit({ release: { name: "v2" } });
  await story.runUntil(phaseIs("RolledBack"), minutes(60));
  expect(story.world.calls.made()).toContain("hub.patchTwin");
  const pointers = [...story.world.truth.pointers().values()];
  expect(pointers.map((pointer) => pointer?.config)).toEqual(pointers.map(() => ({})));
  const stable = story.world.truth.configurations().find(({ labels }) => labels[LABEL.track] === "stable")!;
  expect(new Set(pointers.map((pointer) => pointer?.url)).size).toBe(1);
  expect(JSON.stringify(stable.content)).toContain(pointers[0]?.url ?? "no url");
});

test("without a stable release, whoever is no longer exposed gets nothing in place of what it had", async () => {
  const story = createStory({ unmatched: "keep" });
  story.fleet(20);
  story.release("v1");
  story.release("v2");
  story.deploy("v1");
  await story.runUntil(({ status }) => status?.step?.index === 1, minutes(60));
  await story.run(minutes(2));
  story.edit({ release: { name: "v2" } });
  await story.run(minutes(2));
  expect(story.status()).toMatchObject({
    phase: "Progressing",
    candidate: { release: "v2" },
    step: { index: 0 },
  });
  const releases = [...story.world.truth.pointers().values()].map((pointer) => pointer?.release ?? "nothing");
  expect(releases.filter((name) => name === "plant-a.v1")).toEqual([]);
  expect(releases.filter((name) => name === "plant-a.v2")).toHaveLength(2);
});

test("devices that fail spend the failure budget", async () => {
  const story = createStory({ behaviour: behaves({ fails: "LoadFailed" }) });
  await beginRollout(story);
  await story.runUntil(phaseIs("RolledBack"), minutes(60));
  expect(story.status()?.rollback?.reason).toBe("FailureBudgetSpent");
  expect(story.status()?.failedDevices?.[0]).toMatch(/^cam-\d+: LoadFailed model v2 does not run$/);
  await expectQuiet(story);
});

test("an outage of the hub freezes a canary for as long as it lasts", async () => {
  const story = createStory();
  await beginRollout(story);
  await story.runUntil(({ status }) => status?.step?.index === 1, minutes(60));
  await story.run(minutes(1));
  const before = story.status()!.step!;
  story.world.failHub();
  await story.run(seconds(20));
  expect(story.status()?.phase).toBe("Frozen");
  expect(story.condition("HubReachable")).toMatchObject({
    status: "False",
    message: "the hub is not responding (503)",
  });
  await story.run(minutes(2) - seconds(20));
  story.world.mendHub();
  await story.run(seconds(20));
  expect(story.status()?.phase).toBe("Progressing");
  const moved = Date.parse(story.status()!.step!.startedAt) - Date.parse(before.startedAt);
  expect(moved).toBeGreaterThanOrEqual(minutes(2) - seconds(20));
  await story.runUntil(phaseIs("Completed", "v2"), minutes(60));
  await expectQuiet(story);
  await expect(narrative(story)).toMatchFileSnapshot("golden/hub-outage.txt");
});

test("an abort during an outage is remembered, and carried out when the hub is back", async () => {
  const story = createStory();
  await beginRollout(story);
  await story.runUntil(({ status }) => status?.step?.index === 1, minutes(60));
  story.world.failHub();
  await story.run(minutes(1));
  story.request("abort", "now");
  await story.run(minutes(1));
  expect(story.status()?.phase).toBe("RollingBack");
  story.world.mendHub();
  await story.runUntil(phaseIs("RolledBack"), minutes(20));
  await expectQuiet(story);
});

test("numbers that move by themselves are written at the pace of the analysis, not of the devices", async () => {
  const story = createStory({
    tick: seconds(5),
    behaviour: (device, digest) =>
      digest === BAD ? { ...WELL, takes: seconds(Number(device.slice(4)) * 5) } : WELL,
  });
  story.fleet(60);
  await story.install("v1");
  story.release("v2");
  story.edit({ release: { name: "v2" }, strategy: strategy([{ percent: 100 }]) });
  await story.runUntil(phaseIs("Progressing"), minutes(1));
  story.world.calls.clear();
  await story.run(minutes(5));
  expect(story.status()?.devices?.updated).toBeGreaterThan(50);
  expect(story.writes().filter((name) => name === "deployments.writeStatus").length).toBeLessThanOrEqual(12);
});

test("a paused rollout does not go on, and a canary that turns sick is taken back all the same", async () => {
  let isSick = false;
  const story = createStory({
    behaviour: (_device, digest) => (digest === BAD && isSick ? { ...WELL, errorRate: 0.2 } : WELL),
  });
  await beginRollout(story);
  await story.runUntil(({ status }) => status?.phase === "Progressing", minutes(10));
  story.edit({ paused: true });
  await story.run(minutes(30));
  expect(story.status()).toMatchObject({ phase: "Holding", step: { index: 0 } });
  expect(story.condition("Progressing")).toMatchObject({ status: "False", reason: "Paused" });
  isSick = true;
  await story.runUntil(phaseIs("RolledBack"), minutes(10));
  await expectQuiet(story);
  await expect(narrative(story)).toMatchFileSnapshot("golden/paused-sick-canary.txt");
});

test("a first installation that fails goes back to nothing", async () => {
  const story = createStory({
    behaviour: behaves({ fails: "OutOfMemory" }, digestNamed("v1/fp32")),
    unmatched: "keep",
  });
  story.fleet(20);
  story.release("v1");
  story.deploy("v1");
  await story.runUntil(phaseIs("RolledBack"), minutes(60));
  expect([...story.world.truth.pointers().values()].every((pointer) => pointer === null)).toBe(true);
  await expectQuiet(story);
  await expect(narrative(story)).toMatchFileSnapshot("golden/first-install-fails.txt");
});

test("a release that is taken out of spec is withdrawn, and nothing is degraded", async () => {
  const story = createStory();
  await beginRollout(story);
  await story.runUntil(({ status }) => status?.step?.index === 1, minutes(60));
  await story.run(minutes(1));
  story.edit({ release: { name: "v1" } });
  await story.runUntil(phaseIs("Completed", "v1"), minutes(10));
  expect(story.condition("Degraded")?.status).toBe("False");
  expect(story.status()?.quarantinedReleases).toBeUndefined();
  await expectQuiet(story);
  await expect(narrative(story)).toMatchFileSnapshot("golden/withdrawn.txt");
});

test("a third release takes the candidate's place and begins at the first step", async () => {
  const story = createStory();
  await beginRollout(story);
  await story.runUntil(({ status }) => status?.step?.index === 1, minutes(60));
  await story.run(minutes(1));
  story.release("v3");
  story.edit({ release: { name: "v3" } });
  await story.runUntil(
    ({ status }) => status?.candidate?.release === "v3" && status.phase === "Progressing",
    minutes(5),
  );
  expect(story.status()).toMatchObject({ step: { index: 0 }, stable: { release: "v1" } });
  await story.run(minutes(6));
  expect(
    [...story.world.truth.pointers().values()].filter((pointer) => pointer?.release === "plant-a.v2"),
  ).toEqual([]);
  await story.runUntil(phaseIs("Completed", "v3"), minutes(60));
  await expectQuiet(story);
  await expect(narrative(story)).toMatchFileSnapshot("golden/third-release.txt");
});

test("promote goes past missing evidence, once", async () => {
  const story = createStory({ behaviour: behaves({ inferences: 0 }) });
  await beginRollout(story);
  await story.runUntil(phaseIs("Holding"), minutes(60));
  expect(story.condition("Progressing")).toMatchObject({ status: "False", reason: "Inconclusive" });
  story.request("promote", "1");
  await story.runUntil(({ status }) => status?.step?.index === 1, minutes(1));
  await story.run(minutes(30));
  expect(story.status()).toMatchObject({ phase: "Holding", step: { index: 1 } });
  story.request("promote", "2");
  await story.run(minutes(10));
  story.request("promote", "3");
  await story.runUntil(phaseIs("Completed", "v2"), minutes(60));
  await expectQuiet(story);
  await expect(narrative(story)).toMatchFileSnapshot("golden/promote.txt");
});

test("promote does not go past a breach", async () => {
  const story = createStory({ behaviour: behaves({ p95: 300 }) });
  story.fleet(20);
  await story.install("v1", { rollback: { mode: "Hold" } });
  story.release("v2");
  story.edit({ release: { name: "v2" }, rollback: { mode: "Hold" } });
  await story.runUntil(phaseIs("Holding"), minutes(60));
  expect(story.condition("Degraded")).toMatchObject({ status: "True", reason: "ObjectiveBreached" });
  story.request("promote", "1");
  await story.run(minutes(30));
  expect(story.status()).toMatchObject({
    phase: "Holding",
    step: { index: 0 },
    handledRequests: { promote: "1" },
  });
  expect(story.lines.some((line) => line.includes("promote rejected"))).toBe(true);
  story.request("abort", "2");
  await story.runUntil(phaseIs("RolledBack"), minutes(10));
  await expect(narrative(story)).toMatchFileSnapshot("golden/held-breach.txt");
});

test("a quarantined release stays away until it is retried", async () => {
  let isSick = true;
  const story = createStory({
    behaviour: (_device, digest) => (digest === BAD && isSick ? { ...WELL, p95: 500 } : WELL),
  });
  await beginRollout(story);
  await story.runUntil(phaseIs("RolledBack"), minutes(60));
  isSick = false;
  await story.run(minutes(60));
  expect(story.status()?.phase).toBe("RolledBack");
  story.request("retry", "1");
  await story.runUntil(phaseIs("Completed", "v2"), minutes(60));
  expect(story.status()?.quarantinedReleases).toBeUndefined();
  await expectQuiet(story);
  await expect(narrative(story)).toMatchFileSnapshot("golden/retry.txt");
});

test("a verification that is revoked takes an exposed release back", async () => {
  const story = createStory();
  await beginRollout(story);
  await story.runUntil(({ status }) => status?.step?.index === 1, minutes(60));
  await story.run(minutes(1));
  story.verify("v2", "Failed");
  await story.runUntil(phaseIs("RolledBack"), minutes(10));
  expect(story.status()?.rollback?.reason).toBe("VerificationFailed");
  await expectQuiet(story);
  await expect(narrative(story)).toMatchFileSnapshot("golden/verification-revoked.txt");
});

test("an unverified release exposes nobody", async () => {
  const story = createStory();
  story.fleet(10);
  await story.install("v1");
  story.release("v2", { verdict: "Pending" });
  story.edit({ release: { name: "v2" } });
  await story.run(minutes(60));
  expect(story.status()?.phase).toBe("Pending");
  expect(story.condition("ReleaseVerified")).toMatchObject({ status: "False", reason: "ReleaseUnverified" });
  story.verify("v2");
  await story.runUntil(phaseIs("Completed", "v2"), minutes(60));
});

test("a step that cannot converge is taken back at its deadline, and an outage does not count", async () => {
  const story = createStory({ behaviour: behaves({ takes: minutes(600) }) });
  story.fleet(10);
  await story.install("v1");
  story.release("v2");
  story.edit({ release: { name: "v2" }, strategy: strategy(STEPS, { progressDeadline: duration("20m") }) });
  await story.runUntil(phaseIs("Progressing"), minutes(10));
  await story.run(minutes(10));
  story.world.failHub();
  await story.run(minutes(30));
  story.world.mendHub();
  await story.run(minutes(5));
  expect(story.status()?.phase).toBe("Progressing");
  await story.runUntil(phaseIs("RolledBack"), minutes(15));
  expect(story.status()?.rollback?.reason).toBe("DeadlineExceeded");
});

test("devices that are offline are excused, and get what is then stable when they return", async () => {
  let isBack = false;
  const away = (device: string) => device.endsWith("1");
  const story = createStory({ online: (device) => isBack || !away(device) });
  story.fleet(20);
  story.release("v1");
  story.deploy("v1", { offline: { policy: "Skip", after: duration("10m") } });
  await story.runUntil(phaseIs("Completed", "v1"), minutes(120));
  expect(story.status()?.devices).toMatchObject({ matched: 20, updated: 18 });
  isBack = true;
  await story.run(minutes(15));
  expect(story.status()?.devices).toMatchObject({ matched: 20, updated: 20 });
  await expectQuiet(story);
});

test("a URL that ends while a device still waits is renewed, and only then", async () => {
  let isBack = false;
  const options = { sasLifetime: minutes(60 * 8) };
  const story = createStory({
    online: (device) => isBack || device !== "cam-001",
    options,
    tick: seconds(30),
  });
  story.fleet(4);
  story.release("v1");
  story.deploy("v1", { offline: { policy: "Skip", after: duration("10m") }, objectives: [] });
  await story.runUntil(phaseIs("Completed", "v1"), minutes(120));
  const first = story.world.truth.configurations().find(({ labels }) => labels[LABEL.track] === "stable")!.id;
  await story.run(minutes(60 * 9));
  const stable = story.world.truth.configurations().filter(({ labels }) => labels[LABEL.track] === "stable");
  expect(stable).toHaveLength(1);
  expect(stable[0]?.id).not.toBe(first);
  isBack = true;
  await story.run(minutes(20));
  expect(story.world.truth.running().get("cam-001")).toBe("plant-a.v1");
  story.world.calls.clear();
  await story.run(minutes(60 * 24));
  expect(story.writes()).toEqual([]);
});

test("a device that leaves loses its pointer, one that joins gets what is stable", async () => {
  const story = createStory({});
  story.fleet(6);
  await story.install("v1");
  story.world.devices.edit(objectKey(NAMESPACE, "cam-003"), { labels: {} });
  story.device("cam-100");
  await story.run(minutes(15));
  expect(story.world.truth.pointers().get("cam-003")).toBeNull();
  expect(story.world.truth.pointers().get("cam-100")?.release).toBe("plant-a.v1");
  expect(story.status()?.devices).toMatchObject({ matched: 6, updated: 6 });
  await expectQuiet(story);
});

test("a device that two deployments want is moved by neither, and both say so", async () => {
  const story = createStory();
  story.fleet(10);
  await story.install("v1");
  story.world.deployments.create({
    name: "other",
    spec: deploymentSpec("v1", { selector: { matchLabels: { rival: "yes" } } }),
  });
  const shared = "cam-004";
  story.world.devices.edit(objectKey(NAMESPACE, shared), { labels: { fleet: "cameras", rival: "yes" } });
  story.release("v2");
  story.edit({ release: { name: "v2" } });
  await story.runUntil(({ status }) => status?.step?.index === 2, minutes(60));
  await story.run(seconds(20));
  expect(story.condition("Conflict")).toMatchObject({ status: "True", reason: "Conflict" });
  expect(story.condition("Conflict")?.message).toContain("other (1 device)");
  const canary = story.world.truth
    .configurations()
    .find(({ labels }) => labels[LABEL.track] === "candidate")!;
  expect(story.world.truth.targeted(canary.targetCondition)).not.toContain(shared);
  expect(story.status()?.devices?.matched).toBe(9);
});

test("a class without a variant stops the plan and is named", async () => {
  const story = createStory();
  story.fleet(10, (index) => ({ deviceClass: index === 3 ? "coral" : "orin" }));
  story.release("v1", { variants: [variant("v1", { deviceClasses: ["orin"] })] });
  story.deploy("v1");
  await story.run(minutes(10));
  expect(story.status()?.phase).toBe("Pending");
  expect(story.condition("Stalled")).toMatchObject({ status: "True", reason: "NoVariant" });
  expect(story.condition("Ready")?.message).toContain("coral (1 device)");
  expect(story.world.truth.configurations().filter(({ labels }) => labels[LABEL.name] !== undefined)).toEqual(
    [],
  );
});

test("a hub that refuses a condition stops the plan with its own words", async () => {
  const story = createStory();
  story.fleet(10);
  story.world.refuse("bucket <", "InvalidConfigurationTargetCondition: numeric comparison");
  story.release("v1");
  story.deploy("v1");
  await story.run(minutes(10));
  expect(story.status()?.phase).toBe("Pending");
  expect(story.condition("Stalled")).toMatchObject({ reason: "ConditionRefused" });
  expect(story.condition("Ready")?.message).toContain("numeric comparison");
  story.world.refuse(null);
  await story.runUntil(phaseIs("Completed", "v1"), minutes(60));
});

test("a full hub stops the plan and says who fills it", async () => {
  const story = createStory();
  for (let index = 0; index < 99; index += 1) {
    story.world.truth.addConfiguration({
      id: `theirs-${index}`,
      kind: "device",
      labels: {},
      priority: 1000 + index,
      targetCondition: "tags.other = true",
      content: {},
      etag: "1",
    });
  }
  story.fleet(4);
  story.release("v1");
  story.deploy("v1");
  await story.run(minutes(10));
  expect(story.condition("Stalled")).toMatchObject({ reason: "HubFull" });
  expect(story.condition("Ready")?.message).toContain("others (99)");
  expect(story.world.truth.configurations().length).toBeLessThanOrEqual(100);
});

test("a deletion that removes takes everything away before it lets go", async () => {
  const story = createStory({});
  story.fleet(6);
  await story.install("v1", { deletionPolicy: "Remove" });
  story.world.failHub();
  story.world.deployments.remove(KEY);
  await story.run(minutes(5));
  expect(story.condition("Ready")).toMatchObject({ status: "False", reason: "Deleting" });
  expect(story.condition("Ready")?.message).toContain("the hub is not responding");
  story.world.mendHub();
  await story.run(minutes(10));
  expect(story.current()).toBeUndefined();
  expect(story.world.truth.configurations()).toEqual([]);
  expect([...story.world.truth.pointers().values()].every((pointer) => pointer === null)).toBe(true);
});

test("an object that lost its status finds out from the hub what is stable", async () => {
  const story = createStory();
  await beginRollout(story);
  await story.runUntil(({ status }) => status?.step?.index === 1, minutes(60));
  await story.run(minutes(1));
  story.world.deployments.edit(KEY, { annotations: { [requestAnnotation("abort")]: "from long ago" } });
  story.world.deployments.setStatus(KEY, null);
  story.world.touch();
  await story.step();
  expect(story.status()).toMatchObject({
    stable: { release: "v1" },
    candidate: { release: "v2" },
    step: { index: 1 },
  });
  await story.runUntil(phaseIs("Completed", "v2"), minutes(60));
  await expectQuiet(story);
});

test("after 100 % a release is watched, and still taken back", async () => {
  let isSick = false;
  const story = createStory({
    behaviour: (_device, digest) => (digest === BAD && isSick ? { ...WELL, p95: 400 } : WELL),
  });
  story.fleet(10);
  await story.install("v1");
  story.release("v2");
  story.edit({ release: { name: "v2" }, strategy: strategy([{ percent: 100 }], { bake: duration("1h") }) });
  await story.runUntil(phaseIs("Baking"), minutes(30));
  await story.run(minutes(50));
  isSick = true;
  await story.runUntil(phaseIs("RolledBack"), minutes(10));
  await expectQuiet(story);
  expect(new Set(story.world.truth.running().values())).toEqual(new Set(["plant-a.v1"]));
});

test("a canary much worse than stable beside it is taken back after two windows", async () => {
  const story = createStory({ behaviour: behaves({ p95: 95 }) });
  story.fleet(20);
  const objectives = [objective({ maximumRatioToStable: "2.0" })];
  await story.install("v1", { objectives });
  story.release("v2");
  story.edit({ release: { name: "v2" }, objectives });
  await story.runUntil(phaseIs("RolledBack"), minutes(60));
  expect(story.status()?.rollback?.message).toContain("2.375 times worse than the 40");
});

test("devices without IoT Edge get the pointer in their own twin", async () => {
  const story = createStory();
  story.fleet(10, (index) => ({ iotEdge: index % 2 === 0 }));
  await story.install("v1");
  expect(new Set(story.world.truth.running().values())).toEqual(new Set(["plant-a.v1"]));
  const kinds = story.world.truth
    .configurations()
    .map(({ kind, labels }) => `${kind} ${labels[LABEL.track] ?? "base"}`);
  expect(kinds.sort()).toEqual(["device stable", "edge base", "edge stable"]);
  story.release("v2");
  story.edit({ release: { name: "v2" } });
  await story.runUntil(phaseIs("Completed", "v2"), minutes(60));
  await expectQuiet(story);
});

test("a release whose files the namespace may not use exposes no device, and what is out stays out", async () => {
  const story = createStory();
  await beginRollout(story);
  await story.runUntil(phaseIs("Completed", "v2"), minutes(60));
  const blob = { container: "models", path: "team-b/v3.onnx" };
  story.grant(grantOf({ [BLOBS_ANNOTATION]: "models/team-a/" }));
  story.release("v3", { variants: [variant("v3", { blob })] });
  story.edit({ release: { name: "v3" } });
  await story.run(minutes(90));
  expect(story.status()?.phase).toBe("Pending");
  expect(findCondition(story.status()?.conditions, "Ready")).toMatchObject({
    status: "False",
    reason: "NotPermitted",
  });
  expect(new Set(story.world.truth.running().values())).toEqual(new Set(["plant-a.v2"]));
  expect(JSON.stringify(story.world.truth.configurations())).not.toContain("team-b");
});

test("a device that is offline for good costs a look now and then, also when URLs for others have expired", async () => {
  const sasLifetime = minutes(20);
  const story = createStory({
    tick: seconds(1),
    sweep: minutes(60),
    options: { sasLifetime },
    online: (device) => device !== "cam-001",
  });
  story.fleet(4, (index) => ({ deviceClass: index < 2 ? "orin" : "nano" }));
  story.release("v1", {
    variants: [variant("v1", { name: "gpu", deviceClasses: ["orin"] }), variant("v1", { name: "cpu" })],
  });
  story.deploy("v1", { strategy: strategy([{ percent: 100 }]) });
  await story.run(minutes(60));
  const before = story.counts().reconciles;
  await story.run(minutes(60));
  // Each quarter of a URL's life it is renewed for the device that waits: a few looks; a report an hour, and the sweeps.
  expect(story.counts().reconciles - before).toBeLessThan(60);
  expect(story.status()?.devices).toMatchObject({ matched: 4, updated: 3 });
});

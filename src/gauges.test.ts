import { expect, test } from "vitest";
import { createFakeMeter } from "../test/fakes/fake-meter.ts";
import type { EdgeDevice } from "./api/edge-device.ts";
import type { InferenceDeployment } from "./api/inference-deployment.ts";
import type { ModelRelease } from "./api/model-release.ts";
import { gaugeCaches, gaugeOwnerless } from "./gauges.ts";
import { createMetrics } from "./telemetry/metrics.ts";

function device(online: "True" | "False", enabled = true): EdgeDevice {
  const condition = {
    type: "Online",
    status: online,
    reason: "x",
    message: "",
    observedGeneration: 1,
    lastTransitionTime: "",
  };
  return { spec: { enabled }, status: { conditions: [condition] } } as unknown as EdgeDevice;
}

function release(...verdicts: readonly string[]): ModelRelease {
  return {
    spec: { variants: [{}, {}] },
    status: { variants: verdicts.map((verdict) => ({ verdict })) },
  } as unknown as ModelRelease;
}

test("devices are counted by condition, and one without a status is Unknown", () => {
  const meter = createFakeMeter();
  const unseen = { spec: { enabled: true }, status: null } as unknown as EdgeDevice;
  gaugeCaches(
    {
      listed: true,
      devices: [device("True"), device("True"), device("False"), unseen],
      releases: [],
      deployments: [],
    },
    meter,
  );
  const value = (status: string) => meter.value("edgefleet_devices", { condition: "Online", status });
  expect([value("True"), value("False"), value("Unknown")]).toEqual([2, 1, 1]);
  expect(meter.value("edgefleet_devices", { condition: "Ready", status: "Unknown" })).toBe(4);
});

test("a device that the spec switches off is Disabled, whatever its conditions say", () => {
  const meter = createFakeMeter();
  gaugeCaches(
    { listed: true, devices: [device("False", false), device("False")], releases: [], deployments: [] },
    meter,
  );
  const value = (status: string) => meter.value("edgefleet_devices", { condition: "Online", status });
  expect([value("Disabled"), value("False")]).toEqual([1, 1]);
});

test("a release is as good as the worst of its variants", () => {
  const meter = createFakeMeter();
  const releases = [
    release("Passed", "Passed"),
    release("Passed", "Failed"),
    release("Running", "Passed"),
    release("Passed"),
    release(),
  ];
  gaugeCaches({ listed: true, devices: [], releases, deployments: [] }, meter);
  const counts = ["Passed", "Failed", "Running", "Pending", "Error"].map((verdict) =>
    meter.value("edgefleet_releases", { verdict }),
  );
  expect(counts).toEqual([1, 1, 1, 2, 0]);
  gaugeCaches({ listed: true, devices: [], releases: [], deployments: [] }, meter);
  expect(meter.value("edgefleet_releases", { verdict: "Failed" })).toBe(0);
});

test("ownerless configurations are counted, and none is 0", () => {
  const meter = createFakeMeter();
  gaugeOwnerless(
    new Map([
      ["plant-a/a", [1, 2]],
      ["plant-a/b", [3]],
    ]),
    meter,
  );
  expect(meter.value("edgefleet_hub_ownerless_configurations")).toBe(3);
  gaugeOwnerless(new Map(), meter);
  expect(meter.value("edgefleet_hub_ownerless_configurations")).toBe(0);
});

test("rollouts are counted by phase, their devices and verdicts are summed, and what no longer exists is not counted", () => {
  const meter = createFakeMeter();
  const deployment = (status: object | null) => ({ status }) as unknown as InferenceDeployment;
  const one = { phase: "Holding", devices: { matched: 5, offline: 1 }, analysis: [{ verdict: "Warn" }] };
  const other = { phase: "Holding", devices: { matched: 2 } };
  const value = () => [
    meter.value("edgefleet_rollouts", { phase: "Holding" }),
    meter.value("edgefleet_rollout_devices", { state: "matched" }),
    meter.value("edgefleet_rollout_devices", { state: "offline" }),
    meter.value("edgefleet_analysis_verdicts", { verdict: "Warn" }),
  ];
  const caches = { listed: true, devices: [], releases: [] };
  gaugeCaches({ ...caches, deployments: [one, other, null].map(deployment) }, meter);
  expect(value()).toEqual([2, 7, 1, 1]);
  gaugeCaches({ ...caches, deployments: [deployment(other)] }, meter);
  expect(value()).toEqual([1, 2, 0, 0]);
});

test("verdicts of a rollout that has ended explain its end and are not counted", () => {
  const meter = createFakeMeter();
  const analysis = [{ verdict: "Fail" }, { verdict: "Warn" }];
  const counts = (...phases: readonly string[]) => {
    const deployments = phases.map(
      (phase) => ({ status: { phase, analysis } }) as unknown as InferenceDeployment,
    );
    gaugeCaches({ listed: true, devices: [], releases: [], deployments }, meter);
    return ["Fail", "Warn"].map((verdict) => meter.value("edgefleet_analysis_verdicts", { verdict }));
  };
  expect(counts("Progressing", "Holding", "Frozen", "Baking")).toEqual([4, 4]);
  expect(counts("Pending", "RollingBack", "RolledBack", "Completed")).toEqual([0, 0]);
});

test("nothing is counted before everything is listed: part of a fleet looks like a small one", async () => {
  const { meter, expose } = createMetrics("throw");
  const caches = { devices: [device("True")], releases: [], deployments: [] };
  gaugeCaches({ ...caches, listed: false }, meter);
  expect(await expose()).not.toMatch(
    /^edgefleet_(devices|releases|rollouts|rollout_devices|analysis_verdicts)\{/m,
  );
  gaugeCaches({ ...caches, listed: true }, meter);
  expect(await expose()).toContain('edgefleet_devices{condition="Online",status="True"} 1');
});

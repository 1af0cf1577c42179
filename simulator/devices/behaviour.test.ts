import { afterEach, expect, test } from "vitest";
import type { InferenceReport, ModelPointer } from "../../src/api/device-contract.ts";
import { createManualClock } from "../base/clock.ts";
import type { JsonObject, JsonValue } from "../base/json.ts";
import { createSimulator } from "../simulator.ts";
import { parseBehaviours } from "./behaviour.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const START = Date.parse("2026-03-01T12:00:00Z");

const stopping: (() => Promise<void>)[] = [];
afterEach(async () => {
  await Promise.all(stopping.splice(0).map((stop) => stop()));
});

/** Devices without an edge runtime, in virtual time, that behave as their rules say. */
function startDevices(behaviours: JsonValue, ids: readonly string[] = ["cam-1"], seed = 1) {
  const simulator = createSimulator({
    clock: createManualClock(START),
    download: "skip",
    behaviours,
    seed,
  });
  stopping.push(simulator.stop);
  const { hub } = simulator;
  for (const id of ids) hub.registry.putDevice(id, { capabilities: { iotEdge: false } }, null);
  const report = (id = "cam-1") =>
    hub.twins.get(id)?.reported.value["inference"] as unknown as InferenceReport;
  const point = (release: string, more: Partial<ModelPointer> = {}, id = "cam-1") => {
    const model: ModelPointer = {
      contract: 1,
      deployment: "a.m",
      release,
      name: "m",
      version: "1",
      variant: "fp32",
      digest: `sha256:${release}`,
      sizeBytes: 40_000_000,
      url: "http://127.0.0.1:1/m?sig=x",
      executionProvider: "cpu",
      config: {},
      ...more,
    };
    hub.twins.patch(id, { tags: null, desired: { model: model as unknown as JsonObject } }, null);
  };
  return { ...simulator, report, point };
}

test("every mistake in a file of behaviours is reported at once, with its path", () => {
  const parsed = parseBehaviours(
    [
      { match: { percent: 120, colour: "red" }, effects: { latency: { distribution: "uniform" }, speed: 3 } },
      {
        effects: {
          latency: { p50: 30, p95: 20 },
          drift: { errorRatePerHour: 2 },
          crashLoop: {},
          disk: { sizeMegabytes: 10, freeMegabytes: 20 },
          heat: { idle: 60, most: 50, slowdown: 0.5 },
          powerLoss: { for: "-1s", resume: "yes", times: 0 },
          offline: [{ from: "soon" }, 7, { until: "1h" }],
          pullTime: "-5s",
          pullFails: { picture: "a" },
          agentStopped: "no",
        },
      },
      "nothing",
      { name: 5 },
    ],
    1,
  );
  expect(parsed).toEqual({
    ok: false,
    problems: expect.arrayContaining([
      "behaviours[0].match.percent must be a number from 0 to 100",
      "behaviours[0].match.colour is not known",
      "behaviours[0].effects.latency.distribution must be one of percentiles, normal, lognormal",
      "behaviours[0].effects.speed is not known",
      "behaviours[1].effects.latency.p95 must lie between p50 and p99",
      "behaviours[1].effects.drift.errorRatePerHour must be a number from 0 to 1",
      "behaviours[1].effects.crashLoop.every is needed: a duration such as 10m",
      "behaviours[1].effects.disk.freeMegabytes must not be more than sizeMegabytes",
      "behaviours[1].effects.heat.most must not be below idle",
      "behaviours[1].effects.heat.slowdown must be a number from 1 to 1000",
      "behaviours[1].effects.powerLoss.for must not be negative",
      "behaviours[1].effects.powerLoss.resume must be true or false",
      "behaviours[1].effects.powerLoss.times must be a number from 1 to 1000000",
      "behaviours[1].effects.offline[0].from must be milliseconds or a duration such as 90s or 250ms",
      "behaviours[1].effects.offline[1] must be an object",
      "behaviours[1].effects.offline[2].until is not known",
      "behaviours[1].effects.pullTime must not be negative",
      "behaviours[1].effects.pullFails.picture is not known",
      "behaviours[1].effects.agentStopped must be true or false",
      "behaviours[2] must be an object",
      "behaviours[3].name must be text",
      "behaviours[3].effects is needed",
    ]),
  });
  expect(parsed.ok ? [] : parsed.problems).toHaveLength(22);
});

test.each([
  ["percentiles", { p50: 10, p95: 20, p99: 30 }, [10, 20, 30]],
  ["normal", { distribution: "normal", mean: 100, deviation: 10 }, [100, 116.45, 123.26]],
  ["lognormal", { distribution: "lognormal", median: 100, sigma: 0.2 }, [100, 138.96, 159.23]],
] as const)("latency as %s", async (_, latency, wanted) => {
  const { point, advance, report } = startDevices([{ effects: { latency: { ...latency, jitter: 0 } } }]);
  point("a.m-1");
  await advance(3 * MINUTE);
  const { p50, p95, p99 } = report().window!.latencyMilliseconds;
  expect([p50, p95, p99]).toEqual(wanted);
});

test("jitter is how far windows are off, and a seed repeats it", async () => {
  const run = async (seed: number) => {
    const { point, advance, report } = startDevices(
      [{ effects: { latency: { p50: 100, jitter: 0.5 } } }],
      ["cam-1"],
      seed,
    );
    point("a.m-1");
    const seen: number[] = [];
    for (let minute = 0; minute < 40; minute++) {
      await advance(MINUTE);
      seen.push(report().window?.latencyMilliseconds.p50 ?? 100);
    }
    return seen;
  };
  const seen = await run(3);
  expect(Math.min(...seen)).toBeGreaterThanOrEqual(50);
  expect(Math.max(...seen)).toBeLessThanOrEqual(150);
  expect(Math.max(...seen) - Math.min(...seen)).toBeGreaterThan(50);
  expect(await run(3)).toEqual(seen);
  expect(await run(4)).not.toEqual(seen);
});

test("latency and errors drift with the hours that a release runs, and start over with the next", async () => {
  const { point, advance, report } = startDevices([
    {
      effects: {
        latency: { p50: 100, jitter: 0 },
        errorRate: 0,
        drift: { latencyPerHour: 0.1, errorRatePerHour: 0.02 },
      },
    },
  ]);
  const errorRate = () => report().window!.errors / report().window!.inferences;
  point("a.m-1");
  await advance(3 * MINUTE);
  expect(report().window!.latencyMilliseconds.p50).toBeCloseTo(100, -0.5);
  await advance(10 * HOUR);
  expect(report().window!.latencyMilliseconds.p50).toBeGreaterThan(198);
  expect(report().window!.latencyMilliseconds.p50).toBeLessThan(202);
  expect(errorRate()).toBeCloseTo(0.2, 1);
  point("a.m-2");
  await advance(3 * MINUTE);
  expect(report().window!.release).toBe("a.m-2");
  expect(report().window!.latencyMilliseconds.p50).toBeLessThan(102);
  expect(errorRate()).toBeLessThan(0.01);
});

test("a program that crashes counts its restarts, loses what it had counted, and runs the model that it ran", async () => {
  const { point, advance, report } = startDevices([{ effects: { crashLoop: { every: "10m" } } }]);
  point("a.m-1");
  await advance(9 * MINUTE);
  expect(report()).toMatchObject({ restarts: 0, active: { release: "a.m-1" } });
  const since = report().active?.since;
  await advance(23 * MINUTE);
  expect(report()).toMatchObject({ restarts: 3, active: { release: "a.m-1", since } });
  await advance(10 * MINUTE);
  // A window never spans a crash: it is no longer than the program has run.
  expect(report().restarts).toBe(4);
  expect(report().window!.seconds).toBeLessThan(70);
});

test("a crash loop of one release ends with it", async () => {
  const { point, advance, report } = startDevices([
    { match: { release: "a.m-2" }, effects: { crashLoop: { every: "3m" } } },
  ]);
  point("a.m-1");
  await advance(20 * MINUTE);
  expect(report().restarts).toBe(0);
  point("a.m-2");
  await advance(10 * MINUTE);
  expect(report().restarts).toBeGreaterThanOrEqual(2);
  point("a.m-1");
  await advance(5 * MINUTE);
  const { restarts } = report();
  await advance(20 * MINUTE);
  expect(report().restarts).toBe(restarts);
});

test("a model that is larger than what is free on a disk that fills up is not taken", async () => {
  const { point, advance, report } = startDevices([
    { effects: { disk: { sizeMegabytes: 1000, freeMegabytes: 100, fillMegabytesPerHour: 10 } } },
  ]);
  point("a.m-1");
  await advance(3 * MINUTE);
  expect(report().active?.release).toBe("a.m-1");
  expect(report().resources?.diskPercent).toBeCloseTo(90, 0);
  await advance(7 * HOUR);
  expect(report().resources?.diskPercent).toBeCloseTo(97, 0);
  point("a.m-2");
  await advance(3 * MINUTE);
  expect(report()).toMatchObject({
    active: { release: "a.m-1" },
    update: {
      state: "Failed",
      error: { code: "DiskFull", message: expect.stringMatching(/40 MB and 29\.\d+ MB/) },
    },
  });
  point("a.m-3", { sizeBytes: 20_000_000 });
  await advance(3 * MINUTE);
  expect(report().active?.release).toBe("a.m-3");
});

test("a device that grows too hot becomes slow, and says how hot it is", async () => {
  const { point, advance, report } = startDevices([
    {
      effects: {
        latency: { p50: 50, jitter: 0 },
        framesPerSecond: 30,
        heat: { idle: 50, risePerHour: 10, throttleAt: 80, most: 90, slowdown: 3 },
      },
    },
  ]);
  point("a.m-1");
  await advance(3 * MINUTE);
  expect(report().resources?.gpuCelsius).toBeLessThan(51);
  await advance(2.5 * HOUR);
  expect(report().window!.latencyMilliseconds.p50).toBe(50);
  await advance(1 * HOUR);
  expect(report().resources?.gpuCelsius).toBeGreaterThan(84);
  expect(report().window!.latencyMilliseconds.p50).toBe(150);
  expect(report().window!.framesPerSecond).toBeLessThan(11);
  await advance(5 * HOUR);
  expect(report().resources?.gpuCelsius).toBe(90);
});

test.each([
  // 100 s of download, cut after 40 s: 60 s are left, or all of it.
  ["goes on where it was", true, 60],
  ["starts over", false, 100],
] as const)(
  "power fails during a download, which then %s; the old model runs",
  async (_, resume, seconds) => {
    const { point, advance, report, hub, fleet } = startDevices([]);
    point("a.m-1");
    await advance(3 * MINUTE);
    const rule = { effects: { slowDownload: "99800ms", powerLoss: { after: "40s", for: "5m", resume } } };
    const parsed = parseBehaviours([rule], 1);
    fleet.setBehaviours(parsed.ok ? parsed.behaviours : []);
    const states: string[] = [];
    const times: number[] = [];
    hub.twins.onWrite(({ twin }) => {
      const inference = twin?.reported.value["inference"] as unknown as InferenceReport | undefined;
      const update = inference?.update;
      if (update === undefined || states.at(-1) === update.state) return;
      states.push(update.state);
      times.push(Date.parse(update.at));
    });
    point("a.m-2");
    await advance(MINUTE);
    expect(fleet.list()[0]).toMatchObject({ reachable: false, release: "a.m-1" });
    await advance(5 * MINUTE);
    expect(report()).toMatchObject({ active: { release: "a.m-1" }, update: { state: "Downloading" } });
    const resumed = Date.parse(report().update!.at);
    await advance(3 * MINUTE);
    expect(report()).toMatchObject({
      active: { release: "a.m-2" },
      update: { state: "Running" },
      restarts: 1,
    });
    const checking = times[states.lastIndexOf("Checking")]!;
    expect((checking - resumed) / 1000).toBeCloseTo(seconds, 0);
  },
);

test("days offline: silent from the hour the rule says, for as long as it says, and then it catches up", async () => {
  const { point, advance, report } = startDevices([
    {
      match: { deviceId: "cam-1" },
      effects: {
        offline: [
          { from: "1h", for: "3d" },
          { from: "5d", for: "1h" },
        ],
      },
    },
  ]);
  point("a.m-1");
  await advance(50 * MINUTE);
  const age = () => Date.parse(report().heartbeatAt) - START;
  expect(age()).toBeGreaterThan(48 * MINUTE);
  await advance(DAY);
  point("a.m-2");
  await advance(2 * DAY);
  expect(age()).toBeLessThan(HOUR);
  expect(report().active?.release).toBe("a.m-1");
  await advance(20 * MINUTE);
  expect(report().active?.release).toBe("a.m-2");
  await advance(START + 5 * DAY + 30 * MINUTE - Date.parse(report().heartbeatAt));
  expect(age()).toBeLessThan(5 * DAY + MINUTE);
});

test("a rule that comes later counts its hours from then, also when others join it", async () => {
  const { advance, report, fleet } = startDevices([]);
  await advance(10 * HOUR);
  const parsed = parseBehaviours([{ effects: { offline: { from: "1h", for: "1h" } } }], 1);
  fleet.setBehaviours(parsed.ok ? parsed.behaviours : []);
  await advance(30 * MINUTE);
  fleet.setBehaviours([...fleet.behaviours()]);
  const age = () => Date.parse(report().heartbeatAt) - START;
  await advance(45 * MINUTE);
  expect(age()).toBeGreaterThan(10.9 * HOUR);
  expect(age()).toBeLessThanOrEqual(11 * HOUR);
  await advance(50 * MINUTE);
  expect(age()).toBeGreaterThan(12 * HOUR);
});

test("a failed update is not retried automatically, also not after a restart", async () => {
  const { point, advance, report } = startDevices([
    { match: { release: "a.m-2" }, effects: { failAt: { state: "Loading" } } },
    { effects: { crashLoop: { every: "5m" } } },
  ]);
  point("a.m-1");
  await advance(MINUTE);
  point("a.m-2");
  await advance(MINUTE);
  const failed = report().update;
  expect(failed).toMatchObject({ state: "Failed", error: { code: "LoadFailed" } });
  await advance(20 * MINUTE);
  expect(report().restarts).toBeGreaterThan(1);
  expect(report().update).toEqual(failed);
});

import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { createFakeClock } from "../../test/fakes/fake-clock.ts";
import { createFakeLog } from "../../test/fakes/fake-log.ts";
import type { InferenceReport } from "../api/device-contract.ts";
import type { Attempt, Fault } from "../base/fault.ts";
import { err, ok, type Result } from "../base/result.ts";
import { instant, type later, millis, minutes, seconds, timestampOf } from "../base/time.ts";
import { createMetrics } from "../telemetry/metrics.ts";
import { createFleetView } from "./fleet-view.ts";
import type { DeviceHub, DeviceRow, Json, ModuleRow, SlotState, Twin, TwinRef } from "./hub.ts";

const DOWN: Fault = { kind: "unavailable", message: "the hub answered 503" };
const signal = new AbortController().signal;
const stops: AbortController[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop.abort();
});

type WorldTwin = {
  version: number;
  tags: Json;
  desired: Json;
  reported: Json;
  enabled: boolean;
  iotEdge: boolean;
  identityEtag?: string;
};

/** A hub of twins whose queries answer from `index`: the twins themselves, or an older copy of them. */
function createWorld(pageSize = 2) {
  const twins = new Map<string, WorldTwin>();
  const calls: string[] = [];
  let faultOf: (call: string) => Fault | null = () => null;
  let frozen: Map<string, WorldTwin> | null = null;

  const key = (ref: TwinRef) => (ref.module === null ? ref.device : `${ref.device}/${ref.module}`);
  const slot = (twin: WorldTwin): SlotState => ({
    etag: `v${twin.version}`,
    pointer: (twin.desired["model"] as SlotState["pointer"] | undefined) ?? null,
    report: (twin.reported["inference"] as InferenceReport | undefined) ?? null,
  });
  async function called<T>(name: string, effect: () => T): Attempt<T> {
    calls.push(name);
    const fault = faultOf(name);
    return fault === null ? ok(effect()) : err(fault);
  }
  function page<T>(rows: readonly T[], from: string | null) {
    const start = Number(from ?? 0);
    const next = start + pageSize < rows.length ? String(start + pageSize) : null;
    return { rows: rows.slice(start, start + pageSize), next };
  }
  const index = () => frozen ?? twins;
  function deviceRows(): DeviceRow[] {
    return [...index()]
      .filter(([name]) => !name.includes("/"))
      .map(([device, twin]) => ({
        device,
        etag: `v${twin.version}`,
        version: twin.version,
        enabled: twin.enabled,
        iotEdge: twin.iotEdge,
        identityEtag: twin.identityEtag ?? null,
        tags: structuredClone(twin.tags),
        slot: structuredClone(slot(twin)),
      }));
  }
  function moduleRows(): ModuleRow[] {
    return [...index()]
      .filter(([name]) => name.includes("/"))
      .map(([name, twin]) => {
        const [device = "", module = ""] = name.split("/");
        return { device, module, slot: structuredClone(slot(twin)), version: twin.version };
      })
      .filter((row) => row.slot.pointer !== null || row.slot.report !== null);
  }
  const refused = async (): Attempt<never> => err({ kind: "rejected", message: "not part of this test" });
  const hub: DeviceHub = {
    host: "hub.example",
    getIdentity: async () => called("getIdentity", () => null),
    getKeys: refused,
    createIdentity: refused,
    setEnabled: refused,
    removeIdentity: refused,
    getTwin: async (ref) => called(`getTwin ${key(ref)}`, () => read(ref)),
    patchTwin: refused,
    listConfigurations: refused,
    createConfiguration: refused,
    updateConfiguration: refused,
    removeConfiguration: refused,
    testCondition: refused,
    queryDevices: async (from) => called(`queryDevices ${from}`, () => page(deviceRows(), from)),
    queryModules: async (from) => called(`queryModules ${from}`, () => page(moduleRows(), from)),
  };
  function read(ref: TwinRef): Twin | null {
    const twin = twins.get(key(ref));
    if (twin === undefined) return null;
    const { version, tags, desired, reported } = structuredClone(twin);
    return { ...ref, etag: `v${version}`, version, tags, desired, reported };
  }
  return {
    hub,
    calls,
    add: (name: string, change: Partial<WorldTwin> = {}) =>
      twins.set(name, {
        version: 1,
        tags: {},
        desired: {},
        reported: {},
        enabled: true,
        iotEdge: true,
        ...change,
      }),
    /** As the service writes: a new version. */
    write: (name: string, change: Partial<WorldTwin>) => {
      const had = twins.get(name);
      if (had === undefined) throw new Error(`no twin ${name}`);
      twins.set(name, { ...had, version: had.version + 1, ...change });
    },
    /** As the device writes: no new version. */
    report: (name: string, inference: InferenceReport) => {
      const had = twins.get(name);
      if (had === undefined) throw new Error(`no twin ${name}`);
      twins.set(name, { ...had, reported: { inference } });
    },
    remove: (name: string) => twins.delete(name),
    read: (name: string): Twin => {
      const [device = "", module = null] = name.split("/");
      const twin = read({ device, module });
      if (twin === null) throw new Error(`no twin ${name}`);
      return twin;
    },
    /** From now on queries see the world as it is at this moment. */
    freezeIndex: () => {
      frozen = structuredClone(twins);
    },
    thawIndex: () => {
      frozen = null;
    },
    breakDown: (fault: Fault | ((call: string) => Fault | null)) => {
      faultOf = typeof fault === "function" ? fault : () => fault;
    },
    mend: () => {
      faultOf = () => null;
    },
  };
}

async function watching(world: ReturnType<typeof createWorld>, options: { readonly start?: boolean } = {}) {
  const clock = createFakeClock();
  const log = createFakeLog();
  // The real one: it throws for a name or a label that its table does not know.
  const { meter } = createMetrics("throw");
  const fleet = createFleetView({
    hub: world.hub,
    clock,
    log,
    meter,
    random: () => 0.5,
    interval: seconds(60),
  });
  const changes: string[] = [];
  const named: string[] = [];
  fleet.view.onChange((device, deployments) => {
    changes.push(device);
    for (const name of deployments) named.push(`${device}: ${name}`);
  });
  const stop = new AbortController();
  stops.push(stop);
  const running = fleet.run(stop.signal);
  if (options.start !== false) {
    await clock.settle();
    await fleet.synced(signal);
    changes.length = 0;
    named.length = 0;
    world.calls.length = 0;
  }
  return { ...fleet, clock, log, changes, named, stop, running };
}

const BEAT = Date.UTC(2026, 0, 1);
function reportOf(
  state: "Loading" | "Running" | "Failed",
  change: Partial<InferenceReport> = {},
  at = 0,
): InferenceReport {
  return {
    contract: 1,
    active: { release: "a.r1", digest: "sha256:1", variant: "v", executionProvider: "cpu", since: "x" },
    update: { release: "a.r1", digest: "sha256:1", state, at: "x" },
    heartbeatAt: timestampOf((BEAT + at) as ReturnType<typeof later>),
    ...change,
  };
}
const POINTER = { deployment: "a.d", release: "a.r1", digest: "sha256:1" };
const TAGS = {
  edgefleet: {
    managed: true,
    namespace: "a",
    device: "cam-1",
    class: "c",
    site: "s",
    bucket: 7,
    iotEdge: true,
    deployments: {},
  },
};

describe("sweeps", () => {
  test("read all pages of devices, then all pages of modules", async () => {
    const world = createWorld(2);
    for (let n = 0; n < 5; n += 1) world.add(`cam-${n}`, { tags: TAGS });
    world.add("cam-3/inference", {
      desired: { model: POINTER },
      reported: { inference: reportOf("Running") },
    });
    const { view, clock, synced } = await watching(world, { start: false });
    await clock.settle();
    await synced(signal);
    expect(world.calls).toEqual([
      "queryDevices null",
      "queryDevices 2",
      "queryDevices 4",
      "queryModules null",
    ]);
    expect([...view.list()].map(({ device }) => device)).toEqual([
      "cam-0",
      "cam-1",
      "cam-2",
      "cam-3",
      "cam-4",
    ]);
    expect(view.get("cam-3")).toEqual({
      device: "cam-3",
      etag: "v1",
      version: 1,
      enabled: true,
      iotEdge: true,
      identityEtag: null,
      tags: TAGS,
      fleetTags: TAGS.edgefleet,
      slots: {
        "": { etag: "v1", pointer: null, report: null, heardAt: null },
        inference: {
          etag: "v1",
          pointer: POINTER,
          report: reportOf("Running"),
          heardAt: expect.any(Number),
        },
      },
    });
    expect(view.get("unknown")).toBeUndefined();
    expect(view.health()).toMatchObject({ reachable: true });
  });

  test("repeat after the interval, and report what changed", async () => {
    const world = createWorld();
    world.add("cam-1", { tags: TAGS });
    world.add("cam-2", { tags: TAGS });
    const { clock, changes, view } = await watching(world);
    world.write("cam-2", { tags: { ...TAGS, line: "7" } });
    await clock.advance(seconds(59));
    expect(changes).toEqual([]);
    await clock.advance(seconds(2));
    expect(changes).toEqual(["cam-2"]);
    expect(view.get("cam-2")?.tags).toMatchObject({ line: "7" });
    expect(world.calls).toEqual(["queryDevices null", "queryModules null"]);
  });

  test("report an identity that changed, such as by new keys, and keep its etag when the twin is noted", async () => {
    const world = createWorld();
    world.add("cam-0", { tags: TAGS, identityEtag: "i1" });
    const { view, clock, changes } = await watching(world);
    changes.splice(0);
    world.add("cam-0", { tags: TAGS, identityEtag: "i2" });
    await clock.advance(minutes(2));
    expect(changes).toEqual(["cam-0"]);
    view.note(world.read("cam-0"));
    expect(view.get("cam-0")?.identityEtag).toBe("i2");
  });

  test("report which deployments a device names, or named before, and find the devices by them", async () => {
    const world = createWorld();
    const tagged = (deployments: Json) => ({ edgefleet: { ...TAGS.edgefleet, deployments } });
    world.add("cam-1", { tags: tagged({ inference: "plant-a.a" }) });
    world.add("cam-2", { tags: tagged({ inference: "plant-a.a", audio: "plant-a.b" }) });
    world.add("cam-2/inference", { desired: { model: { ...POINTER, deployment: "plant-a.c" } } });
    const { clock, named, view } = await watching(world);
    const by = (name: string) => [...view.namedBy(name)].map(({ device }) => device);
    expect(["plant-a.a", "plant-a.b", "plant-a.c", "plant-a.d"].map(by)).toEqual([
      ["cam-1", "cam-2"],
      ["cam-2"],
      ["cam-2"],
      [],
    ]);
    world.write("cam-2", { tags: tagged({ inference: "plant-a.d" }) });
    await clock.advance(seconds(61));
    expect(named.toSorted()).toEqual(["a", "b", "c", "d"].map((name) => `cam-2: plant-a.${name}`));
    expect(["plant-a.a", "plant-a.b", "plant-a.c", "plant-a.d"].map(by)).toEqual([
      ["cam-1"],
      [],
      ["cam-2"],
      ["cam-2"],
    ]);
    view.forget("cam-2");
    expect(["plant-a.c", "plant-a.d"].map(by)).toEqual([[], []]);
  });

  test("report all devices together after the first one", async () => {
    const world = createWorld(2);
    for (let n = 0; n < 6; n += 1) world.add(`cam-${n}`);
    world.breakDown((call) => (call === "queryDevices 4" ? DOWN : null));
    const { clock, changes } = await watching(world, { start: false });
    await clock.settle();
    expect(changes).toEqual([]);
    world.mend();
    await clock.advance(seconds(5));
    expect(changes.length).toBe(6);
  });

  test("continue at the page where they were interrupted, and wait as long as the hub says", async () => {
    const world = createWorld(1);
    for (const name of ["cam-1", "cam-2", "cam-3"]) world.add(name);
    const { clock, view } = await watching(world);
    world.breakDown((call) =>
      call === "queryDevices 1" ? { kind: "throttled", retryAfter: seconds(20), message: "429" } : null,
    );
    await clock.advance(seconds(62));
    world.mend();
    world.calls.length = 0;
    await clock.advance(seconds(15));
    expect(world.calls.filter((call) => call.startsWith("query"))).toEqual([]);
    expect([...view.list()].length).toBe(3);
    await clock.advance(seconds(10));
    expect(world.calls.filter((call) => call.startsWith("query"))).toEqual([
      "queryDevices 1",
      "queryDevices 2",
      "queryModules null",
    ]);
  });

  test("start again when the hub no longer accepts the continuation", async () => {
    const world = createWorld(1);
    for (const name of ["cam-1", "cam-2"]) world.add(name);
    const { clock } = await watching(world);
    let refusals = 0;
    world.breakDown((call) => {
      if (call !== "queryDevices 1" || refusals > 0) return null;
      refusals += 1;
      return { kind: "rejected", message: "continuation expired" };
    });
    await clock.advance(seconds(65));
    expect(world.calls.filter((call) => call.startsWith("query"))).toEqual([
      "queryDevices null",
      "queryDevices 1",
      "queryDevices null",
      "queryDevices 1",
      "queryModules null",
    ]);
  });

  test("forget what is gone, but only at the end of a whole one", async () => {
    const world = createWorld(1);
    for (const name of ["cam-1", "cam-2", "cam-3"]) world.add(name, { tags: TAGS });
    world.add("cam-1/inference", { desired: { model: POINTER } });
    const { clock, changes, view } = await watching(world);
    world.remove("cam-2");
    world.write("cam-1/inference", { desired: {} });
    world.breakDown((call) => (call.startsWith("queryModules") ? DOWN : null));
    await clock.advance(minutes(2));
    expect(view.get("cam-2")).toBeDefined();
    expect(view.get("cam-1")?.slots["inference"]).toBeDefined();
    world.mend();
    await clock.advance(minutes(2));
    expect(view.get("cam-2")).toBeUndefined();
    expect(view.get("cam-1")?.slots["inference"]).toBeUndefined();
    expect(changes.sort()).toEqual(["cam-1", "cam-2"]);
  });

  test("keep what was noted a short while ago, although the index does not know it yet", async () => {
    const world = createWorld(1);
    world.add("cam-1");
    const { clock, view } = await watching(world);
    world.freezeIndex();
    world.add("cam-new", { tags: TAGS });
    world.add("cam-1/inference", { desired: { model: POINTER } });
    view.note(world.read("cam-new"));
    view.note(world.read("cam-1/inference"));
    await clock.advance(minutes(4));
    expect(world.calls.length).toBeGreaterThan(5);
    expect(view.get("cam-new")?.fleetTags).toEqual(TAGS.edgefleet);
    expect(view.get("cam-1")?.slots["inference"]?.pointer).toEqual(POINTER);
    await clock.advance(minutes(3));
    expect(view.get("cam-new")).toBeUndefined();
    expect(view.get("cam-1")?.slots["inference"]).toBeUndefined();
  });

  test("stop with their signal", async () => {
    const world = createWorld();
    world.add("cam-1");
    const { stop, running, clock } = await watching(world);
    stop.abort();
    await running;
    await clock.advance(minutes(10));
    expect(world.calls).toEqual([]);
  });
});

describe("observations of different age", () => {
  test("a row that is older than what a call returned changes nothing, for five minutes", async () => {
    const world = createWorld();
    world.add("cam-1", { version: 5, tags: TAGS });
    world.add("cam-1/inference", { version: 8, desired: { model: POINTER } });
    const { clock, view, changes } = await watching(world);
    world.freezeIndex();
    const newer = { ...POINTER, release: "a.r2", digest: "sha256:2" };
    world.write("cam-1", { tags: { ...TAGS, line: "7" } });
    world.write("cam-1/inference", { desired: { model: newer } });
    view.note(world.read("cam-1"));
    view.note(world.read("cam-1/inference"));
    expect(changes).toEqual(["cam-1", "cam-1"]);
    await clock.advance(minutes(4));
    expect(view.get("cam-1")).toMatchObject({ etag: "v6", version: 6, tags: { line: "7" } });
    expect(view.get("cam-1")?.slots["inference"]).toMatchObject({ etag: "v9", pointer: newer });
    expect(changes.length).toBe(2);
    // What still holds after that is true: the identity may have been created again.
    await clock.advance(minutes(3));
    expect(view.get("cam-1")).toMatchObject({ etag: "v5", version: 5 });
    expect(view.get("cam-1")?.slots["inference"]?.pointer).toEqual(POINTER);
  });

  test("a row that is newer counts at once", async () => {
    const world = createWorld();
    world.add("cam-1", { version: 5, tags: TAGS });
    const { clock, view } = await watching(world);
    view.note(world.read("cam-1"));
    world.write("cam-1", { tags: { ...TAGS, line: "8" } });
    await clock.advance(seconds(65));
    expect(view.get("cam-1")).toMatchObject({ version: 6, tags: { line: "8" } });
  });

  test("an older report in a row does not hide the one that a call returned", async () => {
    const world = createWorld();
    world.add("cam-1");
    world.add("cam-1/inference", {
      desired: { model: POINTER },
      reported: { inference: reportOf("Loading") },
    });
    const { clock, view, changes } = await watching(world);
    world.freezeIndex();
    world.report("cam-1/inference", reportOf("Running", {}, 5000));
    view.note(world.read("cam-1/inference"));
    await clock.advance(seconds(130));
    expect(view.get("cam-1")?.slots["inference"]?.report?.update?.state).toBe("Running");
    expect(changes).toEqual(["cam-1"]);
    world.thawIndex();
    world.report("cam-1/inference", reportOf("Failed", {}, 9000));
    await clock.advance(seconds(65));
    expect(view.get("cam-1")?.slots["inference"]?.report?.update?.state).toBe("Failed");
  });

  test("an answer that was overtaken by a later one changes nothing", async () => {
    const world = createWorld();
    world.add("cam-1", { version: 3, tags: TAGS });
    const { view } = await watching(world);
    const slow = world.read("cam-1");
    world.write("cam-1", { tags: { ...TAGS, line: "9" } });
    view.note(world.read("cam-1"));
    view.note(slow);
    expect(view.get("cam-1")).toMatchObject({ version: 4, tags: { line: "9" } });
  });

  test("a device that was noted before any sweep saw it is there, with what its tags say", async () => {
    const world = createWorld();
    const { view, changes } = await watching(world);
    world.add("cam-9", { tags: { edgefleet: { ...TAGS.edgefleet, iotEdge: false } } });
    view.note(world.read("cam-9"));
    expect(view.get("cam-9")).toMatchObject({
      iotEdge: false,
      enabled: true,
      slots: { "": { pointer: null } },
    });
    view.forget("cam-9");
    expect(view.get("cam-9")).toBeUndefined();
    expect(changes).toEqual(["cam-9", "cam-9"]);
  });

  test("for any order of rows, notes and devices, the view converges to the hub's state", async () => {
    const names = ["cam-1", "cam-2", "cam-1/inference"];
    const step = fc.oneof(
      fc.record({ kind: fc.constant("write" as const), name: fc.constantFrom(...names), n: fc.nat(9) }),
      fc.record({ kind: fc.constant("report" as const), name: fc.constantFrom(...names), n: fc.nat(9) }),
      fc.record({ kind: fc.constant("note" as const), name: fc.constantFrom(...names), n: fc.nat(9) }),
      fc.record({
        kind: fc.constantFrom("freeze" as const, "thaw" as const),
        name: fc.constant(""),
        n: fc.nat(9),
      }),
      fc.record({ kind: fc.constant("wait" as const), name: fc.constant(""), n: fc.nat(150) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        const world = createWorld(1);
        for (const name of names) world.add(name, { tags: TAGS, desired: { model: POINTER } });
        const { clock, view, stop } = await watching(world);
        const noted = new Map<string, number>();
        for (const { kind, name, n } of steps) {
          if (kind === "write")
            world.write(name, { tags: { ...TAGS, n }, desired: { model: { ...POINTER, release: `r${n}` } } });
          if (kind === "report") world.report(name, reportOf("Running", { restarts: n }, clock.now() - BEAT));
          if (kind === "freeze") world.freezeIndex();
          if (kind === "thaw") world.thawIndex();
          if (kind === "wait") await clock.advance(seconds(n));
          if (kind === "note") {
            view.note(world.read(name));
            noted.set(name, world.read(name).version);
          }
          // Nothing that a call returned is lost to an older row.
          if (kind === "wait" && n >= 100) noted.clear();
          for (const [one, version] of noted)
            if (!one.includes("/")) expect(view.get(one)?.version).toBeGreaterThanOrEqual(version);
        }
        world.thawIndex();
        await clock.advance(minutes(8));
        for (const name of names) {
          const [device = "", module = ""] = name.split("/");
          const twin = world.read(name);
          expect(view.get(device)?.slots[module]).toEqual({
            etag: twin.etag,
            pointer: twin.desired["model"],
            report: twin.reported["inference"] ?? null,
            heardAt: twin.reported["inference"] === undefined ? null : expect.any(Number),
          });
        }
        stop.abort();
      }),
      { numRuns: 60 },
    );
  });
});

describe("changes", () => {
  test.each<[string, Partial<WorldTwin>, boolean]>([
    ["a heartbeat", { reported: { inference: reportOf("Running", {}, 60_000) } }, false],
    ["a window", { reported: { inference: reportOf("Running", { restarts: 4 }) } }, false],
    ["a new version of the same", { version: 9 }, false],
    ["tags", { version: 9, tags: { ...TAGS, line: "7" } }, true],
    ["being switched off", { enabled: false }, true],
    ["a pointer", { version: 9, desired: { model: { ...POINTER, digest: "sha256:2" } } }, true],
    ["a state", { reported: { inference: reportOf("Failed") } }, true],
    [
      "an error",
      {
        reported: {
          inference: reportOf("Running", {
            update: {
              release: "a.r1",
              digest: "sha256:1",
              state: "Running",
              at: "x",
              error: { code: "E", message: "" },
            },
          }),
        },
      },
      true,
    ],
    [
      "a running model",
      {
        reported: {
          inference: reportOf("Running", {
            active: {
              release: "a.r1",
              digest: "sha256:9",
              variant: "v",
              executionProvider: "cpu",
              since: "x",
            },
          }),
        },
      },
      true,
    ],
    ["the end of its reports", { reported: {} }, true],
  ])("%s", async (_, change, reported) => {
    const world = createWorld();
    const twin = { tags: TAGS, desired: { model: POINTER }, reported: { inference: reportOf("Running") } };
    world.add("cam-1", twin);
    const { clock, changes, view } = await watching(world);
    world.add("cam-1", { ...twin, ...change });
    await clock.advance(seconds(65));
    expect(changes).toEqual(reported ? ["cam-1"] : []);
    const read = world.read("cam-1");
    expect(view.get("cam-1")).toMatchObject({
      version: read.version,
      slots: { "": { report: read.reported["inference"] ?? null } },
    });
  });
});

test("the view reports how long a sweep takes, with the pause before it", async () => {
  const world = createWorld();
  world.add("cam-1", { tags: TAGS });
  const { view, clock } = await watching(world);
  expect(view.sweepTime()).toBe(seconds(60));
  world.breakDown({ kind: "throttled", retryAfter: seconds(30), message: "429" });
  await clock.advance(seconds(61));
  world.mend();
  await clock.advance(seconds(60));
  expect(view.sweepTime()).toBe(seconds(90));
});

test("the view says whether a whole sweep has ended since the start", async () => {
  const world = createWorld();
  world.add("cam-1", { tags: TAGS });
  world.breakDown({ kind: "throttled", retryAfter: seconds(30), message: "429" });
  const { view, clock } = await watching(world, { start: false });
  await clock.advance(seconds(20));
  expect(view.isSwept()).toBe(false);
  world.mend();
  await clock.advance(seconds(60));
  expect(view.isSwept()).toBe(true);
  world.breakDown({ kind: "throttled", retryAfter: seconds(30), message: "429" });
  await clock.advance(seconds(300));
  expect(view.health().reachable).toBe(false);
  expect(view.isSwept()).toBe(true);
});

describe("when a report was received", () => {
  const beatAt = (at: number) => ({
    inference: { ...reportOf("Running"), heartbeatAt: timestampOf(instant(at)) },
  });
  test.each([
    ["an hour ago, by its clock", -minutes(60), -minutes(60)],
    ["in a year, by its clock", minutes(60 * 24 * 365), 0],
  ])("a first report from %s", async (_, said, heard) => {
    const world = createWorld();
    const started = createFakeClock().now();
    world.add("cam-1", { tags: TAGS, reported: beatAt(started + said) });
    const { view, clock } = await watching(world);
    await clock.advance(minutes(10));
    expect(view.get("cam-1")?.slots[""]?.heardAt).toBe(started + heard);
  });
  test("another heartbeat counts from when it was first seen, whatever the device's clock says", async () => {
    const world = createWorld();
    const yesterday = createFakeClock().now() - minutes(60 * 24);
    world.add("cam-1", { tags: TAGS, reported: beatAt(yesterday) });
    const { view, clock } = await watching(world);
    world.add("cam-1", { tags: TAGS, reported: beatAt(yesterday + 1) });
    await clock.advance(seconds(65));
    const heard = view.get("cam-1")?.slots[""]?.heardAt ?? 0;
    expect(clock.now() - heard).toBeLessThan(seconds(10));
  });
});

describe("the fast lane", () => {
  test("reads the given twins, and no others", async () => {
    const world = createWorld();
    for (let n = 0; n < 20; n += 1) {
      world.add(`cam-${n}`);
      world.add(`cam-${n}/inference`, { desired: { model: POINTER } });
    }
    const { view, changes } = await watching(world);
    world.report("cam-4/inference", reportOf("Running"));
    world.report("cam-5/inference", reportOf("Running"));
    const refs = [4, 6].map((n) => ({ device: `cam-${n}`, module: "inference" }));
    expect(await view.refresh(refs, "normal", signal)).toEqual(ok(undefined));
    expect(world.calls).toEqual(["getTwin cam-4/inference", "getTwin cam-6/inference"]);
    expect(changes).toEqual(["cam-4"]);
  });
  test("stops at the first fault and returns it", async () => {
    const world = createWorld();
    for (let n = 0; n < 50; n += 1) world.add(`cam-${n}`);
    const { view } = await watching(world);
    world.breakDown((call) => (call === "getTwin cam-3" ? DOWN : null));
    const refs = Array.from({ length: 50 }, (_, n) => ({ device: `cam-${n}`, module: null }));
    expect(await view.refresh(refs, "rollback", signal)).toEqual(err(DOWN));
    expect(world.calls.length).toBeLessThan(20);
  });
  test("forgets twins that are gone", async () => {
    const world = createWorld();
    world.add("cam-1");
    world.add("cam-1/inference", { desired: { model: POINTER } });
    world.add("cam-2");
    const { view } = await watching(world);
    world.remove("cam-1/inference");
    world.remove("cam-2");
    await view.refresh(
      [
        { device: "cam-1", module: "inference" },
        { device: "cam-2", module: null },
      ],
      "normal",
      signal,
    );
    expect(view.get("cam-1")?.slots["inference"]).toBeUndefined();
    expect(view.get("cam-2")).toBeUndefined();
  });
  test("is a fault when it was stopped", async () => {
    const world = createWorld();
    world.add("cam-1");
    const { view } = await watching(world);
    const result = await view.refresh([{ device: "cam-1", module: null }], "normal", AbortSignal.abort());
    expect(result).toMatchObject({ ok: false, error: { kind: "unavailable" } });
  });
});

describe("health", () => {
  async function failingCall(hub: DeviceHub): Promise<Result<unknown, Fault>> {
    return await hub.getIdentity("cam-1", signal);
  }
  test("an outage between two sweeps is known within seconds from the calls of others, and its end as well", async () => {
    const world = createWorld();
    world.add("cam-1");
    const { view, hub, clock } = await watching(world);
    const turns: boolean[] = [];
    view.onHealth(() => turns.push(view.health().reachable));
    await clock.advance(seconds(5));
    world.breakDown({ kind: "throttled", retryAfter: seconds(10), message: "the hub answered 429" });
    await failingCall(hub);
    await failingCall(hub);
    await clock.advance(seconds(5));
    expect(view.health()).toMatchObject({ reachable: false, message: expect.stringContaining("429") });
    world.mend();
    await clock.advance(seconds(20));
    expect(view.health()).toMatchObject({ reachable: true });
    expect(turns).toEqual([false, true]);
  });
  test("failures of one class of calls, with reads that work, leave it reachable at the price of few reads", async () => {
    const world = createWorld();
    world.add("cam-1");
    const { view, hub, clock } = await watching(world);
    const turns: boolean[] = [];
    view.onHealth(() => turns.push(view.health().reachable));
    world.breakDown((call) =>
      call === "getIdentity" ? { kind: "throttled", retryAfter: seconds(10), message: "429" } : null,
    );
    for (let n = 0; n < 40; n += 1) {
      await failingCall(hub);
      await clock.advance(millis(250));
    }
    expect(turns).toEqual([]);
    const probes = world.calls.filter((call) => call.startsWith("getTwin"));
    expect(probes.length).toBeGreaterThan(0);
    expect(probes.length).toBeLessThan(20);
  });
  test("queries that stay throttled make the hub unreachable although twins can be read, until the next page", async () => {
    const world = createWorld();
    world.add("cam-1");
    const { view, clock } = await watching(world);
    world.breakDown((call) =>
      call.startsWith("query") ? { kind: "throttled", retryAfter: seconds(10), message: "429" } : null,
    );
    await clock.advance(seconds(90));
    expect(view.health().reachable).toBe(false);
    world.mend();
    await clock.advance(seconds(61));
    expect(view.health().reachable).toBe(true);
  });
  test("calls that their caller stopped are no outage", async () => {
    const world = createWorld();
    const { view, hub, clock } = await watching(world);
    world.breakDown(DOWN);
    for (let n = 0; n < 5; n += 1)
      await hub.getTwin({ device: "x", module: null }, "normal", AbortSignal.abort());
    await clock.advance(seconds(5));
    expect(view.health().reachable).toBe(true);
  });
  test("an operator that starts during an outage sees it as unreachable, until the fleet has been read", async () => {
    const world = createWorld(1);
    for (const name of ["cam-1", "cam-2"]) world.add(name);
    world.breakDown(DOWN);
    const { view, clock, synced } = await watching(world, { start: false });
    let isSynced = false;
    const waiting = synced(signal).then(() => {
      isSynced = true;
    });
    await clock.settle();
    expect(isSynced).toBe(false);
    expect(view.health()).toMatchObject({
      reachable: false,
      message: expect.stringContaining("not been read"),
    });
    await clock.advance(seconds(10));
    await waiting;
    expect(view.health()).toMatchObject({ reachable: false, message: expect.stringContaining("503") });
    const turns: boolean[] = [];
    view.onHealth(() => turns.push(view.health().reachable));
    world.breakDown((call) => (call === "queryModules null" ? DOWN : null));
    await clock.advance(seconds(10));
    expect(view.health().reachable).toBe(false);
    world.mend();
    await clock.advance(minutes(2));
    expect(view.health().reachable).toBe(true);
    expect(turns.at(-1)).toBe(true);
  });
});

import { createHash } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import type { InferenceReport, ModelPointer } from "../../src/api/device-contract.ts";
import { createManualClock } from "../base/clock.ts";
import type { JsonObject, JsonValue } from "../base/json.ts";
import { createSimulator, type Simulator, type SimulatorSetup } from "../simulator.ts";
import { parseBehaviours } from "./behaviour.ts";

const START = Date.parse("2026-03-01T12:00:00Z");
const MINUTE = 60_000;
/** Begins as a model does: the version of the format, then the name of the producer. */
const MODEL = Buffer.from([0x08, 0x08, 0x12, 0x02, 0x70, 0x74]);

const stopping: (() => Promise<void>)[] = [];
afterEach(async () => {
  await Promise.all(stopping.splice(0).map((stop) => stop()));
});

function startFleet(setup: SimulatorSetup = {}): Simulator {
  const simulator = createSimulator({ clock: createManualClock(START), download: "skip", ...setup });
  stopping.push(simulator.stop);
  return simulator;
}

function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

function pointerTo(release: string, more: Partial<ModelPointer> = {}): ModelPointer {
  return {
    contract: 1,
    deployment: "plant-a.resnet50",
    release,
    name: "resnet50",
    version: "1",
    variant: "fp32",
    digest: digestOf(Buffer.from(release)),
    sizeBytes: 6,
    url: "http://127.0.0.1:1/model.onnx?sig=x",
    executionProvider: "cpu",
    config: {},
    ...more,
  };
}

function add({ hub }: Simulator, device: string, tags: JsonObject = {}, iotEdge = false): void {
  const created = hub.registry.putDevice(device, { capabilities: { iotEdge } }, null);
  expect(created.ok).toBe(true);
  hub.twins.patch(device, { tags: { edgefleet: tags }, desired: null }, null);
}

function point({ hub }: Simulator, key: string, model: ModelPointer | null): void {
  const written = hub.twins.patch(
    key,
    { tags: null, desired: { model: model as JsonValue as JsonObject } },
    null,
  );
  expect(written.ok).toBe(true);
}

function reportOf({ hub }: Simulator, key: string): InferenceReport {
  return hub.twins.get(key)?.reported.value["inference"] as unknown as InferenceReport;
}

function behave({ fleet }: Simulator, rules: JsonValue): void {
  const parsed = parseBehaviours(rules, 1);
  if (!parsed.ok) throw new Error(parsed.problems.join("\n"));
  fleet.setBehaviours(parsed.behaviours);
}

/** Every state that a twin's report went through. */
function watchStates({ hub }: Simulator, key: string): string[] {
  const states: string[] = [];
  hub.twins.onWrite((write) => {
    const state = (write.twin?.reported.value["inference"] as unknown as InferenceReport)?.update?.state;
    if (write.key === key && state !== undefined && states.at(-1) !== state) states.push(state);
  });
  return states;
}

async function serve(files: Readonly<Record<string, { status: number; body: Uint8Array }>>) {
  let requests = 0;
  const server: Server = createServer((request, response) => {
    requests += 1;
    const file = files[(request.url ?? "").split("?")[0] ?? ""] ?? { status: 404, body: Buffer.of() };
    response.writeHead(file.status).end(file.body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stopping.push(() => new Promise((resolve) => server.close(() => resolve())));
  const { port } = server.address() as AddressInfo;
  return {
    url: (path: string) => `http://127.0.0.1:${port}${path}?sv=2026&sig=secret`,
    requests: () => requests,
  };
}

test("a device goes through every state of an update before it says that the model runs", async () => {
  const simulator = startFleet();
  add(simulator, "cam-1");
  const states = watchStates(simulator, "cam-1");
  point(simulator, "cam-1", pointerTo("a.m-1"));
  await simulator.advance(500);
  expect(reportOf(simulator, "cam-1").active).toBeUndefined();
  await simulator.advance(5000);
  expect(states).toEqual(["Downloading", "Checking", "Loading", "Probing", "Running"]);
  expect(reportOf(simulator, "cam-1")).toMatchObject({
    contract: 1,
    active: { release: "a.m-1", digest: pointerTo("a.m-1").digest, variant: "fp32" },
    update: { state: "Running" },
  });
});

test("a healthy device reports a window, its resources and a heartbeat each interval", async () => {
  const simulator = startFleet();
  add(simulator, "cam-1");
  point(simulator, "cam-1", pointerTo("a.m-1"));
  await simulator.advance(5 * MINUTE);
  const before = reportOf(simulator, "cam-1");
  expect(before.window).toMatchObject({ release: "a.m-1" });
  expect(before.window!.seconds).toBeGreaterThan(55);
  expect(before.window!.inferences).toBeGreaterThan(1500);
  expect(before.window!.latencyMilliseconds.p50).toBeLessThan(before.window!.latencyMilliseconds.p95);
  expect(Object.keys(before.resources ?? {})).toContain("gpuCelsius");
  await simulator.advance(2 * MINUTE);
  expect(
    Date.parse(reportOf(simulator, "cam-1").heartbeatAt) - Date.parse(before.heartbeatAt),
  ).toBeGreaterThan(MINUTE);
});

test("a device really downloads, and refuses bytes that are not the ones it was promised", async () => {
  const files = await serve({
    "/good.onnx": { status: 200, body: MODEL },
    "/page.onnx": { status: 200, body: Buffer.from("<html>") },
  });
  const simulator = startFleet({ download: "real" });
  add(simulator, "cam-1");
  point(simulator, "cam-1", pointerTo("a.m-1", { url: files.url("/good.onnx"), digest: digestOf(MODEL) }));
  await simulator.advance(5000);
  expect(reportOf(simulator, "cam-1").active?.release).toBe("a.m-1");

  point(simulator, "cam-1", pointerTo("a.m-2", { url: files.url("/good.onnx") }));
  await simulator.advance(5000);
  expect(reportOf(simulator, "cam-1")).toMatchObject({
    active: { release: "a.m-1" },
    update: { release: "a.m-2", state: "Failed", error: { code: "DigestMismatch" } },
  });

  const page = pointerTo("a.m-3", { url: files.url("/page.onnx"), digest: digestOf(Buffer.from("<html>")) });
  point(simulator, "cam-1", page);
  await simulator.advance(5000);
  expect(reportOf(simulator, "cam-1").update?.error?.code).toBe("LoadFailed");

  point(simulator, "cam-1", pointerTo("a.m-4", { url: files.url("/none.onnx") }));
  await simulator.advance(5000);
  const { update, active } = reportOf(simulator, "cam-1");
  expect(update?.error?.code).toBe("DownloadFailed404");
  expect(JSON.stringify(update)).not.toContain("sig=");
  expect(active?.release).toBe("a.m-1");
});

test("a new url is another try only for a device whose download had failed", async () => {
  const files = await serve({
    "/old": { status: 403, body: Buffer.of() },
    "/new": { status: 200, body: MODEL },
  });
  const simulator = startFleet({ download: "real" });
  add(simulator, "cam-1");
  const pointer = pointerTo("a.m-1", { url: files.url("/old"), digest: digestOf(MODEL) });
  point(simulator, "cam-1", pointer);
  await simulator.advance(5000);
  expect(reportOf(simulator, "cam-1").update?.error?.code).toBe("DownloadFailed403");
  point(simulator, "cam-1", { ...pointer, url: files.url("/new") });
  await simulator.advance(5000);
  expect(reportOf(simulator, "cam-1").update?.state).toBe("Running");

  const asked = files.requests();
  const states = watchStates(simulator, "cam-1");
  point(simulator, "cam-1", { ...pointer, url: files.url("/old"), release: "a.m-renamed" });
  await simulator.advance(5000);
  expect(reportOf(simulator, "cam-1").active?.release).toBe("a.m-renamed");
  expect(states).toEqual(["Running"]);
  expect(files.requests()).toBe(asked);
});

test("ten devices share the downloads of the first", async () => {
  const files = await serve({ "/good.onnx": { status: 200, body: MODEL } });
  const simulator = startFleet({ download: "real", realDownloads: 1 });
  const pointer = pointerTo("a.m-1", { url: files.url("/good.onnx"), digest: digestOf(MODEL) });
  for (let index = 0; index < 10; index++) add(simulator, `cam-${index}`);
  for (let index = 0; index < 10; index++) point(simulator, `cam-${index}`, pointer);
  await simulator.advance(10_000);
  expect(simulator.fleet.summary().releases).toEqual({ "a.m-1": 10 });
  expect(files.requests()).toBe(1);
});

test("withdrawn in the middle of an update, a device stays with what it ran", async () => {
  const simulator = startFleet();
  add(simulator, "cam-1");
  point(simulator, "cam-1", pointerTo("a.m-1"));
  await simulator.advance(5000);
  point(simulator, "cam-1", pointerTo("a.m-2"));
  await simulator.advance(500);
  expect(reportOf(simulator, "cam-1").update?.release).toBe("a.m-2");
  const states = watchStates(simulator, "cam-1");
  point(simulator, "cam-1", pointerTo("a.m-1"));
  await simulator.advance(5000);
  // Once it is back it stays there: what was under way is dropped.
  expect(states.indexOf("Running")).toBe(states.length - 1);
  expect(reportOf(simulator, "cam-1")).toMatchObject({
    active: { release: "a.m-1" },
    update: { release: "a.m-1", state: "Running" },
  });
});

test("a failed update stays reported until there is another, and its release is tried again when it is asked for again", async () => {
  const simulator = startFleet();
  add(simulator, "cam-1");
  point(simulator, "cam-1", pointerTo("a.m-1"));
  await simulator.advance(MINUTE);
  behave(simulator, [{ match: { release: "a.m-2" }, effects: { failAt: { state: "Loading" } } }]);
  point(simulator, "cam-1", pointerTo("a.m-2"));
  await simulator.advance(MINUTE);
  const failed = reportOf(simulator, "cam-1").update;
  expect(failed).toMatchObject({ release: "a.m-2", state: "Failed" });
  point(simulator, "cam-1", pointerTo("a.m-1"));
  await simulator.advance(10 * MINUTE);
  expect(reportOf(simulator, "cam-1")).toMatchObject({ active: { release: "a.m-1" }, update: failed });
  behave(simulator, []);
  point(simulator, "cam-1", pointerTo("a.m-2"));
  await simulator.advance(MINUTE);
  expect(reportOf(simulator, "cam-1")).toMatchObject({
    active: { release: "a.m-2" },
    update: { release: "a.m-2", state: "Running" },
  });
});

test("a window with nothing in it is left out", async () => {
  const simulator = startFleet();
  add(simulator, "cam-1");
  point(simulator, "cam-1", pointerTo("a.m-1"));
  await simulator.advance(3 * MINUTE);
  expect(reportOf(simulator, "cam-1").window?.inferences).toBeGreaterThan(0);
  behave(simulator, [{ effects: { inferencesPerSecond: 0 } }]);
  await simulator.advance(3 * MINUTE);
  const { window, active, heartbeatAt } = reportOf(simulator, "cam-1");
  expect(window).toBeUndefined();
  expect(active?.release).toBe("a.m-1");
  expect(START + 6 * MINUTE - Date.parse(heartbeatAt)).toBeLessThan(2 * MINUTE);
});

test("a pointer that goes away takes the model with it", async () => {
  const simulator = startFleet();
  add(simulator, "cam-1");
  point(simulator, "cam-1", pointerTo("a.m-1"));
  await simulator.advance(5000);
  point(simulator, "cam-1", null);
  await simulator.advance(2 * MINUTE);
  const report = reportOf(simulator, "cam-1");
  expect(Object.keys(report).sort()).toEqual(["contract", "heartbeatAt", "resources", "restarts"]);
});

test("rules say which releases fail where, and who is slow, wrong or silent", async () => {
  const simulator = startFleet({
    behaviours: [
      {
        match: { release: "a.slow-*" },
        effects: { latency: { p50: 200, p95: 400, p99: 800 }, errorRate: 0.5 },
      },
      { match: { release: "a.full" }, effects: { failAt: { state: "Downloading", code: "DiskFull" } } },
      { match: { deviceId: "dark-*" }, effects: { offline: true } },
      { match: { site: "plant-b" }, effects: { wrongClock: "1h" } },
      { match: { deviceClass: "liar" }, effects: { lieDigest: "sha256:lie" } },
    ],
  });
  for (const device of ["slow", "full", "dark-1"]) add(simulator, device);
  add(simulator, "ahead", { site: "plant-b" });
  add(simulator, "liar", { class: "liar" });
  point(simulator, "slow", pointerTo("a.slow-1"));
  point(simulator, "full", pointerTo("a.full"));
  point(simulator, "dark-1", pointerTo("a.m-1"));
  point(simulator, "liar", pointerTo("a.m-1"));
  await simulator.advance(3 * MINUTE);
  const slow = reportOf(simulator, "slow").window!;
  expect(slow.latencyMilliseconds.p95).toBeGreaterThan(375);
  expect(slow.errors / slow.inferences).toBeCloseTo(0.5, 1);
  expect(reportOf(simulator, "full").update?.error?.code).toBe("DiskFull");
  expect(reportOf(simulator, "dark-1")).toBeUndefined();
  expect(Date.parse(reportOf(simulator, "ahead").heartbeatAt)).toBeGreaterThan(START + 60 * MINUTE);
  expect(reportOf(simulator, "liar").active?.digest).toBe("sha256:lie");
  expect(Date.parse(reportOf(simulator, "liar").heartbeatAt)).toBeLessThan(START + 4 * MINUTE);

  simulator.fleet.setBehaviours([]);
  await simulator.advance(3 * MINUTE);
  expect(reportOf(simulator, "dark-1").active?.release).toBe("a.m-1");
});

test("a flapping device catches up with what it has not heard", async () => {
  const simulator = startFleet({
    behaviours: [{ effects: { flapping: { up: "2m", down: "5m" } } }],
  });
  add(simulator, "cam-1");
  const key = "cam-1";
  await simulator.advance(7 * MINUTE);
  const silences: number[] = [];
  let last = Date.parse(reportOf(simulator, key).heartbeatAt);
  for (let minute = 0; minute < 30; minute++) {
    point(simulator, key, pointerTo(`a.m-${minute}`));
    await simulator.advance(MINUTE);
    const at = Date.parse(reportOf(simulator, key).heartbeatAt);
    silences.push(at - last);
    last = at;
  }
  expect(Math.max(...silences)).toBeGreaterThan(4 * MINUTE);
  simulator.fleet.setBehaviours([]);
  await simulator.advance(3 * MINUTE);
  expect(reportOf(simulator, key).active?.release).toBe("a.m-29");
});

test("a disabled device falls silent, and continues with its present model when it is enabled again", async () => {
  const simulator = startFleet();
  add(simulator, "cam-1");
  await simulator.advance(MINUTE);
  const identity = simulator.hub.registry.get("cam-1", null)!;
  const keep = { authentication: identity.authentication } as unknown as JsonObject;
  simulator.hub.registry.putDevice("cam-1", { ...keep, status: "disabled" }, { any: true, etag: "*" });
  const before = simulator.hub.twins.get("cam-1")!.reported.version;
  point(simulator, "cam-1", pointerTo("a.m-1"));
  await simulator.advance(5 * MINUTE);
  expect(simulator.hub.twins.get("cam-1")!.reported.version).toBe(before);
  simulator.hub.registry.putDevice("cam-1", { ...keep, status: "enabled" }, { any: true, etag: "*" });
  await simulator.advance(5000);
  expect(reportOf(simulator, "cam-1").active?.release).toBe("a.m-1");
});

test("an edge device without a manifest has its model in the module, once it was given one", async () => {
  const simulator = startFleet();
  add(simulator, "edge-1", {}, true);
  simulator.hub.registry.ensureModule("edge-1", "vision");
  await simulator.advance(2 * MINUTE);
  expect(reportOf(simulator, "edge-1/vision")).toBeUndefined();
  point(simulator, "edge-1/vision", pointerTo("a.m-1"));
  await simulator.advance(5000);
  expect(reportOf(simulator, "edge-1/vision").active?.release).toBe("a.m-1");
  expect(simulator.hub.twins.get("edge-1")!.reported.value).toEqual({});
});

test("an outage of the hub loses no pointer: the device reads its twin when the line is back", async () => {
  const simulator = startFleet();
  add(simulator, "cam-1");
  await simulator.advance(MINUTE);
  simulator.hub.faults.put({
    id: "dark",
    kind: "outage",
    operations: ["*"],
    devices: "*",
    percent: 100,
    when: "before",
    expiresAt: START + 10 * MINUTE,
    remaining: null,
  });
  point(simulator, "cam-1", pointerTo("a.m-1"));
  await simulator.advance(5 * MINUTE);
  expect(reportOf(simulator, "cam-1").active).toBeUndefined();
  await simulator.advance(7 * MINUTE);
  expect(reportOf(simulator, "cam-1").active?.release).toBe("a.m-1");
});

test("the same seed gives the same run, and another seed another", async () => {
  const run = async (seed: number) => {
    const simulator = startFleet({ seed });
    for (let index = 0; index < 20; index++) add(simulator, `cam-${index}`);
    for (let index = 0; index < 20; index++) point(simulator, `cam-${index}`, pointerTo("a.m-1"));
    await simulator.advance(10 * MINUTE);
    return Array.from({ length: 20 }, (_, index) => simulator.hub.twins.get(`cam-${index}`)!.reported);
  };
  const first = await run(7);
  expect(await run(7)).toEqual(first);
  expect(await run(8)).not.toEqual(first);
});

test("ten thousand devices follow one pointer, and the hub answers a page of them at once", async () => {
  const simulator = startFleet();
  for (let index = 0; index < 10_000; index++)
    add(simulator, `cam-${index}`, { managed: true, class: index % 2 === 0 ? "nano" : "orin" });
  const pointer = pointerTo("a.m-1");
  for (let index = 0; index < 10_000; index++) point(simulator, `cam-${index}`, pointer);
  await simulator.advance(2 * MINUTE);
  expect(simulator.fleet.summary()).toMatchObject({
    devices: 10_000,
    reachable: 10_000,
    releases: { "a.m-1": 10_000 },
    updates: { Running: 10_000 },
  });
  const text =
    "SELECT deviceId AS device, properties.reported.inference AS report FROM devices WHERE tags.edgefleet.managed = true";
  const seen = new Set<JsonValue>();
  let continuation: string | null = null;
  do {
    const page = simulator.hub.index.query(text, { size: 1000, continuation });
    if (!page.ok) throw new Error(page.refusal.message);
    for (const row of page.value.rows) seen.add(row["device"] ?? null);
    continuation = page.value.continuation;
  } while (continuation !== null);
  expect(seen.size).toBe(10_000);
});

import { copyFileSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import fc from "fast-check";
import { afterAll, afterEach, expect, test, vi } from "vitest";
import type { JsonValue } from "../base/json.ts";
import { routeServiceRequest } from "../http/routes/service-api.ts";
import type { Hub } from "../hub/hub.ts";
import { createSimulator, type Simulator, type SimulatorSetup } from "../simulator.ts";
import { connectRegistry, problemOf } from "../testing/service-client.ts";

const directory = mkdtempSync(join(tmpdir(), "simulator-state-"));
const running = new Set<Simulator>();
let files = 0;

afterEach(stopAll);
afterAll(() => rmSync(directory, { recursive: true, force: true }));

async function stopAll(): Promise<void> {
  await Promise.all([...running].map((simulator) => simulator.stop()));
  running.clear();
}

function newFile(): string {
  files += 1;
  return join(directory, `${files}.state`);
}

function live(setup: SimulatorSetup): Simulator {
  const simulator = createSimulator({ autoStart: false, throttling: false, clock: "virtual", ...setup });
  running.add(simulator);
  return simulator;
}

/** What a process that is killed now leaves behind. */
function imageOf(path: string): string {
  const image = newFile();
  for (const end of ["", "-wal"]) if (existsSync(path + end)) copyFileSync(path + end, image + end);
  return image;
}

/** One request of the service API, answered as the server would: status, etag and body as they go over the wire. */
async function ask(
  { hub }: { readonly hub: Hub },
  method: string,
  path: string,
  body?: JsonValue,
  headers: Readonly<Record<string, string>> = {},
): Promise<readonly [status: number, etag: string, body: string]> {
  const url = `/${path}${path.includes("?") ? "&" : "?"}api-version=2021-04-12`;
  const routed = routeServiceRequest(hub, {
    method,
    url,
    headers,
    body: body === undefined ? "" : JSON.stringify(body),
  });
  const done = routed.ok ? await routed.value.run() : routed;
  if (!done.ok) return [done.refusal.status, "", done.refusal.message];
  return [done.value.status, done.value.headers["ETag"] ?? "", done.value.body ?? ""];
}

const QUERIES = [
  "SELECT * FROM devices",
  "SELECT * FROM devices.modules",
  "SELECT tags.site AS site, COUNT() AS number FROM devices GROUP BY tags.site",
  "SELECT * FROM devices.jobs",
  "SELECT deviceId, configurations FROM devices.modules WHERE moduleId = '$edgeAgent'",
];

/** Everything that a client could see. */
async function view(simulator: Simulator): Promise<readonly unknown[]> {
  const { hub } = simulator;
  hub.persistence.commit();
  const seen: unknown[] = [
    await ask(simulator, "GET", "devices"),
    await ask(simulator, "GET", "configurations"),
    await ask(simulator, "GET", "statistics/devices"),
  ];
  for (const { deviceId } of hub.registry.devices()) {
    seen.push(await ask(simulator, "GET", `devices/${deviceId}`));
    seen.push(await ask(simulator, "GET", `devices/${deviceId}/modules`));
    seen.push(await ask(simulator, "GET", `twins/${deviceId}`));
    seen.push(hub.messages.pending(deviceId));
    for (const { moduleId } of hub.registry.modulesOf(deviceId)) {
      seen.push(await ask(simulator, "GET", `devices/${deviceId}/modules/${moduleId}`));
      seen.push(await ask(simulator, "GET", `twins/${deviceId}/modules/${moduleId}`));
    }
  }
  for (const query of QUERIES) seen.push(await ask(simulator, "POST", "devices/query", { query }));
  for (const id of ["job-1", "job-2"]) seen.push(await ask(simulator, "GET", `jobs/v2/${id}`));
  seen.push(hub.messages.feedback(1, 1000));
  const { next } = hub.events.read({ from: 1, limit: 1000, source: null, deviceId: null });
  return [...seen, next, simulator.clock.now()];
}

const DEVICES = ["cam-1", "cam-2", "10", "edge-1", "edge-2"];
const CONFIGURATIONS = ["base", "other", "layer", "site"];
const device = fc.constantFrom(...DEVICES);
const value = fc.oneof(
  fc.integer({ min: -5, max: 5 }),
  fc.constantFrom("plant-a", "plant-b", "", 'ü\n"\\'),
  fc.boolean(),
);
const patch = fc.dictionary(
  fc.constantFrom("site", "b", "2", "1", "nested"),
  fc.oneof(
    value,
    fc.constant(null),
    fc.dictionary(fc.constantFrom("x", "y", "7"), fc.option(value), { maxKeys: 3 }),
  ),
  { maxKeys: 3 },
);
const WHOLE = {
  schemaVersion: "1.1",
  runtime: {},
  systemModules: {},
  modules: { inference: { version: "1" } },
};
const CONTENT: Readonly<Record<string, JsonValue>> = {
  base: {
    modulesContent: {
      $edgeAgent: { "properties.desired": WHOLE },
      $edgeHub: { "properties.desired": { routes: { up: "x" } } },
      inference: { "properties.desired": { a: 1, b: { c: 2 } } },
    },
  },
  other: {
    modulesContent: {
      $edgeAgent: { "properties.desired": WHOLE },
      $edgeHub: { "properties.desired": { routes: { up: "y" } } },
    },
  },
  layer: { modulesContent: { $edgeAgent: {}, inference: { "properties.desired.b": { d: 3 } } } },
  site: { deviceContent: { "properties.desired.site": { level: 3 } } },
};

type Operation = (simulator: Simulator) => Promise<unknown>;
const any = { "if-match": '"*"' };

function make(id: string): Operation {
  const body = { deviceId: id, capabilities: { iotEdge: id.startsWith("edge") } };
  return (simulator) => ask(simulator, "PUT", `devices/${id}`, body);
}

const operation: fc.Arbitrary<Operation> = fc.oneof(
  device.map(make),
  fc.tuple(device, fc.boolean()).map(
    ([id, enabled]): Operation =>
      async (simulator) => {
        const [status, , body] = await ask(simulator, "GET", `devices/${id}`);
        const written = {
          ...(JSON.parse(status === 200 ? body : "{}") as object),
          status: enabled ? "enabled" : "disabled",
        };
        return ask(simulator, "PUT", `devices/${id}`, written, any);
      },
  ),
  device.map(
    (id): Operation =>
      (simulator) =>
        ask(simulator, "DELETE", `devices/${id}`, undefined, any),
  ),
  fc.tuple(device, fc.constantFrom("m", "inference")).map(
    ([id, module]): Operation =>
      (simulator) =>
        ask(simulator, "PUT", `devices/${id}/modules/${module}`, { deviceId: id, moduleId: module }),
  ),
  fc.tuple(device, patch, fc.constantFrom("PATCH", "PUT"), fc.boolean()).map(
    ([id, written, method, tags]): Operation =>
      (simulator) =>
        ask(
          simulator,
          method,
          `twins/${id}`,
          tags ? { tags: written } : { properties: { desired: written } },
        ),
  ),
  fc.tuple(device, patch).map(
    ([id, written]): Operation =>
      (simulator) =>
        ask(simulator, "PATCH", `twins/${id}/modules/inference`, { properties: { desired: written } }),
  ),
  fc.tuple(device, patch).map(
    ([id, written]): Operation =>
      async ({ hub }) =>
        hub.twins.report(id, written),
  ),
  fc
    .tuple(fc.constantFrom(...CONFIGURATIONS), fc.constantFrom("*", "tags.site = 'plant-a'", ""), fc.nat(3))
    .map(
      ([id, targetCondition, priority]): Operation =>
        (simulator) => {
          const queries = { all: "SELECT deviceId FROM devices" };
          const body = { id, content: CONTENT[id] ?? null, targetCondition, priority, metrics: { queries } };
          const known = simulator.hub.configurations.get(id) !== undefined;
          return ask(simulator, "PUT", `configurations/${id}`, body, known ? any : {});
        },
    ),
  fc.constantFrom(...CONFIGURATIONS).map(
    (id): Operation =>
      (simulator) =>
        ask(simulator, "DELETE", `configurations/${id}`),
  ),
  fc.constant<Operation>(async ({ hub }) => hub.evaluate()),
  fc.tuple(device, fc.nat(4)).map(
    ([id, seconds]): Operation =>
      async ({ hub }) => {
        if (hub.registry.get(id, null) !== undefined)
          hub.messages.send(id, {
            body: Buffer.from([0, 255, seconds]),
            properties: { a: null },
            ack: "full",
            lifetime: 1000 * seconds + 1,
          });
      },
  ),
  device.map(
    (id): Operation =>
      async ({ hub }) => {
        const head = hub.messages.deliver(id);
        if (head !== null && head.sequenceNumber % 2 === 0) hub.messages.complete(id, head.sequenceNumber);
      },
  ),
  fc.tuple(fc.constantFrom("job-1", "job-2"), patch, fc.nat(1000)).map(
    ([id, tags, wait]): Operation =>
      (simulator) =>
        ask(simulator, "PUT", `jobs/v2/${id}`, {
          jobId: id,
          type: "scheduleUpdateTwin",
          queryCondition: "deviceId != 'cam-2'",
          updateTwin: { etag: "*", tags },
          startTime: new Date(simulator.clock.now() + wait).toISOString(),
          maxExecutionTimeInSeconds: 60,
        }),
  ),
  fc.nat(2000).map(
    (milliseconds): Operation =>
      (simulator) =>
        simulator.advance(milliseconds),
  ),
);

test("whatever was done, a simulator that is killed comes back the same, and goes on the same", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(operation, { minLength: 10, maxLength: 40, size: "max" }),
      fc.array(operation, { maxLength: 12, size: "max" }),
      fc.constantFrom(0, 1500),
      async (before, after, evaluationDelay) => {
        const path = newFile();
        const first = live({ state: path, evaluationDelay });
        for (const id of DEVICES.slice(1)) await make(id)(first);
        for (const [index, run] of before.entries()) {
          await run(first);
          // Some are written one by one, some together.
          if (index % 4 === 0) first.hub.persistence.commit();
        }
        const seen = await view(first);
        const second = live({ state: imageOf(path), evaluationDelay });
        expect(await view(second)).toEqual(seen);
        for (const run of after) for (const simulator of [first, second]) await run(simulator);
        expect(await view(second)).toEqual(await view(first));
        await stopAll();
      },
    ),
    { numRuns: 40 },
  );
});

test("a device that is deleted and made again in one breath is the last of the list, as before the restart", async () => {
  const path = newFile();
  const first = live({ state: path });
  for (const id of ["cam-1", "cam-2"]) await make(id)(first);
  first.hub.persistence.commit();
  await ask(first, "DELETE", "devices/cam-1", undefined, any);
  await make("cam-1")(first);
  const seen = await view(first);
  const second = live({ state: imageOf(path) });
  expect(await view(second)).toEqual(seen);
  expect([...second.hub.registry.devices()].map(({ deviceId }) => deviceId)).toEqual(["cam-2", "cam-1"]);
});

test("what a deployment has set is taken back when another replaces it after the restart", async () => {
  const path = newFile();
  const first = live({ state: path });
  await make("edge-1")(first);
  const put = (simulator: Simulator, id: string, priority: number) =>
    ask(simulator, "PUT", `configurations/${id}`, {
      content: CONTENT[id] ?? null,
      targetCondition: "*",
      priority,
    });
  await put(first, "base", 1);
  await ask(first, "PATCH", "twins/edge-1/modules/inference", { properties: { desired: { mine: 1 } } });
  first.hub.persistence.commit();
  const second = live({ state: imageOf(path) });
  const desired = () => second.hub.twins.get("edge-1/inference")?.desired;
  expect(desired()?.value).toEqual({ a: 1, b: { c: 2 }, mine: 1 });
  await put(second, "other", 2);
  expect(desired()?.value).toEqual({ mine: 1 });
});

test("a virtual clock goes on where it stood, and what was due in between is still due", async () => {
  const path = newFile();
  const first = live({ state: path, evaluationInterval: 10_000 });
  await make("edge-1")(first);
  await ask(first, "PUT", "configurations/base", {
    content: CONTENT["base"] ?? null,
    targetCondition: "tags.site = 'a'",
  });
  await ask(first, "PATCH", "twins/edge-1", { tags: { site: "a" } });
  await first.advance(9000);
  first.hub.persistence.commit();
  const second = live({ state: imageOf(path), evaluationInterval: 10_000 });
  expect(second.clock.now()).toBe(first.clock.now());
  const desired = () => second.hub.twins.get("edge-1/$edgeAgent")?.desired.version;
  await second.advance(999);
  expect(desired()).toBe(1);
  await second.advance(1);
  expect(desired()).toBe(2);
});

test("connections end with the process, and the hub learns of it as late as of any other end", async () => {
  const path = newFile();
  const first = live({ state: path, connectionLag: 5000 });
  await make("cam-1")(first);
  first.links.connect({ deviceId: "cam-1", moduleId: null }, { desired: () => {}, closed: () => {} }, null);
  await first.advance(6000);
  first.hub.persistence.commit();
  const second = live({ state: imageOf(path), connectionLag: 5000 });
  expect(second.hub.activityOf("cam-1").connectionState).toBe("Connected");
  await second.advance(5000);
  expect(second.hub.activityOf("cam-1").connectionState).toBe("Disconnected");
  const page = second.hub.events.read({ from: 1, limit: 10, source: null, deviceId: null });
  expect(page.events.map(({ properties }) => properties["opType"])).toEqual(["deviceDisconnected"]);
  expect(page.oldest).toBe(page.events[0]?.sequenceNumber);
});

test("simulated devices come back with the model that they ran, and load nothing again", async () => {
  const path = newFile();
  const setup = { state: path, autoStart: true, download: "skip", stateDelay: 10 } as const;
  const first = live(setup);
  await make("cam-1")(first);
  const model = {
    contract: 1,
    deployment: "default.defects",
    release: "default.defects-1",
    digest: `sha256:${"a".repeat(64)}`,
    url: "https://blob/a.onnx",
    variant: "cpu",
    executionProvider: "cpu",
  };
  await ask(first, "PATCH", "twins/cam-1", { properties: { desired: { model } } });
  await first.advance(120_000);
  first.hub.persistence.commit();
  const before = first.fleet.list();
  expect(before[0]).toMatchObject({ release: "default.defects-1", update: { state: "Running" } });
  const second = live({ ...setup, state: imageOf(path) });
  expect(second.fleet.list()).toEqual(before);
  const states: unknown[] = [];
  second.hub.twins.onWrite(({ twin }) => states.push(twin?.reported.value["inference"]));
  await second.advance(120_000);
  expect(states.length).toBeGreaterThan(1);
  for (const state of states)
    expect(state).toMatchObject({ active: { release: "default.defects-1" }, update: { state: "Running" } });
});

test("where the disk is full, writes are refused and reads go on; once there is room nothing is missing", async () => {
  const path = newFile();
  const problems: (string | null)[] = [];
  const first = live({ state: path, onStateProblem: (reported) => problems.push(reported) });
  const { port, ca, connectionString } = await first.start();
  const registry = connectRegistry({ port, ca, connectionString });
  await registry.create({ deviceId: "cam-1" });
  const full = vi.spyOn(DatabaseSync.prototype, "exec").mockImplementation(() => {
    throw Object.assign(new Error("database or disk is full"), { errcode: 13 });
  });
  const rejected = await problemOf(registry.create({ deviceId: "cam-2" }));
  expect(rejected.response?.statusCode).toBe(503);
  expect(rejected.responseBody).toContain("the disk is full");
  expect((await registry.get("cam-1")).responseBody.deviceId).toBe("cam-1");
  full.mockRestore();
  await registry.create({ deviceId: "cam-3" });
  expect(problems).toEqual(["cannot be written: the disk is full", null]);
  const second = live({ state: imageOf(path) });
  expect([...second.hub.registry.devices()].map(({ deviceId }) => deviceId)).toEqual([
    "cam-1",
    "cam-2",
    "cam-3",
  ]);
});

test("a client that trusted the authority before a restart trusts it afterwards", async () => {
  const path = newFile();
  const first = live({ state: path });
  const { ca, connectionString } = await first.start();
  await first.stop();
  const { port } = await live({ state: path }).start();
  const registry = connectRegistry({ port, ca, connectionString });
  expect((await registry.list()).responseBody).toEqual([]);
});

import { request } from "node:https";
import type { Duplex } from "node:stream";
import { connect as tlsConnect } from "node:tls";
import iothub from "azure-iothub";
import { afterEach, expect, test } from "vitest";
import { createManualClock } from "../../simulator/base/clock.ts";
import { createSimulator, type Simulator, type SimulatorSetup } from "../../simulator/simulator.ts";
import { controlCall } from "../../simulator/testing/control-client.ts";
import { connectPacket, credentialsOf, rawClient } from "../../simulator/testing/raw-mqtt.ts";
import { connectRegistry, problemOf, redirect, statusOf } from "../../simulator/testing/service-client.ts";

// Faults that go beyond a status: as the vendor's client, a device and a packet sniffer see them.

const NOON = Date.parse("2026-03-01T12:00:00Z");
const running: Simulator[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((simulator) => simulator.stop()));
});

async function startHub(setup: SimulatorSetup = {}) {
  const simulator = createSimulator({
    tier: "S3",
    download: "skip",
    autoStart: false,
    clock: createManualClock(NOON),
    ...setup,
  });
  running.push(simulator);
  const endpoint = await simulator.start();
  const sim = async (method: string, path: string, body?: unknown) => {
    const answer = await controlCall(endpoint, method, path, body);
    expect(answer.status).toBeLessThan(300);
    return answer.body as Record<string, unknown>;
  };
  return {
    simulator,
    endpoint,
    sim,
    fault: (body: object) => sim("POST", "faults", body),
    registry: connectRegistry(endpoint, endpoint.connectionString, 300),
    client: redirect(iothub.Client.fromConnectionString(endpoint.connectionString), endpoint, 2000),
  };
}

type Seen = { readonly status: number; readonly headers: Record<string, unknown>; readonly text: string };

/** A plain request, as far as it comes: what arrived, and how it ended. */
function ask(
  endpoint: { readonly port: number; readonly ca: string },
  path: string,
  patience = 2000,
): Promise<Seen & { readonly end: string }> {
  return new Promise((resolve) => {
    const headers = { Authorization: "Bearer anybody" };
    const url = {
      host: "127.0.0.1",
      port: endpoint.port,
      ca: endpoint.ca,
      path: `${path}?api-version=2021-04-12`,
    };
    let seen: Seen = { status: 0, headers: {}, text: "" };
    const call = request({ ...url, headers, timeout: patience }, (response) => {
      seen = { ...seen, status: response.statusCode ?? 0, headers: response.headers };
      response.setEncoding("utf8").on("data", (chunk: string) => {
        seen = { ...seen, text: seen.text + chunk };
      });
      response.once("end", () => resolve({ ...seen, end: "whole" }));
      response.once("error", () => resolve({ ...seen, end: "cut" }));
    });
    call.once("timeout", () => {
      resolve({ ...seen, end: "silent" });
      call.destroy();
    });
    call.once("error", (problem: NodeJS.ErrnoException) =>
      resolve({ ...seen, end: problem.code ?? "error" }),
    );
    call.end();
  });
}

test("half of a body arrives, and then the connection ends or nothing more comes", async () => {
  const { registry, endpoint, fault, sim } = await startHub();
  await registry.create({ deviceId: "cam-1" });
  const whole = await ask(endpoint, "/twins/cam-1");
  expect(whole.end).toBe("whole");
  for (const [variant, end] of [
    ["cut", "cut"],
    ["silent", "silent"],
  ] as const) {
    await fault({ kind: "partialBody", variant, operations: ["twin.get"], until: 2 });
    const half = await ask(endpoint, "/twins/cam-1", 200);
    expect([half.end, half.status, half.headers["content-length"]]).toEqual([
      end,
      200,
      String(whole.text.length),
    ]);
    expect(half.text).toBe(whole.text.slice(0, half.text.length));
    expect(half.text.length).toBe(Math.ceil(whole.text.length / 2));
    const problem = await problemOf(registry.getTwin("cam-1"));
    expect([problem.code, problem.response]).toEqual([
      variant === "cut" ? "ECONNRESET" : "ETIMEDOUT",
      undefined,
    ]);
  }
  expect(await sim("GET", "counters")).toMatchObject({
    operations: { "twin.get": { results: { 200: 1, cut: 2, hang: 2 } } },
  });
  expect((await registry.getTwin("cam-1")).responseBody.deviceId).toBe("cam-1");
});

test("a slow body takes its time, and is whole", async () => {
  const { registry, endpoint, fault } = await startHub();
  await registry.create({ deviceId: "cam-1" });
  const { text } = await ask(endpoint, "/twins/cam-1");
  await fault({ kind: "slowBody", bytesPerSecond: text.length * 4, until: 1 });
  const started = performance.now();
  expect(await ask(endpoint, "/twins/cam-1")).toMatchObject({ end: "whole", text });
  expect(performance.now() - started).toBeGreaterThan(180);
});

test("latency is drawn for every request, the same for the same seed", async () => {
  const draws = async () => {
    const { simulator, fault } = await startHub({ seed: 9 });
    await fault({ kind: "latency", milliseconds: { min: "10ms", max: 90 } });
    await fault({ id: "slow", kind: "latency", milliseconds: { p50: 10, p95: 50, p99: "1s" } });
    const about = { operation: "identity", name: "identity.get", device: null, conditional: false } as const;
    return Array.from({ length: 20 }, () => simulator.hub.faults.faultsFor(about).map(({ delay }) => delay));
  };
  const first = await draws();
  expect(new Set(first.flat()).size).toBeGreaterThan(30);
  expect(await draws()).toEqual(first);
});

test("a write under an etag loses against a real write of another client, as often as the rule says", async () => {
  const { registry, fault, sim } = await startHub();
  await registry.create({ deviceId: "cam-1" });
  const content = { deviceContent: { "properties.desired.a": 1 } };
  await registry.addConfiguration({ id: "one", content, targetCondition: "*", schemaVersion: "1.0" });
  await fault({ kind: "conflict", until: 2 });
  const before = (await registry.getTwin("cam-1")).responseBody as unknown as { etag: string };
  expect(await statusOf(registry.updateTwin("cam-1", { tags: { n: 1 } }, before.etag))).toBe(412);
  const after = (await registry.getTwin("cam-1")).responseBody as unknown as { etag: string; tags?: object };
  expect(after.etag).not.toBe(before.etag);
  expect(after.tags).toEqual({});
  const { responseBody: one } = await registry.getConfiguration("one");
  expect(await statusOf(registry.updateConfiguration({ ...one, priority: 3 }))).toBe(412);
  const { responseBody: again } = await registry.getConfiguration("one");
  expect(again.etag).not.toBe(one.etag);
  expect(again.priority).toBe(one.priority);
  await registry.updateConfiguration({ ...again, priority: 3 });
  await registry.updateTwin("cam-1", { tags: { n: 1 } }, after.etag);
  expect(await sim("GET", "faults")).toEqual({ faults: [] });
});

test("a write that asks for no etag wins, and a plain conflict changes nothing", async () => {
  const { registry, fault } = await startHub();
  await registry.create({ deviceId: "cam-1" });
  await fault({ kind: "conflict", variant: "answer" });
  await registry.updateTwin("cam-1", { tags: { n: 1 } }, "*");
  const { etag } = (await registry.getTwin("cam-1")).responseBody as unknown as { etag: string };
  expect(await statusOf(registry.updateTwin("cam-1", { tags: { n: 2 } }, etag))).toBe(412);
  const after = (await registry.getTwin("cam-1")).responseBody as unknown as { etag: string };
  expect(after.etag).toBe(etag);
});

test("success without sense: a page of a proxy, an empty object, no content", async () => {
  const { registry, endpoint, fault } = await startHub();
  await registry.create({ deviceId: "cam-1" });
  await fault({ id: "x", kind: "malformed", operations: ["twin.get"] });
  const page = await ask(endpoint, "/twins/cam-1");
  expect([page.status, page.headers["content-type"]]).toEqual([200, "text/html"]);
  expect(page.text).toContain("<!doctype html>");
  await fault({ id: "x", kind: "malformed", variant: "emptyObject" });
  expect(await ask(endpoint, "/twins/cam-1")).toMatchObject({ status: 200, text: "{}" });
  await fault({ id: "x", kind: "malformed", variant: "noContent" });
  expect((await registry.get("cam-1")).responseBody.deviceId).toBeNull();
});

test("a report is acknowledged and dropped, by the share and the devices of the rule", async () => {
  const { simulator, fault, sim } = await startHub();
  const { hub, links } = simulator;
  const sessions = ["cam-1", "other"].map((deviceId) => {
    expect(hub.registry.putDevice(deviceId, {}, null).ok).toBe(true);
    const listener = { desired: () => {}, closed: () => {} };
    const session = links.connect({ deviceId, moduleId: null }, listener, null);
    if (!session.ok) throw new Error("refused");
    return session.value;
  });
  await fault({ kind: "lostReport", devices: "cam-*", until: 1 });
  const versions = sessions.map((session) => links.report(session, { a: 1 }));
  expect(versions).toEqual([
    { ok: true, value: 2 },
    { ok: true, value: 2 },
  ]);
  expect(hub.twins.get("cam-1")?.reported.value).toEqual({});
  expect(hub.twins.get("other")?.reported.value).toEqual({ a: 1 });
  links.report(sessions[0]!, { a: 2 });
  expect(hub.twins.get("cam-1")?.reported.value).toEqual({ a: 2 });
  expect(await sim("GET", "counters")).toMatchObject({ devices: { lost: 1, reports: 2 } });
});

test("a fault applies to what devices do where it names it, and never because it names everything", async () => {
  const { simulator, endpoint, fault } = await startHub();
  const created = simulator.hub.registry.putDevice("cam-1", {}, null);
  const key = created.ok ? (created.value.authentication.symmetricKey.primaryKey ?? "") : "";
  const connecting = credentialsOf(endpoint, "cam-1", key);
  const codeOf = async (): Promise<number | undefined> => {
    const device = await rawClient(endpoint);
    device.send(connectPacket(connecting));
    return (await device.next())?.body[1];
  };
  await fault({ kind: "status", status: 503 });
  expect(await codeOf()).toBe(0);
  await fault({ kind: "status", status: 503, operations: ["device.connect"], until: 1 });
  expect(await codeOf()).toBe(3);
  expect(await codeOf()).toBe(0);
});

test("a device's report is refused with a status, or its line breaks in the midst of it", async () => {
  const { simulator, fault, sim } = await startHub();
  const { hub, links } = simulator;
  expect(hub.registry.putDevice("cam-1", {}, null).ok).toBe(true);
  const ends: string[] = [];
  const listener = { desired: () => {}, closed: (_: null, because: string) => ends.push(because) };
  const connected = links.connect({ deviceId: "cam-1", moduleId: null }, listener, null);
  if (!connected.ok) throw new Error("refused");
  const session = connected.value;
  await fault({ kind: "status", status: 429, operations: ["device.report"], devices: "cam-*", until: 1 });
  expect(links.getTwin(session).ok).toBe(true);
  expect(links.report(session, { a: 1 })).toMatchObject({ ok: false, refusal: { status: 429 } });
  expect(links.report(session, { a: 1 }).ok).toBe(true);
  await fault({ kind: "reset", operations: ["device.getTwin"], until: 1 });
  expect(links.getTwin(session)).toMatchObject({ ok: false, refusal: { status: 503 } });
  expect(ends).toEqual(["cut"]);
  expect(await sim("GET", "counters")).toMatchObject({ devices: { refused: 2, reports: 1, twinReads: 1 } });
});

test("a hub whose clock is ahead takes no token, and one that is behind stamps what it writes with the past", async () => {
  const { registry, endpoint, fault, sim } = await startHub();
  await registry.create({ deviceId: "cam-1" });
  await fault({ id: "clock", kind: "clockSkew", milliseconds: "2h", until: "1m" });
  expect(await statusOf(registry.get("cam-1"))).toBe(401);
  await fault({ id: "clock", kind: "clockSkew", milliseconds: "-1h" });
  await registry.updateTwin("cam-1", { properties: { desired: { n: 1 } } }, "*");
  const { headers, text } = await ask(endpoint, "/twins/cam-1");
  expect(text).toContain("2026-03-01T11:00:00");
  expect(Date.now() - Date.parse(String(headers["date"]))).toBeGreaterThan(3_590_000);
  expect((await sim("GET", "health"))["now"]).toBe("2026-03-01T12:00:00.000Z");
});

test("a restart breaks every connection and every request in flight, and keeps what the hub knew", async () => {
  const { simulator, endpoint, registry, client, fault, sim } = await startHub();
  await registry.create({ deviceId: "cam-1" });
  const key = simulator.hub.registry.get("cam-1", null)?.authentication.symmetricKey.primaryKey ?? "";
  const device = await rawClient(endpoint);
  device.send(connectPacket(credentialsOf(endpoint, "cam-1", key)));
  expect((await device.next())?.body[1]).toBe(0);
  const delivered = new Promise<void>((resolve) => {
    simulator.hub.methods.attach("cam-1", () => resolve());
  });
  const inFlight = problemOf(client.invokeDeviceMethod("cam-1", { methodName: "ping" }));
  await delivered;
  await fault({ kind: "restart", milliseconds: "20s" });
  expect((await inFlight).code).toBe("ECONNRESET");
  expect(await device.next()).toBeNull();
  expect((await problemOf(registry.get("cam-1"))).code).toBe("ECONNRESET");
  await expect(rawClient(endpoint)).rejects.toThrow("ECONNRESET");
  await sim("POST", "clock", { advanceMilliseconds: 19_000 });
  expect((await ask(endpoint, "/devices/cam-1")).end).toBe("ECONNRESET");
  await sim("POST", "clock", { advanceMilliseconds: 1000 });
  expect((await registry.get("cam-1")).responseBody.deviceId).toBe("cam-1");
  const again = await rawClient(endpoint);
  again.send(connectPacket(credentialsOf(endpoint, "cam-1", key)));
  expect((await again.next())?.body[1]).toBe(0);
});

test("a region that is a black hole answers only the control API, and ends when the rule is removed", async () => {
  const { endpoint, registry, fault, sim } = await startHub();
  await registry.create({ deviceId: "cam-1" });
  await fault({ id: "region", kind: "regionalOutage", variant: "blackHole", until: "1h" });
  expect((await problemOf(registry.get("cam-1"))).code).toBe("ETIMEDOUT");
  expect((await ask(endpoint, "/devices/cam-1", 100)).end).toBe("silent");
  const device = rawClient(endpoint).then(
    () => "connected",
    () => "refused",
  );
  const silence = new Promise((resolve) => {
    setTimeout(() => resolve("silence"), 100);
  });
  expect(await Promise.race([device, silence])).toBe("silence");
  expect((await sim("GET", "health"))["status"]).toBe("ok");
  await sim("DELETE", "faults/region");
  expect((await registry.get("cam-1")).responseBody.deviceId).toBe("cam-1");
});

test("who asks for a hub by its name that cannot be reached gets no TLS handshake", async () => {
  const { endpoint, fault } = await startHub();
  const shake = (servername: string) =>
    new Promise<string>((resolve) => {
      const { port, ca } = endpoint;
      const socket = tlsConnect({ host: "127.0.0.1", port, ca, servername });
      const finish = (how: string) => {
        socket.destroy();
        resolve(how);
      };
      socket.setTimeout(150, () => finish("silence"));
      socket.once("secureConnect", () => finish("shaken"));
      socket.once("error", () => finish("broken"));
    });
  expect(await shake(endpoint.hostName)).toBe("shaken");
  await fault({ id: "region", kind: "regionalOutage" });
  expect(await shake(endpoint.hostName)).toBe("broken");
  await fault({ id: "region", kind: "regionalOutage", variant: "blackHole" });
  expect(await shake(endpoint.hostName)).toBe("silence");
  expect(await shake("localhost")).toBe("shaken");
});

test("a restart breaks WebSockets too, and takes no new ones", async () => {
  const { endpoint, fault } = await startHub();
  const upgrade = () =>
    new Promise<Duplex | string>((resolve) => {
      const headers = {
        Connection: "Upgrade",
        Upgrade: "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "mqtt",
        "Sec-WebSocket-Key": "c2ltdWxhdG9yIHNpbXVsYQ==",
      };
      const { port, ca } = endpoint;
      const call = request({ host: "127.0.0.1", port, ca, path: "/$iothub/websocket", headers });
      call.once("upgrade", (_response, upgraded: Duplex) => resolve(upgraded));
      call.once("error", (problem: NodeJS.ErrnoException) => resolve(problem.code ?? "error"));
      call.end();
    });
  const socket = await upgrade();
  if (typeof socket === "string") throw new Error(socket);
  socket.on("error", () => {});
  const broken = new Promise((resolve) => {
    socket.once("close", resolve);
  });
  await fault({ kind: "restart", milliseconds: "20s" });
  await broken;
  expect(await upgrade()).toBe("ECONNRESET");
});

test("simulated devices are cut off with their region, and come back one after another when it does", async () => {
  const { simulator, registry, fault } = await startHub({ autoStart: true, reportInterval: 600_000 });
  const names = Array.from({ length: 20 }, (_, index) => `cam-${index}`);
  for (const deviceId of names) await registry.create({ deviceId });
  const connected = () => simulator.fleet.list().filter((device) => device.connected).length;
  expect(connected()).toBe(20);
  await fault({ kind: "regionalOutage", until: "2m", reconnectWithin: "40s" });
  expect(connected()).toBe(0);
  await simulator.advance(119_000);
  expect(connected()).toBe(0);
  await simulator.advance(21_000);
  expect(connected()).toBeGreaterThan(3);
  expect(connected()).toBeLessThan(17);
  await simulator.advance(20_000);
  expect(connected()).toBe(20);
});

test("mistakes in a fault are reported all at once, each kind with its own fields", async () => {
  const { endpoint } = await startHub();
  const problemsOf = async (body: object) =>
    (await controlCall(endpoint, "POST", "faults", body)).body.problems;
  expect(
    await problemsOf({ kind: "latency", milliseconds: { min: 5, max: 1 }, devices: 3, status: 500 }),
  ).toEqual([
    "milliseconds must not be negative, and none of min, max less than the one before",
    "devices must be text",
    "status is not known",
  ]);
  expect(await problemsOf({ kind: "restart", until: "5s", devices: "cam-*" })).toEqual([
    "milliseconds is needed: milliseconds, or a duration such as 30s",
    "until is not known",
    "devices is not known",
  ]);
  expect(await problemsOf({ kind: "malformed", variant: "pdf" })).toEqual([
    "variant must be one of html, emptyObject, noContent",
  ]);
  expect(await problemsOf({ kind: "clockSkew" })).toEqual([
    expect.stringContaining("milliseconds is needed"),
  ]);
});

import { connect as tlsConnect } from "node:tls";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { parseTargetCondition } from "../../simulator/hub/configurations/conditions.ts";
import { parseQuery } from "../../simulator/hub/query/query.ts";
import { createSimulator, type Endpoint, type Simulator } from "../../simulator/simulator.ts";
import {
  CONNACK,
  connectPacket,
  credentialsOf,
  PINGREQ,
  packet,
  publishPacket,
  rawClient,
  subscribePacket,
} from "../../simulator/testing/raw-mqtt.ts";
import {
  brokenHttp,
  brokenTls,
  brokenWebSocket,
  createAsker,
  MONSTERS,
  mutated,
  noise,
  statusesIn,
  tellOverTcp,
  tellOverTls,
} from "./fuzz-wire.ts";
import { createHubClient, type HubClient } from "./hub-client.ts";

// Garbage at every entrance of the simulator. After each batch it serves a healthy client, nothing has gone wrong inside,
// and in the end nothing is left: no connection, no session, no memory. SIMULATOR_FUZZ is the number of cases in all;
// SIMULATOR_SEED=… repeats a run whose seed fast-check printed.

const CASES = Number(process.env["SIMULATOR_FUZZ"] ?? 2000);
const SEED = process.env["SIMULATOR_SEED"];
const AT_ONCE = 20;

const KEY = Buffer.alloc(32, "key").toString("base64");
/** The device that healthy clients and garbage have in common, as it is before every test. */
const given = {
  deviceId: "d",
  authentication: { type: "sas", symmetricKey: { primaryKey: KEY, secondaryKey: KEY } },
};

let simulator: Simulator;
let endpoint: Endpoint;
let healthy: HubClient;
let asker: ReturnType<typeof createAsker>;
let mqttPackets: readonly Buffer[];
/** What the simulator says when a request broke something inside. */
const warnings: string[] = [];
const note = (warning: Error) => warnings.push(String(warning.stack));

beforeAll(async () => {
  setFlagsFromString("--expose-gc");
  process.on("warning", note);
  simulator = createSimulator({ throttling: false, autoStart: false, download: "skip" });
  endpoint = await simulator.start();
  healthy = createHubClient(endpoint);
  asker = createAsker(endpoint);
  await healthy.ask("PUT", "/devices/d", given);
}, 60_000);
afterAll(async () => {
  asker.close();
  process.off("warning", note);
  await simulator.stop();
}, 60_000);

beforeEach(() => {
  // What they are signed with is good for ten minutes, and a long run is longer.
  mqttPackets = properPackets(KEY);
});

afterEach(async () => {
  simulator.hub.faults.clear();
  simulator.fleet.setBehaviours([]);
  for (const { deviceId } of [...simulator.hub.registry.devices()])
    if (deviceId !== "d") simulator.hub.registry.removeDevice(deviceId, null);
  for (const { id } of simulator.hub.configurations.list()) simulator.hub.configurations.remove(id, null);
  const identity = simulator.hub.registry.putDevice("d", given, { any: true, etag: "*" });
  if (!identity.ok) throw new Error(identity.refusal.message);
  // No connection stays, no method can be called any more, and every session that began has ended.
  await until(() => simulator.mqttConnections() === 0);
  await until(() => openSockets() <= KEPT_ALIVE);
  const called = await healthy.ask("POST", "/twins/d/methods", { methodName: "ping" });
  expect([called.status, called.code]).toEqual([404, "DeviceNotOnline"]);
  // The identity that the garbage came from may connect again.
  const client = await rawClient(endpoint);
  client.send(connectPacket(credentialsOf(endpoint, "d", KEY)));
  expect(await client.next()).toMatchObject({ type: CONNACK, body: Buffer.from([0, 0]) });
  client.socket.destroy();
  await until(() => simulator.mqttConnections() === 0);
  const { events } = simulator.hub.events.read({
    from: 1,
    limit: 1000,
    source: "deviceConnectionStateEvents",
    deviceId: "d",
  });
  const [last] = events.slice(-1).map((event) => JSON.stringify(event));
  expect(last ?? "deviceDisconnected").toContain("deviceDisconnected");
  expect(warnings).toEqual([]);
});

/** Both ends of what the two clients over HTTPS keep open. */
const KEPT_ALIVE = 30;

function openSockets(): number {
  return process.getActiveResourcesInfo().filter((resource) => resource === "TCPSocketWrap").length;
}

async function until(happened: () => boolean): Promise<void> {
  for (const end = Date.now() + 15_000; !happened(); await new Promise((resolve) => setTimeout(resolve, 5)))
    if (Date.now() > end)
      throw new Error(`left: ${simulator.mqttConnections()} of MQTT, ${openSockets()} sockets`);
}

/** `share` of all cases, twenty at a time, and after each twenty a healthy client is served. */
async function batter<T>(
  share: number,
  cases: fc.Arbitrary<T>,
  attack: (one: T) => Promise<readonly number[]>,
): Promise<void> {
  const runs = Math.max(1, Math.round((CASES * share) / AT_ONCE));
  await fc.assert(
    fc.asyncProperty(fc.array(cases, { minLength: AT_ONCE, maxLength: AT_ONCE }), async (batch) => {
      const statuses = (await Promise.all(batch.map(attack))).flat();
      // An answer of the 5xx kind, where no fault was asked for, is a case that was not thought of.
      expect(statuses.filter((status) => status === 500)).toEqual([]);
      expect(warnings).toEqual([]);
      expect((await healthy.ask("GET", "/twins/d")).status).toBe(200);
    }),
    { numRuns: runs, endOnFailure: true, ...(SEED === undefined ? {} : { seed: Number(SEED) }) },
  );
}

const TIMEOUT = Math.max(60_000, CASES * 20);

test(
  "bodies of any kind at any path get an answer that is no accident",
  async () => {
    const bodies = [
      '{"deviceId":"d","status":"enabled","capabilities":{"iotEdge":true},"authentication":{"type":"sas","symmetricKey":{"primaryKey":"","secondaryKey":""}}}',
      '{"tags":{"a":{"b":1}},"properties":{"desired":{"x":[1,2],"y":null}}}',
      '[{"id":"x","importMode":"create","tags":{"a":1}},{"id":"y","importMode":"delete"}]',
      '{"query":"SELECT * FROM devices WHERE tags.a = 1"}',
      '{"id":"c","content":{"modulesContent":{"$edgeAgent":{"properties.desired.modules.m":{}}}},"targetCondition":"tags.a = 1","priority":1,"labels":{"a":"b"},"metrics":{"queries":{"m":"SELECT * FROM devices"}}}',
      '{"methodName":"ping","payload":{"a":1},"responseTimeoutInSeconds":5,"connectTimeoutInSeconds":0}',
      '{"modulesContent":{"$edgeAgent":{"properties.desired":{"runtime":{},"systemModules":{},"modules":{"__proto__":{},"a/b":{}}}},"$edgeHub":{"properties.desired":{}}}}',
    ];
    const id = fc.oneof(
      fc.constantFrom("d", "__proto__", "constructor", "x", "%2e%2e", "a%2Fb", "%00", "%", "query", "é"),
      fc.string({ maxLength: 6 }).map(encodeURIComponent),
    );
    const path = fc.oneof(
      fc
        .tuple(
          fc.constantFrom(
            "devices",
            "twins",
            "configurations",
            "statistics",
            "jobs",
            "jobs/v2",
            "digitaltwins",
            "nothing",
          ),
          fc.array(
            fc.oneof(
              id,
              fc.constantFrom("modules", "methods", "applyConfigurationContent", "testQueries", "query"),
            ),
            { maxLength: 4 },
          ),
        )
        .map(([room, rest]) => `/${[room, ...rest].join("/")}`),
    );
    const asking = fc.record({
      method: fc.constantFrom("GET", "PUT", "PATCH", "POST", "DELETE"),
      path: path.map((written) => `${written}?api-version=2021-04-12`),
      body: fc.oneof(
        { weight: 20, arbitrary: mutated(bodies) },
        { weight: 1, arbitrary: fc.constantFrom(...MONSTERS) },
        { weight: 3, arbitrary: fc.json() },
      ),
      headers: fc.constantFrom<Readonly<Record<string, string>>>(
        {},
        { "If-Match": '"*"' },
        { "If-Match": "*" },
        { "If-Match": '"AAAAAAAAAAE="' },
        { "x-ms-max-item-count": "1e9", "x-ms-continuation": "bnVsbA==" },
        { "x-ms-continuation": "W10=", "x-ms-max-item-count": "-1" },
      ),
    });
    await batter(0.3, asking, async (one) => {
      // The one device that healthy clients need stays.
      if (one.method === "DELETE" && /^\/+devices\/+d\/*\?/.test(one.path)) return [];
      return [await asker.ask({ ...one, body: one.body.replaceAll(/elete/gi, "x") })];
    });
    expect(Object.keys(Object.prototype)).toEqual([]);
  },
  TIMEOUT,
);

test(
  "the control API answers what it does not understand",
  async () => {
    const bodies = [
      '{"id":"f","kind":"status","status":429,"operations":["twin.patch"],"percent":20,"until":"30s"}',
      '{"kind":"latency","milliseconds":"1ms","devices":"*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b","operations":["twin.patch"],"until":1}',
      '{"device":"d","body":"hello","properties":{"a":"b"},"expiresIn":"1ms"}',
      '[{"name":"x","match":{"deviceId":"*a*a*a*a*a*a*a*a*a*a*b","percent":10},"effects":{"latency":{"p50":1,"p95":2,"p99":3}}}]',
      '{"advanceMilliseconds":1}',
    ];
    const asking = fc.record({
      method: fc.constantFrom("GET", "PUT", "POST", "DELETE", "PATCH"),
      path: fc.oneof(
        mutated([
          "/sim/faults/f",
          "/sim/events?from=1&limit=2&source=Telemetry",
          "/sim/fleet?devices=3",
          "/sim/messages",
        ]).map((text) => `/${encodeURI(text.toWellFormed()).replace(/^\/+/, "")}`),
        fc.constantFrom(
          "/sim/faults",
          "/sim/fleet",
          "/sim/fleet/behaviours",
          "/sim/messages",
          "/sim/clock",
          "/sim/constructor",
          "/sim/fleet/__proto__",
          "/sim/faults/%zz",
          "/sim",
        ),
      ),
      body: fc.oneof(
        { weight: 10, arbitrary: mutated(bodies) },
        { weight: 1, arbitrary: fc.constantFrom(...MONSTERS) },
        fc.json(),
      ),
      headers: fc.constant({}),
    });
    await batter(0.08, asking, async (one) => {
      const status = await asker.ask({
        ...one,
        headers: one.body === "" ? {} : { "Content-Type": "application/json" },
      });
      simulator.hub.faults.clear();
      return [status];
    });
  },
  TIMEOUT,
);

test(
  "broken HTTP ends its own connection and no other",
  async () => {
    await batter(0.15, brokenHttp, async (pieces) =>
      statusesIn(await tellOverTls(endpoint.port, endpoint.ca, pieces)),
    );
  },
  TIMEOUT,
);

test(
  "what is no TLS, or stops being it, is not waited for",
  async () => {
    const ports = fc.constantFrom("port", "mqttPort");
    await batter(0.07, fc.tuple(brokenTls, ports), async ([pieces, port]) => {
      await tellOverTcp(endpoint[port], pieces);
      return [];
    });
    // Renegotiation of what stands.
    for (const port of [endpoint.port, endpoint.mqttPort])
      await new Promise<void>((resolve) => {
        const socket = tlsConnect({
          host: "127.0.0.1",
          port,
          ca: endpoint.ca,
          servername: "localhost",
          maxVersion: "TLSv1.2",
        });
        socket.on("error", () => {});
        socket.once("close", () => resolve());
        socket.once("secureConnect", () => {
          socket.renegotiate({}, () => {
            socket.write("garbage");
            setTimeout(() => socket.destroy(), 50);
          });
        });
      });
  },
  TIMEOUT,
);

test(
  "WebSockets with any frame are ended, not followed",
  async () => {
    await batter(0.1, brokenWebSocket(mqttPackets), async (pieces) =>
      statusesIn(await tellOverTls(endpoint.port, endpoint.ca, pieces)),
    );
  },
  TIMEOUT,
);

test(
  "MQTT of any kind, before and after CONNECT, leaves nothing behind",
  async () => {
    const [proper = PINGREQ] = mqttPackets;
    const broken = fc
      .tuple(
        fc.constantFrom(...mqttPackets),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 3 }),
        fc.nat(6),
      )
      .map(([bytes, changes, cut]) => {
        const copy = Buffer.from(bytes);
        for (const [at, value] of changes) copy[at % copy.length] = value;
        return cut === 0 ? copy.subarray(0, copy.length >> 1) : copy;
      });
    const stream = fc.tuple(
      fc.boolean(),
      fc.array(fc.oneof({ weight: 5, arbitrary: broken }, noise), { minLength: 1, maxLength: 12 }),
    );
    await batter(0.15, stream, async ([connects, packets]) => {
      await tellOverTls(endpoint.mqttPort, endpoint.ca, connects ? [proper, ...packets] : packets);
      return [];
    });
  },
  TIMEOUT,
);

test(
  "queries and conditions of any kind are answered, and soon",
  async () => {
    const words = fc.constantFrom(
      "SELECT",
      "*",
      "FROM",
      "devices",
      "devices.modules",
      "WHERE",
      "AND",
      "OR",
      "NOT",
      "(",
      ")",
      "tags.a",
      "tags.__proto__",
      "tags.[[a b]]",
      "deviceId",
      "properties.reported.x",
      "=",
      "!=",
      "<",
      ">=",
      "'x'",
      '"x"',
      "1",
      "-",
      "+",
      "*",
      "/",
      "%",
      "1e9",
      "0xff",
      "IN",
      "[",
      "]",
      ",",
      "IS_DEFINED(",
      "STARTSWITH(",
      "COUNT()",
      "AS n",
      "AS __proto__",
      "GROUP BY",
      "TOP 1",
      "true",
      "null",
      "'",
      "\\",
      "from devices.modules where",
      "é",
      "\u0000",
    );
    const sentence = fc.array(words, { maxLength: 20, size: "max" }).map((all) => all.join(" "));
    const deep = fc
      .tuple(
        fc.constantFrom(
          "(",
          "NOT ",
          "-",
          "NOT (",
          "((",
          "IS_DEFINED(",
          "STARTSWITH(",
          "tags.",
          "1+",
          "1 OR ",
          "tags.a=1 AND ",
          "[[",
          "'",
          "\\",
          "from ",
          " ",
        ),
        fc.nat(9000),
      )
      .map(([piece, times]) => piece.repeat(times));
    const start = fc.constantFrom(
      "",
      "SELECT * FROM devices WHERE ",
      "SELECT ",
      "from devices.modules where ",
      "SELECT COUNT() AS n FROM devices WHERE ",
    );
    const text = fc
      .tuple(
        start,
        fc.oneof({ weight: 4, arbitrary: sentence }, deep, fc.string({ unit: "binary", maxLength: 40 })),
        fc.constantFrom("", ")".repeat(200), " = 1"),
      )
      .map((parts) => parts.join(""));
    const row = { valueAt: () => 1 };
    await batter(0.15, text, async (written) => {
      const began = performance.now();
      for (const parsed of [parseQuery(written), parseTargetCondition(written)])
        if (parsed.ok) expect(typeof parsed.value.matches(row)).toBe("boolean");
      expect(performance.now() - began).toBeLessThan(2000);
      return [];
    });
  },
  TIMEOUT,
);

test(
  "a second helping of everything costs no memory",
  async () => {
    const helping = async () => {
      for (const monster of MONSTERS) {
        const version = "api-version=2021-04-12";
        const within = `{"content":{"deviceContent":{},"x":${monster}}}`;
        const answers = [
          await asker.ask({ method: "PATCH", path: `/twins/d?${version}`, body: monster, headers: {} }),
          await asker.ask({ method: "PUT", path: `/configurations/m?${version}`, body: within, headers: {} }),
        ];
        expect(answers).not.toContain(500);
      }
      const streams = fc.sample(
        fc.array(fc.oneof(fc.constantFrom(...mqttPackets), noise), { maxLength: 6 }),
        { numRuns: 40, seed: 1 },
      );
      await Promise.all(streams.map((packets) => tellOverTls(endpoint.mqttPort, endpoint.ca, packets)));
      await until(() => simulator.mqttConnections() === 0);
      (runInNewContext("gc") as () => void)();
      return process.memoryUsage().heapUsed / 2 ** 20;
    };
    await helping();
    const before = await helping();
    for (let time = 0; time < Math.min(10, CASES / 3000); time += 1) await helping();
    expect((await helping()) - before).toBeLessThan(16);
  },
  TIMEOUT,
);

test("a refused WebSocket whose client talks on and leaves keeps no socket", async () => {
  const refused = "GET /nothing HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
  const talk = [Buffer.from(refused), Buffer.alloc(80_000)];
  // What stays of them is found by what is looked at after every test.
  const answers = await Promise.all(
    Array.from({ length: KEPT_ALIVE + 10 }, () => tellOverTls(endpoint.port, endpoint.ca, talk)),
  );
  expect(new Set(answers.flatMap(statusesIn))).toEqual(new Set([400]));
});

/** The first is a CONNECT that is accepted. */
function properPackets(key: string): readonly Buffer[] {
  const connecting = credentialsOf(endpoint, "d", key);
  return [
    connectPacket(connecting),
    connectPacket({ ...connecting, clean: false, will: { topic: "devices/d/messages/events/", body: "w" } }),
    subscribePacket("$iothub/twin/res/#"),
    subscribePacket("$iothub/methods/POST/#"),
    subscribePacket("devices/d/messages/devicebound/#", 1),
    publishPacket("$iothub/twin/GET/?$rid=1", " "),
    publishPacket(
      "$iothub/twin/PATCH/properties/reported/?$rid=1",
      '{"a":{"b":[1,null]},"__proto__":{"x":1}}',
    ),
    publishPacket("$iothub/twin/PATCH/properties/reported/?$rid=1", "[".repeat(100_000)),
    publishPacket("devices/d/messages/events/%zz=%&__proto__=1", "x", { qos: 1 }),
    publishPacket("devices/d/messages/events/$.ct=application%2Fjson", "[".repeat(100_000), { qos: 1 }),
    publishPacket("$iothub/methods/res/200/?$rid=1", "{"),
    packet(0xa2, Buffer.from([0, 1]), "$iothub/twin/res/#"),
    packet(0x40, Buffer.from([0, 1])),
    packet(0x50, Buffer.from([0, 1])),
    packet(0x62, Buffer.from([0, 1])),
    packet(0xe0),
    PINGREQ,
  ];
}

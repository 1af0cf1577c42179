import iothub from "azure-iothub";
import { describe, expect, test } from "vitest";
import type { SimulatorSetup } from "../../simulator/simulator.ts";
import { controlCall } from "../../simulator/testing/control-client.ts";
import { nextDesired, report } from "../../simulator/testing/device-client.ts";
import {
  CONNACK,
  connectPacket,
  credentialsOf,
  PUBLISH,
  publishPacket,
  rawClient,
  SUBACK,
  subscribePacket,
} from "../../simulator/testing/raw-mqtt.ts";
import { problemOf, redirect } from "../../simulator/testing/service-client.ts";
import { turn } from "../../simulator/testing/until.ts";
import { clientOf, codeOf, running, standard, startHub, VERSION, wire } from "./checklist-hub.ts";
import type { Reply } from "./hub-client.ts";
import type { Json } from "./hub-model.ts";

// What a simulated hub must do before tests against it mean anything: one block for each subject, each clause a test.
// The rooms of the simulator test their own matters in depth; this is the whole, seen from outside.

describe("10. Queries: their own grammar, their own and late view, pages that end", () => {
  async function queryHub(setup: SimulatorSetup = {}) {
    const started = await startHub({ clock: "virtual", ...setup });
    const { ask } = started;
    for (const [n, site] of ["a", "a", "b"].entries()) {
      await ask("PUT", `/devices/d${n}`, {});
      await ask("PATCH", `/twins/d${n}`, { tags: { site, n } });
    }
    const rows = async (query: string) => (await ask("POST", "/devices/query", { query })).body;
    return { ...started, rows };
  }

  test.each<[string, Json]>([
    [
      "SELECT deviceId FROM devices WHERE tags.n > 0 AND tags.site IN ['a', 'b']",
      [{ deviceId: "d1" }, { deviceId: "d2" }],
    ],
    [
      "select deviceid as id from devices where not startswith(deviceId, 'd1') and tags.site nin [\"b\"]",
      [{ id: "d0" }],
    ],
    ["SELECT TOP 1 deviceId FROM devices WHERE tags.n + 1 = 2", [{ deviceId: "d1" }]],
    [
      "SELECT tags.site, COUNT() AS n, SUM(tags.n) AS sum, MIN(tags.n) AS least FROM devices GROUP BY tags.site",
      [
        { site: "a", n: 2, sum: 1, least: 0 },
        { site: "b", n: 1, sum: 2, least: 2 },
      ],
    ],
    ["SELECT deviceId FROM devices WHERE NOT tags.missing = 1", []],
    ["SELECT COUNT() AS n FROM devices WHERE NOT IS_DEFINED(tags.missing)", [{ n: 3 }]],
    ["SELECT moduleId FROM devices.modules", []],
    ["SELECT deviceId FROM devices WHERE tags.[[n]] = 0x2", [{ deviceId: "d2" }]],
  ])("%s", async (query, expected) => {
    const { rows } = await queryHub();
    expect(await rows(query)).toEqual(expected);
  });

  test.each([
    "SELECT * FROM devices ORDER BY deviceId",
    "SELECT * FROM devices JOIN x",
    "SELECT * FROM twins",
    "SELECT DISTINCT tags.site FROM devices",
    "SELECT tags.site FROM devices GROUP BY tags.n",
    "x".repeat(8193),
  ])("%s is refused", async (query) => {
    const { ask } = await startHub();
    expect(codeOf(await ask("POST", "/devices/query", { query }))).toBe("400 ArgumentInvalid");
  });

  test("a page has as many rows as asked for, and the last one no continuation", async () => {
    const { registry } = await queryHub();
    const query = registry.createQuery("SELECT * FROM devices", 2);
    const first = await query.next("");
    const headers = (first.message as { headers: Record<string, string> }).headers;
    expect([first.result, headers["x-ms-item-type"]]).toEqual([
      expect.objectContaining({ length: 2 }),
      "twin",
    ]);
    const last = await query.next(headers["x-ms-continuation"] ?? "");
    expect(last.result).toHaveLength(1);
    expect((last.message as { headers: object }).headers).not.toHaveProperty("x-ms-continuation");
  });

  test("a query is as late as configured, while GET is not", async () => {
    const { rows, ask, advance } = await queryHub({ queryStaleness: 5000 });
    await advance(5000);
    await ask("PATCH", "/twins/d0", { tags: { site: "c" } });
    const found = "SELECT deviceId FROM devices WHERE tags.site = 'c'";
    expect(await rows(found)).toEqual([]);
    expect((await ask("GET", "/twins/d0")).body).toMatchObject({ tags: { site: "c" } });
    await advance(5000);
    expect(await rows(found)).toEqual([{ deviceId: "d0" }]);
  });
});

describe("11. Budgets let bursts through and then say 429; faults answer as their rules say", () => {
  test.each([
    ["configurations", 20, "GET", "/configurations/none"],
    ["identities", 100, "GET", "/devices/none"],
    ["queries", 20, "POST", "/devices/query"],
  ])("%s: %i a minute, and as many again a minute later", async (_class, budget, method, path) => {
    const { ask, advance } = await startHub({ tier: "S1", clock: "virtual" });
    const spend = async () => {
      const query = { query: "SELECT COUNT() AS n FROM devices" };
      const answers: Reply[] = [];
      for (let n = 0; n <= budget; n++)
        answers.push(await ask(method, path, method === "POST" ? query : undefined));
      return answers.map(codeOf).filter((code) => code === "429 ThrottlingException").length;
    };
    expect(await spend()).toBe(1);
    await advance(60_000);
    expect(await spend()).toBe(1);
  });

  test("every entry of a bulk request counts", async () => {
    const { ask } = await startHub({ tier: "S1", clock: "virtual" });
    const entries = (from: number) => Array.from({ length: 50 }, (_, n) => ({ id: `d${from + n}` }));
    const statuses = [0, 50, 100].map((from) => () => ask("POST", "/devices", entries(from)));
    expect([
      (await statuses[0]!()).status,
      (await statuses[1]!()).status,
      (await statuses[2]!()).status,
    ]).toEqual([200, 200, 429]);
  });

  test.each([429, 500, 503, 504])("a fault answers with %i as often as its rule says", async (status) => {
    const { ask, fault } = await startHub();
    await fault({ kind: "status", status, operations: ["identity.list"], until: 2 });
    const seen = [await ask("GET", "/devices"), await ask("GET", "/devices"), await ask("GET", "/devices")];
    expect(seen.map((one) => one.status)).toEqual([status, status, 200]);
  });

  test("a fault hangs, breaks connections, or makes every etag an old one", async () => {
    const { ask, fault, endpoint } = await startHub();
    await ask("PUT", "/devices/d", {});
    await fault({ kind: "hang", operations: ["identity.get"], until: 1 });
    const silent = wire(endpoint, `/devices/d?${VERSION}`);
    expect(
      await Promise.race([
        silent.then(
          () => "answered",
          () => "broken",
        ),
        new Promise((resolve) => setTimeout(resolve, 300, "silent")),
      ]),
    ).toBe("silent");
    await fault({ kind: "reset", operations: ["identity.get"], until: 1 });
    expect((await problemOf(wire(endpoint, `/devices/d?${VERSION}`))).code).toBe("ECONNRESET");
    await fault({ kind: "conflict", operations: ["twin.patch"], until: 2 });
    for (const expected of [412, 412, 200]) {
      const { etag } = await ask("GET", "/twins/d");
      expect((await ask("PATCH", "/twins/d", { tags: { a: 1 } }, etag)).status).toBe(expected);
    }
  });
});

describe("12. Direct methods: to devices over MQTT and to simulated ones, and both ways of not being answered", () => {
  const call = (methodName: string, seconds: object = {}) => ({
    methodName,
    payload: { n: 1 },
    responseTimeoutInSeconds: 5,
    connectTimeoutInSeconds: 0,
    ...seconds,
  });
  const detail = ({ body }: Reply) =>
    JSON.parse((body as { Message: string }).Message) as { errorCode: number };

  test("a client over MQTT answers, and an edge agent that is simulated does", async () => {
    const { ask, endpoint, hub } = await startHub({ autoStart: true, stateDelay: 0 });
    await ask("PUT", "/devices/d", {});
    const client = await clientOf(
      endpoint,
      "d",
      hub.registry.get("d", null)?.authentication.symmetricKey.primaryKey ?? "",
    );
    await client.open();
    const listens = new Promise<void>((resolve) => {
      client.onDeviceMethod(
        "twice",
        (asked, answer) => void answer.send(201, { n: (asked.payload as { n: number }).n * 2 }),
      );
      void client.getTwin().then(() => resolve());
    });
    await listens;
    const service = redirect(iothub.Client.fromConnectionString(endpoint.connectionString), endpoint, 8000);
    const given = { methodName: "twice", payload: { n: 4 }, responseTimeoutInSeconds: 5 };
    expect((await service.invokeDeviceMethod("d", given)).result).toEqual({ status: 201, payload: { n: 8 } });
    await ask("PUT", "/devices/edge", { capabilities: { iotEdge: true } });
    await ask("POST", "/devices/edge/applyConfigurationContent", standard({}));
    const waiting = { connectTimeoutInSeconds: 5 };
    expect(
      (await ask("POST", "/twins/edge/modules/%24edgeAgent/methods", call("ping", waiting))).body,
    ).toMatchObject({ status: 200 });
  });

  test("no receiver: 404 DeviceNotOnline after the time to connect; no answer: 504 after the time to answer; form B", async () => {
    const { ask, endpoint, hub, advance } = await startHub({ clock: "virtual" });
    expect(codeOf(await ask("POST", "/twins/none/methods", call("m")))).toBe("404 DeviceNotFound");
    await ask("PUT", "/devices/d", {});
    const offline = await ask("POST", "/twins/d/methods", call("m"));
    expect([
      codeOf(offline),
      detail(offline).errorCode,
      (offline.body as { ExceptionMessage: string }).ExceptionMessage,
    ]).toEqual(["404 DeviceNotOnline", 404103, ""]);
    /** Virtual milliseconds until it is answered, in steps. */
    const timed = async (asked: Promise<Reply>) => {
      let settled = false;
      void asked.finally(() => {
        settled = true;
      });
      let waited = 0;
      for (; !settled; waited += 500) {
        await advance(500);
        await turn();
      }
      return { waited, answer: await asked };
    };
    const slow = await timed(ask("POST", "/twins/d/methods", call("m", { connectTimeoutInSeconds: 10 })));
    expect([slow.waited >= 10_000, detail(slow.answer).errorCode]).toEqual([true, 404103]);
    const client = await rawClient(endpoint);
    client.send(
      connectPacket(
        credentialsOf(
          endpoint,
          "d",
          hub.registry.get("d", null)?.authentication.symmetricKey.primaryKey ?? "",
        ),
      ),
      subscribePacket("$iothub/methods/POST/#"),
    );
    expect([(await client.next())?.type, (await client.next())?.type]).toEqual([CONNACK, SUBACK]);
    const { waited, answer } = await timed(ask("POST", "/twins/d/methods", call("m")));
    expect((await client.next())?.type).toBe(PUBLISH);
    expect([waited >= 5000, codeOf(answer), detail(answer).errorCode]).toEqual([
      true,
      "504 GatewayTimeout",
      504101,
    ]);
    client.socket.destroy();
  });
});

describe("13. What the hub says of connections is late, and of what never was, the year 1", () => {
  test("zero dates at creation; Connected after the lag, and still after the end", async () => {
    const { ask, hub, advance } = await startHub({ clock: "virtual", connectionLag: 300_000 });
    const zero = "0001-01-01T00:00:00Z";
    const created = await ask("PUT", "/devices/d", {});
    expect(created.body).toMatchObject({
      connectionState: "Disconnected",
      connectionStateUpdatedTime: zero,
      lastActivityTime: zero,
    });
    const state = async () =>
      ((await ask("GET", "/twins/d")).body as { connectionState: string }).connectionState;
    hub.noteConnection("d", true);
    expect(await state()).toBe("Disconnected");
    await advance(300_001);
    expect(await state()).toBe("Connected");
    hub.noteConnection("d", false);
    expect(await state()).toBe("Connected");
    await advance(300_001);
    expect(await state()).toBe("Disconnected");
  });
});

describe("14. MQTT: what clients say and hear, one connection for one identity, and the end of it", () => {
  async function deviceHub() {
    const started = await startHub();
    const { ask, endpoint, hub } = started;
    await ask("PUT", "/devices/d", {});
    const key = hub.registry.get("d", null)?.authentication.symmetricKey.primaryKey ?? "";
    const client = await clientOf(endpoint, "d", key);
    return { ...started, key, client };
  }

  test("twins both ways, telemetry, and messages from the cloud", async () => {
    const { ask, client, hub, endpoint } = await deviceHub();
    await client.open();
    const twin = await client.getTwin();
    const heard = nextDesired(twin);
    await report(twin, { ok: true });
    await ask("PATCH", "/twins/d", { properties: { desired: { rate: 2, old: null } } });
    expect(await heard).toEqual({ rate: 2, old: null, $version: 2 });
    expect((await ask("GET", "/twins/d")).body).toMatchObject({
      etag: "AAAAAAAAAAI=",
      properties: { reported: { ok: true, $version: 2 } },
    });
    const message = new Promise((resolve) => client.on("message", (one) => resolve(one.data.toString())));
    await controlCall(endpoint, "POST", "messages", { device: "d", body: "hello" });
    expect(await message).toBe("hello");
    const raw = await rawClient(endpoint);
    const key = hub.registry.get("d", null)?.authentication.symmetricKey.primaryKey ?? "";
    raw.send(
      connectPacket({ ...credentialsOf(endpoint, "d", key) }),
      publishPacket("devices/d/messages/events/a=b&%24.ct=text", "hi", { qos: 1 }),
    );
    expect([(await raw.next())?.body[1], (await raw.next())?.type]).toEqual([0, 4]);
    const { body } = await controlCall(endpoint, "GET", "events?source=Telemetry&device=d");
    expect(JSON.stringify(body)).toContain('"a":"b"');
    raw.socket.destroy();
  });

  test.each([
    ["a wrong key", {}, "A".repeat(43), 5],
    ["the name of another hub", { username: "other.azure-devices.net/d/?api-version=2021-04-12" }, null, 5],
    [
      "the name of another device",
      { username: "simhub.azure-devices.net/e/?api-version=2021-04-12" },
      null,
      4,
    ],
    ["MQTT 5", { level: 5 }, null, 1],
  ])("%s is refused by CONNACK", async (_what, change, wrong, code) => {
    const { endpoint, key } = await deviceHub();
    const raw = await rawClient(endpoint);
    raw.send(connectPacket({ ...credentialsOf(endpoint, "d", wrong ?? key), ...change }));
    const answer = await raw.next();
    expect([answer?.type, answer?.body[1]]).toEqual([CONNACK, code]);
    raw.socket.destroy();
  });

  test("a topic that is not one of the hub's ends the connection", async () => {
    const { endpoint, key } = await deviceHub();
    const raw = await rawClient(endpoint);
    raw.send(connectPacket(credentialsOf(endpoint, "d", key)), publishPacket("my/own/topic", "x"));
    expect((await raw.next())?.type).toBe(CONNACK);
    expect(await raw.next()).toBeNull();
  });

  test("the second connection of an identity ends the first", async () => {
    const { client, endpoint, key } = await deviceHub();
    await client.open();
    const ended = new Promise((resolve) => client.once("disconnect", resolve));
    const second = await clientOf(endpoint, "d", key);
    await second.open();
    await ended;
    expect(running[0]?.mqttConnections()).toBe(1);
  });

  test.each(["disabled", "deleted"])("a device that is %s is cut off, and stays out", async (what) => {
    const { client, ask, endpoint, key } = await deviceHub();
    await client.open();
    const ended = new Promise((resolve) => client.once("disconnect", resolve));
    if (what === "disabled") await ask("PUT", "/devices/d", { status: "disabled" }, '"*"');
    else await ask("DELETE", "/devices/d", undefined, '"*"');
    await ended;
    const again = await clientOf(endpoint, "d", key);
    expect((await problemOf(again.open())).name).toBe("UnauthorizedError");
  });
});

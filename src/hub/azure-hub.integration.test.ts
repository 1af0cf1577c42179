import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test, vi } from "vitest";
import { createAuthority, createServerCertificate } from "../../simulator/base/certificates.ts";
import type { FaultRule } from "../../simulator/hub/faults/faults.ts";
import { createSimulator, type SimulatorOptions } from "../../simulator/simulator.ts";
import { createFakeLog } from "../../test/fakes/fake-log.ts";
import type { Fault } from "../base/fault.ts";
import type { Result } from "../base/result.ts";
import { type Millis, millis, minutes, seconds } from "../base/time.ts";
import { systemClock } from "../runtime/clock.ts";
import { createAzureHub } from "./azure-hub.ts";
import type { HubAccess } from "./azure-wire.ts";
import type { DeviceHub } from "./hub.ts";
import { type Budget, createThrottle, type Throttle } from "./throttle.ts";

// The real azure-iothub over real HTTPS: against the simulator, and against servers that misbehave as no hub should.

const signal = new AbortController().signal;
const stops: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

type Opened = {
  readonly hub: DeviceHub;
  readonly counts: Map<string, number>;
  readonly log: ReturnType<typeof createFakeLog>;
};
type Wanted = {
  readonly access: HubAccess;
  readonly port: number;
  readonly ca: string;
  readonly deadline?: Millis;
  readonly budget?: Budget;
  readonly throttle?: Throttle;
};

function open({ access, port, ca, deadline = seconds(5), budget, throttle }: Wanted): Opened {
  const clock = systemClock();
  const log = createFakeLog();
  const counts = new Map<string, number>();
  const wide = budget ?? { operations: 100_000, window: seconds(1) };
  const budgets = { identity: wide, twinRead: wide, twinWrite: wide, query: wide, configuration: wide };
  const hub = createAzureHub({
    access,
    endpoint: { host: "127.0.0.1", port, ca },
    throttle: throttle ?? createThrottle({ clock, budgets, headroom: 1, maxWait: millis(0) }),
    clock,
    log,
    meter: {
      count: (name, labels) => {
        const key = `${name} ${Object.values(labels ?? {}).join(" ")}`;
        counts.set(key, (counts.get(key) ?? 0) + 1);
      },
      gauge: () => {},
      observe: () => {},
    },
    random: () => 0.5,
    deadline,
  });
  stops.push(hub.close);
  return { hub, counts, log };
}

async function simulated(
  options: Partial<SimulatorOptions> & { readonly deadline?: Millis; readonly policy?: string } = {},
) {
  const { deadline, policy = "iothubowner", ...rest } = options;
  const simulator = createSimulator({ throttling: false, ...rest });
  const endpoint = await simulator.start();
  stops.push(simulator.stop);
  const key = simulator.hub.policies.find(({ name }) => name === policy)?.key ?? "";
  const connectionString = `HostName=${endpoint.hostName};SharedAccessKeyName=${policy};SharedAccessKey=${key}`;
  const access = { kind: "connectionString", connectionString } as const;
  const at = { port: endpoint.port, ca: endpoint.ca };
  const opened = open({ access, ...at, ...(deadline === undefined ? {} : { deadline }) });
  return { simulator, key, at, connectionString, ...opened };
}

function rule(
  effect: { readonly kind: "hang" } | { readonly status: number },
  change: {
    readonly id?: string;
    readonly operations?: readonly string[];
    readonly retryAfter?: number;
  } = {},
): FaultRule {
  const { retryAfter, ...others } = change;
  const common = { operations: ["*"], devices: "*", percent: 100, when: "before", ...others } as const;
  const rest = { ...common, expiresAt: null, remaining: null };
  if (!("status" in effect)) return { id: effect.kind, ...effect, ...rest };
  return { id: "status", kind: "status", ...effect, retryAfterSeconds: retryAfter ?? null, ...rest };
}

/** A server in place of the hub, with scripted answers. */
async function impostor(
  answer: (request: IncomingMessage, response: ServerResponse, body: string) => void,
  deadline = seconds(5),
) {
  const hostName = "odd.azure-devices.net";
  const certificate = await createServerCertificate([hostName, "127.0.0.1"], await createAuthority());
  const server = createServer(
    { key: certificate.key, cert: certificate.certificate },
    (request, response) => {
      let body = "";
      request.setEncoding("utf8");
      request.on("data", (chunk: string) => {
        body += chunk;
      });
      request.on("end", () => answer(request, response, body));
    },
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stops.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const connectionString = `HostName=${hostName};SharedAccessKeyName=owner;SharedAccessKey=${KEY}`;
  const { port } = server.address() as AddressInfo;
  return open({ access: { kind: "connectionString", connectionString }, port, ca: certificate.ca, deadline });
}

const KEY = Buffer.from("a key of the impostor's own").toString("base64");
const ANOTHER = {
  deviceId: "cam-2",
  generationId: "1",
  etag: "x",
  version: 1,
  status: "enabled",
  tags: {},
  properties: { desired: {}, reported: {} },
};
const JSON_TYPE = { "Content-Type": "application/json; charset=utf-8" };

function faultOf(result: Result<unknown, Fault>): Fault {
  if (result.ok) throw new Error(`expected a fault, got ${JSON.stringify(result.value)}`);
  return result.error;
}
function got<T>(result: Result<T, Fault>): T {
  if (!result.ok) throw new Error(`${result.error.kind}: ${result.error.message}`);
  return result.value;
}

test("calls share a signature, and half an hour later there is another", async () => {
  const signatures: (string | undefined)[] = [];
  const { hub } = await impostor((request, response) => {
    signatures.push(request.headers.authorization);
    response.writeHead(200, JSON_TYPE).end(JSON.stringify(ANOTHER));
  });
  vi.useFakeTimers({ toFake: ["Date"] });
  try {
    for (const minutesLater of [0, 20, 20, 20]) {
      vi.setSystemTime(Date.now() + minutes(minutesLater));
      await hub.getTwin({ device: "cam-2", module: null }, "normal", signal);
    }
  } finally {
    vi.useRealTimers();
  }
  const [first, second, third, fourth] = signatures;
  expect(first).toMatch(/^SharedAccessSignature /);
  expect(second).toBe(first);
  expect(third).not.toBe(first);
  expect(fourth).toBe(third);
});

const ref = { device: "cam-1", module: null };
const everyCall: Readonly<Record<string, (hub: DeviceHub) => Promise<Result<unknown, Fault>>>> = {
  getIdentity: (hub) => hub.getIdentity("cam-1", signal),
  getKeys: (hub) => hub.getKeys("cam-1", signal),
  createIdentity: (hub) => hub.createIdentity({ device: "cam-1", iotEdge: true, enabled: true }, signal),
  setEnabled: (hub) => hub.setEnabled("cam-1", false, signal),
  getTwin: (hub) => hub.getTwin(ref, "normal", signal),
  patchTwin: (hub) => hub.patchTwin({ ...ref, etag: "AAAAAAAAAAE=" }, { tags: { a: 1 } }, "normal", signal),
  listConfigurations: (hub) => hub.listConfigurations("normal", signal),
  createConfiguration: (hub) =>
    hub.createConfiguration(
      {
        id: "c",
        kind: "device",
        labels: {},
        priority: 1,
        targetCondition: "deviceId = 'x'",
        content: { a: 1 },
      },
      "normal",
      signal,
    ),
  updateConfiguration: (hub) =>
    hub.updateConfiguration(
      {
        id: "c",
        kind: "device",
        labels: {},
        priority: 1,
        targetCondition: "deviceId = 'x'",
        content: {},
        etag: "MQ==",
      },
      { priority: 2 },
      "normal",
      signal,
    ),
  testCondition: (hub) => hub.testCondition("deviceId = 'x'", signal),
  queryDevices: (hub) => hub.queryDevices(null, signal),
  queryModules: (hub) => hub.queryModules(null, signal),
};
const everyCallAndRemoval: typeof everyCall = {
  ...everyCall,
  removeIdentity: (hub) => hub.removeIdentity("cam-1", signal),
  removeConfiguration: (hub) => hub.removeConfiguration({ id: "c", etag: "MQ==" }, "normal", signal),
};

describe("a hub that does not answer", () => {
  test("no answer by the deadline is a fault", async () => {
    const { hub, simulator } = await simulated({ deadline: millis(150) });
    simulator.hub.faults.put(rule({ kind: "hang" }));
    const started = performance.now();
    const fault = faultOf(await hub.getTwin(ref, "normal", signal));
    expect(fault).toEqual({ kind: "unavailable", message: "getTwin: no answer from the hub within 150 ms" });
    expect(performance.now() - started).toBeLessThan(3000);
    simulator.hub.faults.clear();
    expect(got(await hub.getTwin(ref, "normal", signal))).toBeNull();
  });
  test("an answer that stops in the middle is a fault at the deadline, and its connection is closed", async () => {
    const closed = Promise.withResolvers<string>();
    const { hub } = await impostor((_, response) => {
      response.writeHead(200, { ...JSON_TYPE, "Content-Length": 100 });
      response.write('{"deviceId":');
      response.once("close", () => closed.resolve("closed"));
    }, millis(150));
    expect(faultOf(await hub.getTwin(ref, "normal", signal)).message).toContain("within 150 ms");
    expect(await closed.promise).toBe("closed");
  });
  test("a caller that aborts is answered at once", async () => {
    const { hub, simulator } = await simulated();
    simulator.hub.faults.put(rule({ kind: "hang" }));
    const stop = new AbortController();
    const call = hub.getTwin(ref, "normal", stop.signal);
    setImmediate(() => stop.abort());
    expect(faultOf(await call)).toEqual({ kind: "unavailable", message: expect.stringContaining("stopped") });
  });
  test("a connection that breaks is unavailable", async () => {
    const { hub, counts } = await impostor((request) => request.socket.destroy());
    expect(faultOf(await hub.getTwin(ref, "normal", signal)).message).toMatch(/ECONNRESET|socket hang up/);
    expect(counts.get("edgefleet_hub_requests_total twinRead unavailable")).toBe(1);
  });
  test("a connection that breaks in the middle of an answer is unavailable", async () => {
    const { hub } = await impostor((_, response) => {
      response.writeHead(200, { ...JSON_TYPE, "Content-Length": 100 });
      response.write('{"deviceId":', () => response.destroy());
    });
    expect(faultOf(await hub.getTwin(ref, "normal", signal))).toMatchObject({ kind: "unavailable" });
  });
  test("a port without a listener is unavailable", async () => {
    const { at, connectionString, simulator } = await simulated();
    await simulator.stop();
    const { hub } = open({ access: { kind: "connectionString", connectionString }, ...at });
    expect(faultOf(await hub.listConfigurations("normal", signal)).message).toContain("ECONNREFUSED");
  });
  test("a server whose certificate is not the hub's is unavailable", async () => {
    const { at } = await simulated();
    const connectionString = `HostName=other.azure-devices.net;SharedAccessKeyName=owner;SharedAccessKey=${KEY}`;
    const { hub } = open({ access: { kind: "connectionString", connectionString }, ...at });
    expect(faultOf(await hub.getTwin(ref, "normal", signal)).message).toContain(
      "ERR_TLS_CERT_ALTNAME_INVALID",
    );
  });
});

describe("an answer that is not the hub's", () => {
  const pages: Readonly<Record<string, (response: ServerResponse) => void>> = {
    "a page of a proxy": (response) =>
      response.writeHead(200, { "Content-Type": "text/html" }).end("<html>Sign in</html>"),
    "an empty object": (response) => response.writeHead(200, JSON_TYPE).end("{}"),
    "a number": (response) => response.writeHead(200, JSON_TYPE).end("7"),
    null: (response) => response.writeHead(200, JSON_TYPE).end("null"),
    "another device": (response) => response.writeHead(200, JSON_TYPE).end(JSON.stringify(ANOTHER)),
    "broken JSON": (response) => response.writeHead(200, JSON_TYPE).end('{"deviceId":'),
    "no content": (response) => response.writeHead(204).end(),
    "a redirect": (response) => response.writeHead(302, { Location: "https://login.example/" }).end(),
    "a 404 that is not the hub's": (response) =>
      response.writeHead(404, { "Content-Type": "text/html" }).end("<h1>404</h1>"),
    "a list of malformed rows": (response) => response.writeHead(200, JSON_TYPE).end('[1,{"id":7}]'),
  };
  const cases = Object.entries(pages).flatMap(([page, answer]) =>
    Object.entries(everyCall)
      // Rows of a query that cannot be read are left out; this has a test of its own. An object is a result of a test.
      .filter(([name]) => !(page === "a list of malformed rows" && name.startsWith("query")))
      .filter(
        ([name]) => !((page === "an empty object" || page === "another device") && name === "testCondition"),
      )
      .map(([name, call]) => ({ page, name, answer, call })),
  );
  test("is unavailable for every call, and never more than that", async () => {
    let current: (response: ServerResponse) => void = () => {};
    const { hub } = await impostor((_, response) => current(response));
    for (const { page, name, answer, call } of cases) {
      current = answer;
      const result = await call(hub);
      expect(result, `${name} gets ${page}`).toMatchObject({ ok: false, error: { kind: "unavailable" } });
    }
  });
  test("a 404 that is not the hub's never counts as removed", async () => {
    const { hub } = await impostor((_, response) => response.writeHead(404).end());
    expect(faultOf(await hub.removeIdentity("cam-1", signal)).kind).toBe("unavailable");
    expect(faultOf(await hub.removeConfiguration({ id: "c", etag: "x" }, "normal", signal)).kind).toBe(
      "unavailable",
    );
  });
  test("rows that cannot be read are left out and logged, the others count", async () => {
    const good = {
      device: "cam-1",
      etag: "x",
      version: 3,
      status: "enabled",
      iotEdge: true,
      tags: { edgefleet: {} },
    };
    const bad = [
      null,
      7,
      {},
      { ...good, tags: undefined },
      { ...good, version: "3" },
      { ...good, device: 1 },
    ];
    const { hub, log } = await impostor((_, response) =>
      response.writeHead(200, JSON_TYPE).end(JSON.stringify([...bad, good])),
    );
    const page = got(await hub.queryDevices(null, signal));
    expect(page.rows.map(({ device }) => device)).toEqual(["cam-1"]);
    expect(log.lines()).toMatchObject([{ level: "warn", fields: { operation: "queryDevices", rows: 6 } }]);
  });
  test("characters that lie across two chunks stay whole", async () => {
    const text = Buffer.from(
      JSON.stringify({
        deviceId: "cam-1",
        etag: "x",
        version: 1,
        tags: { town: "Größe 模型 🚀" },
        properties: {},
      }),
    );
    const { hub } = await impostor((_, response) => {
      response.writeHead(200, { ...JSON_TYPE, "Content-Length": text.length });
      let sent = 0;
      const next = () => {
        if (sent >= text.length) return response.end();
        response.write(text.subarray(sent, sent + 1), () => setImmediate(next));
        sent += 1;
        return undefined;
      };
      next();
    });
    expect(got(await hub.getTwin(ref, "normal", signal))?.tags).toEqual({ town: "Größe 模型 🚀" });
  });
});

describe("a hub that refuses", () => {
  test("429 is throttled, for as long as it says, and closes the class on our side", async () => {
    const { hub, simulator } = await simulated();
    simulator.hub.faults.put(rule({ status: 429 }, { retryAfter: 7, operations: ["twinRead"] }));
    const fault = faultOf(await hub.getTwin(ref, "normal", signal));
    expect(fault).toMatchObject({ kind: "throttled", retryAfter: seconds(7) });
    simulator.hub.faults.clear();
    const asked = simulator.hub.counters.report().classes["twinRead"]?.total;
    expect(faultOf(await hub.getTwin(ref, "rollback", signal)).kind).toBe("throttled");
    expect(simulator.hub.counters.report().classes["twinRead"]?.total).toBe(asked);
    expect(got(await hub.listConfigurations("normal", signal))).toEqual([]);
  });
  test("429 without Retry-After waits at least 10 s", async () => {
    const { hub, simulator } = await simulated();
    simulator.hub.faults.put(rule({ status: 429 }));
    expect(faultOf(await hub.listConfigurations("normal", signal))).toMatchObject({
      kind: "throttled",
      retryAfter: 12_500,
    });
  });
  test("our own budget refuses without a request to the hub", async () => {
    const { at, connectionString, simulator } = await simulated();
    const budget = { operations: 2, window: minutes(1) };
    const { hub } = open({ access: { kind: "connectionString", connectionString }, ...at, budget });
    got(await hub.queryDevices(null, signal));
    got(await hub.queryDevices(null, signal));
    expect(faultOf(await hub.queryDevices(null, signal)).kind).toBe("throttled");
    expect(simulator.hub.counters.report().classes["query"]?.total).toBe(2);
  });
  test("503 is unavailable for every call", async () => {
    const { hub, simulator } = await simulated();
    simulator.hub.faults.put(rule({ status: 503 }));
    for (const [name, call] of Object.entries(everyCallAndRemoval)) {
      const fault = faultOf(await call(hub));
      expect(fault.kind, name).toBe("unavailable");
      expect(fault.message).toContain(`${name}: the hub answered 503 ServiceUnavailable`);
    }
  });
  test("a spent daily quota is throttled, and the message names it", async () => {
    const { hub, simulator } = await simulated();
    simulator.hub.faults.put(rule({ status: 403 }));
    const fault = faultOf(await hub.getTwin(ref, "normal", signal));
    expect(fault).toMatchObject({ kind: "throttled", message: expect.stringContaining("quota") });
  });
  test("a wrong key is denied for every call", async () => {
    const { at, connectionString } = await simulated();
    const wrong = connectionString.replace(/SharedAccessKey=.*/, `SharedAccessKey=${KEY}`);
    const { hub } = open({ access: { kind: "connectionString", connectionString: wrong }, ...at });
    for (const [name, call] of Object.entries(everyCallAndRemoval))
      expect(faultOf(await call(hub)), name).toMatchObject({
        kind: "denied",
        message: expect.stringContaining("needs"),
      });
  });
  test("a policy with fewer rights is refused with the missing right", async () => {
    const { hub } = await simulated({ policy: "service" });
    expect(got(await hub.getTwin(ref, "normal", signal))).toBeNull();
    expect(faultOf(await hub.getIdentity("cam-1", signal)).message).toContain("needs RegistryRead");
    const create = everyCall["createConfiguration"];
    expect(faultOf(await create!(hub)).message).toContain("RegistryWrite");
  });
  test("messages of the hub arrive whole, without tracking ids", async () => {
    const { hub } = await simulated();
    const body = { device: "cam-1", iotEdge: false, enabled: true };
    got(await hub.createIdentity(body, signal));
    const twin = got(await hub.getTwin(ref, "normal", signal));
    const fault = faultOf(
      await hub.patchTwin({ ...ref, etag: twin!.etag }, { tags: { "a.b": 1 } }, "normal", signal),
    );
    expect(fault.kind).toBe("rejected");
    expect(fault.message).toMatch(/^patchTwin: the hub answered 400 ArgumentInvalid: .*a\.b/);
    expect(fault.message).not.toMatch(/tracking/i);
  });
});

describe("identities", () => {
  test("enabling or disabling writes the whole identity under its etag", async () => {
    const writes: { readonly ifMatch: unknown; readonly body: unknown }[] = [];
    const identity = {
      deviceId: "cam-1",
      generationId: "1",
      etag: "Nw==",
      status: "enabled",
      statusReason: "in service",
      authentication: {
        type: "sas",
        symmetricKey: { primaryKey: "cHJpbWFyeQ==", secondaryKey: "c2Vjb25kYXJ5" },
      },
      capabilities: { iotEdge: true },
      deviceScope: "ms-azure-iot-edge://cam-1-1",
      parentScopes: ["ms-azure-iot-edge://gateway-1"],
    };
    const { hub } = await impostor((request, response, body) => {
      if (request.method === "PUT")
        writes.push({ ifMatch: request.headers["if-match"], body: JSON.parse(body) });
      response.writeHead(200, JSON_TYPE).end(request.method === "PUT" ? body : JSON.stringify(identity));
    });
    expect(got(await hub.setEnabled("cam-1", false, signal))).toMatchObject({
      enabled: false,
      iotEdge: true,
    });
    expect(writes).toEqual([{ ifMatch: '"Nw=="', body: { ...identity, status: "disabled" } }]);
  });
  test("an identity whose keys we may not read is not written: that would replace them", async () => {
    let writes = 0;
    const { hub } = await impostor((request, response) => {
      if (request.method === "PUT") writes += 1;
      const identity = {
        deviceId: "cam-1",
        generationId: "1",
        etag: "Nw==",
        status: "enabled",
        authentication: { type: "sas" },
      };
      response.writeHead(200, JSON_TYPE).end(JSON.stringify(identity));
    });
    expect(faultOf(await hub.setEnabled("cam-1", false, signal)).kind).toBe("denied");
    expect(writes).toBe(0);
  });
  test("a concurrent write is a conflict", async () => {
    const { hub, simulator } = await simulated();
    got(await hub.createIdentity({ device: "cam-1", iotEdge: false, enabled: true }, signal));
    simulator.hub.faults.put(rule({ status: 412 }, { operations: ["identity.update"] }));
    expect(faultOf(await hub.setEnabled("cam-1", false, signal)).kind).toBe("conflict");
  });
  test("names with every character that the hub allows survive the path", async () => {
    const { hub } = await simulated();
    const device = "a-.%_*?!(),:=@$'Z9";
    got(await hub.createIdentity({ device, iotEdge: true, enabled: true }, signal));
    expect(got(await hub.getIdentity(device, signal))).toMatchObject({ device });
    expect(got(await hub.getTwin({ device, module: "$edgeAgent" }, "normal", signal))).toMatchObject({
      device,
      module: "$edgeAgent",
    });
    got(await hub.removeIdentity(device, signal));
  });

  test.each([".", ".."])(
    "%s is no name: on its way to the hub it would become another path",
    async (device) => {
      let asked = 0;
      const { hub } = await impostor((_, response) => {
        asked += 1;
        response.writeHead(200, JSON_TYPE).end("[]");
      });
      for (const result of [
        await hub.getIdentity(device, signal),
        await hub.removeIdentity(device, signal),
        await hub.getTwin({ device, module: null }, "normal", signal),
      ])
        expect(faultOf(result).kind).toBe("rejected");
      expect(asked).toBe(0);
    },
  );
});

describe("tokens", () => {
  async function withCredential(
    getToken: () => Promise<{ token: string; expiresOnTimestamp: number } | null>,
  ) {
    const { at } = await simulated();
    const access = {
      kind: "credential",
      host: "simhub.azure-devices.net",
      credential: { getToken },
    } as const;
    return open({ access, ...at });
  }
  test("are requested once for many calls", async () => {
    let asked = 0;
    const { hub } = await withCredential(async () => {
      asked += 1;
      return { token: "a-token", expiresOnTimestamp: Date.now() + 3_600_000 };
    });
    const calls = Array.from({ length: 5 }, () => hub.getTwin(ref, "normal", signal));
    for (const result of await Promise.all(calls)) expect(got(result)).toBeNull();
    expect(asked).toBe(1);
    expect(hub.host).toBe("simhub.azure-devices.net");
  });
  test("that are refused are denied, that cannot be obtained now are unavailable", async () => {
    const refused = await withCredential(async () => {
      throw Object.assign(new Error("AADSTS700016: no such application"), { statusCode: 401 });
    });
    expect(faultOf(await refused.hub.getTwin(ref, "normal", signal))).toMatchObject({
      kind: "denied",
      message: expect.stringContaining("AADSTS700016"),
    });
    const away = await withCredential(async () => {
      throw new Error("getaddrinfo ENOTFOUND login.example");
    });
    expect(faultOf(await away.hub.getTwin(ref, "normal", signal)).kind).toBe("unavailable");
    const nothing = await withCredential(async () => null);
    expect(faultOf(await nothing.hub.getTwin(ref, "normal", signal)).kind).toBe("unavailable");
  });
  test("that never come end at the deadline", async () => {
    const { at } = await simulated();
    const credential = { getToken: () => new Promise<never>(() => {}) };
    const { hub } = open({
      access: { kind: "credential", host: "simhub.azure-devices.net", credential },
      ...at,
      deadline: millis(100),
    });
    expect(faultOf(await hub.getTwin(ref, "normal", signal)).message).toContain("within 100 ms");
  });
});

test("no fault and no log line ever holds a signature or a key", async () => {
  const seen: string[] = [];
  const statuses = [400, 401, 403, 404, 408, 409, 412, 413, 429, 500, 502, 503, 504];
  const { simulator, key, at, connectionString } = await simulated();
  // A throttle that lets everything through: every call is to reach the hub, whatever it answered before.
  const throttle: Throttle = { take: async () => ({ ok: true, value: undefined }), drain: () => {} };
  const access = { kind: "connectionString", connectionString } as const;
  const { hub, log } = open({ access, ...at, throttle, deadline: millis(300) });
  for (const status of statuses) {
    simulator.hub.faults.put(rule({ status }, { id: "x" }));
    for (const call of Object.values(everyCallAndRemoval)) seen.push(JSON.stringify(await call(hub)));
  }
  simulator.hub.faults.put(rule({ kind: "hang" }, { id: "x" }));
  seen.push(JSON.stringify(await hub.getTwin(ref, "normal", signal)), JSON.stringify(log.lines()));
  // A server that repeats what it was sent, as error pages do.
  const echo = await impostor((request, response, body) => {
    const Message = `ErrorCode:ArgumentInvalid;${request.headers.authorization} ${body}`;
    response.writeHead(400, JSON_TYPE).end(JSON.stringify({ Message, ExceptionMessage: "" }));
  });
  for (const call of Object.values(everyCallAndRemoval))
    seen.push(JSON.stringify([await call(echo.hub), echo.log.lines()]));

  expect(seen.length).toBeGreaterThan(150);
  for (const text of seen) {
    expect(text).not.toContain("sig=");
    expect(text).not.toContain(key);
    expect(text).not.toContain(KEY);
    expect(text).not.toContain(encodeURIComponent(key));
    expect(text).not.toContain("skn=");
  }
});

test("a connection string that lacks a part is refused without being shown", () => {
  const make = () =>
    open({
      access: { kind: "connectionString", connectionString: `HostName=h;SharedAccessKey=${KEY}` },
      port: 1,
      ca: "",
    });
  expect(make).toThrow("has no SharedAccessKeyName");
  expect(make).not.toThrow(KEY);
});

import { createHmac } from "node:crypto";
import { Agent } from "node:https";
import { connect } from "node:tls";
import { describe, expect, test } from "vitest";
import { problemOf } from "../../simulator/testing/service-client.ts";
import { clientOf, codeOf, startHub, VERSION, wire } from "./checklist-hub.ts";

// What a simulated hub must do before tests against it mean anything: one block for each subject, each clause a test.
// The rooms of the simulator test their own matters in depth; this is the whole, seen from outside.

describe("1. HTTPS: any port, a certificate that fits, connections that last, and JSON that says so", () => {
  test("the port is free, and the certificate is good for the hub's name and for the address", async () => {
    const { endpoint } = await startHub();
    expect(endpoint.port).toBeGreaterThan(0);
    for (const servername of [endpoint.hostName, undefined]) {
      const socket = connect({
        host: "127.0.0.1",
        port: endpoint.port,
        ca: endpoint.ca,
        ...(servername === undefined ? {} : { servername }),
      });
      await new Promise((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject));
      expect(socket.authorized).toBe(true);
      socket.destroy();
    }
  });

  test("one connection carries many requests", async () => {
    const { endpoint } = await startHub();
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    let sockets = 0;
    const create = agent.createConnection.bind(agent);
    agent.createConnection = (...given) => {
      sockets += 1;
      return create(...given);
    };
    for (let n = 0; n < 3; n++) await wire(endpoint, `/devices?${VERSION}`, { agent });
    expect(sockets).toBe(1);
    agent.destroy();
  });

  test.each([
    ["/devices", 200],
    ["/devices/", 200],
    ["/statistics/devices", 200],
    ["/devices/nobody", 404],
    ["/no/such/place", 404],
  ])("%s answers with JSON and content", async (path, status) => {
    const { endpoint } = await startHub();
    const answer = await wire(endpoint, `${path}?${VERSION}`);
    expect([answer.status, answer.headers["content-type"]]).toEqual([
      status,
      "application/json; charset=utf-8",
    ]);
    expect(Object.keys(JSON.parse(answer.text)).length > 0 || answer.text === "[]").toBe(true);
  });
});

describe("2. Authorisation: policies, signatures, expiry, either writing of the scope, bearer tokens", () => {
  const KEYS = { owner: "iothubowner", reader: "registryRead" } as const;
  type Parts = {
    readonly policy?: string;
    readonly scope?: string;
    readonly seconds?: number;
    readonly spoil?: boolean;
  };

  function tokenOf(
    { hub, endpoint }: Pick<Awaited<ReturnType<typeof startHub>>, "hub" | "endpoint">,
    parts: Parts = {},
  ) {
    const { policy = KEYS.owner, scope = endpoint.hostName, seconds = 60, spoil = false } = parts;
    const expiry = Math.floor(Date.now() / 1000) + seconds;
    const key = hub.policies.find(({ name }) => name === policy)?.key ?? "AAAA";
    const signature = createHmac("sha256", Buffer.from(key, "base64"))
      .update(`${scope}\n${expiry}${spoil ? "!" : ""}`)
      .digest("base64");
    return `SharedAccessSignature sr=${scope}&sig=${encodeURIComponent(signature)}&skn=${policy}&se=${expiry}`;
  }

  test("who is let in, and who is not: always 401, in form A", async () => {
    const hub = await startHub({ hostName: "my-hub.azure-devices.net" });
    const devices = `/devices?${VERSION}`;
    const statusOf = async (token: string | null, path = devices) =>
      (await wire(hub.endpoint, path, { token })).status;
    expect(await statusOf(tokenOf(hub))).toBe(200);
    expect(await statusOf(tokenOf(hub, { scope: "my%2Dhub.azure%2Ddevices.net" }))).toBe(200);
    expect(await statusOf(tokenOf(hub, { policy: KEYS.reader }))).toBe(200);
    expect(await statusOf("Bearer whatever")).toBe(200);
    for (const refused of [
      null,
      "Basic YTpi",
      "Bearer ",
      tokenOf(hub, { policy: "nobody" }),
      tokenOf(hub, { spoil: true }),
      tokenOf(hub, { seconds: -1 }),
      tokenOf(hub, { scope: "other-hub.azure-devices.net" }),
      tokenOf(hub, { policy: "device" }),
    ]) {
      const answer = await wire(hub.endpoint, devices, { token: refused });
      expect([refused, answer.status]).toEqual([refused, 401]);
      expect(JSON.parse(answer.text)).toEqual({
        Message: expect.stringMatching(/^ErrorCode:IotHubUnauthorized;/),
        ExceptionMessage: expect.stringMatching(
          /^Tracking ID:[0-9A-F]{32}-G:\d+-TimeStamp:\d\d\/\d\d\/\d{4} \d\d:\d\d:\d\d$/,
        ),
      });
    }
    expect(await statusOf(tokenOf(hub, { policy: KEYS.reader }), `/configurations?${VERSION}`)).toBe(401);
  });
});

describe("3. The version of the API is named, and is one that is known", () => {
  test.each(["", "?api-version=", "?api-version=2016-02-03", "?api-version=latest"])(
    "/devices%s is refused",
    async (query) => {
      const { endpoint } = await startHub();
      const answer = await wire(endpoint, `/devices${query}`);
      expect([answer.status, answer.headers["iothub-errorcode"]]).toEqual([400, "InvalidProtocolVersion"]);
    },
  );
});

describe("4. A write without If-Match creates, one with * overwrites, one with an etag compares", () => {
  test.each([
    ["/devices/d", {}, "DeviceAlreadyExists", "DeviceNotFound"],
    [
      "/devices/host/modules/m",
      { deviceId: "host", moduleId: "m" },
      "ModuleAlreadyExistsOnDevice",
      "ModuleNotFound",
    ],
    [
      "/configurations/c",
      { content: { deviceContent: {} } },
      "ConfigurationAlreadyExists",
      "ConfigurationNotFound",
    ],
  ])("%s", async (path, body, exists, missing) => {
    const { ask } = await startHub();
    await ask("PUT", "/devices/host", {});
    expect(codeOf(await ask("PUT", path, body, '"*"'))).toBe(`404 ${missing}`);
    const { status, etag = "" } = await ask("PUT", path, body);
    expect([status, etag]).toEqual([200, expect.stringMatching(/^".+"$/)]);
    expect(codeOf(await ask("PUT", path, body))).toBe(`409 ${exists}`);
    expect((await ask("PUT", path, body, '"*"')).status).toBe(200);
    expect(codeOf(await ask("PUT", path, body, etag))).toBe("412 PreconditionFailed");
    const { etag: now = "" } = await ask("GET", path);
    expect((await ask("PUT", path, body, now)).status).toBe(200);
    // Without quotes it counts as none unless --undocumented unquoted-etags says otherwise.
    expect(codeOf(await ask("PUT", path, body, now.replaceAll('"', "")))).toBe(`409 ${exists}`);
    expect(codeOf(await ask("DELETE", path, undefined, now))).toBe("412 PreconditionFailed");
    expect((await ask("DELETE", path, undefined, '"*"')).status).toBe(204);
  });
});

describe("5. Empty keys are made again, and clients with the old ones have to go", () => {
  test("a device is cut off by an update with empty keys, and cannot come back", async () => {
    const { ask, endpoint, hub } = await startHub();
    await ask("PUT", "/devices/d", {
      authentication: { type: "sas", symmetricKey: { primaryKey: "", secondaryKey: "" } },
    });
    const keysOf = () => hub.registry.get("d", null)!.authentication.symmetricKey;
    const before = keysOf();
    for (const key of Object.values(before)) expect(Buffer.from(key ?? "", "base64")).toHaveLength(32);
    const client = await clientOf(endpoint, "d", before.primaryKey ?? "");
    await client.open();
    const cut = new Promise((resolve) => client.once("disconnect", resolve));
    await ask(
      "PUT",
      "/devices/d",
      { authentication: { type: "sas", symmetricKey: { primaryKey: "", secondaryKey: "" } } },
      '"*"',
    );
    await cut;
    expect(new Set([...Object.values(before), ...Object.values(keysOf())]).size).toBe(4);
    const late = await clientOf(endpoint, "d", before.primaryKey ?? "");
    expect((await problemOf(late.open())).name).toBe("UnauthorizedError");
  });
});

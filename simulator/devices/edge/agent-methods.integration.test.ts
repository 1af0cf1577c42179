import { gunzipSync, inflateRawSync } from "node:zlib";
import {
  BlobServiceClient,
  type ContainerClient,
  ContainerSASPermissions,
  generateBlobSASQueryParameters,
  StorageSharedKeyCredential,
} from "@azure/storage-blob";
import iothub from "azure-iothub";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Azurite, startAzurite } from "../../../tools/stack/azurite.ts";
import type { JsonObject, JsonValue } from "../../base/json.ts";
import { createSimulator, type SimulatorSetup } from "../../simulator.ts";
import { EDGE, edgeWorld, manifestOf, START } from "../../testing/edge-world.ts";
import { redirect } from "../../testing/service-client.ts";

const SECOND = 1000;
const MINUTE = 60_000;

const stopping: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  await Promise.all(stopping.splice(0).map((stop) => stop()));
});

/** An edge device that runs two modules, five seconds later. */
async function startEdge(setup: SimulatorSetup = {}, modules: readonly string[] = ["inference", "vision"]) {
  const world = edgeWorld(setup);
  stopping.push(world.stop);
  await world.advance(SECOND);
  world.deploy(manifestOf(Object.fromEntries(modules.map((name) => [name, {}]))));
  await world.advance(5 * SECOND);
  const logs = async (items: JsonValue, more: JsonObject = {}) => {
    const answer = await world.call("GetModuleLogs", { schemaVersion: "1.0", items, ...more });
    return answer as { status: number; payload: JsonValue };
  };
  /** The lines of one module, as text. */
  const lines = async (id: string, filter: JsonObject = {}) => {
    const { payload } = await logs({ id: `^${id}$`, filter });
    const [only] = payload as readonly { readonly payload: string }[];
    return (only?.payload ?? "").split("\n").filter((line) => line !== "");
  };
  return { ...world, logs, lines };
}

test("ping is answered whatever it is written like, and whatever it brings", async () => {
  const { call } = await startEdge();
  for (const name of ["ping", "Ping", "PING"])
    expect(await call(name, name === "Ping" ? { any: "thing" } : undefined)).toEqual({
      refused: null,
      status: 200,
      payload: null,
    });
});

test("an unknown command is answered with the known ones", async () => {
  const { call } = await startEdge();
  const answer = await call("reboot", { schemaVersion: "1.0" });
  expect(answer.status).toBe(400);
  for (const name of [
    "ping",
    "RestartModule",
    "GetModuleLogs",
    "UploadModuleLogs",
    "UploadSupportBundle",
    "GetTaskStatus",
  ])
    expect((answer.payload as JsonObject)["message"]).toContain(name);
});

test.each([
  ["1.0", 200],
  ["1.7", 200],
  ["2.0", 400],
  ["one", 400],
  [null, 400],
] as const)("schemaVersion %s gets %i", async (schemaVersion, status) => {
  const { call } = await startEdge();
  const payload = schemaVersion === null ? { id: "vision" } : { schemaVersion, id: "vision" };
  expect((await call("restartmodule", payload)).status).toBe(status);
});

test.each([undefined, "text", [1]])("a payload that is none gets 400: %j", async (payload) => {
  const { call } = await startEdge();
  expect((await call("GetModuleLogs", payload)).status).toBe(400);
});

test("RestartModule restarts a module, and does not know every name", async () => {
  const { call, moduleReport, advance, lines } = await startEdge();
  const before = moduleReport("vision")["lastStartTimeUtc"];
  await advance(MINUTE);
  expect(await call("RestartModule", { schemaVersion: "1.0", id: "vision" })).toMatchObject({
    status: 200,
    payload: null,
  });
  await advance(5 * SECOND);
  expect(moduleReport("vision")).toMatchObject({ runtimeStatus: "running" });
  expect(moduleReport("vision")["lastStartTimeUtc"]).not.toBe(before);
  expect((await lines("vision")).map((line) => line.split("] ")[1])).toEqual([
    "started",
    "stopped",
    "started",
  ]);
  expect(await call("RestartModule", { schemaVersion: "1.0", id: "ghost" })).toMatchObject({
    status: 500,
    payload: { message: expect.stringContaining("not found in the current environment") },
  });
});

test("RestartModule of the agent itself is not answered, and then it is back", async () => {
  const { call, advance } = await startEdge();
  expect(await call("RestartModule", { schemaVersion: "1.0", id: "edgeAgent" }, 5 * SECOND)).toMatchObject({
    refused: 504,
  });
  await advance(10 * SECOND);
  expect(await call("ping")).toMatchObject({ status: 200 });
});

test("logs have what has happened, module by module", async () => {
  const { hub, advance, lines, logs } = await startEdge({
    behaviours: [{ match: { release: "a.broken" }, effects: { failAt: { state: "Loading" } } }],
  });
  const model = {
    contract: 1,
    release: "a.broken",
    digest: "sha256:0",
    url: "http://127.0.0.1:1/m?sig=secret",
    sizeBytes: 1,
  };
  hub.twins.patch(`${EDGE}/inference`, { tags: null, desired: { model } }, null);
  await advance(10 * SECOND);
  const logged = (await lines("inference")).join("\n");
  expect(logged).toMatch(/^<6> 2026-03-01 12:00:0\d\.\d{3} \+00:00 \[INF\] started$/m);
  expect(logged).toContain("update to a.broken: Downloading");
  expect(logged).toContain("[ERR] update to a.broken: Failed: LoadFailed");
  expect(logged).not.toContain("secret");
  expect((await lines("edgeAgent")).join("\n")).toContain("Pulling image vision:1 of module vision");
  const { payload } = await logs([{ id: "vision" }, { id: "vis.*|edgeHub" }]);
  // A module that two items name comes once.
  expect((payload as readonly JsonObject[]).map(({ id }) => id)).toEqual(["vision", "edgeHub"]);
});

test("logs are filtered by tail, time, level and pattern", async () => {
  const { advance, lines, call } = await startEdge();
  const restart = () => call("RestartModule", { schemaVersion: "1.0", id: "vision" });
  await advance(10 * MINUTE);
  await restart();
  const all = await lines("vision");
  expect(all).toHaveLength(3);
  expect(await lines("vision", { tail: 1 })).toEqual(all.slice(-1));
  expect(await lines("vision", { since: "5m" })).toEqual(all.slice(1));
  expect(await lines("vision", { until: "5 minutes" })).toEqual(all.slice(0, 1));
  expect(await lines("vision", { since: new Date(START + 5 * MINUTE).toISOString() })).toEqual(all.slice(1));
  expect(await lines("vision", { until: Math.floor(START / 1000) + 300 })).toEqual(all.slice(0, 1));
  expect(await lines("vision", { regex: "^stop" })).toEqual([all[1]]);
  expect(await lines("vision", { loglevel: 6 })).toEqual(all);
  for (const other of [3, 7]) expect(await lines("vision", { loglevel: other })).toEqual([]);
  // The tail is cut before the pattern looks at it.
  expect(await lines("vision", { tail: 1, regex: "^stop" })).toEqual([]);
});

test("a time without its zone is refused in what is asked of logs", async () => {
  const { logs } = await startEdge();
  const { status, payload } = await logs([{ id: "a", filter: { since: "2026-03-01T12:05:00" } }]);
  expect(status).toBe(400);
  expect((payload as JsonObject)["message"]).toContain("a time of RFC 3339 with its zone");
});

test("every mistake in a request for logs is reported", async () => {
  const { logs } = await startEdge();
  const wrong = [{ id: "(" }, { filter: { tail: -1, loglevel: 9, since: "yesterday", regex: "[" } }, 5];
  const { status, payload } = await logs(wrong, { encoding: "brotli", contentType: "xml" });
  expect(status).toBe(400);
  const { message } = payload as { readonly message: string };
  for (const path of ["items[0].id", "items[1].id", "items[2]", "encoding", "contentType"])
    expect(message).toContain(path);
  const { payload: second } = await logs([
    { id: "a", filter: { tail: -1, loglevel: 9, since: "yesterday", regex: "[" } },
  ]);
  for (const name of ["tail", "loglevel", "since", "regex"])
    expect((second as JsonObject)["message"]).toContain(`items[0].filter.${name}`);
});

test("logs come as JSON, and packed", async () => {
  const { logs } = await startEdge();
  const { payload } = await logs({ id: "vision" }, { contentType: "json", encoding: "gzip" });
  const [only] = payload as readonly { readonly id: string; readonly payloadBytes: string }[];
  const unpacked = JSON.parse(
    gunzipSync(Buffer.from(only!.payloadBytes, "base64")).toString(),
  ) as JsonObject[];
  expect(unpacked[0]).toEqual({
    iothub: "simhub.azure-devices.net",
    device: EDGE,
    id: "vision",
    stream: "stdout",
    loglevel: 6,
    text: "started",
    timestamp: expect.stringMatching(/^2026-03-01T12:00:0/),
  });
});

test("an answer that is too large is refused with what to do, and fits when it is packed", async () => {
  const names = Array.from({ length: 40 }, (_, index) => `module-${index}`);
  const { advance, logs, call } = await startEdge({}, names);
  for (let round = 0; round < 30; round++)
    for (const id of names) void call("RestartModule", { schemaVersion: "1.0", id });
  await advance(SECOND);
  const { status, payload } = await logs({ id: "." }, { contentType: "json" });
  expect(status).toBe(400);
  expect((payload as JsonObject)["message"]).toMatch(/gzip/);
  expect((await logs({ id: "." }, { contentType: "json", encoding: "gzip" })).status).toBe(200);
});

test("a method of the vendor's client reaches the agent over the wire", async () => {
  const simulator = createSimulator({ throttling: false });
  stopping.push(simulator.stop);
  simulator.hub.registry.putDevice(EDGE, { capabilities: { iotEdge: true } }, null);
  const endpoint = await simulator.start();
  const client = redirect(iothub.Client.fromConnectionString(endpoint.connectionString), endpoint);
  const { result } = await client.invokeDeviceMethod(EDGE, "$edgeAgent", {
    methodName: "ping",
    payload: null,
    responseTimeoutInSeconds: 5,
  });
  expect(result).toEqual({ status: 200, payload: null });
});

describe("uploads", () => {
  let azurite: Azurite;
  let container: ContainerClient;
  let sasUrl: string;

  beforeAll(async () => {
    azurite = await startAzurite();
    container = BlobServiceClient.fromConnectionString(azurite.connectionString).getContainerClient("logs");
    await container.create();
    const credential = new StorageSharedKeyCredential(azurite.accountName, azurite.accountKey);
    const permissions = ContainerSASPermissions.parse("cw");
    const sas = { containerName: "logs", permissions, expiresOn: new Date(Date.now() + 3_600_000) };
    sasUrl = `${container.url}?${generateBlobSASQueryParameters(sas, credential)}`;
  });
  afterAll(() => azurite.stop());

  async function finished(world: Awaited<ReturnType<typeof startEdge>>, method: string, more: JsonObject) {
    const asked = await world.call(method, { schemaVersion: "1.0", sasUrl, ...more });
    const { correlationId, status } = asked.payload as { correlationId: string; status: string };
    expect({ status: asked.status, task: status }).toEqual({ status: 200, task: "Running" });
    await world.advance(0);
    return (await world.call("GetTaskStatus", { schemaVersion: "1.0", correlationId })).payload as JsonObject;
  }

  async function blobs(ending: string): Promise<readonly string[]> {
    const names: string[] = [];
    for await (const { name } of container.listBlobsFlat()) if (name.endsWith(ending)) names.push(name);
    return names;
  }

  test("logs of modules are really written into the container", async () => {
    const world = await startEdge();
    const items = [{ id: "vision" }, { id: "edgeAgent" }];
    expect(await finished(world, "UploadModuleLogs", { items, encoding: "gzip" })).toMatchObject({
      status: "Completed",
    });
    const names = await blobs(".log.gz");
    expect(names.map((name) => name.replace(/-2026-.*/, ""))).toEqual([
      `simhub/${EDGE}/edgeAgent`,
      `simhub/${EDGE}/vision`,
    ]);
    const packed = await container.getBlobClient(names[1]!).downloadToBuffer();
    expect(gunzipSync(packed).toString()).toContain("[INF] started");
  });

  test("a support bundle is a zip archive of the logs, of the runtime alone where asked for", async () => {
    const world = await startEdge();
    expect(await finished(world, "UploadSupportBundle", { edgeRuntimeOnly: true })).toMatchObject({
      status: "Completed",
    });
    const [name] = await blobs(".zip");
    const files = unzip(await container.getBlobClient(name!).downloadToBuffer());
    expect([...files.keys()]).toEqual(["logs/edgeAgent_log.txt", "logs/edgeHub_log.txt"]);
    expect(files.get("logs/edgeAgent_log.txt")).toContain("Started module vision");
  });

  test("an upload that is refused fails, and its signature appears nowhere", async () => {
    const world = await startEdge();
    const broken = new URL(sasUrl);
    broken.searchParams.set("sig", "AAAAsecretAAAA");
    const ended = await finished(world, "UploadModuleLogs", { items: { id: "vision" }, sasUrl: broken.href });
    expect(ended).toMatchObject({ status: "Failed", message: expect.stringContaining("403") });
    const everything = JSON.stringify([ended, await world.logs({ id: "." }), world.reported("$edgeAgent")]);
    expect(everything).not.toContain("secret");
    expect(everything).not.toContain("sig=");
  });

  test("an address without a signature is refused without being repeated", async () => {
    const { call } = await startEdge();
    const answer = await call("UploadModuleLogs", {
      schemaVersion: "1.0",
      items: { id: "vision" },
      sasUrl: "https://store/logs?token=secret",
    });
    expect(answer.status).toBe(400);
    expect(JSON.stringify(answer.payload)).not.toContain("secret");
  });

  test("an agent that has restarted knows of no task", async () => {
    const world = await startEdge();
    const { correlationId } = await finished(world, "UploadModuleLogs", { items: { id: "vision" } });
    await world.call("RestartModule", { schemaVersion: "1.0", id: "edgeAgent" }, 5 * SECOND);
    await world.advance(10 * SECOND);
    const asked = await world.call("GetTaskStatus", {
      schemaVersion: "1.0",
      correlationId: correlationId ?? "",
    });
    expect(asked.payload).toMatchObject({ status: "Unknown", correlationId });
  });
});

/** Reads an archive by its directory, as every other reader does. */
function unzip(archive: Buffer): ReadonlyMap<string, string> {
  const end = archive.lastIndexOf(Buffer.from([0x50, 0x4b, 5, 6]));
  const files = new Map<string, string>();
  let at = archive.readUInt32LE(end + 16);
  for (let count = archive.readUInt16LE(end + 10); count > 0; count--) {
    const length = archive.readUInt16LE(at + 28);
    const name = archive.subarray(at + 46, at + 46 + length).toString();
    const local = archive.readUInt32LE(at + 42);
    const start = local + 30 + archive.readUInt16LE(local + 26) + archive.readUInt16LE(local + 28);
    files.set(
      name,
      inflateRawSync(archive.subarray(start, start + archive.readUInt32LE(at + 20))).toString(),
    );
    at += 46 + length + archive.readUInt16LE(at + 30) + archive.readUInt16LE(at + 32);
  }
  return files;
}

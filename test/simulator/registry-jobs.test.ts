import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  BlobServiceClient,
  type ContainerClient,
  ContainerSASPermissions,
  generateBlobSASQueryParameters,
  StorageSharedKeyCredential,
} from "@azure/storage-blob";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { createSimulator, type Simulator, type SimulatorOptions } from "../../simulator/simulator.ts";
import {
  connectRegistry,
  problemOf,
  type Registry,
  rawCall,
} from "../../simulator/testing/service-client.ts";
import { type Azurite, startAzurite } from "../../tools/stack/azurite.ts";

// Exports and imports of the real client, through a real blob service.

let azurite: Azurite;
beforeAll(async () => {
  azurite = await startAzurite();
}, 60_000);
afterAll(async () => {
  await azurite.stop();
});

const running: Simulator[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((simulator) => simulator.stop()));
});

async function startHub(
  options: Partial<SimulatorOptions> & { readonly clock?: "virtual"; readonly state?: string } = {},
) {
  const simulator = createSimulator({ tier: "S3", autoStart: false, ...options });
  running.push(simulator);
  const endpoint = await simulator.start();
  return { simulator, endpoint, registry: connectRegistry(endpoint, undefined, 20_000) };
}

let containers = 0;
async function newContainer(permissions = "rwdl") {
  const service = BlobServiceClient.fromConnectionString(azurite.connectionString);
  containers += 1;
  const client = service.getContainerClient(`c-${containers}`);
  await client.create();
  const key = new StorageSharedKeyCredential(azurite.accountName, azurite.accountKey);
  const sas = generateBlobSASQueryParameters(
    {
      containerName: client.containerName,
      permissions: ContainerSASPermissions.parse(permissions),
      expiresOn: new Date(Date.now() + 3_600_000),
      version: "2021-12-02",
    },
    key,
  );
  return { client, uri: `${client.url}?${sas}` };
}

async function textOf(client: ContainerClient, blob: string): Promise<string> {
  return (await client.getBlobClient(blob).downloadToBuffer()).toString("utf8");
}

async function put(client: ContainerClient, blob: string, text: string): Promise<void> {
  await client.getBlockBlobClient(blob).upload(text, Buffer.byteLength(text));
}

type RegistryJob = {
  readonly jobId: string;
  readonly status: string;
  readonly type: string;
  readonly progress: number;
  readonly failureReason: string | null;
  readonly outputBlobContainerUri: string;
};

async function ended(registry: Registry, started: unknown): Promise<RegistryJob> {
  const { jobId } = started as RegistryJob;
  const read = async () => (await registry.getJob(jobId)) as unknown as RegistryJob;
  await expect.poll(async () => (await read()).status, { timeout: 10_000 }).not.toMatch(/enqueued|running/);
  return read();
}

async function listed(registry: Registry): Promise<readonly RegistryJob[]> {
  return ((await registry.listJobs()) as unknown as { readonly responseBody: readonly RegistryJob[] })
    .responseBody;
}

test("a whole registry moves to another hub, keys, twins, modules and parents with it", async () => {
  const { registry, simulator } = await startHub();
  const { client, uri } = await newContainer();
  await registry.create({ deviceId: "before-its-parent" });
  const edge = (await registry.create({ deviceId: "z-edge", capabilities: { iotEdge: true } } as never))
    .responseBody as unknown as { readonly deviceScope: string };
  const child = { deviceId: "a-child", capabilities: { iotEdge: true }, parentScopes: [edge.deviceScope] };
  const below = (await registry.create(child as never)).responseBody as unknown as typeof edge;
  await registry.create({
    deviceId: "a-leaf",
    status: "disabled",
    statusReason: "broken",
    deviceScope: below.deviceScope,
  } as never);
  const early = JSON.parse(JSON.stringify((await registry.get("before-its-parent")).responseBody));
  await registry.update({ ...early, deviceScope: edge.deviceScope });
  await registry.addModule({ deviceId: "a-leaf", moduleId: "probe" } as never);
  await registry.updateTwin(
    "a-leaf",
    { tags: { site: "a" }, properties: { desired: { n: 1 } } } as never,
    "*",
  );

  const exported = await ended(registry, await registry.exportDevicesToBlob(uri, false));
  expect(exported).toMatchObject({ status: "completed", type: "export", progress: 100, failureReason: null });
  const lines = (await textOf(client, "devices.txt"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(lines.length).toBe(9);
  expect(lines.find((line) => line.id === "a-leaf" && line.moduleId === undefined)).toMatchObject({
    status: "disabled",
    tags: { site: "a" },
    properties: { desired: { n: 1 } },
  });

  const other = await startHub({ seed: 7 });
  const imported = await ended(other.registry, await other.registry.importDevicesFromBlob(uri, uri));
  expect(imported).toMatchObject({ status: "completed", type: "import" });
  expect(await textOf(client, "importErrors.log")).toBe("");
  const there = other.simulator.hub;
  expect(there.registry.count()).toBe(4);
  for (const identity of simulator.hub.registry.devices()) {
    const copy = there.registry.get(identity.deviceId, null);
    const { etag: _etag, generationId: _generation, statusUpdatedTime: _time, ...same } = identity;
    expect(copy).toMatchObject(same);
  }
  expect(there.registry.get("a-leaf", "probe")?.authentication).toEqual(
    simulator.hub.registry.get("a-leaf", "probe")?.authentication,
  );
  expect(there.twins.get("a-leaf")).toMatchObject({ tags: { site: "a" }, desired: { value: { n: 1 } } });
});

test("keys are null where they are excluded", async () => {
  const { registry } = await startHub();
  const { client, uri } = await newContainer();
  await registry.create({ deviceId: "cam-1" });
  await ended(registry, await registry.exportDevicesToBlob(uri, true));
  expect(JSON.parse(await textOf(client, "devices.txt")).authentication.symmetricKey).toEqual({
    primaryKey: null,
    secondaryKey: null,
  });
});

test("lines are carried out by their mode; the log says what is wrong with which line, and repeats no key", async () => {
  const { registry, simulator } = await startHub();
  const { client, uri } = await newContainer();
  await registry.addDevices([{ deviceId: "old" }, { deviceId: "gone" }, { deviceId: "kept" }]);
  const kept = (await registry.get("kept")).responseBody as unknown as { readonly etag: string };
  const key = Buffer.alloc(32, 7).toString("base64");
  const authentication = { type: "sas", symmetricKey: { primaryKey: key, secondaryKey: key } };
  const lines = [
    { id: "new", authentication },
    { id: "old", status: "disabled" },
    { id: "gone", importMode: "delete" },
    { id: "kept", importMode: "updateIfMatchETag", eTag: "other", authentication },
    { id: "kept", importMode: "updateTwinIfMatchETag", twinETag: "AAAAAAAAAAE=", tags: { a: 1 } },
    { id: "kept", importMode: "updateTwinIfMatchETag", twinETag: "AAAAAAAAAAE=", tags: { a: 2 } },
    { id: "old", importMode: "create", authentication },
    { id: "untwinned", tags: { "a.b": 1 }, authentication },
    { importMode: "create", authentication },
  ];
  const text = `\uFEFF${lines.map((line) => JSON.stringify(line)).join("\r\n")}\n\n{"id": "torn", "key": "${key}\n`;
  await put(client, "devices.txt", text);
  const job = await ended(registry, await registry.importDevicesFromBlob(uri, uri));
  expect(job.status).toBe("completed");
  const log = await textOf(client, "importErrors.log");
  expect(log).not.toContain(key);
  expect(
    log
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line)),
  ).toMatchObject([
    { id: "kept", errorCode: 412001, errorStatus: expect.stringContaining("Line 4: ") },
    { id: "kept", errorCode: 412001, errorStatus: expect.stringContaining("Line 6: ") },
    { id: "old", errorCode: 409001, errorStatus: expect.stringContaining("Line 7: ") },
    {
      id: "untwinned",
      errorCode: 400004,
      errorStatus: expect.stringContaining("DeviceRegisteredWithoutTwin"),
    },
    { errorCode: 400012, errorStatus: expect.stringContaining("Line 9: ") },
    { errorCode: 400012, errorStatus: "Line 11: the line is not JSON" },
  ]);
  const { hub } = simulator;
  expect(hub.registry.get("new", null)?.authentication.symmetricKey.primaryKey).toBe(key);
  expect(hub.registry.get("old", null)?.enabled).toBe(false);
  expect(hub.registry.get("gone", null)).toBeUndefined();
  expect(hub.registry.get("untwinned", null)).toBeDefined();
  expect(hub.registry.get("kept", null)?.etag).toBe(kept.etag);
  expect(hub.twins.get("kept")?.tags).toEqual({ a: 1 });
});

test("one job runs at a time; the second finds the quota used up, until the first is cancelled", async () => {
  const { registry, simulator } = await startHub({ clock: "virtual" });
  const { client, uri } = await newContainer();
  await registry.create({ deviceId: "cam-1" });
  const first = (await registry.exportDevicesToBlob(uri, false)) as unknown as RegistryJob;
  expect(first.status).toBe("enqueued");
  const problem = await problemOf(registry.importDevicesFromBlob(uri, uri));
  expect(problem).toMatchObject({ name: "TooManyDevicesError", response: { statusCode: 403 } });
  expect(problem.response?.headers["iothub-errorcode"]).toBe("JobQuotaExceeded");
  await registry.cancelJob(first.jobId);
  await simulator.advance(1000);
  expect(await registry.getJob(first.jobId)).toMatchObject({ status: "cancelled" });
  expect(await textOf(client, "devices.txt")).toBe("");

  const second = (await registry.exportDevicesToBlob(uri, false)) as unknown as RegistryJob;
  await simulator.advance(0);
  expect(await registry.getJob(second.jobId)).toMatchObject({ status: "completed" });
  expect(await textOf(client, "devices.txt")).toContain("cam-1");
  await registry.cancelJob(second.jobId);
  expect((await listed(registry)).map((job) => job.status)).toEqual(["cancelled", "completed"]);
});

test("a restart with a state keeps what ended, fails what was under way, and holds no access in its file", async () => {
  const directory = await mkdtemp(join(tmpdir(), "registry-jobs-"));
  const state = join(directory, "hub.state");
  const { client, uri } = await newContainer();
  const before = await startHub({ clock: "virtual", state });
  await before.registry.create({ deviceId: "cam-1" });
  const done = (await before.registry.exportDevicesToBlob(uri, false)) as unknown as RegistryJob;
  await before.simulator.advance(0);
  const underWay = (await before.registry.importDevicesFromBlob(uri, uri)) as unknown as RegistryJob;
  await before.simulator.stop();
  expect(await textOf(client, "devices.txt")).toContain("cam-1");
  const signature = new URL(uri).searchParams.get("sig")!;
  for (const name of await readdir(directory)) {
    const bytes = await readFile(join(directory, name), "latin1");
    expect(bytes).not.toContain(signature);
    expect(bytes).not.toContain(encodeURIComponent(signature));
  }

  const { registry } = await startHub({ state });
  expect(await registry.getJob(done.jobId)).toMatchObject({ status: "completed", progress: 100 });
  expect(await registry.getJob(underWay.jobId)).toMatchObject({
    status: "failed",
    failureReason: expect.stringContaining("restarted"),
  });
  await ended(registry, await registry.exportDevicesToBlob(uri, false));
  await rm(directory, { recursive: true });
});

test("of two jobs that come at once one is refused", async () => {
  const { registry } = await startHub();
  const { uri } = await newContainer();
  const results = await Promise.allSettled([
    registry.exportDevicesToBlob(uri, false),
    registry.exportDevicesToBlob(uri, false),
  ]);
  expect(results.map((result) => result.status).sort()).toEqual(["fulfilled", "rejected"]);
  const started = results.find((result) => result.status === "fulfilled");
  await ended(registry, started?.value);
});

test("a container that the hub may not write to is refused at once, and frees the place", async () => {
  const { registry } = await startHub();
  const readOnly = await newContainer("rl");
  const refused = [
    () => registry.exportDevicesToBlob(readOnly.uri, false),
    () => registry.exportDevicesToBlob(readOnly.uri.replace(/sig=[^&]*/, "sig=c2VjcmV0"), false),
    () => registry.exportDevicesToBlob("http://127.0.0.1:1/c?sig=c2VjcmV0", false),
    () => registry.exportDevicesToBlob("ftp://127.0.0.1/c?sig=c2VjcmV0", false),
    () => registry.exportDevicesToBlobByIdentity(readOnly.uri, false),
  ];
  const problems = [];
  for (const attempt of refused) problems.push(await problemOf(attempt()));
  const signature = new URL(readOnly.uri).searchParams.get("sig")!;
  for (const problem of problems) {
    expect(problem.response?.statusCode).toBe(400);
    expect(problem.responseBody).not.toContain("c2VjcmV0");
    expect(problem.responseBody).not.toContain(encodeURIComponent(signature));
  }
  expect(problems.map((problem) => problem.response?.headers["iothub-errorcode"])).toEqual([
    "BlobContainerValidationError",
    "BlobContainerValidationError",
    "BlobContainerValidationError",
    "BlobContainerValidationError",
    "ManagedIdentityNotEnabled",
  ]);
});

test("an import without its blob fails and says why, without what grants access", async () => {
  const { registry } = await startHub();
  const { uri } = await newContainer();
  const job = await ended(registry, await registry.importDevicesFromBlob(uri, uri));
  expect(job).toMatchObject({ status: "failed", failureReason: expect.stringContaining("BlobNotFound") });
  const signature = new URL(uri).searchParams.get("sig")!;
  for (const shown of [job, await listed(registry)]) {
    expect(JSON.stringify(shown)).not.toContain(signature);
    expect(JSON.stringify(shown)).not.toContain(encodeURIComponent(signature));
  }
  expect(job.outputBlobContainerUri).toContain("sig=redacted");
});

test("what an import or export is made of is checked", async () => {
  const { registry } = await startHub();
  const cases: readonly (readonly [string, object])[] = [
    ["GenericBadRequest", { type: "backup" }],
    ["ArgumentNull", { type: "export" }],
    ["ArgumentNull", { type: "import", outputBlobContainerUri: "https://a/b" }],
    [
      "InvalidOperation",
      { type: "export", outputBlobContainerUri: "https://a/b", includeConfigurations: true },
    ],
  ];
  for (const [code, body] of cases) {
    const problem = await problemOf(rawCall(registry, "POST", "/jobs/create", body));
    expect(problem.response?.headers["iothub-errorcode"]).toBe(code);
  }
  expect((await problemOf(registry.getJob("never"))).responseBody).toContain("JobNotFound");
  expect((await problemOf(registry.cancelJob("never"))).responseBody).toContain("JobNotFound");
});

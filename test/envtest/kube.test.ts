import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from "vitest";
import type { EdgeDeviceSpec, EdgeDeviceStatus } from "../../src/api/edge-device.ts";
import { FINALIZER, type ObjectKey, objectKey } from "../../src/api/resource.ts";
import type { Result } from "../../src/base/result.ts";
import { millis, seconds } from "../../src/base/time.ts";
import { createEventRecorder } from "../../src/kube/event-recorder.ts";
import { whileLeading } from "../../src/kube/leadership/leader-election.ts";
import { createLeaseStore } from "../../src/kube/leadership/lease-store.ts";
import { type CachedResources, createResources } from "../../src/kube/resources.ts";
import { createSecrets } from "../../src/kube/secrets.ts";
import type { Call } from "../../src/kube/transport/call.ts";
import { loadKubeConfig } from "../../src/kube/transport/kubeconfig.ts";
import { createTransport, type Transport } from "../../src/kube/transport/transport.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import type { RuntimeDeps } from "../../src/runtime/deps.ts";
import { createFakeLog } from "../fakes/fake-log.ts";
import { createFakeMeter } from "../fakes/fake-meter.ts";

// The room kube/ in front of a real API server: what only it can answer.

const never = new AbortController().signal;
const deps: RuntimeDeps = {
  clock: systemClock(),
  log: createFakeLog(),
  meter: createFakeMeter(),
  random: Math.random,
};

type Raw = {
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly resourceVersion: string;
    readonly generation: number;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly finalizers?: readonly string[];
    readonly ownerReferences?: readonly Readonly<Record<string, unknown>>[];
  };
  readonly spec?: unknown;
  readonly status?: unknown;
  readonly type?: string;
  readonly data?: Readonly<Record<string, string>>;
};

let transport: Transport;
let namespace: string;

beforeAll(async () => {
  transport = createTransport(loadKubeConfig(inject("kubeconfig"), null), {}, deps);
  namespace = (await must("POST", "/api/v1/namespaces", { metadata: { generateName: "kube-" } })).metadata
    .name;
});
afterAll(async () => {
  await must("DELETE", `/api/v1/namespaces/${namespace}`);
  await transport.close();
});

test("certificates at relative paths start at the folder of their kubeconfig, and the first of several files counts", async () => {
  const given = loadKubeConfig(inject("kubeconfig"), null);
  const cluster = given.getCurrentCluster();
  const user = given.getCurrentUser();
  const folder = mkdtempSync(join(tmpdir(), "edgefleet-kubeconfig-"));
  mkdirSync(join(folder, "pki"));
  const put = (name: string, data: string | undefined, file: string | undefined) =>
    writeFileSync(
      join(folder, "pki", name),
      data === undefined ? readFileSync(file ?? "") : Buffer.from(data, "base64"),
    );
  put("ca.crt", cluster?.caData, cluster?.caFile);
  put("client.crt", user?.certData, user?.certFile);
  put("client.key", user?.keyData, user?.keyFile);
  const write = (name: string, server: string | undefined) => {
    const content = {
      "current-context": "here",
      clusters: [{ name: "here", cluster: { server, "certificate-authority": "pki/ca.crt" } }],
      users: [
        { name: "me", user: { "client-certificate": "pki/client.crt", "client-key": "pki/client.key" } },
      ],
      contexts: [{ name: "here", context: { cluster: "here", user: "me" } }],
    };
    writeFileSync(join(folder, name), JSON.stringify(content));
    return join(folder, name);
  };
  const paths = [
    join(folder, "missing"),
    write("first", cluster?.server),
    write("second", "https://127.0.0.1:1"),
  ];
  const other = createTransport(loadKubeConfig(paths.join(delimiter), null), {}, deps);
  try {
    const call = { method: "GET", path: `/api/v1/namespaces/${namespace}` } as const;
    expect(value(await other.call(call, never))).toMatchObject({ metadata: { name: namespace } });
  } finally {
    await other.close();
    rmSync(folder, { recursive: true });
  }
});

async function must(
  method: Call["method"],
  path: string,
  body?: unknown,
  contentType?: string,
): Promise<Raw> {
  const call = {
    method,
    path,
    ...(body === undefined ? {} : { body }),
    ...(contentType === undefined ? {} : { contentType }),
  };
  return value(await transport.call(call, never)) as Raw;
}

function value<T>(result: Result<T, unknown>): T {
  if (!result.ok) throw new Error(`unexpected fault: ${JSON.stringify(result.error)}`);
  return result.value;
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let left = 1000; left > 0; left -= 1) {
    if (holds()) return;
    await deps.clock.sleep(millis(10), never);
  }
  throw new Error(`never happened: ${what}`);
}

const devicesPath = (rest = "") => `/apis/edgefleet.dev/v1alpha1/namespaces/${namespace}/edgedevices${rest}`;
let made = 0;
async function createDevice(metadata: Readonly<Record<string, unknown>> = {}): Promise<Raw> {
  made += 1;
  return must("POST", devicesPath(), {
    apiVersion: "edgefleet.dev/v1alpha1",
    kind: "EdgeDevice",
    metadata: {
      name: `cam-${made}`,
      labels: { line: "7" },
      annotations: { "example.com/note": "ours to leave alone" },
      ...metadata,
    },
    spec: { deviceClass: "jetson-orin-nano" },
  });
}
const read = (name: string) => must("GET", devicesPath(`/${name}`));
const keyOf = (device: Raw): ObjectKey => objectKey(namespace, device.metadata.name);

type Devices = CachedResources<EdgeDeviceSpec, EdgeDeviceStatus>;
const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

/** The cache of all EdgeDevices of the namespace, filled. */
async function startDevices(through: Transport = transport, limit = 500): Promise<Devices> {
  const options = { plural: "edgedevices", namespaces: [namespace], limit };
  const devices = createResources<EdgeDeviceSpec, EdgeDeviceStatus>(through, options, deps);
  const stop = new AbortController();
  const ended = devices.run(stop.signal);
  stops.push(async () => {
    stop.abort();
    await ended;
  });
  await devices.synced(never);
  return devices;
}

function cached(devices: Devices, key: ObjectKey) {
  const found = devices.get(key);
  if (found === undefined) throw new Error(`${key} is not in the cache`);
  return found;
}

/** Counts what is written through it. */
function counting(inner: Transport): Transport & { readonly writes: () => number } {
  let writes = 0;
  return {
    ...inner,
    call: (call, signal) => {
      if (call.method !== "GET") writes += 1;
      return inner.call(call, signal);
    },
    writes: () => writes,
  };
}

describe("a list-watch", () => {
  test("lists page by page, then sees what is created, changed and deleted", async () => {
    const before = await Promise.all([createDevice(), createDevice(), createDevice()]);
    const devices = await startDevices(transport, 2);
    for (const device of before) expect(cached(devices, keyOf(device)).uid).toBe(device.metadata.uid);

    const device = await createDevice();
    const key = keyOf(device);
    await until("it is created", () => devices.get(key) !== undefined);
    const patch = { spec: { enabled: false } };
    await must("PATCH", devicesPath(`/${device.metadata.name}`), patch, "application/merge-patch+json");
    await until("it is changed", () => devices.get(key)?.spec.enabled === false);
    expect(devices.get(key)).toMatchObject({
      generation: 2,
      labels: { line: "7" },
      annotations: {},
      spec: { iotEdge: true },
    });
    await must("DELETE", devicesPath(`/${device.metadata.name}`));
    await until("it is deleted", () => devices.get(key) === undefined);
  });

  test("lists again when the API server has forgotten the version, and notices what was deleted meanwhile", async () => {
    const device = await createDevice();
    let watches = 0;
    const forgetful: Transport = {
      ...transport,
      lines: async (path, idle, signal) => {
        watches += 1;
        if (watches > 1) return transport.lines(path, idle, signal);
        await must("DELETE", devicesPath(`/${device.metadata.name}`));
        return transport.lines(path.replace(/resourceVersion=\d+/, "resourceVersion=1"), idle, signal);
      },
    };
    const devices = await startDevices(forgetful);
    expect(devices.get(keyOf(device))).toBeDefined();
    await until("it listed again", () => devices.get(keyOf(device)) === undefined);
    expect(watches).toBeGreaterThanOrEqual(1);
  });
});

describe("a status", () => {
  test("is written under the version that was read: old news is a conflict", async () => {
    const device = await createDevice();
    const devices = await startDevices();
    const had = cached(devices, keyOf(device));
    const first = value(await devices.writeStatus(had, { bucket: 1 }, never));
    expect(first.status).toEqual({ observedGeneration: -1, bucket: 1 });
    expect(await devices.writeStatus(had, { bucket: 2 }, never)).toMatchObject({
      ok: false,
      error: { kind: "conflict" },
    });
    const second = value(await devices.writeStatus(first, { observedGeneration: 1, bucket: 3 }, never));
    expect((await read(device.metadata.name)).status).toEqual({ observedGeneration: 1, bucket: 3 });
    expect(second.generation).toBe(1);
  });

  test("that was written is in the cache at once, and its listeners were told once", async () => {
    const device = await createDevice();
    const devices = await startDevices();
    const key = keyOf(device);
    const told: (number | undefined)[] = [];
    devices.onChange((_before, after) => {
      if (after?.key === key) told.push(after.status?.bucket);
    });
    await devices.writeStatus(cached(devices, key), { bucket: 5 }, never);
    expect(cached(devices, key).status?.bucket).toBe(5);
    const later = await createDevice();
    await until("the watch has come that far", () => devices.get(keyOf(later)) !== undefined);
    expect(told).toEqual([5]);
  });

  test("that says the same is not written", async () => {
    const device = await createDevice();
    const through = counting(transport);
    const devices = await startDevices(through);
    const status: EdgeDeviceStatus = {
      observedGeneration: 1,
      bucket: 7,
      hub: { host: "h", deviceId: "d", generationId: "g", adopted: false },
    };
    const written = value(await devices.writeStatus(cached(devices, keyOf(device)), status, never));
    expect(through.writes()).toBe(1);
    const reordered: EdgeDeviceStatus = {
      hub: { adopted: false, generationId: "g", deviceId: "d", host: "h" },
      bucket: 7,
      observedGeneration: 1,
    };
    expect(value(await devices.writeStatus(written, reordered, never))).toBe(written);
    expect(through.writes()).toBe(1);
    expect((await read(device.metadata.name)).metadata.resourceVersion).toBe(written.resourceVersion);
  });

  test("that breaks the schema is rejected, in the API server's words", async () => {
    const device = await createDevice();
    const devices = await startDevices();
    const answer = await devices.writeStatus(cached(devices, keyOf(device)), { bucket: -1 }, never);
    expect(answer).toMatchObject({
      ok: false,
      error: { kind: "rejected", message: expect.stringContaining("status.bucket") },
    });
  });

  test("of an object that is gone is a conflict", async () => {
    const device = await createDevice();
    const devices = await startDevices();
    const had = cached(devices, keyOf(device));
    await must("DELETE", devicesPath(`/${device.metadata.name}`));
    expect(await devices.writeStatus(had, { bucket: 1 }, never)).toMatchObject({
      ok: false,
      error: { kind: "conflict" },
    });
  });
});

describe("our finalizer", () => {
  test("comes and goes, and nothing else of the object changes", async () => {
    const device = await createDevice({ finalizers: ["example.com/other"] });
    const through = counting(transport);
    const devices = await startDevices(through);
    const untouched = ({ metadata: { labels, annotations, generation, uid }, spec }: Raw) => ({
      labels,
      annotations,
      generation,
      uid,
      spec,
    });

    const held = value(await devices.setFinalizer(cached(devices, keyOf(device)), "add", never));
    const after = await read(device.metadata.name);
    expect(after.metadata.finalizers).toEqual(["example.com/other", FINALIZER]);
    expect(untouched(after)).toEqual(untouched(device));
    expect(value(await devices.setFinalizer(held, "add", never))).toBe(held);
    expect(through.writes()).toBe(1);

    const stale = await devices.setFinalizer(
      { ...held, resourceVersion: device.metadata.resourceVersion },
      "remove",
      never,
    );
    expect(stale).toMatchObject({ ok: false, error: { kind: "conflict" } });
    await devices.setFinalizer(held, "remove", never);
    const released = await read(device.metadata.name);
    expect(released.metadata.finalizers).toEqual(["example.com/other"]);
    expect(untouched(released)).toEqual(untouched(device));
    await must(
      "PATCH",
      devicesPath(`/${device.metadata.name}`),
      { metadata: { finalizers: null } },
      "application/merge-patch+json",
    );
  });

  test("holds up a deletion until it is removed, and then the object leaves the cache", async () => {
    const device = await createDevice();
    const devices = await startDevices();
    const key = keyOf(device);
    await devices.setFinalizer(cached(devices, key), "add", never);
    await must("DELETE", devicesPath(`/${device.metadata.name}`));
    await until("it is being deleted", () => devices.get(key)?.deleting === true);
    const last = value(await devices.setFinalizer(cached(devices, key), "remove", never));
    expect(last.finalizers).toEqual([]);
    await until("it is gone", () => devices.get(key) === undefined);
  });
});

describe("a Secret", () => {
  const secretPath = (name: string) => `/api/v1/namespaces/${namespace}/secrets/${name}`;
  const ownerOf = (device: Raw) =>
    ({ kind: "EdgeDevice", name: device.metadata.name, uid: device.metadata.uid }) as const;

  test("is created for its owner, changed with it, and left alone when it says the same", async () => {
    const device = await createDevice();
    const through = counting(transport);
    const secrets = createSecrets(through);
    const name = `${device.metadata.name}-hub`;
    expect(value(await secrets.get(namespace, name, never))).toBeNull();

    value(await secrets.apply(ownerOf(device), { namespace, name, data: { key: "päss", old: "x" } }, never));
    const stored = await must("GET", secretPath(name));
    expect(stored.type).toBe("Opaque");
    expect(stored.metadata.labels).toEqual({ "app.kubernetes.io/managed-by": "edge-fleet-operator" });
    expect(stored.metadata.ownerReferences).toEqual([
      {
        apiVersion: "edgefleet.dev/v1alpha1",
        kind: "EdgeDevice",
        name: device.metadata.name,
        uid: device.metadata.uid,
        controller: true,
        blockOwnerDeletion: false,
      },
    ]);
    expect(value(await secrets.get(namespace, name, never))).toEqual({
      namespace,
      name,
      data: { key: "päss", old: "x" },
      ownerUid: device.metadata.uid,
    });

    value(await secrets.apply(ownerOf(device), { namespace, name, data: { key: "new" } }, never));
    expect((await must("GET", secretPath(name))).data).toEqual({
      key: Buffer.from("new").toString("base64"),
    });
    expect(through.writes()).toBe(2);
    value(await secrets.apply(ownerOf(device), { namespace, name, data: { key: "new" } }, never));
    expect(through.writes()).toBe(2);
  });

  const GONE = "11111111-1111-4111-8111-111111111111";
  test.each<[string, (device: Raw) => Promise<Readonly<Record<string, unknown>> | null>, string]>([
    ["nobody", async () => null, "rejected"],
    ["another device", async () => ownerOf(await createDevice()), "rejected"],
    [
      "a device of the same name that is gone",
      async (device) => ({ ...ownerOf(device), uid: GONE }),
      "conflict",
    ],
  ])("that belongs to %s is never overwritten", async (_whose, ownerFor, kind) => {
    const device = await createDevice();
    const name = `${device.metadata.name}-hub`;
    const owner = await ownerFor(device);
    const ownerReferences =
      owner === null ? [] : [{ apiVersion: "edgefleet.dev/v1alpha1", controller: true, ...owner }];
    const theirs = { key: Buffer.from("theirs").toString("base64") };
    // The finalizer keeps a garbage collector from taking it away under the test.
    const metadata = { name, ownerReferences, finalizers: ["example.com/hold"] };
    await must("POST", `/api/v1/namespaces/${namespace}/secrets`, { metadata, data: theirs });
    const secret = { namespace, name, data: { key: "a-secret-value" } };
    const answer = await createSecrets(transport).apply(ownerOf(device), secret, never);
    expect(answer).toMatchObject({
      ok: false,
      error: { kind, message: expect.stringContaining(`${namespace}/${name}`) },
    });
    expect((await must("GET", secretPath(name))).data).toEqual(theirs);
    await must("PATCH", secretPath(name), { metadata: { finalizers: null } }, "application/merge-patch+json");
  });

  test("that is refused says so without its content", async () => {
    const device = await createDevice();
    const secret = { namespace, name: "Not_A_Name", data: { "not a key!": "a-secret-value" } };
    const answer = await createSecrets(transport).apply(ownerOf(device), secret, never);
    expect(answer).toMatchObject({ ok: false, error: { kind: "rejected" } });
    expect(JSON.stringify(answer)).not.toContain(Buffer.from("a-secret-value").toString("base64"));
  });
});

test("events are published, and can be read about the object", async () => {
  const device = await createDevice();
  const recorder = createEventRecorder(transport, { instance: "operator-0" }, deps);
  const stop = new AbortController();
  const ended = recorder.run(stop.signal);
  const about = { kind: "EdgeDevice", namespace, name: device.metadata.name, uid: device.metadata.uid };
  recorder.record(about, {
    type: "Warning",
    reason: "HubDenied",
    message: "the hub refuses: ☃".repeat(100),
  });
  recorder.record(about, { type: "Normal", reason: "Registered", message: "the identity exists" });
  stop.abort();
  await ended; // what was queued has been sent
  const selector = encodeURIComponent(`involvedObject.uid=${device.metadata.uid}`);
  const answer = await transport.call(
    { method: "GET", path: `/api/v1/namespaces/${namespace}/events?fieldSelector=${selector}` },
    never,
  );
  const { items } = value(answer) as { readonly items: readonly Readonly<Record<string, unknown>>[] };
  expect(items.map(({ type, reason, reportingComponent }) => ({ type, reason, reportingComponent }))).toEqual(
    expect.arrayContaining([
      { type: "Warning", reason: "HubDenied", reportingComponent: "edgefleet.dev/operator" },
      { type: "Normal", reason: "Registered", reportingComponent: "edgefleet.dev/operator" },
    ]),
  );
  expect(items.length).toBe(2);
});

test("of two candidates one leads; the other follows when it stops, and again when it falls silent", async () => {
  const timing = { duration: seconds(2), renewBy: millis(1200), retry: millis(200) };
  const leading = new Set<string>();
  let both = false;

  /** A candidate that can be cut off from the API server. */
  function candidate(me: string) {
    let silent = false;
    const muted: Transport = {
      ...transport,
      call: (call, signal) =>
        silent
          ? Promise.resolve({ ok: false, error: { kind: "unavailable", message: "cut off" } })
          : transport.call(call, signal),
    };
    const store = createLeaseStore(muted, { namespace, name: "edge-fleet-operator" });
    const stop = new AbortController();
    const ended = whileLeading({ store, me, timing }, deps, stop.signal, async (signal) => {
      leading.add(me);
      both ||= leading.size > 1;
      signal.addEventListener("abort", () => leading.delete(me));
      await deps.clock.sleep(seconds(600), signal);
    });
    stops.push(async () => {
      stop.abort();
      await ended;
    });
    return { stop, ended, silence: () => (silent = true) };
  }

  const first = candidate("first");
  await until("the first leads", () => leading.has("first"));
  const second = candidate("second");
  await deps.clock.sleep(millis(600), never);
  expect([...leading]).toEqual(["first"]);
  first.stop.abort();
  await first.ended;
  await until("the second leads", () => leading.has("second"));
  candidate("third");
  second.silence();
  await until("the third leads", () => leading.has("third"));
  expect(both).toBe(false);
  const lease = await must(
    "GET",
    `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases/edge-fleet-operator`,
  );
  expect(lease.spec).toMatchObject({ holderIdentity: "third", leaseTransitions: 2, leaseDurationSeconds: 2 });
});

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Fault } from "../../src/base/fault.ts";
import type { Result } from "../../src/base/result.ts";
import type { DeviceHub, Json, NewConfiguration, Page, TwinRef } from "../../src/hub/hub.ts";

/** A hub under test, and what its devices can do. It is empty at the start, has no budgets and room for `capacity` configurations. */
export type HubSubject = {
  readonly hub: DeviceHub;
  readonly capacity: number;
  /** Rows that the hub puts on one page of a query. */
  readonly pageSize: number;
  /** Writes `properties.reported` of a twin, as the device does: a merge patch. */
  readonly report: (ref: TwinRef, reported: Json) => Promise<void>;
  /** Makes a module of an edge device known to the hub, as a deployment does. */
  readonly addModule: (device: string, module: string) => Promise<void>;
  readonly stop: () => Promise<void>;
};

const signal = new AbortController().signal;
const DIGEST = `sha256:${"a".repeat(64)}`;

/** What every implementation of the port must do. Each test uses devices and configurations of its own. */
export function hubContract(name: string, makeHub: () => Promise<HubSubject>): void {
  describe(`a device hub: ${name}`, () => {
    let subject: HubSubject;
    let hub: DeviceHub;
    beforeAll(async () => {
      subject = await makeHub();
      hub = subject.hub;
    });
    afterAll(() => subject.stop());

    async function device(id: string, iotEdge = false) {
      return got(await hub.createIdentity({ device: id, iotEdge, enabled: true }, signal));
    }

    describe("identities", () => {
      test("are created, read, switched off and on, and removed", async () => {
        const created = await device("identity-1");
        expect(created).toMatchObject({
          device: "identity-1",
          enabled: true,
          iotEdge: false,
          authentication: "sas",
        });
        expect(got(await hub.getIdentity("identity-1", signal))).toEqual(created);
        const off = got(await hub.setEnabled("identity-1", false, signal));
        expect(off).toMatchObject({ enabled: false, generationId: created.generationId });
        expect(off.etag).not.toBe(created.etag);
        expect(got(await hub.setEnabled("identity-1", true, signal)).enabled).toBe(true);
        got(await hub.removeIdentity("identity-1", signal));
        expect(got(await hub.getIdentity("identity-1", signal))).toBeNull();
      });
      test("are created once", async () => {
        await device("identity-2");
        const again = await hub.createIdentity(
          { device: "identity-2", iotEdge: false, enabled: true },
          signal,
        );
        expect(faultOf(again).kind).toBe("conflict");
      });
      test("have another generation when they are created again", async () => {
        const first = await device("identity-3");
        got(await hub.removeIdentity("identity-3", signal));
        expect((await device("identity-3")).generationId).not.toBe(first.generationId);
      });
      test("know whether they run IoT Edge, and may be disabled from the start", async () => {
        const body = { device: "identity-4", iotEdge: true, enabled: false };
        expect(got(await hub.createIdentity(body, signal))).toMatchObject(body);
        expect(got(await hub.getIdentity("identity-4", signal))).toMatchObject(body);
      });
      test("never show their keys", async () => {
        await device("identity-5");
        const identity = got(await hub.getIdentity("identity-5", signal));
        const keys = got(await hub.getKeys("identity-5", signal));
        expect(keys?.primaryKey).toMatch(/^[A-Za-z0-9+/]{20,}=*$/);
        expect(keys?.secondaryKey).not.toBe(keys?.primaryKey);
        expect(JSON.stringify(identity)).not.toContain(keys?.primaryKey);
        expect(JSON.stringify(identity)).not.toContain(keys?.secondaryKey);
      });
      test("keep their keys when they are switched off and on", async () => {
        await device("identity-6");
        const keys = got(await hub.getKeys("identity-6", signal));
        expect(keys).not.toBeNull();
        got(await hub.setEnabled("identity-6", false, signal));
        got(await hub.setEnabled("identity-6", true, signal));
        expect(got(await hub.getKeys("identity-6", signal))).toEqual(keys);
      });
      test("that are switched to what they are stay as they are", async () => {
        const created = await device("identity-7");
        expect(got(await hub.setEnabled("identity-7", true, signal))).toEqual(created);
      });
      test("that are not there: absent to read, no keys, done to remove, a conflict to switch", async () => {
        expect(got(await hub.getIdentity("nobody", signal))).toBeNull();
        expect(got(await hub.getKeys("nobody", signal))).toBeNull();
        expect(await hub.removeIdentity("nobody", signal)).toEqual({ ok: true, value: undefined });
        expect(faultOf(await hub.setEnabled("nobody", false, signal)).kind).toBe("conflict");
      });
    });

    describe("twins", () => {
      test("start empty", async () => {
        await device("twin-1");
        const twin = got(await hub.getTwin({ device: "twin-1", module: null }, "normal", signal));
        expect(twin).toMatchObject({ device: "twin-1", module: null, tags: {}, desired: {}, reported: {} });
        expect(twin?.etag).toBeTruthy();
      });
      test("take merge patches: keys are set, changed, deleted by null, the others stay", async () => {
        await device("twin-2");
        const ref = { device: "twin-2", module: null };
        const first = got(await hub.getTwin(ref, "normal", signal));
        const one = got(
          await hub.patchTwin(
            { ...ref, etag: first!.etag },
            { tags: { a: 1, b: { c: "x", d: "y" } } },
            "normal",
            signal,
          ),
        );
        expect(one.tags).toEqual({ a: 1, b: { c: "x", d: "y" } });
        const patch = { tags: { b: { c: null } }, desired: { model: { release: "r" } } };
        const two = got(await hub.patchTwin({ ...ref, etag: one.etag }, patch, "rollback", signal));
        expect(two.tags).toEqual({ a: 1, b: { d: "y" } });
        expect(two.desired).toEqual({ model: { release: "r" } });
        expect(two.version).toBeGreaterThan(one.version);
        expect(two.etag).not.toBe(one.etag);
        expect(got(await hub.getTwin(ref, "normal", signal))).toEqual(two);
        const three = got(
          await hub.patchTwin({ ...ref, etag: two.etag }, { desired: { model: null } }, "normal", signal),
        );
        expect(three.desired).toEqual({});
      });
      test("refuse a patch under an old etag", async () => {
        await device("twin-3");
        const ref = { device: "twin-3", module: null };
        const had = got(await hub.getTwin(ref, "normal", signal));
        got(await hub.patchTwin({ ...ref, etag: had!.etag }, { tags: { a: 1 } }, "normal", signal));
        const late = await hub.patchTwin({ ...ref, etag: had!.etag }, { tags: { a: 2 } }, "normal", signal);
        expect(faultOf(late).kind).toBe("conflict");
        expect(got(await hub.getTwin(ref, "normal", signal))?.tags).toEqual({ a: 1 });
      });
      test("show what devices report; reports move neither etag nor version", async () => {
        await device("twin-4");
        const ref = { device: "twin-4", module: null };
        const before = got(await hub.getTwin(ref, "normal", signal));
        await subject.report(ref, {
          inference: { contract: 1, heartbeatAt: "2026-01-01T00:00:00Z" },
          other: "ü",
        });
        const after = got(await hub.getTwin(ref, "normal", signal));
        expect(after?.reported).toEqual({
          inference: { contract: 1, heartbeatAt: "2026-01-01T00:00:00Z" },
          other: "ü",
        });
        expect({ ...after, reported: {} }).toEqual(before);
      });
      test("of modules are twins of their own", async () => {
        await device("twin-5", true);
        await subject.addModule("twin-5", "inference");
        const ref = { device: "twin-5", module: "inference" };
        const had = got(await hub.getTwin(ref, "normal", signal));
        expect(had).toMatchObject({ ...ref, desired: {}, reported: {} });
        const patched = got(
          await hub.patchTwin(
            { ...ref, etag: had!.etag },
            { desired: { model: { release: "r" } } },
            "rollback",
            signal,
          ),
        );
        expect(patched).toMatchObject({ ...ref, desired: { model: { release: "r" } } });
        expect(got(await hub.getTwin({ device: "twin-5", module: null }, "normal", signal))?.desired).toEqual(
          {},
        );
      });
      test("that are not there: absent to read, a conflict to patch", async () => {
        await device("twin-6");
        for (const ref of [
          { device: "nobody", module: null },
          { device: "twin-6", module: "none" },
        ]) {
          expect(got(await hub.getTwin(ref, "normal", signal))).toBeNull();
          const patched = await hub.patchTwin(
            { ...ref, etag: "AAAAAAAAAAE=" },
            { tags: { a: 1 } },
            "normal",
            signal,
          );
          expect(faultOf(patched).kind).toBe("conflict");
        }
      });
    });

    describe("configurations", () => {
      test("are created, listed, changed under their etag, and removed", async () => {
        const wanted = deviceConfiguration("configuration-1", { priority: 101 });
        const created = got(await hub.createConfiguration(wanted, "normal", signal));
        expect(created).toMatchObject(wanted);
        expect(await find("configuration-1")).toEqual(created);
        const change = {
          targetCondition: "tags.edgefleet.bucket < 250000",
          priority: 102,
          labels: { owner: "b" },
        };
        const updated = got(await hub.updateConfiguration(created, change, "rollback", signal));
        expect(updated).toMatchObject({ ...wanted, ...change });
        expect(updated.etag).not.toBe(created.etag);
        expect(await find("configuration-1")).toEqual(updated);
        got(await hub.removeConfiguration(updated, "normal", signal));
        expect(await find("configuration-1")).toBeUndefined();
      });
      test("of edge devices hold the content of their modules", async () => {
        const wanted = edgeConfiguration("configuration-2", 103);
        const created = got(await hub.createConfiguration(wanted, "normal", signal));
        expect(created).toMatchObject(wanted);
        expect((await find("configuration-2"))?.content).toEqual(wanted.content);
        got(await hub.removeConfiguration(created, "rollback", signal));
      });
      test("are created once", async () => {
        const wanted = deviceConfiguration("configuration-3", { priority: 104 });
        const created = got(await hub.createConfiguration(wanted, "normal", signal));
        expect(faultOf(await hub.createConfiguration(wanted, "normal", signal)).kind).toBe("conflict");
        got(await hub.removeConfiguration(created, "normal", signal));
      });
      test("refuse changes and removal under an old etag", async () => {
        const wanted = deviceConfiguration("configuration-4", { priority: 105 });
        const first = got(await hub.createConfiguration(wanted, "normal", signal));
        const second = got(await hub.updateConfiguration(first, { priority: 106 }, "normal", signal));
        expect(faultOf(await hub.updateConfiguration(first, { priority: 107 }, "normal", signal)).kind).toBe(
          "conflict",
        );
        expect(faultOf(await hub.removeConfiguration(first, "normal", signal)).kind).toBe("conflict");
        expect((await find("configuration-4"))?.priority).toBe(106);
        got(await hub.removeConfiguration(second, "normal", signal));
      });
      test("that are not there: done to remove, a conflict to change", async () => {
        const gone = { ...deviceConfiguration("configuration-5", { priority: 108 }), etag: "MQ==" };
        expect(await hub.removeConfiguration(gone, "normal", signal)).toEqual({ ok: true, value: undefined });
        expect(faultOf(await hub.updateConfiguration(gone, { priority: 1 }, "normal", signal)).kind).toBe(
          "conflict",
        );
      });
      test("with a condition that the hub does not understand are rejected in its words", async () => {
        const targetCondition = "tags.site IN ['a', 'b']";
        const refused = await hub.createConfiguration(
          deviceConfiguration("configuration-6", { targetCondition }),
          "normal",
          signal,
        );
        expect(faultOf(refused).kind).toBe("rejected");
        expect(faultOf(refused).message.length).toBeGreaterThan(20);
        expect(await find("configuration-6")).toBeUndefined();
      });
      test("can have their conditions tried first", async () => {
        const good =
          "tags.edgefleet.deployments.inference = 'plant-a.resnet50' AND tags.edgefleet.bucket < 50000";
        expect(got(await hub.testCondition(good, signal))).toBeNull();
        expect(got(await hub.testCondition('tags.site = "a"', signal))).toMatch(/\w/);
        expect(got(await hub.testCondition("properties.desired.x = 1", signal))).toMatch(/\w/);
      });
      test("are so many and no more: a full hub says that it is full", async () => {
        const room = subject.capacity - got(await hub.listConfigurations("normal", signal)).length;
        const made = [];
        for (let index = 0; index < room; index += 1) {
          const wanted = deviceConfiguration(`full-${index}`, {
            priority: 200 + index,
            targetCondition: "deviceId = 'x'",
          });
          made.push(got(await hub.createConfiguration(wanted, "normal", signal)));
        }
        const refused = await hub.createConfiguration(
          deviceConfiguration("full-last", { priority: 199 }),
          "normal",
          signal,
        );
        expect(faultOf(refused)).toMatchObject({
          kind: "rejected",
          message: expect.stringContaining("the hub is full"),
        });
        for (const one of made) got(await hub.removeConfiguration(one, "normal", signal));
      });

      async function find(id: string) {
        return got(await hub.listConfigurations("normal", signal)).find((one) => one.id === id);
      }
    });

    describe("queries", () => {
      const report = {
        contract: 1,
        active: {
          release: "plant-a.r1",
          digest: DIGEST,
          variant: "fp32",
          executionProvider: "cuda",
          since: "2026-01-01T00:00:00Z",
        },
        update: { release: "plant-a.r1", digest: DIGEST, state: "Running", at: "2026-01-01T00:00:00Z" },
        restarts: 2,
        heartbeatAt: "2026-01-01T00:00:00Z",
      };
      const model = {
        deployment: "plant-a.resnet50",
        release: "plant-a.r1",
        digest: DIGEST,
        url: "https://store/x?sig=secret",
      };

      test("find the devices that carry our tag, page by page, with tags, pointer and report", async () => {
        const count = subject.pageSize * 2 + 1;
        for (let index = 0; index < count; index += 1) {
          await device(`query-${index}`);
          await tag(`query-${index}`, { edgefleet: { managed: true, bucket: index }, line: "7" });
        }
        await device("query-not-ours");
        const ref = { device: "query-1", module: null };
        const had = got(await hub.getTwin(ref, "normal", signal));
        const patched = got(
          await hub.patchTwin({ ...ref, etag: had!.etag }, { desired: { model } }, "normal", signal),
        );
        await subject.report(ref, { inference: report });
        got(await hub.setEnabled("query-2", false, signal));

        const { rows, pages } = await allOf((from) => hub.queryDevices(from, signal));
        expect(pages).toBe(3);
        const ours = rows.filter((row) => row.device.startsWith("query-"));
        expect(ours.map((row) => row.device).sort()).toEqual(
          Array.from({ length: count }, (_, index) => `query-${index}`).sort(),
        );
        expect(ours.find((row) => row.device === "query-1")).toEqual({
          device: "query-1",
          etag: patched.etag,
          version: patched.version,
          enabled: true,
          iotEdge: false,
          // The identity's own: keys and status change it, tags and reports do not.
          identityEtag: got(await hub.getIdentity("query-1", signal))?.etag,
          tags: { edgefleet: { managed: true, bucket: 1 }, line: "7" },
          slot: {
            etag: patched.etag,
            pointer: { deployment: model.deployment, release: model.release, digest: model.digest },
            report,
          },
        });
        expect(ours.find((row) => row.device === "query-2")).toMatchObject({
          enabled: false,
          slot: { pointer: null, report: null },
        });
        expect(JSON.stringify(rows)).not.toContain("sig=");
        for (const row of ours) got(await hub.removeIdentity(row.device, signal));
      });

      test("find the modules that have a pointer or a report", async () => {
        for (const id of ["modules-1", "modules-2", "modules-3"]) {
          await device(id, true);
          await tag(id, { edgefleet: { managed: true } });
          await subject.addModule(id, "inference");
        }
        const ref = { device: "modules-1", module: "inference" };
        const had = got(await hub.getTwin(ref, "normal", signal));
        const patched = got(
          await hub.patchTwin({ ...ref, etag: had!.etag }, { desired: { model } }, "normal", signal),
        );
        await subject.report({ device: "modules-2", module: "inference" }, { inference: report });

        const { rows } = await allOf((from) => hub.queryModules(from, signal));
        const ours = rows.filter((row) => row.device.startsWith("modules-"));
        expect(ours.map((row) => `${row.device}/${row.module}`).sort()).toEqual([
          "modules-1/inference",
          "modules-2/inference",
        ]);
        expect(ours.find((row) => row.device === "modules-1")?.slot).toEqual({
          etag: patched.etag,
          pointer: { deployment: model.deployment, release: model.release, digest: model.digest },
          report: null,
        });
        expect(ours.find((row) => row.device === "modules-2")?.slot).toMatchObject({ pointer: null, report });
        const devices = await allOf((from) => hub.queryDevices(from, signal));
        expect(devices.rows.find((row) => row.device === "modules-3")).toMatchObject({ iotEdge: true });
      });

      async function tag(id: string, tags: Json): Promise<void> {
        const had = got(await hub.getTwin({ device: id, module: null }, "normal", signal));
        got(await hub.patchTwin({ device: id, module: null, etag: had!.etag }, { tags }, "normal", signal));
      }
    });

    test("a call whose signal has aborted answers with a fault", async () => {
      const fault = faultOf(
        await hub.getTwin({ device: "nobody", module: null }, "normal", AbortSignal.abort()),
      );
      expect(fault.kind).toBe("unavailable");
    });
  });
}

function deviceConfiguration(id: string, change: Partial<NewConfiguration> = {}): NewConfiguration {
  return {
    id,
    kind: "device",
    labels: { owner: "a", name: "resnet50" },
    priority: 100,
    targetCondition: "tags.edgefleet.bucket < 50000",
    content: { "properties.desired.model": { release: "plant-a.r1", digest: DIGEST } },
    ...change,
  };
}

function edgeConfiguration(id: string, priority: number): NewConfiguration {
  const content = {
    $edgeAgent: {},
    inference: { "properties.desired.model": { release: "plant-a.r1", digest: DIGEST } },
  };
  return { ...deviceConfiguration(id, { priority }), kind: "edge", content };
}

async function allOf<T>(page: (from: string | null) => Promise<Result<Page<T>, Fault>>) {
  const rows: T[] = [];
  let pages = 0;
  for (let from: string | null = null; pages === 0 || from !== null; pages += 1) {
    const read: Page<T> = got(await page(from));
    rows.push(...read.rows);
    from = read.next;
  }
  return { rows, pages };
}

function got<T>(result: Result<T, Fault>): T {
  if (!result.ok) throw new Error(`${result.error.kind}: ${result.error.message}`);
  return result.value;
}

function faultOf(result: Result<unknown, Fault>): Fault {
  if (result.ok) throw new Error(`expected a fault, got ${JSON.stringify(result.value)}`);
  return result.error;
}

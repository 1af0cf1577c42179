import { expect } from "vitest";
import { twinOf } from "./device-scenarios.ts";
import type { Configuration, Json, Keys, Who } from "./ports.ts";
import { newKeys, type Scenario, type Stage } from "./scenario.ts";

// What somebody does with the service side of an IoT Hub, whatever SDK they have.

export const SERVICE_SCENARIOS: readonly Scenario<Stage>[] = [
  {
    title: "a device is registered once, with the keys that are brought, and is enabled and not connected",
    play: async ({ service, name }) => {
      const who = deviceOf(name("cam"));
      const keys = newKeys();
      const created = await service.create(who, keys);
      expect(created).toMatchObject({
        deviceId: who.deviceId,
        status: "enabled",
        connectionState: "Disconnected",
      });
      expect(keysOf(await service.get(who))).toEqual(keys);
      await expect(service.create(who, keys)).rejects.toMatchObject({
        status: 409,
        code: "DeviceAlreadyExists",
      });
    },
  },
  {
    title: "the hub makes keys for a device that brings none",
    play: async ({ service, name }) => {
      const keys = keysOf(await service.create(deviceOf(name("cam")), null));
      for (const key of [keys.primaryKey, keys.secondaryKey]) expect(key).toMatch(/^[A-Za-z0-9+/]{43}=$/);
      expect(keys.primaryKey).not.toBe(keys.secondaryKey);
    },
  },
  {
    title: "what is not there is 404, by its name, and so is what was deleted",
    play: async ({ service, name }) => {
      const who = deviceOf(name("cam"));
      await expect(service.get(who)).rejects.toMatchObject({ status: 404, code: "DeviceNotFound" });
      await service.create(who, null);
      await expect(service.get({ ...who, moduleId: "m" })).rejects.toMatchObject({ code: "ModuleNotFound" });
      await expect(service.twin({ ...who, moduleId: "m" })).rejects.toMatchObject({ code: "ModuleNotFound" });
      await service.delete(who);
      await expect(service.twin(who)).rejects.toMatchObject({ status: 404, code: "DeviceNotFound" });
      await expect(service.delete(who)).rejects.toMatchObject({ status: 404 });
    },
  },
  {
    title: "an id that no device may have is refused",
    play: async ({ service, name }) => {
      await expect(service.create(deviceOf(name("a b")), null)).rejects.toMatchObject({ status: 400 });
      await expect(service.create(deviceOf("x".repeat(129)), null)).rejects.toMatchObject({ status: 400 });
    },
  },
  {
    title: "disabling a device keeps its keys",
    play: async ({ service, name }) => {
      const who = deviceOf(name("cam"));
      const created = await service.create(who, null);
      await service.setStatus(who.deviceId, "disabled");
      const after = await service.get(who);
      expect(after["status"]).toBe("disabled");
      expect(after["etag"]).not.toBe(created["etag"]);
      expect(keysOf(after)).toEqual(keysOf(created));
    },
  },
  {
    title: "modules have keys and twins of their own, are listed, and go with their device",
    play: async ({ service, name }) => {
      const who = deviceOf(name("cam"));
      await service.create(who, null);
      for (const moduleId of ["b", "a"]) await service.create({ ...who, moduleId }, newKeys());
      const listed = await service.modules(who.deviceId);
      expect(listed.map(({ moduleId }) => moduleId).sort()).toEqual(["a", "b"]);
      await service.patchTwin({ ...who, moduleId: "a" }, { properties: { desired: { of: "a" } } }, "*");
      expect(desiredOf(await service.twin({ ...who, moduleId: "b" }))).toEqual({ $version: 1 });
      await service.delete({ ...who, moduleId: "b" });
      expect(await service.modules(who.deviceId)).toHaveLength(1);
      await service.delete(who);
      await expect(service.get({ ...who, moduleId: "a" })).rejects.toMatchObject({ status: 404 });
    },
  },
  {
    title: "an edge device comes with its agent and its hub, and content can be applied to it",
    play: async ({ service, name }) => {
      const who = deviceOf(name("edge"));
      await service.create(who, null, { iotEdge: true });
      const names = async () => (await service.modules(who.deviceId)).map(({ moduleId }) => moduleId).sort();
      expect(await names()).toEqual(["$edgeAgent", "$edgeHub"]);
      await service.applyContent(who.deviceId, edgeContent());
      expect(await names()).toEqual(["$edgeAgent", "$edgeHub", "inference"]);
      const agent = await service.twin({ ...who, moduleId: "$edgeAgent" });
      expect(desiredOf(agent)).toMatchObject({ modules: { inference: { status: "running" } } });
    },
  },
  {
    title: "a twin is merged, null takes away, and versions count what was written",
    play: async ({ service, name }) => {
      const who = deviceOf(name("cam"));
      await service.create(who, null);
      const first = {
        tags: { site: "a", rack: { row: 1, at: 2 } },
        properties: { desired: { rate: 1, old: true } },
      };
      await service.patchTwin(who, first, "*");
      await service.patchTwin(
        who,
        { tags: { rack: { at: null } }, properties: { desired: { old: null } } },
        "*",
      );
      const twin = await service.twin(who);
      expect(twin["tags"]).toEqual({ site: "a", rack: { row: 1 } });
      expect(desiredOf(twin)).toEqual({ rate: 1, $version: 3 });
    },
  },
  {
    title: "of two who change one twin at a time the second is told, and loses nothing of the first",
    play: async ({ service, name }) => {
      const who = deviceOf(name("cam"));
      await service.create(who, null);
      const etag = String((await service.twin(who))["etag"]);
      await service.patchTwin(who, { tags: { by: "first" } }, etag);
      const late = service.patchTwin(who, { tags: { by: "second" } }, etag);
      await expect(late).rejects.toMatchObject({ status: 412, code: "PreconditionFailed" });
      expect((await service.twin(who))["tags"]).toEqual({ by: "first" });
    },
  },
  {
    title: "tags of 8 KB and desired properties of 32 KB are held, and not a byte more",
    play: async ({ service, name }) => {
      const who = deviceOf(name("cam"));
      await service.create(who, null);
      const full = { tags: twinOf(8 * 1024), properties: { desired: twinOf(32 * 1024) } };
      await service.patchTwin(who, full, "*");
      for (const more of [{ tags: { x: "y" } }, { properties: { desired: { x: "y" } } }])
        await expect(service.patchTwin(who, more, "*")).rejects.toMatchObject({ status: 400 });
      expect((await service.twin(who))["tags"]).toEqual(full.tags);
    },
  },
  {
    title: "a hundred devices are made and deleted at once, and those that fail are named",
    play: async ({ service, name }) => {
      const ids = Array.from({ length: 100 }, () => name("bulk"));
      expect(await service.createMany(ids)).toMatchObject({ isSuccessful: true });
      expect(await service.get(deviceOf(ids[99] ?? ""))).toMatchObject({ status: "enabled" });
      const fresh = name("bulk");
      const again = await service.createMany([fresh, ...ids.slice(0, 2)]);
      expect(again.isSuccessful).toBe(false);
      expect(again.errors.map(({ deviceId }) => deviceId)).toEqual(ids.slice(0, 2));
      expect(await service.get(deviceOf(fresh))).toMatchObject({ deviceId: fresh });
      expect(await service.deleteMany(ids)).toMatchObject({ isSuccessful: true });
      await expect(service.get(deviceOf(ids[0] ?? ""))).rejects.toMatchObject({ status: 404 });
    },
  },
  {
    title: "a query finds what it asks for, page by page, each twin once",
    play: async ({ service, name }) => {
      const ids = Array.from({ length: 25 }, () => name("paged"));
      const fleet = name("fleet");
      await service.createMany(ids);
      for (const [at, deviceId] of ids.entries())
        await service.patchTwin(deviceOf(deviceId), { tags: { fleet, at } }, "*");
      const pages = await service.query(
        `SELECT * FROM devices WHERE tags.fleet = '${fleet}' AND tags.at >= 2`,
        10,
      );
      expect(pages.map(({ length }) => length)).toEqual([10, 10, 3]);
      expect(
        pages
          .flat()
          .map(({ deviceId }) => deviceId)
          .sort(),
      ).toEqual(ids.slice(2).sort());
      expect(pages[0]?.[0]).toMatchObject({ tags: { fleet }, properties: { desired: { $version: 1 } } });
    },
  },
  {
    title: "a query that is none is refused with what is wrong",
    play: async ({ service }) => {
      await expect(service.query("SELECT FROM WHERE", 10)).rejects.toMatchObject({ status: 400 });
    },
  },
  {
    title: "the statistics count devices, and those that are disabled",
    play: async ({ service, name }) => {
      const before = await service.statistics();
      const ids = [name("cam"), name("cam")];
      await service.createMany(ids);
      await service.setStatus(ids[0] ?? "", "disabled");
      const after = await service.statistics();
      // Others use the hub at the same time: no fewer than ours.
      expect(Number(after["disabledDeviceCount"])).toBeGreaterThanOrEqual(1);
      expect(Number(after["totalDeviceCount"])).toBe(
        Number(after["enabledDeviceCount"]) + Number(after["disabledDeviceCount"]),
      );
      expect(Object.keys(after).sort()).toEqual(Object.keys(before).sort());
    },
  },
  {
    title: "a configuration reaches the devices that its condition names, and counts them",
    play: async ({ service, name }) => {
      const who = deviceOf(name("cam"));
      const configuration = configurationOf(name("config"));
      await service.create(who, null);
      await service.patchTwin(who, { tags: { wants: configuration.id } }, "*");
      const created = await service.createConfiguration(configuration);
      expect(created).toMatchObject({ id: configuration.id, priority: 5, labels: { owner: "tests" } });
      expect(desiredOf(await service.twin(who))).toMatchObject({ threshold: 7 });
      const read = await service.configuration(configuration.id);
      expect(read.systemMetrics).toMatchObject({ results: { targetedCount: 1, appliedCount: 1 } });
      expect(read.metrics).toMatchObject({ results: { hot: 1 } });
      expect((await service.configurations()).map(({ id }) => id)).toContain(configuration.id);
      await service.deleteConfiguration(configuration.id);
      const gone = service.configuration(configuration.id);
      await expect(gone).rejects.toMatchObject({ status: 404, code: "ConfigurationNotFound" });
    },
  },
  {
    title: "a configuration is created once, and a condition that is none is refused",
    play: async ({ service, name }) => {
      const configuration = configurationOf(name("config"));
      await service.createConfiguration(configuration);
      const again = service.createConfiguration(configuration);
      await expect(again).rejects.toMatchObject({ status: 409, code: "ConfigurationAlreadyExists" });
      const wrong = { ...configurationOf(name("config")), targetCondition: "tags.x IN ['a']" };
      await expect(service.createConfiguration(wrong)).rejects.toMatchObject({ status: 400 });
      await service.deleteConfiguration(configuration.id);
    },
  },
];

export function configurationOf(id: string): Configuration {
  return {
    id,
    content: { deviceContent: { "properties.desired.threshold": 7 } },
    targetCondition: `tags.wants = '${id}'`,
    priority: 5,
    labels: { owner: "tests" },
    metrics: {
      queries: {
        hot: `SELECT deviceId FROM devices WHERE properties.desired.threshold = 7 AND tags.wants = '${id}'`,
      },
    },
  };
}

function deviceOf(deviceId: string): Who {
  return { deviceId, moduleId: null };
}

function keysOf(identity: Json): Keys {
  const { symmetricKey } = identity["authentication"] as { readonly symmetricKey: Keys };
  const { primaryKey, secondaryKey } = symmetricKey;
  return { primaryKey, secondaryKey };
}

/** Desired properties of a twin without their metadata. */
function desiredOf(twin: Json): Json {
  const { desired } = twin["properties"] as { readonly desired: Json };
  const { $metadata: _metadata, ...rest } = desired;
  return rest;
}

function edgeContent(): Json {
  const image = (name: string) => ({ image: `registry.example/${name}:1`, createOptions: "{}" });
  const module = (name: string) => ({ type: "docker", settings: image(name) });
  return {
    $edgeAgent: {
      "properties.desired": {
        schemaVersion: "1.1",
        runtime: { type: "docker", settings: {} },
        systemModules: {
          edgeAgent: module("agent"),
          edgeHub: { ...module("hub"), status: "running", restartPolicy: "always" },
        },
        modules: {
          inference: { ...module("inference"), status: "running", restartPolicy: "always", version: "1" },
        },
      },
    },
    $edgeHub: {
      "properties.desired": {
        schemaVersion: "1.1",
        routes: {},
        storeAndForwardConfiguration: { timeToLiveSecs: 10 },
      },
    },
  };
}

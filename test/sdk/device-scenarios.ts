import { expect } from "vitest";
import { deviceCertificate, newAuthority } from "../../simulator/testing/device-certificates.ts";
import type { Device, Json, Refused, Unauthorized } from "./ports.ts";
import { type DeviceSetup, type DeviceStage, newKeys, type Scenario } from "./scenario.ts";
import { eventually } from "./test-hub.ts";

// What somebody does with a device on an IoT Hub, whatever SDK the device has and whatever the service uses.

const comesBack = { comesBack: true };
const hasKey = ({ credential }: DeviceSetup) => credential === "SAS key";
const hasToken = ({ credential }: DeviceSetup) => credential === "SAS token";

export const DEVICE_SCENARIOS: readonly Scenario<DeviceStage>[] = [
  {
    title: "it connects and reads what the service has written into its twin",
    play: async ({ service, register }) => {
      const { who, client } = await register();
      const desired = { rate: 3, model: { release: "r1", tags: ["a", "b"] }, on: true };
      await service.patchTwin(who, { properties: { desired } }, "*");
      const device = await client();
      await device.open();
      expect(await device.twin()).toEqual({
        desired: { ...desired, $version: 2 },
        reported: { $version: 1 },
      });
    },
  },
  {
    title: "what it reports stands in its twin, merged, and null takes away",
    play: async ({ service, connected }) => {
      const { who, device } = await connected();
      await device.report({ state: "starting", disk: { free: 10, used: 5 } });
      await device.report({ state: "ready", disk: { used: null }, text: "ü & 日本" });
      const wanted = { state: "ready", disk: { free: 10 }, text: "ü & 日本" };
      expect(reportedOf(await service.twin(who))).toEqual({ ...wanted, $version: 3 });
      expect((await device.twin()).reported).toMatchObject({ $version: 3 });
    },
  },
  {
    title: "it hears of every change of its desired properties, in order, each as it was written",
    play: async ({ service, setup, connected }) => {
      const { who, device } = await connected();
      await device.listenToDesired();
      for (let step = 1; step <= 8; step++)
        await service.patchTwin(
          who,
          { properties: { desired: { step, gone: step % 2 ? { step } : null } } },
          "*",
        );
      await eventually(() => device.heard.desired.length === 8);
      const heard = [...device.heard.desired];
      // A client whose SDK calls back from several threads goes by the version.
      if (!setup.inOrder) heard.sort((a, b) => Number(a["$version"]) - Number(b["$version"]));
      expect(heard).toEqual(
        Array.from({ length: 8 }, (_, at) => ({
          step: at + 1,
          gone: at % 2 === 0 ? { step: at + 1 } : null,
          $version: at + 2,
        })),
      );
    },
  },
  {
    title: "a change of tags alone is nothing that it hears of",
    play: async ({ service, connected }) => {
      const { who, device } = await connected();
      await device.listenToDesired();
      await service.patchTwin(who, { tags: { site: "a" } }, "*");
      await service.patchTwin(who, { properties: { desired: { after: true } } }, "*");
      await eventually(() => device.heard.desired.length > 0);
      expect(device.heard.desired).toEqual([{ after: true, $version: 2 }]);
    },
  },
  {
    title: "a direct method reaches it, and its answer comes back, whatever JSON it is",
    play: async ({ service, connected }) => {
      const { who, device } = await connected();
      await device.answer("echo", (payload) => ({ status: 201, payload: { got: payload } }));
      for (const payload of [{ deep: [1, { two: "ü" }] }, "text", 7, [null, false]])
        expect(await service.invoke(who, { method: "echo", payload })).toEqual({
          status: 201,
          payload: { got: payload },
        });
    },
  },
  {
    title: "what a device says is wrong is an answer, not an error of the hub",
    play: async ({ service, connected }) => {
      const { who, device } = await connected();
      await device.answer("fail", () => ({ status: 500, payload: { why: "no disk" } }));
      const answer = { status: 500, payload: { why: "no disk" } };
      expect(await service.invoke(who, { method: "fail", payload: {} })).toEqual(answer);
    },
  },
  {
    title: "a method that it does not answer in time is 504, and the next one is answered",
    play: async ({ service, connected }) => {
      const { who, device } = await connected();
      await device.answer("ask", (payload) => (payload === "late" ? null : { status: 200, payload }));
      const late = service.invoke(who, { method: "ask", payload: "late", responseTimeoutInSeconds: 5 });
      expect(await refusalOf(late)).toMatchObject({ status: 504 });
      expect(await service.invoke(who, { method: "ask", payload: "next" })).toMatchObject({
        payload: "next",
      });
    },
  },
  {
    title: "a method finds it offline at once, or waits until it is there",
    play: async ({ service, register }) => {
      const { who, client } = await register();
      const offline = service.invoke(who, { method: "ping", payload: {} });
      expect(await refusalOf(offline)).toMatchObject({ status: 404, code: "DeviceNotOnline" });
      const device = await client();
      const online = async () => {
        await device.open();
        await device.answer("ping", () => ({ status: 200, payload: "pong" }));
      };
      const waiting = service.invoke(who, { method: "ping", payload: {}, connectTimeoutInSeconds: 30 });
      const [answer] = await Promise.all([waiting, online()]);
      expect(answer).toEqual({ status: 200, payload: "pong" });
    },
  },
  {
    title: "its telemetry is in the event feed, with properties, and with who sent it",
    play: async ({ hub, connected }) => {
      const { who, device } = await connected();
      const properties = { level: "warn & more", ünit: "°C", empty: "" };
      const system = {
        messageId: "m-1",
        correlationId: "c-1",
        contentType: "application/json",
        contentEncoding: "utf-8",
      };
      await device.send({ body: JSON.stringify({ temperature: 21.5 }), ...system, properties });
      await device.send({ body: "second" });
      const events = await hub.telemetryOf(who.deviceId);
      expect(events).toHaveLength(2);
      expect(events[0]).toMatchObject({ body: { temperature: 21.5 }, properties });
      const { contentType, contentEncoding, messageId, correlationId } = system;
      const seen = JSON.stringify([events[0]?.systemProperties, events[0]?.annotations]);
      for (const one of [contentType, contentEncoding, messageId, correlationId]) expect(seen).toContain(one);
      expect(events[0]?.annotations).toMatchObject({
        "iothub-connection-device-id": who.deviceId,
        ...(who.moduleId === null ? {} : { "iothub-connection-module-id": who.moduleId }),
      });
    },
  },
  {
    title: "a message of 200 KB arrives whole",
    play: async ({ hub, connected }) => {
      const { who, device } = await connected();
      await device.send({ body: "x".repeat(200_000) });
      const [event] = await hub.telemetryOf(who.deviceId);
      expect(String(event?.body)).toHaveLength(200_000);
    },
  },
  {
    title: "messages from the cloud wait for it, and come one by one, with properties",
    offered: ({ module }) => !module,
    play: async ({ hub, service, setup, register }) => {
      const { who, client } = await register();
      const properties = { key: "a & b", empty: "" };
      await hub.sendMessage(who.deviceId, {
        body: "one",
        messageId: "m-1",
        correlationId: "c-1",
        properties,
      });
      await hub.sendMessage(who.deviceId, { body: "zwei ü" });
      const device = await client();
      await device.open();
      await device.listenToMessages();
      await hub.sendMessage(who.deviceId, { body: "three" });
      await eventually(() => device.heard.messages.length === 3);
      const bodies = device.heard.messages.map(({ body }) => body);
      expect(setup.inOrder ? bodies : bodies.sort()).toEqual(
        setup.inOrder ? ["one", "zwei ü", "three"] : ["one", "three", "zwei ü"],
      );
      const one = device.heard.messages.find(({ body }) => body === "one");
      expect(one).toMatchObject({ messageId: "m-1", correlationId: "c-1" });
      expect(one?.properties).toMatchObject({ key: "a & b" });
      await eventually(async () => (await service.get(who))["cloudToDeviceMessageCount"] === 0);
    },
  },
  {
    title: "a second client of the same identity ends the first",
    play: async ({ connected, service }) => {
      const { who, client, device: first } = await connected();
      const second = await client();
      await second.open();
      await eventually(() => first.heard.lost);
      await second.report({ from: "second" });
      expect(reportedOf(await service.twin(who))).toMatchObject({ from: "second" });
    },
  },
  {
    title: "disabling its device cuts it off and keeps it out; enabling lets it in again",
    play: async ({ connected, service }) => {
      const { who, client, device } = await connected();
      await service.setStatus(who.deviceId, "disabled");
      await eventually(() => device.heard.lost);
      expect(await whyNot(await client())).toMatchObject({ unauthorized: true });
      await service.setStatus(who.deviceId, "enabled");
      const again = await client();
      await again.open();
      await again.report({ back: true });
    },
  },
  {
    title: "deleting it cuts it off, and it is nobody from then on",
    play: async ({ connected, service }) => {
      const { who, client, device } = await connected();
      await service.delete(who);
      await eventually(() => device.heard.lost);
      expect(await whyNot(await client())).toMatchObject({ unauthorized: true });
    },
  },
  {
    title: "keys are rotated without an outage: the second serves while the first is replaced",
    offered: hasKey,
    play: async ({ connected, service }) => {
      const { who, keys, client, device } = await connected();
      const onSecond = await client({ kind: "key", key: keys.secondaryKey });
      await onSecond.open();
      await eventually(() => device.heard.lost);
      const { primaryKey } = newKeys();
      await service.setKeys(who, { ...keys, primaryKey });
      await onSecond.report({ rotated: 1 });
      expect(await whyNot(await client({ kind: "key", key: keys.primaryKey }))).toMatchObject({
        unauthorized: true,
      });
      const onNew = await client({ kind: "key", key: primaryKey });
      await onNew.open();
      await service.setKeys(who, { primaryKey, secondaryKey: newKeys().secondaryKey });
      await onNew.report({ rotated: 2 });
      expect(reportedOf(await service.twin(who))).toMatchObject({ rotated: 2 });
    },
  },
  {
    title: "taking away the key that it uses cuts it off",
    offered: hasKey,
    play: async ({ connected, service }) => {
      const { who, device } = await connected();
      await service.setKeys(who, newKeys());
      await eventually(() => device.heard.lost);
    },
  },
  {
    title: "a token ends its connection when it expires, and an expired one is let in nowhere",
    offered: hasToken,
    play: async ({ register }) => {
      const { keys, client } = await register();
      const device = await client({ kind: "token", key: keys.primaryKey, seconds: 10 });
      await device.open();
      await eventually(() => device.heard.lost);
      expect(await whyNot(device)).toBeInstanceOf(Error);
      const fresh = await client({ kind: "token", key: keys.primaryKey, seconds: 600 });
      await fresh.open();
    },
  },
  {
    title: "a token of another key is refused",
    offered: hasToken,
    play: async ({ register }) => {
      const { client } = await register();
      const wrong = await client({ kind: "token", key: newKeys().primaryKey, seconds: 600 });
      expect(await whyNot(wrong)).toMatchObject({ unauthorized: true });
    },
  },
  {
    title: "a certificate that somebody else made for its name is refused",
    offered: ({ credential }) => credential.startsWith("X.509"),
    play: async ({ setup, register }) => {
      const { who, client } = await register();
      const name = who.moduleId === null ? who.deviceId : `${who.deviceId}/${who.moduleId}`;
      const stranger = setup.credential === "X.509 authority" ? { by: await newAuthority("plant") } : {};
      const { cert, key } = await deviceCertificate(name, stranger);
      const wrong = await client({ kind: "certificate", cert, key });
      expect(await whyNot(wrong)).toMatchObject({ unauthorized: true });
      await (await client()).open();
    },
  },
  {
    title: "it renews its token by itself, and goes on hearing and answering",
    offered: ({ renewedToken }) => renewedToken !== null,
    play: async ({ hub, service, setup, register }) => {
      const { who, keys, client } = await register();
      const device = await client(
        { kind: "key", key: keys.primaryKey, seconds: setup.renewedToken ?? 0 },
        comesBack,
      );
      await device.open();
      await device.answer("ping", () => ({ status: 200, payload: "pong" }));
      await device.listenToDesired();
      const connections = async () =>
        (await hub.connectionsOf(who.deviceId)).filter((one) => one === "connected").length;
      const before = await connections();
      await eventually(async () => (await connections()) > before);
      await device.report({ renewed: true });
      await service.patchTwin(who, { properties: { desired: { after: "renewal" } } }, "*");
      await eventually(() => heardAfter(device, "renewal"));
      expect(
        await service.invoke(who, { method: "ping", payload: {}, connectTimeoutInSeconds: 20 }),
      ).toMatchObject({ payload: "pong" });
    },
  },
  {
    title: "when the hub breaks its connection it comes back by itself, and everything goes on",
    play: async ({ hub, service, connected, setup }) => {
      const { who, device } = await connected(comesBack);
      await device.answer("ping", () => ({ status: 200, payload: "pong" }));
      await device.listenToDesired();
      if (!setup.module) await device.listenToMessages();
      await hub.breakConnection(who.deviceId);
      expect(
        await service.invoke(who, { method: "ping", payload: {}, connectTimeoutInSeconds: 30 }),
      ).toMatchObject({ payload: "pong" });
      await device.report({ back: true });
      await service.patchTwin(who, { properties: { desired: { after: "the break" } } }, "*");
      await eventually(() => heardAfter(device, "the break"));
      await device.send({ body: "after" });
      expect((await hub.telemetryOf(who.deviceId)).map(({ body }) => body)).toEqual(["after"]);
      if (setup.module) return;
      await hub.sendMessage(who.deviceId, { body: "hello again" });
      await eventually(() => device.heard.messages.some(({ body }) => body === "hello again"));
    },
  },
  {
    title: "a twin of 32 KB is read and reported whole; a byte more is refused, and the line stays",
    play: async ({ service, connected }) => {
      const { who, device } = await connected();
      const full = twinOf(32 * 1024);
      await service.patchTwin(who, { properties: { desired: full } }, "*");
      expect((await device.twin()).desired).toEqual({ ...full, $version: 2 });
      await device.report(full);
      expect(reportedOf(await service.twin(who))).toEqual({ ...full, $version: 2 });
      await expect(device.report({ x: "y" })).rejects.toThrow();
      await device.report({ k0: null });
      expect(reportedOf(await service.twin(who))["$version"]).toBe(3);
    },
  },
];

/** The SDKs tell of patches that came while they were away in different ways: as patches, or as the whole set. */
function heardAfter(device: Device, after: string): boolean {
  return device.heard.desired.some((patch) => patch["after"] === after);
}

/** Of exactly so many bytes as the hub counts them: those of names and texts. */
export function twinOf(bytes: number): Json {
  const twin: Record<string, string> = {};
  for (let left = bytes, at = 0; left > 0; at++) {
    const name = `k${at}`;
    const length = Math.min(4096, left - name.length);
    twin[name] = "x".repeat(length);
    left -= name.length + length;
  }
  return twin;
}

/** Reported properties of a twin without their metadata. */
function reportedOf(twin: Json): Json {
  const { reported } = twin["properties"] as { readonly reported: Json };
  const { $metadata: _metadata, ...rest } = reported;
  return rest;
}

async function refusalOf(call: Promise<unknown>): Promise<Refused> {
  try {
    await call;
  } catch (problem) {
    return problem as Refused;
  }
  throw new Error("it was expected to be refused");
}

async function whyNot(device: Device): Promise<Unauthorized> {
  return (await refusalOf(device.open())) as never;
}

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DEVICE_SCENARIOS } from "./device-scenarios.ts";
import { type NodeTransport, nodeDevice } from "./node-device.ts";
import { nodeService, type ServiceCredential } from "./node-service.ts";
import { type CredentialKind, type DeviceSetup, playDevice, playService } from "./scenario.ts";
import { configurationOf, SERVICE_SCENARIOS } from "./service-scenarios.ts";
import { startHub, type TestHub } from "./test-hub.ts";

// npm azure-iothub and azure-iot-device, as they are.

let hub: TestHub;
beforeAll(async () => {
  hub = await startHub();
});
afterAll(() => hub.stop());

const CREDENTIALS: readonly CredentialKind[] = [
  "SAS key",
  "SAS token",
  "X.509 thumbprint",
  "X.509 authority",
];
const SERVICES: readonly ServiceCredential[] = ["policy", "bearer token"];

function setupsOf(transport: NodeTransport): readonly DeviceSetup[] {
  return [false, true].flatMap((module) =>
    // "ModuleClient only supports SAS Token authentication", says the SDK.
    CREDENTIALS.filter((credential) => !module || credential.startsWith("SAS")).map(
      (credential): DeviceSetup => ({
        name: `${module ? "a module" : "a device"} over ${transport} with a ${credential}`,
        module,
        credential,
        inOrder: true,
        renewedToken: credential === "SAS key" ? 10 : null,
        connect: (who, brought, options) => nodeDevice(hub, transport, who, brought, options),
      }),
    ),
  );
}

const setups = [...setupsOf("Mqtt"), ...setupsOf("MqttWs")];

describe.each(SERVICES)("with azure-iothub by a %s", (credential) => {
  describe.concurrent.each(setups)("azure-iot-device, $name", (setup) => {
    const scenarios = DEVICE_SCENARIOS.filter(({ offered }) => offered?.(setup) ?? true);
    test.each(scenarios)("$title", (scenario) =>
      playDevice(scenario, hub, nodeService(hub, credential), setup),
    );
  });

  describe.concurrent("the service", () => {
    test.each(SERVICE_SCENARIOS)("$title", (scenario) =>
      playService(scenario, hub, nodeService(hub, credential)),
    );

    test("a configuration changes under its etag, and its content never does", async () => {
      const service = nodeService(hub, credential);
      const created = await service.createConfiguration(
        configurationOf(`changed-by-${credential.slice(0, 6)}`),
      );
      const updated = await service.updateConfiguration({ ...created, priority: 9 });
      expect(updated).toMatchObject({ priority: 9 });
      await expect(service.updateConfiguration({ ...created, priority: 10 })).rejects.toMatchObject({
        status: 412,
      });
      const other = { deviceContent: { "properties.desired.other": 1 } };
      await expect(service.updateConfiguration({ ...updated, content: other })).rejects.toMatchObject({
        status: 400,
      });
    });

    test("a query counts, groups and picks", async () => {
      const service = nodeService(hub, credential);
      const tag = `counted-${credential.slice(0, 6)}`;
      for (const at of [1, 2, 3]) {
        const who = { deviceId: `${tag}-${at}`, moduleId: null };
        await service.create(who, null);
        await service.patchTwin(who, { tags: { tag, odd: at % 2 === 1 } }, "*");
      }
      const where = `FROM devices WHERE tags.tag = '${tag}'`;
      expect(await service.query(`SELECT COUNT() AS number ${where}`, 10)).toEqual([[{ number: 3 }]]);
      const [groups] = await service.query(
        `SELECT tags.odd AS odd, COUNT() AS number ${where} GROUP BY tags.odd`,
        10,
      );
      expect(groups).toEqual(
        expect.arrayContaining([
          { odd: true, number: 2 },
          { odd: false, number: 1 },
        ]),
      );
    });
  });
});

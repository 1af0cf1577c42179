import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DEVICE_SCENARIOS } from "./device-scenarios.ts";
import type { Service } from "./ports.ts";
import { type PythonTransport, pythonDevice } from "./python-device.ts";
import { type PythonProcess, startPython } from "./python-process.ts";
import { pythonService } from "./python-service.ts";
import { type CredentialKind, type DeviceSetup, playDevice, playService } from "./scenario.ts";
import { configurationOf, SERVICE_SCENARIOS } from "./service-scenarios.ts";
import { bearerToken, startHub, type TestHub } from "./test-hub.ts";

// PyPI azure-iot-hub and azure-iot-device, as they are.

let hub: TestHub;
let python: PythonProcess;
beforeAll(async () => {
  hub = await startHub();
  python = await startPython(hub);
});
afterAll(async () => {
  await python?.stop();
  await hub?.stop();
});

const CREDENTIALS: readonly CredentialKind[] = [
  "SAS key",
  "SAS token",
  "X.509 thumbprint",
  "X.509 authority",
];

const services = {
  policy: () => pythonService(python, null),
  "bearer token": () => pythonService(python, bearerToken()),
} as const satisfies Readonly<Record<string, () => Promise<Service>>>;

function setupsOf(transport: PythonTransport): readonly DeviceSetup[] {
  return [false, true].flatMap((module) =>
    CREDENTIALS.map(
      (credential): DeviceSetup => ({
        name: `${module ? "a module" : "a device"} over ${transport} with a ${credential}`,
        module,
        credential,
        inOrder: false,
        // It renews two minutes before the end.
        renewedToken: credential === "SAS key" ? 128 : null,
        connect: (who, brought, options) => pythonDevice({ hub, python }, transport, who, brought, options),
      }),
    ),
  );
}

const setups = [...setupsOf("MQTT"), ...setupsOf("MQTT over WebSockets")];

describe.concurrent.each(setups)("azure-iot-device for Python, $name", (setup) => {
  const scenarios = DEVICE_SCENARIOS.filter(({ offered }) => offered?.(setup) ?? true);
  test.each(scenarios)("$title", async (scenario) =>
    playDevice(scenario, hub, await services.policy(), setup),
  );
});

describe.concurrent.each(["policy", "bearer token"] as const)(
  "azure-iot-hub for Python, by a %s",
  (credential) => {
    test.each(SERVICE_SCENARIOS)("$title", async (scenario) =>
      playService(scenario, hub, await services[credential]()),
    );

    test("an update of a configuration is a conflict, for the SDK does not quote the etag", async () => {
      const service = await services[credential]();
      const created = await service.createConfiguration(
        configurationOf(`changed-by-${credential.slice(0, 6)}`),
      );
      const update = service.updateConfiguration({ ...created, priority: 9 });
      await expect(update).rejects.toMatchObject({ status: 409, code: "ConfigurationAlreadyExists" });
      expect(await service.configuration(created.id)).toMatchObject({ priority: 5 });
    });
  },
);

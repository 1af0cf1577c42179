import iotDevice, { type Message } from "azure-iot-device";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createSimulator, type Endpoint, type Simulator } from "../simulator.ts";
import { controlCall } from "../testing/control-client.ts";
import { type ModuleClient, moduleClient } from "../testing/device-client.ts";
import { until } from "../testing/until.ts";

// The vendor's module client: outputs and inputs.

let simulator: Simulator;
let endpoint: Endpoint;
let client: ModuleClient;
const heard: [input: string, text: string, properties: unknown][] = [];

beforeAll(async () => {
  simulator = createSimulator({ autoStart: false });
  endpoint = await simulator.start();
  const { registry } = simulator.hub;
  registry.putDevice("edge-1", { capabilities: { iotEdge: true } }, null);
  const created = registry.putModule("edge-1", "filter", {}, null);
  const key = created.ok ? created.value.authentication.symmetricKey.primaryKey : null;
  client = await moduleClient(endpoint, { deviceId: "edge-1", moduleId: "filter" }, key ?? "");
  client.on("error", () => {});
  await client.open();
});
afterAll(async () => {
  await client.close();
  await simulator.stop();
});

test("telemetry names the module and the output that it was sent to", async () => {
  await client.sendOutputEvent("alarms", new iotDevice.Message("hot"));
  await client.sendEvent(new iotDevice.Message("plain"));
  const { body } = await controlCall(endpoint, "GET", "events?source=Telemetry&device=edge-1");
  expect(body["events"]).toMatchObject([
    {
      body: "hot",
      systemProperties: { "iothub-output-name": "alarms" },
      annotations: {
        "iothub-connection-device-id": "edge-1",
        "iothub-connection-module-id": "filter",
        "iothub-connection-auth-method":
          '{"scope":"module","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}',
      },
    },
    { body: "plain", systemProperties: {} },
  ]);
});

test("messages come to the input that they are addressed to, once the module listens", async () => {
  const message = {
    device: "edge-1",
    module: "filter",
    input: "frames",
    body: { frame: 1 },
    messageId: "m-1",
    properties: { "a/b": "c & d" },
  };
  const send = async (changed: object = {}) =>
    controlCall(endpoint, "POST", "inputs", { ...message, ...changed });
  expect((await send()).body).toEqual({ delivered: false });
  client.on("inputMessage", (input: string, received: Message) => {
    heard.push([input, String(received.data), received.properties.propertyList]);
    client.complete(received, () => {});
  });
  await until(() =>
    simulator.hub.inputs.send("edge-1/filter", { input: "probe", body: Buffer.from("?"), properties: {} }),
  );
  expect((await send()).body).toEqual({ delivered: true });
  await until(() => heard.some(([input]) => input === "frames"));
  expect(heard.find(([input]) => input === "frames")).toEqual([
    "frames",
    '{"frame":1}',
    [{ key: "a/b", value: "c & d" }],
  ]);
  expect((await send({ module: "none" })).status).toBe(404);
  expect((await send({ input: "a/b", module: "", ack: "full" })).body.problems).toEqual([
    "module is needed",
    "input must not have any of / + #",
    "ack is not known",
  ]);
});

test("messages to devices are not for modules", async () => {
  const { status } = await controlCall(endpoint, "POST", "messages", { device: "edge-1/filter", body: "x" });
  expect(status).toBe(404);
});
